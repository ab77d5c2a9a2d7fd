"""How many golden labels it takes before a gate on a share, such as accuracy, can be decided. Pure.

A floor is decided when the exact binomial test says so with 95 % confidence: so many right answers of so many would
come up in at most 5 of 100 cases if the true share were below the floor (then it passes), or at least the floor (then
it fails). This is the one-sided bound of Clopper and Pearson. A gate at any time has its own rule (`any_time`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ai_assets.statistics.exact import probability_of_at_most
from ai_assets.statistics.fewest import fewest_more

LEVEL = 0.95
MOST = 20_000
"""More labels than this are no answer for people."""

Decision = Literal["passes", "fails", "undecided"]
Rule = Callable[[float, int, int], Decision]
"""Of a floor, so many labels, and how many of them are right."""


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
    level: float = LEVEL

    @property
    def in_words(self) -> str:
        share = f"{self.right} of {self.labels} right" if self.labels else "no labels yet"
        if self.decision != "undecided":
            return f"{share}: it {self.decision} with {self.level:.0%} confidence"
        if self.missing is None:
            return f"{share}, too near the floor: {MOST:,} labels would not decide it"
        how = "as many are right as so far" if self.labels else "all of them are right"
        return f"{share}: at least {self.missing} more decide it, if {how}"


def decidable(floor: float, labels: int, right: int) -> Decidable:
    return _standing(decide, LEVEL, floor, labels, right)


def decidable_at_any_time(floor: float, labels: int, right: int, confidence: float) -> Decidable:
    """By the rule of a gate `at: any_time`, which may be asked after each label."""
    from ai_assets.statistics.any_time import is_above, is_below

    def rule(floor: float, labels: int, right: int) -> Decision:
        values: dict[float, float] = {1.0: right, 0.0: labels - right}
        if floor <= 0 or is_above(values, floor, 1 - confidence):
            return "passes"
        return "fails" if is_below(values, floor, 1 - confidence) else "undecided"

    return _standing(rule, confidence, floor, labels, right)


def _standing(rule: Rule, level: float, floor: float, labels: int, right: int) -> Decidable:
    decision = rule(floor, labels, right)
    missing = 0 if decision != "undecided" else _missing(rule, floor, labels, right)
    return Decidable(floor=floor, labels=labels, right=right, decision=decision, missing=missing, level=level)


def decide(floor: float, labels: int, right: int) -> Decision:
    """By the exact test, one-sided."""
    if floor <= 0:
        return "passes"
    if not labels:
        return "undecided"
    if floor < 1 and probability_of_at_most(labels - right, labels, 1 - floor) <= 1 - LEVEL:
        return "passes"
    if probability_of_at_most(right, labels, floor) <= 1 - LEVEL:
        return "fails"
    return "undecided"


def _missing(rule: Rule, floor: float, labels: int, right: int) -> int | None:
    """The least further labels that decide it at the same share. Rounding makes that not quite monotonic, so the
    number found by halving is the one from which on a few more never undo it."""
    share = right / labels if labels else 1.0

    def decided(more: int) -> bool:
        number = labels + more
        return all(
            rule(floor, each, min(each, round(share * each))) != "undecided" for each in range(number, number + 3)
        )

    return fewest_more(decided, MOST)
