"""The line to one endpoint in this process: its connections and its places. One event loop only."""

import asyncio

from ai_assets.inference.admission import BREAKING
from ai_assets.inference.errors import EndpointDown, ServerMisfit
from ai_assets.inference.fairness import USUAL_LANE, CallLane
from ai_assets.inference.place_line import Place, PlaceLine
from ai_assets.inference.queue_signal import QueueSignal, address_of
from ai_assets.inference.ramp import Ramp
from ai_assets.inference.settings import Endpoint
from ai_assets.inference.silence import Silence, again_line, trying, waiting_line
from ai_assets.protocols.base import Fault, Reply
from ai_assets.protocols.http import Channel
from ai_assets.protocols.openai_options import options_of

REFUSALS_TO_PAUSE = 20
"""429s in a row, with no answer between them."""
LONGEST_PAUSE_S = 60.0
SLOW_LOOK_S = 1.0
LOOK_AGAIN_S = 60.0
"""A server that takes longer to say what it has and takes, and then does not, is asked that again after so long."""


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
        self._line = PlaceLine(endpoint.limits, endpoint.shares)
        self._paused_until = 0.0
        self._refusals = 0
        self.silence = Silence()
        self.most_texts: int | None = None
        """In one request, as the server says or has shown."""
        self.is_known = False
        """The server has said what it has and takes, or is one that says nothing."""
        self._protocol = endpoint.protocol
        self._learning: asyncio.Task[None] | None = None
        self._learn_again = 0.0
        """Not before then it is asked again what it has and takes."""
        self._unsaid = list[str]()
        """What is to be said once, and is not yet."""
        self._is_doubted = False
        url = address_of(endpoint, base_url)
        self._orders = url is not None and options_of(endpoint).priority
        """The server takes interactive calls first, so its queue does not matter to them."""
        pause = self._pause_for_queue
        self.signal = None if url is None else QueueSignal(name, endpoint.protocol, url, self.channel, pause)

    async def learn(self) -> None:
        """What the server says of itself, asked once by all who wait for it. Raises ServerMisfit."""
        if asyncio.get_running_loop().time() < self._learn_again:
            return
        if self._learning is None or self._learning.done():
            self._learning = asyncio.create_task(self._learn())
        await asyncio.shield(self._learning)

    async def _learn(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limits = await self.channel.learn()
        if limits is None:  # it cannot be reached, which the call itself will say; or only this look hangs
            if (taken_s := loop.time() - begun) >= SLOW_LOOK_S:
                if not self._learn_again:
                    self._unsaid.append(
                        f"endpoint '{self.name}' did not say in {taken_s:.0f} s what it has and takes; it is asked as "
                        f"it is declared, and for that again after a minute. What it wants: {trying(self.name)}"
                    )
                self._learn_again = loop.time() + LOOK_AGAIN_S
            return
        if limits.problem is not None:
            raise ServerMisfit(self.name, self._protocol, limits.problem)
        self.is_known = True
        if limits.texts_per_request is not None:
            self.most_texts = min(limits.texts_per_request, self.most_texts or limits.texts_per_request)

    def doubted(self, doubt: str) -> None:
        """What it counted for a call cannot be; said once."""
        if not self._is_doubted:
            self._is_doubted = True
            self._unsaid.append(
                f"endpoint '{self.name}': {doubt}. Of such calls the most that was reserved is counted, and the ledger "
                f"says which they are. What it wants: {trying(self.name)}"
            )

    def too_many(self, texts: int) -> None:
        """So many in one request were refused for being too many."""
        self.most_texts = max(1, min(texts // 2, self.most_texts or texts))

    def place(self, rank: int, lane: CallLane = USUAL_LANE) -> Place:
        """At the end of those of its rank; it stays the same for who could not use it and enters again."""
        return self._line.place(rank, lane)

    async def enter(self, place: Place) -> None:
        """Wait until one may leave; whoever has entered must `leave`. May raise TurnedAway."""
        loop, lane = asyncio.get_running_loop(), place[2]
        if not self._line.waiting and self._open() and self._line.is_open(lane, self.ramp.limit, loop.time()):
            self.in_flight += 1
            self._line.enter(lane, loop.time())
            return
        entered = loop.create_future()
        self._line.add(place, entered, loop.time())
        self.wake()
        try:
            await entered
        except asyncio.CancelledError:
            if entered.done() and not entered.cancelled() and entered.exception() is None:
                self.decided(lane, opened=False)
            raise

    def decided(self, lane: CallLane, *, opened: bool) -> None:
        """The ledger has been asked by one that has entered, who has left again where nothing was `opened`."""
        self._line.decided(lane)
        if opened:
            self._line.admitted(lane)
        else:
            self.in_flight -= 1
            self._line.withdraw(lane)
        if self._line.waiting and self._open():
            # Once all who asked in the same turn have heard what became of them: most of them hear the same.
            asyncio.get_running_loop().call_soon(self.wake)

    def leave(self, lane: CallLane = USUAL_LANE) -> None:
        self.in_flight -= 1
        self._line.leave(lane)
        self.wake()

    def wake(self) -> None:
        while self._line.waiting and self._open():
            entered = self._line.next(self.ramp.limit, asyncio.get_running_loop().time())
            if entered is None:
                return
            self.in_flight += 1
            entered.set_result(None)

    def pause(self, seconds: float) -> None:
        """Nobody enters for so long; whoever asked learns it once, for all."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        if until > self._paused_until:
            self._paused_until = until
            loop.call_at(until + 0.001, self.wake)

    def refuse(self, lane: CallLane, seconds: float, *, until_a_place_is_free: bool) -> None:
        """Nobody of this lane asks the ledger again for a while, or until a call of this process ends."""
        loop = asyncio.get_running_loop()
        until = self._line.refuse(lane, loop.time(), seconds, until_a_place_is_free=until_a_place_is_free)
        if until is not None:
            loop.call_at(until + 0.001, self.wake)

    async def waits_there(self, lane: CallLane) -> bool:
        """Whether the server has so much waiting that nothing more is to be sent of this lane."""
        if self.signal is None or (self._orders and lane.priority == "interactive"):
            return False
        return await self.signal.look(self.sent) > 0

    def _pause_for_queue(self, seconds: float) -> None:
        if not self._orders:
            self.pause(seconds)
            return
        loop = asyncio.get_running_loop()
        self._line.pause_others(loop.time() + seconds)
        loop.call_at(loop.time() + seconds + 0.001, self.wake)

    def turn_away(self) -> None:
        """All who wait for a place look again whether they want one here."""
        for entered in self._line.clear():
            entered.set_exception(TurnedAway)

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
        found, silence = [] if self.signal is None else self.signal.news(), self.silence
        found += self._unsaid
        self._unsaid.clear()
        if silence.ended_s is not None:
            found.append(again_line(self.name, silence.ended_s))
            silence.ended_s = None
        if silence.is_due(self.endpoint.patience_s, now):
            silence.said_at_s = silence.seconds(now)
            in_flight = self.sent if silence.is_queued else self.in_flight
            found.append(waiting_line(self.name, self.endpoint, silence, in_flight, now))
        return found

    def _open(self) -> bool:
        return self.in_flight < self.ramp.limit and asyncio.get_running_loop().time() >= self._paused_until
