"""Several partitions under way at once, so that the calls of all of them share one pool.

Only one of them computes at a time, the one that holds the baton; it passes it on while it waits for answers. So
nothing that computes needs to be safe for threads, and a run waits for the slowest answer once, not once per partition.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

from ai_assets.run.context import Work

LANES = 8
"""Each holds one partition in memory."""
THREADS = "partition"

_Event = TypeVar("_Event")


@dataclass(frozen=True)
class _Ended(Generic[_Event]):
    partition: str
    error: BaseException | None


def in_lanes(
    work: Work,
    partitions: Sequence[str],
    compute: Callable[[str], Iterator[_Event]],
    done: Callable[[str], None],
) -> Iterator[_Event]:
    """The events of all partitions as they come, in the caller's thread, where `done` is called too.

    `compute` takes the baton itself, once it has what it must wait for.
    """
    happened: SimpleQueue[_Event | _Ended[_Event]] = SimpleQueue()
    stopping = threading.Event()

    def lane(partition: str) -> None:
        error: BaseException | None = None
        try:
            for event in compute(partition) if not stopping.is_set() else ():
                happened.put(event)
        except BaseException as found:  # noqa: BLE001 - raised again where the caller is
            error = found
        happened.put(_Ended(partition, error))

    left = len(partitions)
    work.baton = threading.Lock()
    pool = ThreadPoolExecutor(min(LANES, max(len(partitions), 1)), thread_name_prefix=THREADS)
    try:
        for partition in partitions:
            pool.submit(lane, partition)
        while left:
            event = happened.get()
            if not isinstance(event, _Ended):
                yield event
                continue
            left -= 1
            if event.error is not None:
                raise event.error
            done(event.partition)
    finally:
        stopping.set()
        if left:
            work.engine.close()  # whoever waits for an answer does so in vain
        # The garbage collector ends a forgotten iterator in any thread, and none of these may wait for itself.
        own = threading.current_thread().name.startswith(THREADS)
        pool.shutdown(wait=not own, cancel_futures=True)
        work.baton = None
