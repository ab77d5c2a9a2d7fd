"""Claims about how many calls are kept in flight, on simulated providers: a heap of ends, and no clock but its own."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ai_assets.inference.ramp import FIRST_LIMIT, Ramp

Refuses = Callable[[int], bool]
"""Whether a call is refused when so many are in flight with it."""


@dataclass(frozen=True, kw_only=True)
class Run:
    limits: list[int]
    """After each outcome."""
    refused: list[bool]
    took_s: float

    def share(self, start: int, end: int | None = None) -> float:
        """Of 429 among these outcomes."""
        return sum(self.refused[start:end]) / len(self.refused[start:end])


def simulate(ramp: Ramp, calls: int, refuses: Refuses, *, refusal_s: float = 0.002, seed: int = 1) -> Run:
    """`calls` outcomes; an answer takes 20 to 50 ms, and the refused are asked again."""
    draw, clock = random.Random(seed), 0.0
    ends: list[tuple[float, int, bool, int]] = []
    limits: list[int] = []
    refused: list[bool] = []
    sent = working = 0
    while len(limits) < calls:
        while len(ends) < ramp.limit:
            refusal = refuses(working + 1)
            working += not refusal
            takes_s = refusal_s if refusal else draw.uniform(0.02, 0.05)
            # The line is full: whoever waits has entered before the first of them is sent.
            heapq.heappush(ends, (clock + takes_s, sent, refusal, ramp.limit))
            sent += 1
        clock, _, refusal, in_flight = heapq.heappop(ends)
        working -= not refusal
        if refusal:
            ramp.limited(in_flight)
        else:
            ramp.answered()
        limits.append(ramp.limit)
        refused.append(refusal)
    return Run(limits=limits, refused=refused, took_s=clock)


def above(cap: int) -> Refuses:
    return lambda in_flight: in_flight > cap


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    cap: int
    refusal_s: float
    share: float = 0.05
    """Of 429 after the first 200 outcomes, at most."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "case",
    [
        Case(id=f"{cap} at once, {name} refusals", cap=cap, refusal_s=refusal_s)
        for cap in (1, 4, 20, 50)
        for name, refusal_s in (("fast", 0.002), ("slow", 0.1))
    ],
    ids=lambda case: case.id,
)
def test_a_hard_limit_is_found_and_kept_with_few_refusals_and_little_time_lost(case: Case, seed: int) -> None:
    run = simulate(Ramp(64), 4000, above(case.cap), refusal_s=case.refusal_s, seed=seed)
    assert run.share(200) <= case.share
    settled = run.limits[500:]
    assert sum(settled) / len(settled) == pytest.approx(case.cap, rel=0.15, abs=1.1)
    assert max(settled) <= case.cap + 2
    ideal_s = run.refused.count(False) * 0.035 / case.cap
    assert run.took_s <= ideal_s * 1.35 + 1


@pytest.mark.parametrize("most", [1, 8, 64, 500])
def test_without_refusals_it_reaches_the_most_that_is_allowed_and_never_more(most: int) -> None:
    run = simulate(Ramp(most), 3000, above(10_000))
    assert run.limits[0] <= FIRST_LIMIT + 1
    assert max(run.limits) == most
    assert set(run.limits[2000:]) == {most}


@pytest.mark.parametrize("seed", range(5))
def test_refusals_by_chance_do_not_hold_it_down(seed: int) -> None:
    draw = random.Random(seed)
    run = simulate(Ramp(64), 6000, lambda _: draw.random() < 0.1, seed=seed)
    later = run.limits[1500:]
    assert sum(later) / len(later) > 40


@pytest.mark.parametrize("seed", range(3))
def test_a_limit_that_is_raised_is_noticed(seed: int) -> None:
    ramp = Ramp(64)
    simulate(ramp, 2000, above(5), seed=seed)
    assert ramp.limit <= 7
    later = simulate(ramp, 8000, above(40), seed=seed)
    assert max(later.limits) >= 35


@pytest.mark.parametrize("seed", range(3))
def test_a_limit_that_is_lowered_is_followed(seed: int) -> None:
    ramp = Ramp(64)
    simulate(ramp, 2000, above(50), seed=seed)
    later = simulate(ramp, 3000, above(6), seed=seed)
    assert later.share(500) <= 0.05
    assert max(later.limits[500:]) <= 8


def test_a_provider_that_refuses_everything_is_asked_one_at_a_time_and_never_none() -> None:
    run = simulate(Ramp(64), 1000, above(0))
    assert run.limits[-1] == 1
    assert min(run.limits) == 1
