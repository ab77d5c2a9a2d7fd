"""`LLMResource`: the engine for assets, checks and ops of any Dagster project. It knows who asks, and nothing else.

One engine per process and settings, shared by all steps and threads; opened by the first call, closed with the last run
that uses it.
"""

import atexit
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, cast, overload

import dagster as dg
from pydantic import BaseModel, Field, PrivateAttr

from ai_assets.base.home import Home
from ai_assets.base.money import in_full
from ai_assets.base.plural import plural
from ai_assets.base.printable import printable
from ai_assets.inference.errors import InferenceInvalid
from ai_assets.inference.load import inference_at
from ai_assets.inference.records import BACKFILL_TAG, Answer, Caller, Priority, Request, Result
from ai_assets.orchestration.run_tags import priority_of
from ai_assets.orchestration.text_stream import TextStream
from ai_assets.orchestration.typed_output import Image, Output, answered, output_of, request_of
from ai_assets.telemetry.endpoints import is_configured

if TYPE_CHECKING:
    from openai import OpenAI

    from ai_assets.inference.engine import Engine
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.inference.spend import Spend
    from ai_assets.storage.state import StateStore
    from ai_assets.telemetry.opening import StepTelemetry


class CallerFields(TypedDict, total=False):
    """What the context of Dagster cannot tell, or what is to be said instead of it."""

    tenant: str
    collection: str
    asset: str
    partition: str
    run_id: str


class AskOptions(CallerFields, total=False):
    """How to ask, beside who asks."""

    system: str
    images: Sequence[Image]
    route: str
    priority: Priority
    """`interactive`, `normal` or `batch`: who goes first where places at an endpoint are few."""
    max_output_tokens: int
    temperature: float
    seed: int
    document: str
    """For the ledger: what the question is about."""


