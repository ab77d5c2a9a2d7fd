"""Two hundred nights by deadline against a planner that knows the future: how many are late, and how much dearer.

The decisions are those of `inference/deadline.py`, the clock is simulated. Batches take as long as those of OpenRouter:
a median of 7 minutes, 90 % within an hour, 3 % between 12 and 24 hours. Nothing of a batch that was stopped is done, so
that what is asked again is all of it. Each night knows only the batches before it.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from ai_assets.inference.deadline import (
    LOOK_S,
    START_S,
    CallLoad,
    Observed,
    Offers,
    Way,
    batch_turnaround,
    choose,
    pace_of,
    stop_time,
)
from bench.measure import Figure

NIGHTS = 200
SYNC, HALF = 1.0, 0.5
PRIOR = (420.0, 3600.0)
LIMITS = (64, 500, None)
LATENCY_S = (2.0, 6.0)
FLEX_LATENCY_S = (15.0, 60.0)
LOG_MEDIAN, LOG_SPREAD = 1.8871, 1.5107
"""Of the 97 % in minutes, so that with the slow 3 % the median is 7 and 90 % are below 60."""


@dataclass(frozen=True, kw_only=True)
class Night:
    """What the future holds."""

    left_s: float
    calls: int
    batch_s: float
    stop_s: float
    sync_s: float
    flex_s: float


@dataclass(kw_only=True)
class NightsOver:
    """What the nights came to."""

    late: int = 0
    needlessly: int = 0
    """Of them those that would have been in time if all had been asked one by one at once."""
    paid: float = 0.0
    least: float = 0.0
    """What a planner pays that knows how long each batch takes."""
    ways: dict[str, int] = field(default_factory=dict)

    @property
    def dearer(self) -> float:
        return self.paid / self.least - 1


def turnaround_s(chance: random.Random) -> float:
    if chance.random() < 0.03:
        return chance.uniform(12, 24) * 3600
    return 60 * chance.lognormvariate(LOG_MEDIAN, LOG_SPREAD)


def nights(seed: int, number: int = NIGHTS, hours: tuple[float, float] = (4.0, 12.0)) -> Iterator[Night]:
    chance = random.Random(seed)
    for _ in range(number):
        calls = round(math.exp(chance.uniform(math.log(50), math.log(20_000))))
        yield Night(
            left_s=3600 * chance.uniform(*hours),
            calls=calls,
            batch_s=turnaround_s(chance),
            stop_s=min(chance.lognormvariate(math.log(60), 1.2), 600.0),
            sync_s=_seconds(chance, calls, LATENCY_S),
            flex_s=_seconds(chance, calls, FLEX_LATENCY_S),
        )


def _seconds(chance: random.Random, calls: int, latency_s: tuple[float, float]) -> float:
    """Between what the limits allow and half as much again."""
    concurrency, requests, _ = LIMITS
    mean = latency_s[0] * chance.uniform(0.9, 1.6)
    return max(60 * calls / requests, math.ceil(calls / concurrency) * mean) * chance.uniform(1.0, 1.3) + latency_s[1]


def lived(
    seed: int, *, flex: bool = False, number: int = NIGHTS, hours: tuple[float, float] = (4.0, 12.0)
) -> NightsOver:
    """Each night as the engine decides it, and as who knows the future would."""
    seen: list[Observed] = []
    stops: list[Observed] = []
    over, chance = NightsOver(), random.Random(seed + 1)
    latencies = [chance.lognormvariate(math.log(LATENCY_S[0]), 0.6) for _ in range(200)]
    for night in nights(seed, number, hours):
        offers = Offers(
            sync_price=SYNC,
            sync=pace_of(latencies, (5.0, 20.0), LIMITS),
            flex_price=HALF if flex else None,
            flex=pace_of([], FLEX_LATENCY_S, LIMITS) if flex else None,
            batch_price=HALF,
            turnaround=batch_turnaround(seen, *PRIOR),
            stopping=stop_time(stops),
        )
        cost, took_s, ways = _night(night, offers, seen, stops)
        over.paid += cost * night.calls
        over.least += _best(night, flex=flex) * night.calls
        over.late += took_s > night.left_s
        over.needlessly += took_s > night.left_s >= night.sync_s
        over.ways[ways] = over.ways.get(ways, 0) + 1
    return over


def _night(night: Night, offers: Offers, seen: list[Observed], stops: list[Observed]) -> tuple[float, float, str]:
    """What a call cost, when all were answered, and how they went."""
    load = CallLoad(calls=night.calls, tokens=0.0)
    choice = choose(night.left_s, load, offers)
    if choice.way != "batch":
        return _at_once(night, choice.way, offers, 0.0)
    buffer_at = night.left_s - choice.buffer_s
    if night.batch_s <= buffer_at + LOOK_S:
        seen.append(Observed(seconds=night.batch_s))
        return HALF, night.batch_s + LOOK_S + START_S, "batch"
    stopped_at = buffer_at + LOOK_S + night.stop_s
    seen.append(Observed(seconds=buffer_at, ended=False))
    stops.append(Observed(seconds=night.stop_s))
    begins = stopped_at + LOOK_S + START_S
    again = choose(night.left_s - begins, load, Offers(
        sync_price=offers.sync_price, sync=offers.sync, flex_price=offers.flex_price, flex=offers.flex
    ))  # fmt: skip
    cost, took_s, way = _at_once(night, again.way, offers, begins)
    return cost, took_s, f"batch, {way}"


def _at_once(night: Night, way: Way, offers: Offers, begins: float) -> tuple[float, float, str]:
    """One by one from then on; by flex until its buffer begins, and the rest without the tier."""
    if way == "sync":
        return SYNC, begins + night.sync_s, "sync"
    load = CallLoad(calls=night.calls, tokens=0.0)
    time_s = max(night.left_s - offers.flex_buffer_s(load) - begins, 0.0)
    share = min(time_s / night.flex_s, 1.0)
    cost = share * offers.flex_cost + (1 - share) * SYNC
    took_s = begins + share * night.flex_s + (1 - share) * night.sync_s
    return cost, took_s, "flex" if share == 1 else "flex, sync"


def _best(night: Night, *, flex: bool) -> float:
    if night.batch_s + LOOK_S + START_S <= night.left_s:
        return HALF
    return HALF if flex and night.flex_s <= night.left_s else SYNC


def measure() -> list[Figure]:
    plain, flex, short = lived(20261128), lived(20261128, flex=True), lived(20261128, hours=(0.25, 4.0))
    return [
        _figure("late, % of 200 nights", 100 * plain.late / NIGHTS, 2, plain),
        _figure("dearer than who knows the future, %", 100 * plain.dearer, 5, plain),
        _figure("with flex: late, % of 200 nights", 100 * flex.late / NIGHTS, 2, flex),
        _figure("with flex: dearer, %", 100 * flex.dearer, 5, flex),
        _figure("15 minutes to 4 hours: needlessly late, % of 200", 100 * short.needlessly / NIGHTS, 2, short),
    ]


def _figure(name: str, value: float, limit: float, over: NightsOver) -> Figure:
    detail = ", ".join(f"{way} {number}" for way, number in sorted(over.ways.items()))
    return Figure(name=name, value=value, limit=limit, at_most=True, detail=detail)
