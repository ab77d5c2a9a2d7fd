"""In time and cheap: whether calls go by batch, by the tier flex or one by one, and when what is left moves on. Pure.

A batch is cheap and ends when it likes; one by one is dear and as fast as the endpoint's limits allow. So calls go the
cheapest way of which the chance to be in time is good enough, where what the rest would need after it counts: until
the *buffer* begins, which is the time to stop a batch for good and to ask all that it left.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Literal

from ai_assets.statistics.ranks import nearest_rank

Way = Literal["batch", "flex", "sync"]
WAYS: tuple[Way, ...] = ("sync", "flex", "batch")
"""The quickest first."""
IN_TIME = 0.98
"""The chance that a way must have, with what comes after it."""
STOP_SHARE = 0.95
"""Of cancellations, the share whose final state the buffer has time for."""
LATE_SHARE = 0.07
"""Of the batches that are stopped when the buffer begins, about the share that is late: of 20 cancellations one takes
longer than the buffer has time for, and of 40 times the rest is asked one."""
LOOK_S = 60.0
"""Between two looks at a batch."""
START_S = 60.0
"""Until a run has begun to ask."""
RETRIES = 1.5
"""Retries and refusals make calls take so much longer than their latency says."""
SURE = 1.96
"""Standard deviations from likely to sure."""
PRIOR_BATCHES = 20
"""What was never observed counts like so many batches."""
PRIOR_CALLS = 5
SLOWEST_SHARE, SLOWEST_S = 0.03, 18 * 3600.0
"""Of the prior: some batches take nearly a day (of 230,000 at OpenRouter the median was 7 minutes, 90 % within 1 h)."""
STOPPING_S = (60.0, 300.0)
"""Median and 90 % of the time from a cancellation to its final state, before any was seen; OpenAI says up to 10 min."""
NO_ROOM = 0.05
"""The share of flex calls for which the tier has no room, before any was made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """How long something took; or that it was not over after so long, when it was stopped or looked at."""

    seconds: float
    ended: bool = True


class Turnaround:
    """How probable it is that something is over after a time: the Kaplan-Meier estimate, in which batches that were
    stopped or are on their way count with what is known of them. Without them the slow ones would be missing, for it is
    they that are stopped."""

    def __init__(self, seen: Iterable[Observed], prior: Iterable[tuple[float, float]]) -> None:
        """`prior`: seconds and weight of what is believed beforehand."""
        found = [(each.seconds, 1.0, each.ended) for each in seen]
        self.seen = len(found)
        found += [(seconds, weight, True) for seconds, weight in prior]
        found.sort(key=lambda item: (item[0], not item[2]))
        at_risk, going_on = sum(weight for _, weight, _ in found), 1.0
        self._at: list[float] = []
        self._over: list[float] = []
        for seconds, weight, ended in found:
            if ended:
                going_on *= max(1 - weight / at_risk, 0.0)
                self._at.append(seconds)
                self._over.append(1 - going_on)
            at_risk -= weight

    def chance(self, seconds: float) -> float:
        """That it is over by then."""
        place = bisect_right(self._at, seconds)
        return self._over[place - 1] if place else 0.0

    def quantile(self, share: float) -> float:
        """After how many seconds this share of them is over."""
        return next((at for at, over in zip(self._at, self._over, strict=True) if over >= share), math.inf)


def believed(
    p50_s: float, p90_s: float, weight: float, *, slowest: float = 0.0, points: int = 40
) -> Iterator[tuple[float, float]]:
    """A prior of this weight: lognormal, and a share that takes nearly a day."""
    spread = math.log(p90_s / p50_s) / NormalDist().inv_cdf(0.9)
    for number in range(points):
        z = NormalDist().inv_cdf((number + 0.5) / points)
        yield p50_s * math.exp(spread * z), weight * (1 - slowest) / points
    if slowest:
        yield SLOWEST_S, weight * slowest


def batch_turnaround(seen: Iterable[Observed], p50_s: float, p90_s: float) -> Turnaround:
    return Turnaround(seen, believed(p50_s, p90_s, PRIOR_BATCHES, slowest=SLOWEST_SHARE))


def stop_time(seen: Iterable[Observed]) -> Turnaround:
    """From the request to cancel a batch to its final state."""
    return Turnaround(seen, believed(*STOPPING_S, PRIOR_BATCHES))


@dataclass(frozen=True, kw_only=True, slots=True)
class CallLoad:
    """What is still to be asked."""

    calls: int
    tokens: float


