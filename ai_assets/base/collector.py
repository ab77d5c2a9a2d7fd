"""The garbage collector beside a program that makes very many small objects for a while."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 50_000
"""Objects that are made between two collections of the youngest; Python's own 700 are half of one request. With 10,000
the collector took 0.15 s of the five of a process that asks 2,500 times."""

_changing = threading.Lock()
_inside = 0
_before = gc.get_threshold()


@contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """Within the block the collector looks at new objects only; afterwards at all of them again.

    Libraries and what they have loaded are 150,000 objects, which a full collection goes through. A run has several of
    those, and each holds the interpreter for a fifth of a second: a tenth of its processor time.
    """
    global _inside, _before
    with _changing:
        _inside += 1
        if _inside == 1:
            _before = gc.get_threshold()
            gc.set_threshold(max(_before[0], YOUNG) if _before[0] else 0, *_before[1:])
            gc.freeze()
    try:
        yield
    finally:
        with _changing:
            _inside -= 1
            if not _inside:
                gc.unfreeze()
                gc.set_threshold(*_before)


def collect_all() -> None:
    """Whatever nobody refers to any more, also of before a block of `old_objects_left_alone` that was never left."""
    gc.unfreeze()
    gc.collect()
