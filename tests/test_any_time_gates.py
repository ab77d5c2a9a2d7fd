"""Claims about gates at any time: looking after each label and stopping when it passes deceives nobody."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError
from test_floors import scored

from ai_assets.evaluation.decidable import decidable_at_any_time
from ai_assets.evaluation.floors import PairedLabels
from ai_assets.evaluation.gates import Gate, GateInputs, judge
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.statistics.any_time import is_above, is_below, lower_bound, upper_bound

FLOOR = 0.85
LABELS = 300
"""After each of which somebody looks."""
RUNS = 2000
ANY_TIME = Gate(metric="accuracy", min=FLOOR, at="any_time")
AGAINST_LIVE = Gate(metric="accuracy", no_worse_by=0.05, at="any_time")
MARGIN = 3 * np.sqrt(0.05 * 0.95 / RUNS)
"""Of the simulation itself."""


def verdict(gate: Gate, right: int, n: int, paired: PairedLabels | None = None) -> GateVerdict:
    [found] = judge([gate], GateInputs(scores=[scored(right, n)], pending=0, absent=0, paired=paired))
    return found


def of_pairs(better: int, worse: int, n: int) -> GateVerdict:
    return verdict(AGAINST_LIVE, n, n, PairedLabels(release=1, n=n, better=better, worse=worse))


def fewest_right(gate: Gate) -> npt.NDArray[np.int64]:
    """With which it passes, by number of labels: more right answers never undo that."""
    found, right = [], 0
    for n in range(1, LABELS + 1):
        while right <= n and verdict(gate, right, n).verdict != "passed":
            right += 1
        found.append(right)
    return np.array(found)


def labelled(true: float, seed: int) -> npt.NDArray[np.int64]:
    """Of each run, how many were right after each label."""
    return np.cumsum(np.random.default_rng(seed).random((RUNS, LABELS)) < true, axis=1)


@pytest.fixture(scope="module")
def needed() -> npt.NDArray[np.int64]:
    return fewest_right(ANY_TIME)


def passes_at_some_look(right: npt.NDArray[np.int64], needed: npt.NDArray[np.int64]) -> float:
    return float((right >= needed).any(axis=1).mean())


def test_a_model_below_the_floor_passes_at_some_look_in_a_twentieth_and_by_the_fixed_gate_far_more_often(
    needed: npt.NDArray[np.int64],
) -> None:
    fixed = fewest_right(Gate(metric="accuracy", min=FLOOR, at="lower"))
    for true, by_the_fixed_one in ((0.84, 0.1), (FLOOR, 0.2)):
        right = labelled(true, seed=1)
        assert passes_at_some_look(right, needed) <= 0.05 + MARGIN
        assert passes_at_some_look(right, fixed) > by_the_fixed_one


def test_what_is_good_enough_is_shown_after_some_fifty_labels(needed: npt.NDArray[np.int64]) -> None:
    right = labelled(0.95, seed=3)
    assert passes_at_some_look(right, needed) >= 0.98
    assert np.median((right >= needed).argmax(axis=1) + 1) < 80


def test_a_model_ten_points_below_fails_at_some_look_and_one_as_good_as_asked_hardly_ever() -> None:
    """The power that docs/gates.md declares: nine in ten within 300 labels; a false alarm in a twentieth of 500."""
    highest = []
    right = 0
    for n in range(1, LABELS + 1):
        while right <= n and verdict(ANY_TIME, right, n).verdict == "failed":
            right += 1
        highest.append(right - 1)
    below, at = (labelled(true, seed=4)[:500] <= np.array(highest) for true in (0.75, FLOOR))
    assert below.any(axis=1).mean() >= 0.9
    assert at.any(axis=1).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 500)


def test_against_live_however_often_one_looks() -> None:
    """What is worse by just what is allowed passes seldom, a regression of ten points hardly ever, and of refreshes
    that change nothing hardly one fails. A look after every tenth label of 400."""
    generator = np.random.default_rng(5)
    memory: dict[tuple[int, int, int], str] = {}

    def ruling_on(better: int, worse: int, n: int) -> str:
        values = {1.0: better, 0.5: n - better - worse, 0.0: worse}
        return "passed" if is_above(values, 0.475, 0.05) else "failed" if is_below(values, 0.475, 0.05) else "undecided"

    def ever(worse_by: float, ruling: str, runs: int) -> float:
        found = 0
        for _ in range(runs):
            draws = generator.random(400)
            better, worse = np.cumsum(draws < 0.04), np.cumsum(draws > 1 - 0.04 - worse_by)
            looks = [(int(better[n - 1]), int(worse[n - 1]), n) for n in range(10, 401, 10)]
            memory.update({each: ruling_on(*each) for each in looks if each not in memory})
            found += any(memory[each] == ruling for each in looks)
        return found / runs

    assert ever(0.05, "passed", 200) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    assert ever(0.10, "passed", 200) <= 0.01
    assert ever(0.10, "failed", 200) >= 0.4
    assert ever(0.0, "failed", 500) <= 0.01
    assert ever(0.0, "passed", 200) >= 0.5
    assert all(of_pairs(*each).verdict == memory[each] for each in list(memory)[::200]), "the gate says the same"


def test_the_bounds_of_values_that_are_no_zeros_and_ones_hold_at_every_look_together() -> None:
    generator = np.random.default_rng(6)
    missed = 0
    for _ in range(200):
        values = generator.beta(2, 1, 60).round(1)
        counts = [{float(v): int((values[:n] == v).sum()) for v in np.unique(values[:n])} for n in (5, 15, 30, 60)]
        missed += any(is_above(each, 2 / 3, 0.1) or is_below(each, 2 / 3, 0.1) for each in counts)
    assert missed / 200 <= 0.2


def test_bounds_are_where_the_test_turns_and_say_nothing_of_nothing() -> None:
    values = {1.0: 90, 0.0: 10}
    low, high = lower_bound(values, 0.05), upper_bound(values, 0.05)
    assert 0.75 < low < 0.9 < high < 0.99
    assert is_above(values, low - 1e-4, 0.05)
    assert not is_above(values, low + 1e-4, 0.05)
    assert is_below(values, high + 1e-4, 0.05)
    assert (lower_bound({}, 0.05), upper_bound({}, 0.05)) == (0.0, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        is_above({1.5: 1}, 0.5, 0.05)


def test_undecided_says_about_how_many_more_and_so_many_do() -> None:
    found = verdict(ANY_TIME, 90, 100)
    assert (found.verdict, found.holds, found.judge, found.name) == (
        "undecided", True, "any time", "accuracy at any time",
    )  # fmt: skip
    more = int(found.sentence.split("about ")[1].split()[0].replace(",", ""))
    n = 100 + more
    assert verdict(ANY_TIME, round(0.9 * n) + 1, n).verdict == "passed"
    assert verdict(ANY_TIME, round(0.9 * (100 + more * 0.8)), round(100 + more * 0.8)).verdict == "undecided"
    assert found.interval is not None
    assert found.interval.low < FLOOR < found.interval.high


def test_a_few_wrong_ones_at_first_fail_nothing_and_may_be_declared_to_warn() -> None:
    assert verdict(ANY_TIME, 1, 3).verdict == "undecided"
    assert "alone will not show it" in verdict(ANY_TIME, 1, 3).sentence
    assert not verdict(ANY_TIME.model_copy(update={"undecided": "warn"}), 1, 3).holds
    assert verdict(ANY_TIME, 20, 60).verdict == "failed"
    assert verdict(Gate(metric="accuracy", min=0, at="any_time"), 0, 5).verdict == "passed"


def test_against_live_it_says_how_many_more() -> None:
    found = of_pairs(3, 2, 60)
    assert (found.verdict, found.judge) == ("undecided", "live at any time")
    assert "about " in found.sentence
    assert of_pairs(20, 5, 300).verdict == "passed"
    assert of_pairs(2, 40, 120).verdict == "failed"


def test_the_status_of_golden_labels_goes_by_the_same_rule() -> None:
    found = decidable_at_any_time(FLOOR, 100, 90, 0.95)
    assert found.decision == "undecided"
    assert found.missing is not None
    assert verdict(ANY_TIME, round(0.9 * (100 + found.missing)), 100 + found.missing).verdict == "passed"
    assert decidable_at_any_time(FLOOR, 100, 100, 0.95).decision == "passes"
    assert decidable_at_any_time(FLOOR, 60, 20, 0.9).in_words.endswith("it fails with 90% confidence")


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"metric": "macro_f1", "min": 0.5, "at": "any_time"}, "'accuracy' alone"),
        ({"metric": "accuracy", "min": 0.5, "at": "any_time", "slices": ["language"]}, "leave 'at' away"),
        ({"metric": "accuracy", "no_worse_by": 0.1, "at": "lower"}, "no meaning with 'no_worse_by'"),
        ({"metric": "accuracy", "at": "any_time"}, "is missing"),
        ({"metric": "accuracy", "min": 0.5, "at": "anytime"}, "any_time"),
    ],
)
def test_what_cannot_be_judged_so_is_refused(declared: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Gate(**declared)
