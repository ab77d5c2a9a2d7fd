"""The line to one endpoint in this process: its connections, its places, how fast it answers. One event loop only."""

import asyncio
import heapq
import itertools
from collections import deque

from ai_assets.inference.ramp import Ramp
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols.http import Channel

RECENT = 200
"""So many latest answers tell how fast an endpoint is now."""
REFUSALS_TO_PAUSE = 20
"""429s in a row, with no answer between them."""
LONGEST_PAUSE_S = 60.0

Place = tuple[int, int]
"""In the line: rank and number."""


class EndpointPool:
    def __init__(self, name: str, endpoint: Endpoint, base_url: str, key: str | None) -> None:
        self.name = name
        self.channel = Channel(endpoint, base_url, key)
        self.ramp = Ramp(endpoint.limits.concurrency)
        self.in_flight = 0
        self._waiting: list[tuple[Place, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._paused_until = 0.0
        self._refusals = 0
        self.trouble = ""
        """What the last call that failed said."""
        self._latencies: deque[float] = deque(maxlen=RECENT)

    def place(self, rank: int) -> Place:
        """At the end of those of its rank; it stays the same for who could not use it and enters again."""
        return rank, next(self._numbers)

    async def enter(self, place: Place) -> None:
        """Wait until one may leave; whoever has entered must `leave`."""
        if not self._waiting and self._open():
            self.in_flight += 1
            return
        entered = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (place, entered))
        try:
            await entered
        except asyncio.CancelledError:
            if entered.done() and not entered.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.in_flight -= 1
        self.wake()

    def wake(self) -> None:
        while self._waiting and self._open():
            _, entered = heapq.heappop(self._waiting)
            if not entered.done():
                self.in_flight += 1
                entered.set_result(None)

    def pause(self, seconds: float) -> None:
        """Nobody enters for so long; whoever asked learns it once, for all."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if until > self._paused_until:
            self._paused_until = until
            loop.call_at(until + 0.001, self.wake)

    def answered(self, seconds: float) -> None:
        self.ramp.answered()
        self._latencies.append(seconds)
        self._refusals = 0

    def limited(self, in_flight: int, retry_after_s: float | None) -> None:
        """A 429. When nothing else comes any more, all wait as long as the provider says, not each for itself."""
        self.ramp.limited(in_flight)
        self._refusals += 1
        if self._refusals >= REFUSALS_TO_PAUSE and retry_after_s:
            self.pause(min(retry_after_s, LONGEST_PAUSE_S))

    def p95_s(self) -> float | None:
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]

    def _open(self) -> bool:
        return self.in_flight < self.ramp.limit and asyncio.get_running_loop().time() >= self._paused_until
