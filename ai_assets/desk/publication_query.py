"""How far an approved request has come: from the audit chain and, while it waits, from Dagster if that answers."""

import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import sqlalchemy as sa

from ai_assets.desk.context import Desk
from ai_assets.desk.views import Publication
from ai_assets.ops.dagster_client import DagsterApi, DagsterRefused, DagsterUnreachable, RunStatus
from ai_assets.signed_asset.declaration import PUBLISHED, path_of
from ai_assets.signoff import audit, releases
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest

TIMEOUT_S = 0.4
"""For connecting, and again for the answer: a page waits no second for Dagster."""
FRESH_S = 2.0
AWAY_S = 30.0
"""So long Dagster is not asked again after it did not answer."""
LATEST = """query($filter: RunsFilter!) { runsOrError(filter: $filter, limit: 1) { __typename
  ... on Error { message } ... on Runs { results { runId status creationTime } } } }"""
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class PublicationRun:
    run_id: str
    status: RunStatus
    created_at: float
    """Epoch seconds."""


class PublicationRuns(DagsterApi):
    """The newest publication run of a collection, asked for once in a while however many people look."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=TIMEOUT_S)
        self._found: dict[str, tuple[float, PublicationRun | None]] = {}
        self._loaded: dict[str, tuple[float, bool]] = {}
        self._away_until = 0.0
        self._turn = threading.Lock()

    def latest(self, collection: str) -> PublicationRun | None:
        """None where there is none, or where Dagster does not answer."""
        return self._fresh(self._found, collection, lambda: self._latest(f"{collection}__publish"))

    def is_loaded(self, collection: str) -> bool | None:
        """Whether a code location that Dagster has loaded publishes it; None where Dagster does not answer."""
        keys = [(collection, "published"), path_of(collection, PUBLISHED)]
        return self._fresh(self._loaded, collection, lambda: self.knows(keys))

    def _fresh(self, kept: dict[str, tuple[float, Found]], collection: str, ask: Callable[[], Found]) -> Found | None:
        """Asked for once in a while; what was known before where Dagster does not answer now."""
        with self._turn:
            at = time.monotonic()
            known = kept.get(collection)
            if at < self._away_until or (known is not None and at < known[0] + FRESH_S):
                return known[1] if known else None
            try:
                found = ask()
            except (DagsterUnreachable, DagsterRefused):
                self._away_until = time.monotonic() + AWAY_S
                return known[1] if known else None
            kept[collection] = (time.monotonic(), found)
            return found

    def _latest(self, job: str) -> PublicationRun | None:
        answer = self._ask("show runs", LATEST, {"filter": {"pipelineName": job}}, "runsOrError")
        results = cast(list[dict[str, Any]], answer["results"])
        if not results:
            return None
        newest = results[0]
        return PublicationRun(run_id=newest["runId"], status=newest["status"], created_at=float(newest["creationTime"]))


@dataclass
class DagsterClients:
    """A client for each address of Dagster."""

    _clients: dict[str, PublicationRuns] = field(default_factory=dict)

    def of(self, url: str) -> PublicationRuns:
        return self._clients.setdefault(url, PublicationRuns(url))


RUNS = DagsterClients()


def published_in(connection: sa.Connection, request: SignoffRequest) -> int | None:
    """The release that the request's candidate went live with; by the chain, in which it comes after its approval."""
    approved = sa.select(sa.func.min(audit.TABLE.c.seq)).where(
        audit.TABLE.c.request_id == request.request_id, audit.TABLE.c.action == "approved"
    )
    query = (
        sa.select(*audit.TABLE.c)
        .where(
            audit.TABLE.c.collection == request.collection,
            audit.TABLE.c.action == "published",
            audit.TABLE.c.seq > approved.scalar_subquery(),
        )
        .order_by(audit.TABLE.c.seq)
    )
    for row in connection.execute(query).mappings():
        subject: Any = audit.read(row).subject
        if request.request_id in subject["requests"]:
            return int(subject["release"])
    return None


def publication_of(desk: Desk, person: Person, request: SignoffRequest) -> Publication:
    match request.status:
        case "published":
            with desk.stores.state.read() as connection:
                release = published_in(connection, request)
                live = releases.live_number(connection, request.collection)
            return _publication("published", _said_published(release, live), release=release)
        case "approved":
            return _under_way(desk, person, request)
        case _:
            return _publication("not approved", "It is not approved, so nothing of it is published.")


def _said_published(release: int | None, live: int | None) -> str:
    if release is None:
        return "It is published."
    if release == live:
        return f"It is published: release {release} is live."
    return f"It is published in release {release}; release {live} is live now."


def _under_way(desk: Desk, person: Person, request: SignoffRequest) -> Publication:
    waiting = _publication("waiting", "It is approved, and is published within a minute while ai-assets up runs.")
    if desk.dagster_url is None:
        return waiting
    run = RUNS.of(desk.dagster_url).latest(request.collection)
    if run is None or run.created_at < _epoch(request.closed_at):
        return waiting if RUNS.of(desk.dagster_url).is_loaded(request.collection) is not False else _not_loaded(request)
    pages = desk.dagster_pages_for(person)
    url = f"{pages}/runs/{run.run_id}" if pages else None
    if run.status in ("FAILURE", "CANCELED"):
        ended = "failed" if run.status == "FAILURE" else "was cancelled"
        said = f"The publication run {ended}; nothing was published. Its page says why. It is tried three times."
        return _publication("failed", said, run_id=run.run_id, run_url=url)
    return _publication("waiting", "It is approved, and is being published now.", run_id=run.run_id, run_url=url)


def _not_loaded(request: SignoffRequest) -> Publication:
    said = (
        "It is approved, and nothing publishes it yet: no code location that Dagster has loaded has the collection "
        f"{request.collection}. Mend its definitions; or publish it now: ai-assets publish {request.collection}"
    )
    return _publication("not loaded", said)


def _publication(
    state: Any, said: str, *, release: int | None = None, run_id: str | None = None, run_url: str | None = None
) -> Publication:
    return Publication(state=state, release=release, run_id=run_id, run_url=run_url, said=said)


def _epoch(moment: str | None) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp() if moment else 0.0
