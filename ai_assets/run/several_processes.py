"""Partitions of one run over several processes: the run's own, and further ones that it starts.

All take the next partition from one list when they could do one more, so a process that starts late or is slow takes
fewer. Leases, budgets and the places of endpoints are in the state store, where processes meet anyway. What a further
process makes and says comes back over a socket: the run has one list of sinks, and one order of events.
"""

import atexit
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeAlias

import ai_assets.base.child_main
from ai_assets.base.children import start_child
from ai_assets.base.errors import LeaseLost
from ai_assets.base.machine import usable_cores
from ai_assets.base.structured_log import stream_of_children
from ai_assets.inference.engine import GRACE_S
from ai_assets.run.baton import Baton
from ai_assets.run.concurrency import LANES, THREADS, LaneEnd, as_they_come, tell_events
from ai_assets.run.errors import WorkerProcessBroke
from ai_assets.run.events import (
    BatchAwaited,
    CheckMade,
    DatasetMade,
    RunBegan,
    RunEnded,
    RunEvent,
    Waiting,
    WindowAwaited,
)
from ai_assets.run.failures import Failures
from ai_assets.run.one_partition import Event, PartitionBuilder, logged
from ai_assets.run.worker_messages import (
    EventHeard,
    EventMade,
    LaneIdle,
    PartitionEnded,
    PartitionGiven,
    Sender,
    WorkerBroke,
    WorkerSetup,
    WorkerUnable,
    next_message,
)

MODULE = "ai_assets.run.worker_process"
PATIENCE_S = GRACE_S + 5.0
"""How long a process that was hung up on may take: it waits for answers that are on their way."""
_OWN = (BatchAwaited, CheckMade, DatasetMade, RunBegan, RunEnded, WindowAwaited)
"""Events that only the run's own process tells."""
_Happened: TypeAlias = "SimpleQueue[Event | LaneEnd[Event]]"


_under_way: list[Callable[[], None]] = []
"""What ends the threads and processes of each run in this process that is not over."""


@atexit.register
def end_forgotten_runs() -> None:
    """Whoever executes a run may drop it in the middle, as Dagster does with one that is interrupted. Call it when no
    run of this process can be under way."""
    for end in tuple(_under_way):
        end()


