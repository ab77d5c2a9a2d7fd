"""What is worked out of a value once, and remembered for that very object: requests of a stage share one schema."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

MOST = 256
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def remembered(make: Callable[[_Given], _Made]) -> Callable[[_Given], _Made]:
    """For values that nobody changes; the object itself is kept, so that no other one gets its identity."""
    known: dict[int, tuple[_Given, _Made]] = {}

    @wraps(make)
    def found(given: _Given) -> _Made:
        entry = known.get(id(given))
        if entry is None or entry[0] is not given:
            if len(known) >= MOST:
                known.clear()
            entry = known[id(given)] = (given, make(given))
        return entry[1]

    return found