@dataclass(frozen=True, kw_only=True)
class CallPace:
    """How fast an endpoint answers calls one by one, by its limits and by how long its calls took."""

    concurrency: int
    requests_per_minute: int | None
    tokens_per_minute: int | None
    p50_s: float
    p95_s: float
    seen: int = 0
    """Calls that this is known from."""

    def likely_s(self, load: CallLoad) -> float:
        return self._seconds(load, self.p50_s)

    def sure_s(self, load: CallLoad) -> float:
        """The mean of many rounds is nearer to that of one call than its slowest is; retries come on top."""
        rounds = max(math.ceil(load.calls / self.concurrency), 1)
        latency_s = self.p50_s + (self.p95_s - self.p50_s) / math.sqrt(rounds)
        return RETRIES * self._seconds(load, latency_s) + self.p95_s

    def chance(self, load: CallLoad, seconds: float) -> float:
        """That all of it is answered by then."""
        if load.calls == 0:
            return 1.0
        if seconds <= 0:
            return 0.0
        likely, sure = self.likely_s(load), self.sure_s(load)
        return NormalDist().cdf(math.log(seconds / likely) / (math.log(sure / likely) / SURE))

    def _seconds(self, load: CallLoad, latency_s: float) -> float:
        waits = [math.ceil(load.calls / self.concurrency) * max(latency_s, 0.001)]
        if self.requests_per_minute is not None:
            waits.append(60 * load.calls / self.requests_per_minute)
        if self.tokens_per_minute is not None:
            waits.append(60 * load.tokens / self.tokens_per_minute)
        return max(waits)


