"""How many golden labels it takes before a gate on a share, such as accuracy, can be decided. Pure.

A floor is decided when the exact binomial test says so with 95 % confidence: so many right answers of so many would
come up in at most 5 of 100 cases if the true share were below the floor (then it passes), or at least the floor (then
it fails). This is the one-sided bound of Clopper and Pearson.
"""

import math
from dataclasses import dataclass
from typing import Literal

LEVEL = 0.95
MOST = 20_000
"""More labels than this are no answer for people."""

Decision = Literal["passes", "fails", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Decidable:
    """Where a floor stands with the labels there are."""

    floor: float
    labels: int
    right: int
    decision: Decision
    missing: int | None
    """How many more it takes if the share of right answers stays as it is; all right where there are no labels yet.
    None where even so many as people can give would not do: the share is too near the floor."""

    @property
    def in_words(self) -> str:
        share = f"{self.right} of {self.labels} right" if self.labels else "no labels yet"
        if self.decision != "undecided":
            return f"{share}: it {self.decision} with {LEVEL:.0%} confidence"
        if self.missing is None:
            return f"{share}, too near the floor: {MOST:,} labels would not decide it"
        how = "as many are right as so far" if self.labels else "all of them are right"
        return f"{share}: at least {self.missing} more decide it, if {how}"


def decidable(floor: float, labels: int, right: int) -> Decidable:
    decision = decide(floor, labels, right)
    missing = 0 if decision != "undecided" else _missing(floor, labels, right)
    return Decidable(floor=floor, labels=labels, right=right, decision=decision, missing=missing)


def decide(floor: float, labels: int, right: int) -> Decision:
    """By the exact test, one-sided."""
    if floor <= 0:
        return "passes"
    if not labels:
        return "undecided"
    if floor < 1 and _at_least(right, labels, floor) <= 1 - LEVEL:
        return "passes"
    if _at_most(right, labels, floor) <= 1 - LEVEL:
        return "fails"
    return "undecided"


def _missing(floor: float, labels: int, right: int) -> int | None:
    """The least further labels that decide it at the same share. Rounding makes that not quite monotonic, so the
    number found by halving is the one from which on a few more never undo it."""
    share = right / labels if labels else 1.0

    def decided(more: int) -> bool:
        number = labels + more
        return all(
            decide(floor, each, min(each, round(share * each))) != "undecided" for each in range(number, number + 3)
        )

    high = 1
    while not decided(high):
        high *= 2
        if high > MOST:
            return None
    low = high // 2
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high


def _at_least(right: int, labels: int, share: float) -> float:
    """The probability of so many right answers or more."""
    return _at_most(labels - right, labels, 1 - share)


def _at_most(right: int, labels: int, share: float) -> float:
    """The probability of so many right answers or fewer; summed from the largest term down."""
    if share >= 1:
        return 1.0 if right >= labels else 0.0
    if share <= 0:
        return 1.0
    odds = share / (1 - share)
    mode = min(right, math.floor((labels + 1) * share))
    logarithm = (
        math.lgamma(labels + 1) - math.lgamma(mode + 1) - math.lgamma(labels - mode + 1)
        + mode * math.log(share) + (labels - mode) * math.log1p(-share)
    )  # fmt: skip
    total = term = math.exp(logarithm)
    for number in range(mode, 0, -1):
        term *= number / ((labels - number + 1) * odds)
        total += term
        if term < total * 1e-17:
            break
    term = math.exp(logarithm)
    for number in range(mode + 1, right + 1):
        term *= (labels - number + 1) * odds / number
        total += term
    return min(1.0, total)
