"""Several partitions under way at once, and the assets of each that do not need one another.

Only one of them computes at a time, the one that holds the baton; it passes it on while it waits for answers. So
nothing that computes needs to be safe for threads, the calls of all of them share one pool, and a run waits for the
slowest answer once, not once per partition and stage.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.inference.postponed import AssetPostponed, PartitionPostponed
from ai_assets.run.baton import Baton
from ai_assets.run.context import Work

LANES = 8
"""Each holds one partition in memory."""
THREADS = "partition"

_Event = TypeVar("_Event")


@dataclass(frozen=True)
class LaneEnd(Generic[_Event]):
    """The last thing of a lane."""

    name: str
    error: BaseException | None


def tell_events(
    happened: "SimpleQueue[_Event | LaneEnd[_Event]]", name: str, make: Callable[[str], Iterator[_Event]]
) -> None:
    """All events of one thread as they come, and then how it ended."""
    error: BaseException | None = None
    try:
        for event in make(name):
            happened.put(event)
    except BaseException as found:  # noqa: BLE001 - raised again where the caller is
        error = found
    happened.put(LaneEnd(name, error))


def as_they_come(
    happened: "SimpleQueue[_Event | LaneEnd[_Event]]", number: int, done: Callable[[str], None]
) -> Iterator[_Event]:
    """Until so many lanes have ended, in the caller's thread, where `done` is called too; a lane's error is raised."""
    while number:
        event = happened.get()
        if not isinstance(event, LaneEnd):
            yield event
            continue
        number -= 1
        if event.error is not None:
            raise event.error
        done(event.name)


def in_lanes(
    work: Work,
    partitions: Sequence[str],
    compute: Callable[[str], Iterator[_Event]],
    done: Callable[[str], None],
) -> Iterator[_Event]:
    """The events of all partitions as they come, in the caller's thread, where `done` is called too.

    `compute` takes the baton itself, once it has what it must wait for.
    """
    happened: SimpleQueue[_Event | LaneEnd[_Event]] = SimpleQueue()
    stopping = threading.Event()

    def lane(partition: str) -> None:
        tell_events(happened, partition, compute if not stopping.is_set() else lambda _partition: iter(()))

    is_over = False
    work.baton = Baton()
    pool = ThreadPoolExecutor(min(work.at_once(LANES), max(len(partitions), 1)), thread_name_prefix=THREADS)
    try:
        for partition in partitions:
            pool.submit(lane, partition)
        yield from as_they_come(happened, len(partitions), done)
        is_over = True
    finally:
        stopping.set()
        if not is_over:
            work.engine.close()  # whoever waits for an answer does so in vain
        # The garbage collector ends a forgotten iterator in any thread, and none of these may wait for itself.
        own = threading.current_thread().name.startswith(THREADS)
        pool.shutdown(wait=not own, cancel_futures=True)
        work.baton = None


def as_ready(
    assets: Sequence[str], inputs_of: Callable[[str], Sequence[str]], build: Callable[[str], Iterator[_Event]]
) -> Iterator[_Event]:
    """The events of each asset, which is built as soon as all that it is made from has been.

    What is postponed holds up what is made from it, and nothing else; in the end that is raised.
    After an error nothing more begins; what is under way ends first, for its calls are paid. Then the error is raised:
    of several one that ends the run rather than its partition, else that of the first asset in order.
    """
    happened: SimpleQueue[_Event | LaneEnd[_Event]] = SimpleQueue()

    left, running, errors = list(assets), set[str](), dict[str, BaseException]()
    waits: dict[str, AssetPostponed] = {}
    with ThreadPoolExecutor(max(len(assets), 1), thread_name_prefix=THREADS) as pool:
        while left or running:
            missing = {*left, *running, *waits}
            for asset in [] if errors else [each for each in left if missing.isdisjoint(inputs_of(each))]:
                left.remove(asset)
                running.add(asset)
                pool.submit(tell_events, happened, asset, build)
            if not running:
                break
            event = happened.get()
            if not isinstance(event, LaneEnd):
                yield event
                continue
            running.remove(event.name)
            if isinstance(event.error, AssetPostponed):
                waits[event.name] = event.error
            elif event.error is not None:
                errors[event.name] = event.error
    if not errors and waits:
        raise PartitionPostponed([waits[asset] for asset in assets if asset in waits])
    if errors:
        found = [errors[asset] for asset in assets if asset in errors]
        raise next((error for error in found if _ends_the_run(error)), found[0])


def one_by_one(
    assets: Sequence[str], inputs_of: Callable[[str], Sequence[str]], build: Callable[[str], Iterator[_Event]]
) -> Iterator[_Event]:
    """The same in this thread, in order; an error is raised at once."""
    waits: list[AssetPostponed] = []
    missing = set[str]()
    for asset in assets:
        if not missing.isdisjoint(inputs_of(asset)):
            missing.add(asset)
            continue
        try:
            yield from build(asset)
        except AssetPostponed as found:
            waits.append(found)
            missing.add(asset)
    if waits:
        raise PartitionPostponed(waits)


def _ends_the_run(error: BaseException) -> bool:
    """A bug, an interrupt, or work that another process has taken over."""
    return isinstance(error, LeaseLost) or not isinstance(error, UserError)