class LLMResource(dg.ConfigurableResource["LLMResource"]):
    """Calls to models that are answered once, paid once and accounted for.

    Who asks is read from the running step: the last part of the asset key is the asset, what stands before it the
    collection; a check asks for its asset, an op under its own name. A run over several partitions says `partition=`
    itself, and an asset definition of several assets `asset=`. In threads of your own and outside a run only the run,
    or nothing, is known.

    Write a request as text or as a `Request`. What they do not cover, `client()` does, through the same ledger.
    """

    inference: str = Field(
        default="",
        description="Path to inference.yaml; by default AI_ASSETS_INFERENCE, or the file beside definitions.py.",
    )
    tenant: str = Field(default="default", description="Who pays, where budgets tell tenants apart.")
    _run_id: str | None = PrivateAttr(default=None)
    """None before Dagster has set it up: in a plain program."""
    _backfill: str = PrivateAttr(default="")
    _tags: Mapping[str, str] = PrivateAttr(default_factory=dict)
    """Of the run, which may say whose trace it continues."""
    _priority: Priority | None = PrivateAttr(default=None)
    """Of the run: of requests that have none."""
    _steps: dict[tuple[str, str], str] = PrivateAttr(default_factory=dict)
    """By collection and asset, the step that asked."""
    _held: "_Shared | None" = PrivateAttr(default=None)
    _opening: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def map(self, requests: Iterable[str | Request], **who: Unpack[CallerFields]) -> Iterator[Result]:
        """Results in the order of the requests; what cannot be answered is an `Unanswered` among them."""
        caller = self.caller(**who)
        return _told(self._engine().map(self._requests(requests), caller, _waits()), _log())

    def amap(self, requests: Iterable[str | Request], **who: Unpack[CallerFields]) -> AsyncIterator[Result]:
        """`map` for asynchronous code."""
        caller = self.caller(**who)
        return _atold(self._engine().amap(self._requests(requests), caller, _waits()), _log())

    def call(self, request: str | Request, **who: Unpack[CallerFields]) -> Result:
        return self._engine().call(self._request(request), self.caller(**who), _waits())

    async def acall(self, request: str | Request, **who: Unpack[CallerFields]) -> Result:
        return await self._engine().acall(self._request(request), self.caller(**who), _waits())

    @overload
    def ask(self, prompt: str, *, output: type[Output], **given: Unpack[AskOptions]) -> Output: ...
    @overload
    def ask(self, prompt: str, *, output: None = None, **given: Unpack[AskOptions]) -> str: ...
    def ask(self, prompt: str, *, output: type[Output] | None = None, **given: Unpack[AskOptions]) -> Output | str:
        """The answer as text, or as an instance of a pydantic model; raises `NoAnswer`.

        What does not fit the model is repaired once, in a further paid call.
        """
        request, who = _asked(prompt, output, given)
        result = self.call(request, **who)
        return answered(result).text if output is None else output_of(result, output)

    @overload
    async def aask(self, prompt: str, *, output: type[Output], **given: Unpack[AskOptions]) -> Output: ...
    @overload
    async def aask(self, prompt: str, *, output: None = None, **given: Unpack[AskOptions]) -> str: ...
    async def aask(
        self, prompt: str, *, output: type[Output] | None = None, **given: Unpack[AskOptions]
    ) -> Output | str:
        """`ask` for asynchronous code."""
        request, who = _asked(prompt, output, given)
        result = await self.acall(request, **who)
        return answered(result).text if output is None else output_of(result, output)

    def stream(self, prompt: str, **given: Unpack[AskOptions]) -> TextStream:
        """The answer as it comes, for a person who watches: iterate over it, and then take its `answer`.

        What is heard is provisional until the answer is in the ledger. An answer that breaks off may have been billed,
        and is not tried again; one that is in the ledger already comes in one piece.
        """
        asked, who = _asked(prompt, None, given)
        request = self._request(asked)
        engine, caller, say = self._engine(), self.caller(**who), _waits()
        return TextStream(lambda hear: engine.call(replace(request, hear=hear), caller, say))

    def client(
        self,
        *,
        route: str = "default",
        priority: Priority | None = None,
        max_usd: float | None = None,
        sample: int = 0,
        **who: Unpack[CallerFields],
    ) -> "OpenAI":
        """OpenAI's own client, whose calls go through the ledger: reserved, budgeted, retried, and paid once.

        A call of which the tokens do not say what it can cost is refused unless `max_usd` says the most. Equal calls
        have one answer; another `sample` makes others.
        """
        from ai_assets.orchestration.openai_client import openai_client

        shared = self._opened()
        return openai_client(
            lambda request: shared.engine().call(
                self._request(replace(request, priority=priority)), self.caller(**who), _waits()
            ),
            shared.settings, route=route, max_usd=max_usd, sample=sample,
        )  # fmt: skip

    def embed(
        self,
        texts: Iterable[str],
        *,
        route: str = "default",
        priority: Priority | None = None,
        dimensions: int | None = None,
        **who: Unpack[CallerFields],
    ) -> list[tuple[float, ...]]:
        """Vectors in the order of the texts; a text is paid for once, whoever asks. Raises `NoAnswer`."""
        if isinstance(texts, str):
            raise TypeError("embed takes several texts: write [text]")
        requests = [
            Request(
                text=text, dimensions=dimensions, vector_length=dimensions, route=route, kind="embed", priority=priority
            )
            for text in texts
        ]
        return [answered(result).vector for result in self.map(requests, **who)]

    def caller(self, **who: Unpack[CallerFields]) -> Caller:
        """Who asks, as it will stand in the ledger."""
        caller = replace(caller_of_step(self.tenant, self._run_id or ""), backfill=self._backfill, **who)
        if (context := _context()) is not None:
            self._steps[caller.collection, caller.asset] = context.get_step_execution_context().step.key
        return caller

    def spend(self, **who: Unpack[CallerFields]) -> "Spend":
        """What the calls of this asset came to in this run, and in this partition where the run is of one.

        Retries of the step are included, and what failed too: it is read from the ledger.
        """
        from ai_assets.inference.spend import spend

        caller = self.caller(**who)
        scope = {"collection": caller.collection, "asset": caller.asset} if caller.asset else {}
        if caller.partition:
            scope["partition"] = caller.partition
        with self._opened().state.read() as connection:
            return spend(connection, tenant=caller.tenant, run_id=caller.run_id, **scope)

    def metadata(self, **who: Unpack[CallerFields]) -> dict[str, int | float]:
        """`spend` as numbers that Dagster plots: `MaterializeResult(metadata=llm.metadata())`. Unknown is left out."""
        from ai_assets.inference.spend import numbers

        return numbers(self.spend(**who))

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        self._run_id = context.run.run_id if context.run else ""
        self._backfill = context.run.tags.get(BACKFILL_TAG, "") if context.run else ""
        self._tags = context.run.tags if context.run else {}
        self._priority = priority_of(context.run.tags) if context.run else None

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        held, self._held = self._held, None
        if held is not None:
            if held.telemetry is not None and context.instance is not None and self._run_id:
                held.telemetry.failed(self._run_id, _failed_steps(context.instance, self._run_id, self._steps))
            _leave(held)

    def _opened(self) -> "_Shared":
        with self._opening:
            if self._held is None:
                self._held = _enter(Path(self.inference).expanduser() if self.inference else None)
                if self._run_id:
                    self._held.tags[self._run_id] = self._tags
                if self._run_id is None:
                    atexit.register(_leave, self._held)  # nobody says when a plain program needs it no more
            return self._held

    def _engine(self) -> "Engine":
        return self._opened().engine()

    def _requests(self, asked: Iterable[str | Request]) -> Iterator[Request]:
        if isinstance(asked, str):
            raise TypeError(
                "map takes several requests, and a text would be one for each letter: write [text], or call(text)"
            )
        return map(self._request, asked)

    def _request(self, asked: str | Request) -> Request:
        request = asked if isinstance(asked, Request) else Request(messages=({"role": "user", "content": asked},))
        return request if request.priority or not self._priority else replace(request, priority=self._priority)