def pace_of(
    latencies: Sequence[float], prior: tuple[float, float], limits: tuple[int, int | None, int | None]
) -> CallPace:
    """`prior`: median and 95 % of the latency, before any call. `limits`: at once, requests and tokens a minute."""
    spread = math.log(prior[1] / prior[0]) / NormalDist().inv_cdf(0.95)
    points = [NormalDist().inv_cdf((number + 0.5) / PRIOR_CALLS) for number in range(PRIOR_CALLS)]
    found = sorted([*latencies, *(prior[0] * math.exp(spread * z) for z in points)])
    concurrency, requests, tokens = limits
    return CallPace(
        concurrency=concurrency, requests_per_minute=requests, tokens_per_minute=tokens,
        p50_s=found[len(found) // 2], p95_s=nearest_rank(found, 0.95) or found[-1],
        seen=len(latencies),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Offers:
    """What an endpoint has, and what a call costs there: in any unit, for only the ratios count."""

    sync_price: float
    sync: CallPace
    flex_price: float | None = None
    flex: CallPace | None = None
    no_room: float = NO_ROOM
    """The share of flex calls that the tier has no room for, and that are served at the other price."""
    batch_price: float | None = None
    turnaround: Turnaround | None = None
    stopping: Turnaround | None = None
    no_batch: str | None = None
    """Why there is none, though the endpoint declares it."""
    history: str = ""
    """What the turnaround is known from, in words."""

    @property
    def flex_cost(self) -> float:
        """On average."""
        assert self.flex_price is not None
        return self.flex_price * (1 - self.no_room) + self.sync_price * self.no_room

    @cached_property
    def stop_s(self) -> float:
        """For a batch to be stopped for good, and for a run to ask what it left."""
        return 0.0 if self.stopping is None else self.stopping.quantile(STOP_SHARE) + 2 * LOOK_S + START_S

    def pace(self, way: Way) -> CallPace:
        return self.flex if way == "flex" and self.flex is not None else self.sync

    def cost(self, way: Way) -> float:
        return self.flex_cost if way == "flex" else self.sync_price

    def buffer_s(self, load: CallLoad, then: Way) -> float:
        """Before it is due: when a batch is stopped so that its rest can be asked in this other way."""
        more = self.flex_buffer_s(load) - self.pace("flex").p95_s if then == "flex" else 0.0
        return self.stop_s + max(self.pace(then).sure_s(load), more)

    def flex_buffer_s(self, load: CallLoad) -> float:
        """Before it is due: from when calls leave without the tier. Those that have left may take a while."""
        return self.sync.sure_s(load) + self.pace("flex").p95_s


@dataclass(frozen=True, kw_only=True)
class WayOutlook:
    """One way, all by itself."""

    way: Way
    price: float | None
    """For a call, as offered; None where the endpoint has no such thing."""
    chance: float | None
    """To be in time."""


@dataclass(frozen=True, kw_only=True)
class WayChoice:
    """What was chosen, when it changes, and why."""

    way: Way
    then: Way | None
    """How the rest is asked once the buffer has begun; None where nothing would change."""
    buffer_s: float
    """Before it is due: when what has no answer by then moves on."""
    chance: float
    """To be in time, with that change."""
    reason: str
    outlook: tuple[WayOutlook, ...]


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    way: Way
    then: Way | None
    buffer_s: float
    chance: float
    cost: float


def choose(left_s: float, load: CallLoad, offers: Offers) -> WayChoice:
    """The cheapest way of which the chance to be in time is good enough; else the likeliest one."""
    found = list(_candidates(left_s, load, offers))
    safe = [each for each in found if each.chance >= IN_TIME]
    best = min(safe, key=lambda each: each.cost) if safe else max(found, key=lambda each: each.chance)
    outlook = tuple(_outlook(way, left_s, load, offers) for way in reversed(WAYS))
    reason = _reason(best, left_s, load, offers)
    return WayChoice(
        way=best.way, then=best.then, buffer_s=best.buffer_s, chance=best.chance, reason=reason, outlook=outlook
    )


def _candidates(left_s: float, load: CallLoad, offers: Offers) -> Iterator[_Candidate]:
    """The quickest first: of two that cost the same it is taken."""
    yield _Candidate(
        way="sync", then=None, buffer_s=0.0, chance=offers.sync.chance(load, left_s), cost=offers.sync_price
    )
    if offers.flex is not None and left_s > (buffer_s := offers.flex_buffer_s(load)):
        by_flex = min((left_s - buffer_s) / offers.flex.likely_s(load), 1.0)
        late = (1 - offers.flex.chance(load, left_s)) * (1 - offers.sync.chance(load, buffer_s - offers.flex.p95_s))
        yield _Candidate(
            way="flex", then="sync", buffer_s=buffer_s, chance=1 - late,
            cost=by_flex * offers.flex_cost + (1 - by_flex) * offers.sync_price,
        )  # fmt: skip
    if offers.turnaround is None or offers.batch_price is None:
        return
    thens: list[Way] = ["flex", "sync"] if offers.flex is not None else ["sync"]
    for then in thens:
        buffer_s = offers.buffer_s(load, then)
        if left_s > buffer_s:
            over = offers.turnaround.chance(left_s - buffer_s)
            yield _Candidate(
                way="batch", then=then, buffer_s=buffer_s, chance=1 - (1 - over) * LATE_SHARE,
                cost=over * offers.batch_price + (1 - over) * offers.cost(then),
            )  # fmt: skip


def _outlook(way: Way, left_s: float, load: CallLoad, offers: Offers) -> WayOutlook:
    match way:
        case "batch":
            by_batch = offers.turnaround
            chance = None if by_batch is None else by_batch.chance(max(left_s - LOOK_S - START_S, 0.0))
            return WayOutlook(way=way, price=offers.batch_price, chance=chance)
        case "flex":
            chance = None if offers.flex is None else offers.flex.chance(load, left_s)
            return WayOutlook(way=way, price=offers.flex_price, chance=chance)
        case _:
            return WayOutlook(way=way, price=offers.sync_price, chance=offers.sync.chance(load, left_s))


def _reason(best: _Candidate, left_s: float, load: CallLoad, offers: Offers) -> str:
    if left_s <= 0:
        return "it is late, so it is asked the quickest way"
    left = f"{span_of(left_s)} are left"
    if best.chance < IN_TIME:
        return f"{left}, in which no way is likely to be in time; this one has the best chance ({best.chance:.0%})"
    match best.way:
        case "batch":
            assert offers.turnaround is not None
            over = offers.turnaround.chance(left_s - best.buffer_s)
            return (
                f"{left}; {over:.0%} of batches have ended {span_of(best.buffer_s)} before it is due{offers.history}, "
                f"when the rest would go by {best.then}"
            )
        case "flex":
            took = f"by flex it takes about {span_of(offers.pace('flex').likely_s(load))}"
            return "; ".join([f"{left}, and {took}", *_without_batch(left_s, load, offers)])
        case _:
            said = _without_batch(left_s, load, offers)
            said += [f"flex needs {span_of(offers.flex_buffer_s(load))} in hand"] if offers.flex is not None else []
            return "; ".join([left, *said]) if said else f"{left}, and the endpoint has no other way"


def _without_batch(left_s: float, load: CallLoad, offers: Offers) -> list[str]:
    if offers.no_batch is not None:
        return [f"no batch, because {offers.no_batch}"]
    return [] if offers.turnaround is None else [_not_by_batch(left_s, load, offers)]


def _not_by_batch(left_s: float, load: CallLoad, offers: Offers) -> str:
    then: Way = "flex" if offers.flex is not None else "sync"
    buffer_s = min(offers.buffer_s(load, then), offers.buffer_s(load, "sync"))
    if left_s <= buffer_s:
        return f"stopping a batch and asking its rest takes up to {span_of(buffer_s)}"
    assert offers.turnaround is not None
    return f"{offers.turnaround.chance(left_s - buffer_s):.0%} of batches end early enough{offers.history}"


def span_of(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
