"""Who may leave next: the places of an endpoint between priorities, and within each between collections. Pure.

Places go one by one to the priority that uses least of what it is due, and within it to the collection (or tenant) that
does. What nobody else wants is given to whoever wants it. Use is the largest share of any limit: places in flight,
requests and tokens lately.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ai_assets.inference.records import PRIORITIES, Caller, Priority

DUE: Mapping[Priority, float] = {"interactive": 16.0, "normal": 4.0, "batch": 1.0}
"""What the priorities are due of a limit that all three ask for: batch 1 in 21, and never less than one place."""
AGED_S = 30.0
"""Who has waited so long without one place goes first, once."""
WINDOW_S = 10.0
"""How far back requests and tokens count as use."""


class CallLane(NamedTuple):
    """Calls that are alike for admission."""

    priority: Priority
    party: str
    """A collection or a tenant, as `shares` names them."""


USUAL_LANE = CallLane("normal", "")


@dataclass(kw_only=True, slots=True)
class LaneLoad:
    """Of a lane, over all processes."""

    in_flight: int = 0
    waiting: int = 0
    since_s: float = math.inf
    """Since when it has waited without one place."""
    requests: float = 0.0
    tokens: float = 0.0
    """Of the last WINDOW_S."""
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What an endpoint allows."""

    places: int
    requests: float | None = None
    tokens: float | None = None
    """In WINDOW_S."""
    tokens_each: int = 0
    """Of a call."""


@lru_cache(4096)
def usual_lane(priority: Priority, tenant: str, collection: str) -> CallLane:
    """Where no share is declared."""
    if tenant in ("", "default") or not collection:
        return CallLane(priority, collection or tenant)
    return CallLane(priority, f"{tenant}/{collection}")


def lane_of(shares: Mapping[str, float], priority: Priority, caller: Caller, *, by_tenant: bool = False) -> CallLane:
    """A declared collection is a party before a declared tenant; everybody else is one by themselves.

    `by_tenant`: tenants are declared, and each is one party.
    """
    if by_tenant:
        return CallLane(priority, caller.tenant)
    if shares:
        for name in (caller.collection, caller.tenant):
            if name in shares:
                return CallLane(priority, name)
    return usual_lane(priority, caller.tenant, caller.collection)


@dataclass(slots=True)
class _Use:
    """What is counted up while places are given away."""

    due: float
    in_flight: float = 0.0
    requests: float = 0.0
    tokens: float = 0.0

    def add(self, load: LaneLoad) -> None:
        self.in_flight += load.in_flight
        self.requests += load.requests
        self.tokens += load.tokens

    def give(self, tokens: int) -> None:
        self.in_flight += 1
        self.requests += 1
        self.tokens += tokens

    def level(self, capacity: Capacity) -> float:
        """How much of what it is due it uses."""
        most = self.in_flight / capacity.places
        if capacity.requests:
            most = max(most, self.requests / capacity.requests)
        if capacity.tokens:
            most = max(most, self.tokens / capacity.tokens)
        return most / self.due


def allotted(
    free: int, loads: Mapping[CallLane, LaneLoad], capacity: Capacity, now_s: float, *, most_others: int | None = None
) -> Counter[CallLane]:
    """How many of `free` places go to whom. `most_others`: of them to calls that are not interactive."""
    given: Counter[CallLane] = Counter()
    wanting = {lane: load.waiting for lane, load in loads.items() if load.waiting > 0}
    others = free if most_others is None else most_others
    if len(wanting) == 1 or free >= sum(wanting.values()) <= others:
        for lane, waiting in wanting.items():
            given[lane] = max(min(waiting, free, free if lane.priority == "interactive" else others), 0)
        return +given
    by_priority = {priority: _Use(DUE[priority]) for priority in PRIORITIES}
    by_lane = {lane: _Use(loads[lane].weight) for lane in wanting}
    for lane, load in loads.items():
        by_priority[lane.priority].add(load)
        if lane in by_lane:
            by_lane[lane].add(load)
    aged = sorted(
        (lane for lane in wanting if now_s - loads[lane].since_s >= AGED_S),
        key=lambda lane: (loads[lane].since_s, lane.party),
    )
    while free > 0 and wanting:
        able = [lane for lane in wanting if others > 0 or lane.priority == "interactive"]
        if not able:
            break
        first = next((lane for lane in aged if lane in able), None)
        if first is None:
            levels = {lane.priority: by_priority[lane.priority].level(capacity) for lane in able}
            priority = min(levels, key=lambda each: (levels[each], PRIORITIES.index(each)))
            first = min(
                (lane for lane in able if lane.priority == priority),
                key=lambda lane: (by_lane[lane].level(capacity), loads[lane].since_s, lane.party),
            )
        else:
            aged.remove(first)
        given[first] += 1
        free -= 1
        others -= first.priority != "interactive"
        by_priority[first.priority].give(capacity.tokens_each)
        by_lane[first].give(capacity.tokens_each)
        wanting[first] -= 1
        if not wanting[first]:
            del wanting[first]
    return given