# Who asks


def _context() -> dg.OpExecutionContext | None:
    """Of the step that runs in this thread, whatever it computes."""
    from dagster._core.execution.context.compute import current_execution_context

    # The public `get` of the contexts raises where there is none, and the same error elsewhere.
    found = current_execution_context.get()
    return None if found is None else found.op_execution_context


def caller_of_step(tenant: str, run_id: str) -> Caller:
    context = _context()
    if context is None:
        return Caller(tenant=tenant, run_id=run_id)
    collection, asset = _asset(context)
    return Caller(
        tenant=tenant,
        collection=collection,
        asset=asset,
        partition=context.partition_key if context.has_partition_key else "",
        run_id=context.run_id,
    )


def _asset(context: dg.OpExecutionContext) -> tuple[str, str]:
    keys = set(context.selected_asset_keys) or {check.asset_key for check in context.selected_asset_check_keys}
    if not keys:
        return "", context.op.name
    if len(keys) > 1:
        folders = {key.path[0] for key in keys if len(key.path) > 1}
        return (folders.pop() if len(folders) == 1 else ""), ""
    (key,) = keys
    return "/".join(key.path[:-1]), key.path[-1]


def _failed_steps(
    instance: dg.DagsterInstance, run_id: str, asked: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    """Of the steps that asked, those whose last try failed, each with the class of what was raised."""
    ends = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}
    last = dict[str, str | None]()
    for record in instance.all_logs(run_id, of_type=ends):
        if (event := record.dagster_event) is not None and event.step_key is not None:
            last[event.step_key] = _raised(event)
    return {who: kind for who, step in asked.items() if (kind := last.get(step)) is not None}


def _raised(event: dg.DagsterEvent) -> str | None:
    data = event.event_specific_data
    error = getattr(data, "error", None)
    if error is None:
        return None if event.event_type == dg.DagsterEventType.STEP_SUCCESS else "_OTHER"
    return str((error.cause or error).cls_name or "_OTHER")


_WHO = frozenset(CallerFields.__annotations__)


def _asked(prompt: str, output: type[BaseModel] | None, given: AskOptions) -> tuple[Request, CallerFields]:
    who = {name: value for name, value in given.items() if name in _WHO}
    how = {name: value for name, value in given.items() if name not in _WHO and name not in ("system", "images")}
    request = request_of(prompt, output, given.get("system"), given.get("images", ()), how)
    return request, cast(CallerFields, who)


