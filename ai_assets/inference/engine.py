"""The engine: many requests in, durable answers out, through everything that `asking.py` does for one of them.

It has a thread of its own with an event loop, so it serves plain code, asynchronous code and several assets at once.
"""

import asyncio
import contextlib
import itertools
import logging
import sys
import threading
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import Any, TypeVar

from ai_assets.base.errors import LeaseLost
from ai_assets.inference.accounts import Accounts
from ai_assets.inference.call_listener import CallListener
from ai_assets.inference.call_state import CallState, judged, reply_of, ticket_for
from ai_assets.inference.dispatch import Asker, Job
from ai_assets.inference.errors import EngineClosed, WorkStops
from ai_assets.inference.group_commit import Turns
from ai_assets.inference.identity import Unhashable
from ai_assets.inference.latency import LatencyMemory
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_messages import Recall
from ai_assets.inference.live_spend import LiveSpend
from ai_assets.inference.records import Caller, Priority, Request, Result, Unanswered
from ai_assets.inference.rehearsal import RehearsalProvider
from ai_assets.inference.settings import InferenceSettings
from ai_assets.protocols.registry import protocol_of
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore

CHUNK = 64
CHUNK_CHARACTERS = 4_000_000
"""A chunk of requests is prepared, looked up and delivered together."""
MOST_UNDER_WAY = 512
"""Requests sent or waiting to be, of one `map`; those that wait for their next attempt included."""
MOST_CHUNKS = 64
"""Chunks under way or waiting to be delivered in order: what bounds memory when the first takes long."""
SWITCH_INTERVAL_S = 0.0005
WATCH_S = 0.25
"""How often it is seen whether an endpoint has not answered for long."""
GRACE_S = 5.0
"""How long closing waits for answers that are on their way."""

_T = TypeVar("_T")
_Pending = deque[Future[list[Result]]]
_log = logging.getLogger(__name__)


