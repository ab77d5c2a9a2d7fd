"""`/health`: the process lives. `/ready`: it can do its work, or what of that it cannot, for whoever balances load.

Both are asked without signing in, by anybody who reaches the port: they name parts, never an address, a secret, a
collection or a person.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from ai_assets.base.errors import StateUnavailable, UserError
from ai_assets.base.home import UP_VARIABLE, variable
from ai_assets.desk.context import Desk
from ai_assets.desk.machine_paths import HEALTH, READY
from ai_assets.ops.dagster_client import DagsterApi
from ai_assets.signoff import keys
from ai_assets.storage.objects import DataBucket

LONGEST_S = 4.0
"""Shorter than a kubelet waits: a part that does not answer is named as such."""
KEPT_S = 2.0
"""Anybody can ask, and what was found so lately is told again."""
BUCKET_PATIENCE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class NotReady:
    what: str
    said: str


@dataclass
class _ProbedPart:
    name: str
    look: Callable[[], str | None]
    """What is wrong, in words for anybody; None where nothing is."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _said: str | None = None
    _at: float = float("-inf")

    def said(self) -> str | None:
        with self._lock:
            if time.monotonic() - self._at > KEPT_S:
                self._said, self._at = self.look(), time.monotonic()
            return self._said


class Probes:
    def __init__(self, desk: Desk) -> None:
        self._parts = tuple(_parts(desk))
        self._threads = anyio.CapacityLimiter(2 * len(self._parts))
        """Of its own: a part that hangs keeps no page waiting."""

    def routes(self) -> list[Route]:
        return [Route(HEALTH, _health), Route(READY, self._ready)]

    async def _ready(self, _request: Request) -> JSONResponse:
        found: dict[str, str | None] = {}

        async def ask(part: _ProbedPart) -> None:
            found[part.name] = "it did not answer in time"
            with anyio.move_on_after(LONGEST_S):
                found[part.name] = await anyio.to_thread.run_sync(
                    part.said, abandon_on_cancel=True, limiter=self._threads
                )

        async with anyio.create_task_group() as asking:
            for part in self._parts:
                asking.start_soon(ask, part)
        missing = [NotReady(what=name, said=said) for name, said in sorted(found.items()) if said is not None]
        body = {"ready": not missing, "not_ready": [asdict(each) for each in missing]}
        return JSONResponse(body, 503 if missing else 200)


async def _health(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def _parts(desk: Desk) -> Iterator[_ProbedPart]:
    yield _ProbedPart("database", lambda: _database(desk))
    yield _ProbedPart("keys", lambda: _keys(desk))
    if desk.stores.home.data_url is not None:
        bucket = DataBucket(desk.stores.home.data_url, patience_s=BUCKET_PATIENCE_S)
        yield _ProbedPart("bucket", lambda: _bucket(bucket))
    if variable(UP_VARIABLE) is not None and desk.dagster_api is not None:
        api = DagsterApi(desk.dagster_api, timeout_s=LONGEST_S)
        yield _ProbedPart("dagster", lambda: _dagster(api))


def _database(desk: Desk) -> str | None:
    try:
        desk.stores.state.prove()
    except StateUnavailable:
        return "the state store cannot be reached"
    except UserError:
        return "the state store is of another version of ai-assets, or was moved"
    return None


def _keys(desk: Desk) -> str | None:
    try:
        missing = keys.missing(desk.stores.home.keys)
    except UserError:
        return "a key that signs the audit chain, or trust.json, cannot be used"
    return f"these keys are not there: {', '.join(missing)}" if missing else None


def _bucket(bucket: DataBucket) -> str | None:
    try:
        bucket.now_s()
    except UserError:
        return "the bucket cannot be reached, or refuses"
    return None


def _dagster(api: DagsterApi) -> str | None:
    """Of `ai-assets up`, which is ready as a whole or not."""
    try:
        health = api.health(heartbeats_after=0)
    except UserError:
        return "Dagster's pages do not answer"
    if not health.code_loaded:
        return "definitions are not loaded"
    return "a daemon gives no sign of life" if health.daemons_missing else None
