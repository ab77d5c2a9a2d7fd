"""Who computes: one thread of a run at a time, and of those that wait the one whose work the others wait for most."""

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Rank = tuple[int, ...]
"""The lowest goes first; equal ones in the order in which they came."""


@dataclass(order=True, frozen=True)
class _Waiter:
    rank: Rank
    number: int
    turn: threading.Lock = field(compare=False)


class Baton:
    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._is_held = False
        self._line: list[_Waiter] = []
        self._numbers = itertools.count()
        self._own = threading.local()

    @contextmanager
    def held(self, rank: Rank) -> Iterator[None]:
        """Within the block this thread computes."""
        self._own.rank = rank
        self._take(rank)
        try:
            yield
        finally:
            self._pass_on()

    @contextmanager
    def passed_on(self) -> Iterator[None]:
        """Within this block, which is inside of `held`, others compute."""
        self._pass_on()
        try:
            yield
        finally:
            self._take(self._own.rank)

    def _take(self, rank: Rank) -> None:
        with self._changing:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Lock()
            turn.acquire()
            heapq.heappush(self._line, _Waiter(rank, next(self._numbers), turn))
        turn.acquire()

    def _pass_on(self) -> None:
        with self._changing:
            if self._line:
                heapq.heappop(self._line).turn.release()
            else:
                self._is_held = False
