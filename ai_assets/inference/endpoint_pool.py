"""The line to one endpoint in this process: its connections, its places, how fast it answers. One event loop only."""

import asyncio
from collections import deque

from ai_assets.inference.admission import BREAKING
from ai_assets.inference.errors import EndpointDown
from ai_assets.inference.ramp import Ramp
from ai_assets.inference.settings import Endpoint
from ai_assets.inference.silence import Silence, again_line, waiting_line
from ai_assets.protocols.base import Fault, Reply
from ai_assets.protocols.http import Channel

RECENT = 200
"""So many latest answers tell how fast an endpoint is now."""
REFUSALS_TO_PAUSE = 20
"""429s in a row, with no answer between them."""
LONGEST_PAUSE_S = 60.0


class EndpointPool:
    def __init__(self, name: str, endpoint: Endpoint, base_url: str, key: str | None) -> None:
        self.name = name
        self.endpoint = endpoint
        self.channel = Channel(endpoint, base_url, key)
        self.ramp = Ramp(endpoint.limits.concurrency)
        self.in_flight = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._paused_until = 0.0
        self._refusals = 0
        self.silence = Silence()
        self._latencies: deque[float] = deque(maxlen=RECENT)

    async def enter(self) -> None:
        """Wait for a place; whoever gets one must `leave`."""
        if not self._waiting and self._open():
            self.in_flight += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.in_flight -= 1
        self.wake()

    def wake(self) -> None:
        while self._waiting and self._open():
            place = self._waiting.popleft()
            if not place.done():
                self.in_flight += 1
                place.set_result(None)

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

    def note(self, outcome: Reply | Fault, now: float) -> None:
        """A refusal is an answer: the endpoint is well. So is a 429, but nothing came of it."""
        if isinstance(outcome, Fault) and (outcome.error in BREAKING or outcome.error == "rate_limited"):
            self.silence.failed(outcome.error, outcome.message)
        else:
            self.silence.answered(now)

    def is_given_up(self, now: float) -> bool:
        return self.silence.outlasts(self.endpoint.patience_s, now)

    def down(self, now: float) -> EndpointDown:
        patience_s, silence = self.endpoint.patience_s, self.silence
        return EndpointDown(
            self.name, silent_s=silence.seconds(now), patience_s=patience_s, trouble=silence.trouble or silence.obstacle
        )

    def news(self, now: float) -> list[str]:
        """What is to be said now: that it does not answer, and why; or that it answers again."""
        found, silence = list[str](), self.silence
        if silence.ended_s is not None:
            found.append(again_line(self.name, silence.ended_s))
            silence.ended_s = None
        if silence.is_due(self.endpoint.patience_s, now):
            silence.said_at_s = silence.seconds(now)
            found.append(waiting_line(self.name, self.endpoint, silence, self.in_flight, now))
        return found

    def p95_s(self) -> float | None:
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        return ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]

    def _open(self) -> bool:
        return self.in_flight < self.ramp.limit and asyncio.get_running_loop().time() >= self._paused_until
