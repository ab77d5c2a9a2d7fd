"""Who holds and who waits for the places of an endpoint, over all processes: text in its row of the state store.

It is kept only while somebody waits, or interactive calls are about; else the text is empty and costs nothing. Each
process writes what it holds and what it was refused, in the turn in which that changes. A refusal counts for a second
unless the process asks again, so one that dies keeps nobody waiting; what a dead one held goes when its calls are
reaped. Pure: seconds are those of the ledger's clock.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from ai_assets.base.tenants import ANOTHER
from ai_assets.inference.fairness import WINDOW_S, CallLane, Capacity, LaneLoad, allotted
from ai_assets.inference.settings import EndpointLimits

KEPT_AFTER_WAIT_S = 5.0
KEPT_AFTER_INTERACTIVE_S = 300.0
"""So long after an interactive call places are kept free for the next."""
ASKED_FOR_S = 1.0
"""A refusal counts for so long; who waits asks again at least four times a second."""
FORGOTTEN_AFTER_S = 60.0
"""What a process that holds nothing used is of no interest any more."""


@dataclass(kw_only=True, slots=True)
class OwnerLane:
    """What one process has of a lane."""

    in_flight: int = 0
    refused: int = 0
    refused_at_s: float = 0.0
    since_s: float = 0.0
    """The first refusal after it last got a place; 0: none."""
    admitted_at_s: float = 0.0
    requests: float = 0.0
    tokens: float = 0.0
    """Lately, as of `admitted_at_s`."""

    def waiting(self, now_s: float) -> int:
        return self.refused if now_s - self.refused_at_s <= ASKED_FOR_S else 0

    def faded(self, now_s: float) -> float:
        """What is left of the use that it had when it was last admitted."""
        return math.exp(-max(now_s - self.admitted_at_s, 0.0) / WINDOW_S)

    def admit(self, now_s: float, tokens: int) -> None:
        faded = self.faded(now_s)
        self.requests, self.tokens = self.requests * faded + 1, self.tokens * faded + tokens
        self.admitted_at_s, self.since_s = now_s, 0.0

    def is_over(self, now_s: float) -> bool:
        return (
            self.in_flight <= 0
            and not self.waiting(now_s)
            and now_s - max(self.admitted_at_s, self.refused_at_s) > FORGOTTEN_AFTER_S
        )


@dataclass(kw_only=True, slots=True)
class PlaceQueue:
    """Of one endpoint, read, changed and written within one turn."""

    until_s: float = 0.0
    """It is kept until then."""
    interactive_until_s: float = 0.0
    owners: dict[int, dict[CallLane, OwnerLane]] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, now_s: float) -> "PlaceQueue | None":
        """None where nothing is kept any more."""
        if not text:
            return None
        found = json.loads(text)
        if found["until_s"] < now_s:
            return None
        owners = {
            int(owner): {CallLane(lane[0], lane[1]): OwnerLane(**known) for lane, known in lanes}
            for owner, lanes in found["owners"].items()
        }
        return cls(until_s=found["until_s"], interactive_until_s=found["interactive_until_s"], owners=owners)

    def text(self, now_s: float) -> str:
        owners = {
            str(owner): kept
            for owner, lanes in self.owners.items()
            if (
                kept := [
                    ((lane.priority, lane.party), _told(known))
                    for lane, known in lanes.items()
                    if not known.is_over(now_s)
                ]
            )
        }
        until = {"until_s": self.until_s, "interactive_until_s": self.interactive_until_s}
        return json.dumps({**until, "owners": owners}, separators=(",", ":"))

    def enter(self, owner: int, held: Mapping[CallLane, int], asked: Mapping[CallLane, int], now_s: float) -> None:
        """A turn of a process: what it has in flight, which it knows best itself, and what it asks for."""
        for lane in self.owners.get(owner, {}).keys() | held.keys() | asked.keys():
            known = self.owners.setdefault(owner, {}).setdefault(lane, OwnerLane())
            known.in_flight = held.get(lane, 0)
            if lane in asked:
                known.refused, known.refused_at_s, known.since_s = asked[lane], now_s, known.since_s or now_s
            if lane.priority == "interactive" and lane in asked:
                self.interactive_until_s = now_s + KEPT_AFTER_INTERACTIVE_S
                self.keep(now_s)

    def keep(self, now_s: float) -> None:
        """Whether or not anybody waits."""
        self.until_s = max(self.until_s, now_s + KEPT_AFTER_INTERACTIVE_S)

    def admit(self, owner: int, lane: CallLane, now_s: float, tokens: int) -> None:
        known = self.owners[owner][lane]
        known.in_flight += 1
        known.admit(now_s, tokens)

    def leave(self, owner: int, asked: Mapping[CallLane, int], refused: Mapping[CallLane, int], now_s: float) -> None:
        """The end of that turn: what it was refused."""
        for lane in asked:
            known = self.owners[owner][lane]
            known.refused = refused.get(lane, 0)
            known.since_s = (known.since_s or now_s) if known.refused else 0.0
        if any(refused.values()):
            self.until_s = max(self.until_s, now_s + KEPT_AFTER_WAIT_S)

    def loads(self, weights: Mapping[str, float], now_s: float) -> dict[CallLane, LaneLoad]:
        """By lane, over all processes. Who was given a place by another process of its lane has not waited since."""
        found: dict[CallLane, LaneLoad] = {}
        admitted: dict[CallLane, float] = {}
        for lane, known in self.known():
            load = found.setdefault(lane, LaneLoad(weight=weights.get(lane.party, 1.0)))
            _add(load, known, now_s)
            admitted[lane] = max(admitted.get(lane, 0.0), known.admitted_at_s)
        for lane, load in found.items():
            load.since_s = max(load.since_s, admitted[lane])
        return found

    def known(self) -> Iterator[tuple[CallLane, OwnerLane]]:
        for lanes in self.owners.values():
            yield from lanes.items()

    def most_others(self, limits: EndpointLimits, in_flight: int, now_s: float) -> int | None:
        """How many more calls that are not interactive may leave; None where no place is kept from them."""
        kept = self.kept(limits, now_s)
        if not kept:
            return None
        interactive = sum(known.in_flight for lane, known in self.known() if lane.priority == "interactive")
        return max(limits.concurrency - kept - max(in_flight - interactive, 0), 0)

    def kept(self, limits: EndpointLimits, now_s: float) -> int:
        """Places that only interactive calls may take."""
        if limits.interactive_places is None and now_s >= self.interactive_until_s:
            return 0
        return limits.kept_for_interactive

    def grants(
        self,
        owner: int,
        limits: EndpointLimits,
        free: int,
        in_flight: int,
        now_s: float,
        *,
        weights: Mapping[str, float],
        tokens_each: int,
    ) -> Counter[CallLane]:
        """What a process gets of the places that are free now."""
        capacity = Capacity(
            places=limits.concurrency,
            requests=_in_window(limits.requests_per_minute),
            tokens=_in_window(limits.tokens_per_minute),
            tokens_each=tokens_each,
        )
        most_others = self.most_others(limits, in_flight, now_s)
        by_lane = allotted(free, self.loads(weights, now_s), capacity, now_s, most_others=most_others)
        found: Counter[CallLane] = Counter()
        for lane in self.owners.get(owner, {}):
            if by_lane[lane]:
                # Processes of one lane are alike, and none of them is to wait for another to end.
                of_lane = {CallLane(lane.priority, str(each)): load for each, load in self._owners_of(lane, now_s)}
                mine = CallLane(lane.priority, str(owner))
                found[lane] = allotted(by_lane[lane], of_lane, capacity, now_s)[mine]
        return found

    def _owners_of(self, lane: CallLane, now_s: float) -> Iterator[tuple[int, LaneLoad]]:
        for owner, lanes in self.owners.items():
            if lane in lanes:
                load = LaneLoad()
                _add(load, lanes[lane], now_s)
                yield owner, load

    def forget(self, owner: int) -> bool:
        """Its calls were reaped; whether it stood here."""
        return self.owners.pop(owner, None) is not None

    def before(self, lane: CallLane, weights: Mapping[str, float], now_s: float, *, by_tenant: bool = False) -> str:
        """Whom a lane waits behind, in words: who else waits or holds most.

        `by_tenant`: parties are tenants, and none of them is told who the others are, or how much they ask.
        """
        if by_tenant:
            return self._before_tenants(lane, weights, now_s)
        loads = {other: load for other, load in self.loads(weights, now_s).items() if other != lane}
        waiting = {other: load for other, load in loads.items() if load.waiting}
        others = waiting or {other: load for other, load in loads.items() if load.in_flight}
        named = sorted(others, key=lambda other: -max(others[other].in_flight, others[other].waiting))
        said = [_in_words(other, others[other]) for other in named[:3]]
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        if said:
            return ", ".join(said) + more
        own = self.loads(weights, now_s).get(lane)
        return "others" if own is None else f"other {_in_words(lane, own)}"

    def _before_tenants(self, lane: CallLane, weights: Mapping[str, float], now_s: float) -> str:
        loads = self.loads(weights, now_s)
        wanting = {other: load for other, load in loads.items() if load.waiting or load.in_flight}
        said = [
            f"other {_in_words(CallLane(other.priority, ''), load)}"
            for other, load in wanting.items()
            if other.party == lane.party
        ]
        strange = sorted({other.priority for other in wanting if other.party != lane.party})
        said += [f"{priority} calls of {ANOTHER}" for priority in strange]
        return ", ".join(said) or "others"


def forgotten(text: str, owner: int) -> str | None:
    """The text without what a process had; None where it has nothing there."""
    queue = PlaceQueue.read(text, -math.inf)
    if queue is None or not queue.forget(owner):
        return None
    return queue.text(-math.inf)


def _add(load: LaneLoad, known: OwnerLane, now_s: float) -> None:
    load.in_flight += known.in_flight
    faded = known.faded(now_s)
    load.requests += known.requests * faded
    load.tokens += known.tokens * faded
    if waiting := known.waiting(now_s):
        load.waiting += waiting
        load.since_s = min(load.since_s, known.since_s)


def _told(known: OwnerLane) -> dict[str, float]:
    """What is not nought."""
    rounded = replace(known, requests=round(known.requests, 3), tokens=round(known.tokens, 1))
    return {name: value for name, value in asdict(rounded).items() if value}


def _in_words(lane: CallLane, load: LaneLoad) -> str:
    whose = f" of '{lane.party}'" if lane.party else ""
    held = [f"{load.in_flight} in flight"] if load.in_flight else []
    held += [f"{load.waiting} waiting"] if load.waiting else []
    return f"{lane.priority} calls{whose} ({', '.join(held)})"


def _in_window(per_minute: int | None) -> float | None:
    return None if per_minute is None else per_minute / 60 * WINDOW_S
