"""The line to one endpoint in this process: its connections and its places. One event loop only."""

import asyncio
import heapq
import itertools

from ai_assets.inference.admission import BREAKING
from ai_assets.inference.errors import EndpointDown, ServerMisfit
from ai_assets.inference.queue_signal import QueueSignal, address_of
from ai_assets.inference.ramp import Ramp
from ai_assets.inference.settings import Endpoint
from ai_assets.inference.silence import Silence, again_line, waiting_line
from ai_assets.protocols.base import Fault, Reply
from ai_assets.protocols.http import Channel

REFUSALS_TO_PAUSE = 20
"""429s in a row, with no answer between them."""
LONGEST_PAUSE_S = 60.0

Place = tuple[int, int]
"""In the line: rank and number."""


class TurnedAway(Exception):
    """From `enter`: another endpoint may be the better one by now."""


class EndpointPool:
    def __init__(self, name: str, endpoint: Endpoint, base_url: str, key: str | None) -> None:
        self.name = name
        self.endpoint = endpoint
        self.channel = Channel(endpoint, base_url, key)
        self.ramp = Ramp(endpoint.limits.concurrency)
        self.in_flight = 0
        self.sent = 0
        """Requests that have left, of the places in flight."""
        self._waiting: list[tuple[Place, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._paused_until = 0.0
        self._refusals = 0
        self.silence = Silence()
        self.most_texts: int | None = None
        """In one request, as the server says or has shown."""
        self.is_known = False
        """The server has said what it has and takes, or is one that says nothing."""
        self._protocol = endpoint.protocol
        self._learning: asyncio.Task[None] | None = None
        url = address_of(endpoint, base_url)
        self.signal = None if url is None else QueueSignal(name, endpoint.protocol, url, self.channel, self.pause)

    async def learn(self) -> None:
        """What the server says of itself, asked once by all who wait for it. Raises ServerMisfit."""
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn())
        await asyncio.shield(self._learning)

    async def _learn(self) -> None:
        limits = await self.channel.learn()
        if limits is None:
            return  # it cannot be reached, which the call itself will say
        if limits.problem is not None:
            raise ServerMisfit(self.name, self._protocol, limits.problem)
        self.is_known = True
        if limits.texts_per_request is not None:
            self.most_texts = min(limits.texts_per_request, self.most_texts or limits.texts_per_request)

    def too_many(self, texts: int) -> None:
        """So many in one request were refused for being too many."""
        self.most_texts = max(1, min(texts // 2, self.most_texts or texts))

    def place(self, rank: int) -> Place:
        """At the end of those of its rank; it stays the same for who could not use it and enters again."""
        return rank, next(self._numbers)

    async def enter(self, place: Place) -> None:
        """Wait until one may leave; whoever has entered must `leave`. May raise TurnedAway."""
        if not self._waiting and self._open():
            self.in_flight += 1
            return
        entered = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (place, entered))
        try:
            await entered
        except asyncio.CancelledError:
            if entered.done() and not entered.cancelled() and entered.exception() is None:
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

    def turn_away(self) -> None:
        """All who wait for a place look again whether they want one here."""
        for _, entered in self._waiting:
            if not entered.done():
                entered.set_exception(TurnedAway)
        self._waiting.clear()

    def answered(self) -> None:
        self.ramp.answered()
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

    def _open(self) -> bool:
        return self.in_flight < self.ramp.limit and asyncio.get_running_loop().time() >= self._paused_until