class Engine:
    """Opened by first use; `close` it, or use it in a `with` block."""

    def __init__(
        self,
        settings: InferenceSettings,
        state: StateStore,
        say: Callable[[str], object] = _log.warning,
        live: LiveSpend | None = None,
        priority: Priority | None = None,
        listener: CallListener | None = None,
    ) -> None:
        """`say` hears what requests wait for, unless a job has one of its own; `live` counts the calls, and `listener`
        hears of each.

        `priority`: of requests that have none.
        """
        self.settings = settings
        self._say = say
        self._live = live
        self._listener = listener
        self._priority = priority
        self.state = state
        self._accounts = Accounts(settings.budgets)
        self._opening = threading.Lock()
        self._closing = contextlib.ExitStack()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: Turns
        self._asker: Asker
        self._thread: threading.Thread
        self._watching: Future[None]
        self._answering: dict[asyncio.Task[Any], Job] = {}
        """Chunks being answered."""
        self._ranks: dict[tuple[str, str], int] = {}

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_exit: object) -> None:
        self.close()

    def map(
        self, requests: Iterable[Request], caller: Caller, say: Callable[[str], object] | None = None
    ) -> Iterator[Result]:
        """Results in the order of the requests, which are read as they are needed.

        A request that cannot be answered is an `Unanswered` among the results. What concerns all of them (no budget
        left, no price, no key, another process took over) is raised, once, after the calls in flight have ended.
        """
        changed = threading.Event()
        job = Job(caller, changed.set, self._rank_of(caller), say=say)
        chunks, pending, patience_s = _chunks(requests), _Pending(), GRACE_S
        try:
            while True:
                changed.clear()
                self._feed(job, chunks, pending)
                if not pending:
                    return
                if pending[0].done():
                    yield from pending.popleft().result()
                else:
                    changed.wait()
        except KeyboardInterrupt:
            patience_s = 0.0
            raise
        except (WorkStops, LeaseLost):
            patience_s = self._longest_call_s
            raise
        finally:
            self._abandon(job, pending, patience_s)

    async def amap(
        self, requests: Iterable[Request], caller: Caller, say: Callable[[str], object] | None = None
    ) -> AsyncIterator[Result]:
        """`map` for asynchronous code."""
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # a loop that is closed waits for nothing
                loop.call_soon_threadsafe(changed.set)

        job = Job(caller, tell, self._rank_of(caller), say=say)
        chunks, pending, patience_s = _chunks(requests), _Pending(), GRACE_S
        try:
            while True:
                changed.clear()
                self._feed(job, chunks, pending)
                if not pending:
                    return
                if pending[0].done():
                    for result in pending.popleft().result():
                        yield result
                else:
                    await changed.wait()
        except (WorkStops, LeaseLost):
            patience_s = self._longest_call_s
            raise
        finally:
            if pending:  # not so after a single question that was answered, which is what most asynchronous code asks
                await loop.run_in_executor(None, self._abandon, job, pending, patience_s)

    def call(self, request: Request, caller: Caller, say: Callable[[str], object] | None = None) -> Result:
        (result,) = self.map([request], caller, say)
        return result

    async def acall(self, request: Request, caller: Caller, say: Callable[[str], object] | None = None) -> Result:
        (result,) = [result async for result in self.amap([request], caller, say)]
        return result

    def close(self) -> None:
        """Waits a little for answers on their way; what is then still open is recorded as ambiguous."""
        with self._opening:
            if self._closed:
                return
            self._closed = True
            if self._loop is not None:
                cut_off = asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
                self._turns.close(give_up=cut_off)
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._closing.close()

    def _feed(self, job: Job, chunks: Iterator[list[Request]], pending: _Pending) -> None:
        """Keep enough requests under way, however long the first of them takes, and not too many results waiting."""
        while job.under_way < MOST_UNDER_WAY and len(pending) < MOST_CHUNKS and (chunk := next(chunks, None)):
            job.fed += len(chunk)
            answering = self._submit(self._answer_chunk(job, chunk))
            answering.add_done_callback(lambda _done: job.changed())
            pending.append(answering)

    def _abandon(self, job: Job, pending: _Pending, patience_s: float) -> None:
        """The consumer went away, or an error ends the job: ask nothing more, wait a little for what is in flight.

        What then still comes is recorded when it comes.
        """
        left = [chunk for chunk in pending if not chunk.done()]
        if not left or self._loop is None or self._closed:
            return
        with contextlib.suppress(RuntimeError):  # closed at this very moment
            self._loop.call_soon_threadsafe(job.stop, asyncio.CancelledError())
        # The garbage collector ends a forgotten iterator in any thread, and the engine's own must not wait for itself.
        if threading.current_thread() not in (self._thread, self._turns.thread):
            futures.wait(left, patience_s)

    def _rank_of(self, caller: Caller) -> int:
        """The partitions of a run in the order in which they began to ask: so they end one after another, and others
        can begin, instead of all of them at the end. Who asks for no partition goes first."""
        if not caller.partition:
            return 0
        with self._opening:
            return self._ranks.setdefault((caller.run_id, caller.partition), len(self._ranks) + 1)

    @property
    def _longest_call_s(self) -> float:
        """What is on its way is paid for, so it is waited for: until the last of it has timed out."""
        return GRACE_S + max((endpoint.timeout_s for endpoint in self.settings.endpoints.values()), default=0.0)

    def _submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        try:
            with self._opening:
                return asyncio.run_coroutine_threadsafe(work, self._opened())
        except BaseException:
            work.close()
            raise

    def _opened(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise EngineClosed
        if self._loop is None:
            lease = self._closing.enter_context(hold(self.state, f"calls:{uuid.uuid4().hex}"))
            with self.state.write() as connection:
                ledger = Ledger.open(connection, lease.worker_id)
            loop = _new_loop()
            self._turns = Turns(self.state, ledger, loop)
            rehearsal = RehearsalProvider()  # started by the first call that needs it, and one for all of them
            self._closing.callback(rehearsal.close)
            self._asker = Asker(
                self.settings, self._turns, LatencyMemory(self.state), rehearsal.url, self._live, self._listener
            )
            self._thread = threading.Thread(target=loop.run_forever, name="inference", daemon=True)
            self._closing.callback(loop.close)
            self._closing.callback(self._thread.join)
            self._thread.start()
            # The loop and the ledger's thread hand the interpreter to each other thousands of times a second. With the
            # 5 ms that Python lets one go on by default, each of those could take as long as a commit.
            sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
            self._loop = loop
            self._watching = asyncio.run_coroutine_threadsafe(self._watch(), loop)
        return self._loop

    async def _watch(self) -> None:
        """Nothing that waits is silent. Listeners may take their time, so they are called beside the loop."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(WATCH_S)
            for line in self._asker.news():
                for say in {job.say or self._say for job in self._answering.values()}:
                    try:
                        await loop.run_in_executor(None, say, line)
                    except Exception:  # noqa: BLE001  # a listener is somebody else's, and the calls are not about it
                        _log.warning("a listener of waits failed: %s", line, exc_info=True)

    async def _shut_down(self) -> bool:
        """Whether somebody had to be cut off, who may just have made an intent."""
        self._watching.cancel()
        for job in self._answering.values():
            job.stop(EngineClosed())
        if self._answering:
            await asyncio.wait(self._answering, timeout=GRACE_S)
        for job in self._answering.values():
            for task in job.tasks:
                task.cancel()
        cut_off = bool(self._answering)
        if cut_off:
            await asyncio.wait(self._answering)
        await self._asker.close()
        self._turns.hand_over()
        return cut_off

    async def _answer_chunk(self, job: Job, requests: list[Request]) -> list[Result]:
        if job.stopped is not None:
            raise job.stopped
        this = asyncio.current_task()
        assert this is not None
        self._answering[this] = job
        try:
            return await self._answer_all(job, requests)
        except BaseException as error:
            job.stop(error)
            raise
        finally:
            del self._answering[this]

    async def _answer_all(self, job: Job, requests: list[Request]) -> list[Result]:
        results: dict[int, Result] = {}
        tickets: dict[int, CallState] = {}
        moment = self._turns.clock.now()
        for place, request in enumerate(requests):
            try:
                tickets[place] = ticket_for(
                    self.settings, self._accounts, request, job.caller, moment, priority=self._priority
                )
            except Unhashable as error:
                said = f"a part of the request cannot be written as JSON, so it has no identity: {error}"
                results[place] = Unanswered(request=request, error="unhashable", message=said)
        recalled = await self._turns.take(Recall(claims=[ticket.claim for ticket in tickets.values()]))
        for (place, ticket), reused in zip(tickets.items(), recalled, strict=True):
            if reused is not None:
                ticket.saved_nusd += reused.cost_nusd
                result = judged(ticket, reused.hop, reply_of(ticket, reused))
                if self._live is not None and (result is not None or ticket.repaired):
                    self._live.reused(ticket.claim.caller)
                if result is not None:
                    results[place] = result
                    if self._listener is not None:
                        self._listener.recalled(ticket, result)
        job.ended += len(results)
        job.go_on()
        left = {place: ticket for place, ticket in tickets.items() if place not in results}
        groups = _groups(left, self._asker.most_texts)
        running = {self._start(job, list(group.values())): list(group) for group in groups}
        if running:
            await asyncio.wait(running)
        for task, places in running.items():
            if task.cancelled() and job.stopped is not None:
                raise job.stopped
            results.update(zip(places, task.result(), strict=True))
        return [results[place] for place in range(len(requests))]

    def _start(self, job: Job, tickets: Sequence[CallState]) -> "asyncio.Task[list[Result]]":
        task = asyncio.get_running_loop().create_task(self._asker.answer(job, tickets))
        job.tasks[task] = tickets
        task.add_done_callback(lambda done: self._done(job, done))
        return task

    def _done(self, job: Job, task: "asyncio.Task[list[Result]]") -> None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not complain: the job has raised the first
        before = job.under_way
        job.ended += len(job.tasks.pop(task))
        if job.under_way <= MOST_UNDER_WAY - CHUNK < before:
            job.changed()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where it is installed: a call takes a twentieth less processor time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _chunks(requests: Iterable[Request]) -> Iterator[list[Request]]:
    chunk: list[Request] = []
    characters = 0
    for request in requests:
        chunk.append(request)
        characters += _characters(request)
        if len(chunk) >= CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _characters(request: Request) -> int:
    if request.raw is not None:
        return len(request.raw.body)
    if request.text is not None:
        return len(request.text)
    return sum(len(content) for message in request.messages if isinstance(content := message.get("content"), str))


def _groups(tickets: dict[int, CallState], most_texts: Callable[[str], int | None]) -> Iterator[dict[int, CallState]]:
    """What may share a request to the provider: texts that are asked of in the same way; a chat never."""
    alike: dict[Any, dict[int, CallState]] = {}
    for place, ticket in tickets.items():
        request = ticket.request
        if request.text is None:
            yield {place: ticket}
        else:
            hops = tuple((hop.name, hop.lane) for hop in ticket.claim.hops)
            asked = (request.asks_for, request.query, request.dimensions)
            when = (request.hours, request.priority)
            how = (hops, asked, request.kind, request.on_ambiguous, request.timeout_s, when)
            alike.setdefault(how, {})[place] = ticket
    for group in alike.values():
        hop = next(iter(group.values())).claim.hops[0]
        first = hop.endpoint
        places = iter(group.items())
        together = first.texts_per_request if protocol_of(first.protocol).joins_texts else 1
        together = min(together, most_texts(hop.name) or together)
        while part := dict(itertools.islice(places, together)):
            yield part