class Todo:
    """The partitions that no process has taken yet. Whoever asks waits: one may be put back by a process that died."""

    def __init__(self, partitions: Sequence[str]) -> None:
        self._left = deque(partitions)
        self._changed = threading.Condition()
        self._closed = False

    def take(self) -> str | None:
        """None once there is nothing to wait for any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._left or self._closed)
            return None if self._closed else self._left.popleft()

    def put_back(self, partition: str) -> None:
        with self._changed:
            self._left.appendleft(partition)
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def in_processes(
    builder: PartitionBuilder, partitions: Sequence[str], processes: int, done: Callable[[str], None]
) -> Iterator[Event]:
    """The events of all partitions as they come, in the caller's thread, where `done` is called too."""
    work, asks = builder.work, builder.work.collection.asks_models
    happened: _Happened = SimpleQueue()
    todo, is_over = Todo(partitions), False
    lanes = min(LANES, -(-len(partitions) // processes)) if asks else 1
    work.baton = Baton() if asks else None
    work.cores = max(1, usable_cores() // processes)
    setup = _setup_of(builder, lanes)
    others = [_FurtherProcess(builder, setup, todo, happened) for _ in range(processes - 1)]
    threads = [
        threading.Thread(target=_lane, args=(todo, happened, builder), name=f"{THREADS}_{number}", daemon=True)
        for number in range(lanes)
    ]

    def end() -> None:
        todo.close()
        for other in others:
            other.hang_up()
        if not is_over:
            work.stopping.set()
            if asks:
                work.engine.close()  # whoever waits for an answer does so in vain
        for thread in threads:
            if not threading.current_thread().name.startswith(THREADS):
                thread.join()
        for other in others:
            other.end()

    _under_way.append(end)
    try:
        for thread in threads:
            thread.start()
        yield from as_they_come(happened, len(partitions), done)
        is_over = True
    finally:
        end()
        _under_way.remove(end)
        work.stopping.clear()
        work.baton = None


def _lane(todo: Todo, happened: _Happened, builder: PartitionBuilder) -> None:
    while (partition := todo.take()) is not None:
        tell_events(happened, partition, builder.build)


def _setup_of(builder: PartitionBuilder, lanes: int) -> WorkerSetup:
    work = builder.work
    kinds = _kinds(RunEvent)
    return WorkerSetup(
        home=work.stores.home,
        folder=work.collection.folder,
        versions=work.collection.code_versions,
        settings_digest=work.collection.settings_digest,
        run_id=work.run_id,
        launch=work.launch,
        backfill=work.backfill,
        priority=work.priority,
        patient=work.patient,
        halvings=work.halvings,
        listing=work.listing,
        looked_at=work.looked_at(),
        assets=builder.assets,
        place=builder.place,
        waited=builder.waited,
        heard=tuple(kind for kind in kinds if kind not in _OWN and work.sinks.wants(kind)),
        lanes=lanes,
        cores=work.cores,
        trace=work.trace,
    )


def _kinds(kind: type[RunEvent]) -> Iterator[type[RunEvent]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)


class _FurtherProcess:
    """One of them, as the run sees it: a thread gives it partitions, and another one hears what it says."""

    def __init__(self, builder: PartitionBuilder, setup: WorkerSetup, todo: Todo, happened: _Happened) -> None:
        self._builder, self._todo, self._happened = builder, todo, happened
        self._under_way: set[str] = set()
        self._changing = threading.Lock()
        self._idle = threading.Semaphore(0)
        self._is_over = False
        self._is_hung_up = False
        self._ours, theirs = socket.socketpair()
        self._sender = Sender(self._ours)
        with theirs:
            self._process = start_child(
                [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), MODULE],
                stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=stream_of_children(),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )  # fmt: skip
        threads = ((self._hear, (setup,)), (self._give, ()))
        self._threads = [
            threading.Thread(target=target, args=given, name="further process", daemon=True)
            for target, given in threads
        ]
        for thread in self._threads:
            thread.start()

    def hang_up(self) -> None:
        """It ends: at once where nothing is under way, else when what is on its way has come."""
        self._is_hung_up = True
        with self._changing:
            try:
                self._ours.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def end(self) -> None:
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        self._ours.close()

    def _give(self) -> None:
        while True:
            self._idle.acquire()
            if self._is_over or (partition := self._todo.take()) is None:
                return
            with self._changing:
                gone = self._is_over
                if not gone:
                    self._under_way.add(partition)
            if gone:
                self._todo.put_back(partition)
                return
            self._sender.send(PartitionGiven(partition))

    def _hear(self, setup: WorkerSetup) -> None:
        self._sender.send(setup)
        with self._ours.makefile("rb") as stream, logged(self._builder.work):
            while (message := next_message(stream)) is not None:
                self._take_in(message)
        with self._changing:
            self._is_over = True
            left, self._under_way = sorted(self._under_way), set()
        self._idle.release()
        if left and not self._is_hung_up:
            self._builder.work.say(
                f"A process of this run was ended while it computed {', '.join(left)}; the run goes on with them"
            )
        for partition in left:
            self._todo.put_back(partition)

    def _take_in(self, message: object) -> None:
        work = self._builder.work
        match message:
            case LaneIdle():
                self._idle.release()
            case EventHeard(Waiting(line=line)):
                work.say_waiting(line)
            case EventHeard(event):
                work.sinks.tell(event)
            case EventMade(event):
                self._happened.put(event)
            case PartitionEnded():
                self._under_way.discard(message.partition)
                take_in(self._builder.failures, message)
                self._happened.put(LaneEnd(message.partition, None))
            case WorkerBroke(partition, trace):
                self._under_way.discard(partition)
                self._happened.put(LaneEnd(partition, WorkerProcessBroke(partition, trace)))
            case WorkerUnable(said):
                work.say(f"Computed in fewer processes: {said}")


def take_in(failures: Failures, ended: PartitionEnded) -> None:
    """As if it had been computed here."""
    if ended.waits:
        failures.waiting[ended.partition] = ended.waits
    if ended.error is None:
        return
    failures.errors[ended.partition] = ended.error
    if ended.wall is not None:
        failures.errors[ended.partition] = failures.walls.setdefault(ended.wall, ended.error)
    if ended.passes:
        failures.passing.add(ended.partition)
    if ended.lost and failures.lost is None:
        lost = LeaseLost()
        lost.args = (ended.error,)
        failures.lost = lost
