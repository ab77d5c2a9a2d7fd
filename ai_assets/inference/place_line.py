"""Who waits in this process for a place at one endpoint, by lane, and who of them is next. Pure: times are given."""

import asyncio
import heapq
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from ai_assets.inference.fairness import CallLane, Capacity, LaneLoad, allotted
from ai_assets.inference.place_queue import KEPT_AFTER_INTERACTIVE_S
from ai_assets.inference.records import Priority
from ai_assets.inference.settings import EndpointLimits

LONGEST_S: Mapping[Priority, float] = {"interactive": 0.02, "normal": 0.1, "batch": 0.2}
"""Between two times that a lane asks the ledger for a place."""
SELDOMER = 1.3
FEW = 8
"""So many calls of a lane ask the ledger again after it had no place for one."""

Place = tuple[int, int, CallLane]
"""In the line: rank, number and lane."""


@dataclass(slots=True)
class LocalLane:
    """Of one process."""

    lane: CallLane
    waiting: list[tuple[Place, "asyncio.Future[None]"]] = field(default_factory=list)
    since: float = 0.0
    """Since when it waits without a place, where it does."""
    in_flight: int = 0
    """Calls that have a place of this process, those included that still ask the ledger for one."""
    asking: int = 0
    refusals: int = 0
    """Since the ledger last had a place."""
    paused_until: float = 0.0
    until_a_place_is_free: bool = False

    def may_ask(self, now: float) -> bool:
        return now >= self.paused_until and not (self.refusals and self.asking >= FEW)


class PlaceLine:
    def __init__(self, limits: EndpointLimits, shares: Mapping[str, float]) -> None:
        self._limits = limits
        self._shares = shares
        self._lanes: dict[CallLane, LocalLane] = {}
        self._numbers = itertools.count()
        self._interactive_until = self._others_paused_until = -1.0
        self.waiting = 0

    def place(self, rank: int, lane: CallLane) -> Place:
        return rank, next(self._numbers), lane

    def of(self, lane: CallLane) -> LocalLane:
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = LocalLane(lane)
        return found

    def add(self, place: Place, entered: "asyncio.Future[None]", now: float) -> None:
        known = self.of(place[2])
        if not known.waiting:
            known.since = now
        heapq.heappush(known.waiting, (place, entered))
        self.waiting += 1

    def enter(self, lane: CallLane, now: float) -> None:
        known = self.of(lane)
        known.in_flight += 1
        known.asking += 1
        known.since = now
        if lane.priority == "interactive":
            self._interactive_until = now + KEPT_AFTER_INTERACTIVE_S

    def decided(self, lane: CallLane) -> None:
        """The ledger has answered a call that asked."""
        self.of(lane).asking -= 1

    def admitted(self, lane: CallLane) -> None:
        self.of(lane).refusals = 0

    def withdraw(self, lane: CallLane) -> None:
        """It has entered, and did not use its place."""
        self.of(lane).in_flight -= 1

    def leave(self, lane: CallLane) -> None:
        """A call has ended, and its place is free: who was refused one asks again."""
        self.of(lane).in_flight -= 1
        for other in self._lanes.values():
            if other.until_a_place_is_free:
                other.paused_until = 0.0

    def refuse(self, lane: CallLane, now: float, seconds: float, *, until_a_place_is_free: bool) -> float | None:
        """Until when; None where it waits already. The longer it waits the seldomer it asks, and seldom where the next
        place is likely to be one of this process: each time is a transaction."""
        known = self.of(lane)
        if known.paused_until > now:
            return None
        if until_a_place_is_free:
            holds = any(each.in_flight > each.asking for each in self._lanes.values())
            longest = LONGEST_S[lane.priority]
            seconds = longest if holds else min(seconds * SELDOMER**known.refusals, longest)
        known.refusals += 1
        known.until_a_place_is_free = until_a_place_is_free
        known.paused_until = now + seconds
        return known.paused_until

    def pause_others(self, until: float) -> None:
        """Only interactive calls leave until then."""
        self._others_paused_until = until

    def is_open(self, lane: CallLane, places: int, now: float) -> bool:
        """Whether a call of this lane may take one of the `places` of this process, as far as itself is concerned."""
        if not self.of(lane).may_ask(now):
            return False
        if lane.priority == "interactive":
            return True
        return now >= self._others_paused_until and (not self._keeps(now) or self._left_for_others(places) > 0)

    def next(self, places: int, now: float) -> "asyncio.Future[None] | None":
        """Of those that wait; its place is taken."""
        while True:
            able = [each for lane, each in self._lanes.items() if each.waiting and self.is_open(lane, places, now)]
            if not able:
                return None
            first = able[0] if len(able) == 1 else self._first(able, places, now)
            _, entered = heapq.heappop(first.waiting)
            self.waiting -= 1
            if not entered.done():
                self.enter(first.lane, now)
                return entered

    def clear(self) -> list["asyncio.Future[None]"]:
        """All who wait, who do so no more."""
        found = [entered for each in self._lanes.values() for _, entered in each.waiting if not entered.done()]
        for each in self._lanes.values():
            each.waiting.clear()
        self.waiting = 0
        return found

    def _first(self, able: list[LocalLane], places: int, now: float) -> LocalLane:
        loads = {
            lane: LaneLoad(in_flight=each.in_flight, weight=self._shares.get(lane.party, 1.0))
            for lane, each in self._lanes.items()
        }
        for each in able:
            loads[each.lane].waiting, loads[each.lane].since_s = 1, each.since
        (first,) = allotted(1, loads, Capacity(places=max(places, 1)), now)
        return self._lanes[first]

    def _keeps(self, now: float) -> bool:
        """Whether places are kept for interactive calls."""
        return now < self._interactive_until or self._limits.interactive_places is not None

    def _left_for_others(self, places: int) -> int:
        kept = self._limits.kept_for_interactive
        others = sum(each.in_flight for lane, each in self._lanes.items() if lane.priority != "interactive")
        return places - min(kept, places - 1) - others