# What is said in the log of the run


@dataclass
class _Tally:
    answers: int = 0
    reused: int = 0
    unanswered: int = 0
    cost_usd: float = 0.0
    maybe_usd: float = 0.0

    def add(self, result: Result) -> None:
        self.cost_usd += result.cost_usd
        self.maybe_usd += result.maybe_usd
        if isinstance(result, Answer):
            self.answers += 1
            self.reused += result.reused
        else:
            self.unanswered += 1

    def __str__(self) -> str:
        maybe = f", {in_full(self.maybe_usd)} may have been billed" if self.maybe_usd else ""
        unanswered = f", {self.unanswered} unanswered" if self.unanswered else ""
        return f"{plural(self.answers, 'answer')} ({self.reused} reused){unanswered}, {in_full(self.cost_usd)}{maybe}"


def _log() -> "dg.DagsterLogManager | None":
    context = _context()
    return None if context is None else context.log


def _waits() -> Callable[[str], object] | None:
    """Hears what calls wait for: the log of the run; in a plain program Python's own, as the engine has it."""
    log = _log()
    return None if log is None else log.warning


def _told(results: Iterator[Result], log: "dg.DagsterLogManager | None") -> Iterator[Result]:
    tally = _Tally()
    for result in results:
        tally.add(result)
        yield result
    if log is not None:
        log.info(str(tally))


async def _atold(results: AsyncIterator[Result], log: "dg.DagsterLogManager | None") -> AsyncIterator[Result]:
    tally = _Tally()
    async with contextlib.aclosing(cast("AsyncGenerator[Result, None]", results)):
        async for result in results:
            tally.add(result)
            yield result
    if log is not None:
        log.info(str(tally))


# One engine per process and settings


@dataclass
class _Shared:
    key: tuple[int, str, str]
    settings: "InferenceSettings"
    state: "StateStore"
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: "Engine | None" = None
    telemetry: "StepTelemetry | None" = None
    tags: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """Of the runs that use it."""

    def engine(self) -> "Engine":
        from ai_assets.inference.engine import Engine

        with self.lock:
            if self.made is None:
                self.telemetry = self._told()
                calls = self.telemetry.calls if self.telemetry is not None else None
                self.made = Engine(self.settings, self.state, listener=calls)
            return self.made

    def _told(self) -> "StepTelemetry | None":
        """Who hears of its calls, where a collector is configured: nothing is imported where none is."""
        if not is_configured():
            return None
        from ai_assets.telemetry.opening import of_steps

        log = dg.get_dagster_logger()  # of whatever run is under way when it is said
        return of_steps(lambda line: log.warning(printable(line)), lambda run_id: self.tags.get(run_id, {}))

    def close(self) -> None:
        if self.made is not None:
            self.made.close()
        if self.telemetry is not None:
            self.telemetry.close()
        self.state.close()


_shared: dict[tuple[int, str, str], _Shared] = {}
_sharing = threading.Lock()


def _enter(path: Path | None) -> _Shared:
    from ai_assets.storage.patience import RUN_PATIENCE_S
    from ai_assets.storage.stores import state_of

    home = Home.from_environment()
    if path is not None and not (home.project / path).is_file():
        raise InferenceInvalid(
            home.project / path, None, "there is no such file, and the resource's `inference` names it"
        )
    settings = inference_at(home, home.project / path if path else None)
    key = (os.getpid(), home.state_url, settings.model_dump_json())
    with _sharing:
        if key not in _shared:
            if not home.declared_state_url:
                home.ensure()
            state = state_of(home)
            state.patience_s = RUN_PATIENCE_S
            _shared[key] = _Shared(key, settings, state)
        _shared[key].users += 1
        return _shared[key]


def _leave(shared: _Shared) -> None:
    with _sharing:
        shared.users -= 1
        if shared.users:
            return
        _shared.pop(shared.key, None)
    if shared.key[0] == os.getpid():
        shared.close()
