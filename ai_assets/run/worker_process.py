"""A further process of a run: it computes partitions as the run's own process does, one by one as it is given them.

It ends when the run hangs up, which is also how it is interrupted, and with the run where that is killed.
"""

import os
import socket
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from ai_assets.base import structured_log
from ai_assets.base.collector import old_objects_left_alone
from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.inference.load import inference_at
from ai_assets.run.baton import Baton
from ai_assets.run.calls_told import calls_told
from ai_assets.run.concurrency import THREADS
from ai_assets.run.context import Work
from ai_assets.run.events import RunEvent
from ai_assets.run.failures import Failures
from ai_assets.run.one_partition import PartitionBuilder
from ai_assets.run.sinks import Sink, Sinks
from ai_assets.run.worker_messages import (
    EventHeard,
    EventMade,
    LaneIdle,
    PartitionEnded,
    Sender,
    WorkerBroke,
    WorkerSetup,
    WorkerUnable,
    next_message,
)
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from ai_assets.inference.call_listener import CallListener


class _Relay(Sink):
    """The sinks are in the run's own process."""

    def __init__(self, sender: Sender, heard: tuple[type[RunEvent], ...]) -> None:
        self.hears = heard  # type: ignore[misc]  # of this one, as the run's sinks are
        self._sender = sender

    def hear(self, event: RunEvent) -> None:
        self._sender.send(EventHeard(event))


@dataclass
class _Lanes:
    """Partitions under way in this process."""

    builder: PartitionBuilder
    sender: Sender
    under_way: set[str] = field(default_factory=set)
    changing: threading.Lock = field(default_factory=threading.Lock)

    def compute(self, partition: str) -> None:
        try:
            for event in self.builder.build(partition):
                self.sender.send(EventMade(event))
        except BaseException:  # noqa: BLE001 - raised again where the run is
            self.sender.send(WorkerBroke(partition, traceback.format_exc()))
            return
        with self.changing:
            self.under_way.discard(partition)
        self.sender.send(ended(self.builder.failures, partition))
        self.sender.send(LaneIdle())

    def serve(self, stream: BinaryIO, lanes: int) -> None:
        work = self.builder.work
        pool = ThreadPoolExecutor(lanes, thread_name_prefix=THREADS)
        try:
            for _ in range(lanes):
                self.sender.send(LaneIdle())
            while (given := next_message(stream)) is not None:
                with self.changing:
                    self.under_way.add(given.partition)
                pool.submit(self.compute, given.partition)
        finally:
            if self.under_way:
                work.stopping.set()
                if work.collection.asks_models:
                    work.engine.close()  # whoever waits for an answer does so in vain
            pool.shutdown(cancel_futures=True)


def ended(failures: Failures, partition: str) -> PartitionEnded:
    error = failures.errors.get(partition)
    return PartitionEnded(
        partition=partition,
        error=error,
        wall=next((kind for kind, said in failures.walls.items() if said == error), None),
        passes=partition in failures.passing,
        lost=failures.lost is not None,
        waits=failures.waiting.get(partition, ()),
    )


def opened(setup: WorkerSetup) -> Collection:
    home = setup.home
    collection = load_collection(setup.folder.parent, setup.folder.name, lambda: inference_at(home))
    same = collection.settings_digest == setup.settings_digest and collection.code_versions == setup.versions
    if not same:
        raise WorkerDeclaresOtherwise(collection.name)
    return collection


class WorkerDeclaresOtherwise(UserError):
    def __init__(self, collection: str) -> None:
        super().__init__(
            f"what is declared of {collection} is not what this run began with (was a file edited meanwhile, or does "
            "the code location change it?)"
        )


def main() -> None:
    with socket.socket(fileno=os.dup(0)) as parent, parent.makefile("rb") as stream:
        setup: WorkerSetup | None = next_message(stream)
        if setup is None:
            return
        sender = Sender(parent)
        structured_log.begin("worker")
        try:
            collection = opened(setup)
            stores = Stores.of_run(setup.home)
        except UserError as error:
            sender.send(WorkerUnable(str(error)))
            return
        sinks = Sinks([_Relay(sender, setup.heard)])
        calls, tell_rest = _telemetry(setup)
        work = Work(
            collection, stores, setup.run_id, sinks, setup.launch, setup.backfill, setup.priority,
            halvings=setup.halvings, cores=setup.cores, patient=setup.patient, call_listener=calls,
        )  # fmt: skip
        work.take_over(setup.listing, setup.looked_at)
        work.baton = Baton() if collection.asks_models else None
        builder = PartitionBuilder(work, setup.assets, setup.place, setup.waited, Failures())
        try:
            with stores, work, calls_told(work), old_objects_left_alone():
                _Lanes(builder, sender).serve(stream, setup.lanes)
        finally:
            tell_rest()


def _telemetry(setup: WorkerSetup) -> "tuple[CallListener | None, Callable[[], None]]":
    """Who hears of its calls, and what to do when there are no more."""
    if setup.trace is None:
        return None, lambda: None
    from ai_assets.telemetry.opening import of_further_process

    return of_further_process(setup.trace) or (None, lambda: None)


if __name__ == "__main__":
    main()
