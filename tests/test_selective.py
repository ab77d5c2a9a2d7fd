"""Claims about exact bounds and certified thresholds, most of them by seeded simulation."""

import math
import random
from dataclasses import dataclass

import pytest

from ai_assets.statistics.exact import draws_needed, interval, lower_bound, probability_of_at_most, upper_bound
from ai_assets.statistics.selective import Judged, certify, coverage_curve, of_equal_chance, one_of_each_cluster

ERROR, CONFIDENCE = 0.05, 0.9
SIMULATIONS = 200


@pytest.mark.parametrize(
    ("hits", "n", "confidence", "expected"),
    [  # of published tables of Clopper and Pearson
        pytest.param(0, 10, 0.975, 0.308497, id="none of ten"),
        pytest.param(5, 10, 0.975, 0.812914, id="half of ten"),
        pytest.param(1, 100, 0.95, 0.046560, id="one of a hundred"),
        pytest.param(10, 10, 0.9, 1.0, id="all"),
        pytest.param(0, 0, 0.9, 1.0, id="nothing was drawn"),
    ],
)
def test_an_upper_bound_is_that_of_the_tables(hits: int, n: int, confidence: float, expected: float) -> None:
    assert upper_bound(hits, n, confidence) == pytest.approx(expected, abs=2e-6)


def test_an_interval_mirrors_and_holds_its_share() -> None:
    low, high = interval(3, 20, 0.95)
    assert (low, high) == (pytest.approx(1 - interval(17, 20, 0.95)[1]), pytest.approx(1 - interval(17, 20, 0.95)[0]))
    assert low < 0.15 < high
    assert lower_bound(0, 20, 0.9) == 0.0


def test_at_the_bound_so_few_hits_have_the_declared_chance() -> None:
    for hits, n in [(0, 7), (3, 40), (17, 1000), (900, 1000)]:
        bound = upper_bound(hits, n, 0.9)
        assert probability_of_at_most(hits, n, bound) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
def test_the_truth_is_above_the_bound_no_more_often_than_declared(share: float) -> None:
    chance = random.Random(f"exact {share}")
    n, missed = 60, 0
    bounds = [upper_bound(hits, n, 0.9) for hits in range(n + 1)]
    for _ in range(1000):
        missed += bounds[sum(chance.random() < share for _ in range(n))] < share
    assert missed <= 0.1 * 1000 + 3 * math.sqrt(1000 * 0.09)


def test_without_a_hit_as_many_draws_are_needed_as_the_formula_says() -> None:
    for error, confidence in [(0.05, 0.9), (0.01, 0.9), (0.02, 0.99)]:
        assert draws_needed(0, error, confidence) == math.ceil(math.log(1 - confidence) / math.log(1 - error))
    assert upper_bound(2, draws_needed(2, 0.05, 0.9), 0.9) <= 0.05 < upper_bound(2, draws_needed(2, 0.05, 0.9) - 1, 0.9)


@pytest.mark.parametrize("wrong", [{"hits": 3, "n": 2, "confidence": 0.9}, {"hits": 1, "n": 2, "confidence": 1.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|confidence"):
        upper_bound(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="error between 0 and 1"):
        draws_needed(0, 0.0, 0.9)


@dataclass(frozen=True)
class World:
    """A model that is right with a chance that rises with its confidence."""

    steepness: float

    def label(self, chance: random.Random) -> Judged:
        sure = round(chance.random(), 2)  # ties, as a model that says 0.9 and 0.95 makes them
        return Judged(confidence=sure, correct=chance.random() < self.right(sure))

    def right(self, sure: float) -> float:
        return 1 - 0.5 * (1 - sure) ** self.steepness

    def error_from(self, threshold: float) -> float:
        """Of all documents that are at least as sure."""
        grid = [each / 100 for each in range(round(100 * threshold), 101)]
        weights = [0.5 if each in (0.0, 1.0) else 1.0 for each in grid]
        wrong = sum(weight * (1 - self.right(each)) for each, weight in zip(grid, weights, strict=True))
        return wrong / sum(weights)


@pytest.mark.parametrize("steepness", [pytest.param(0.7, id="hardly ever good enough"), 1.0, 2.0, 4.0])
@pytest.mark.parametrize("n", [60, 300])
def test_a_certified_threshold_breaks_its_promise_no_more_often_than_declared(steepness: float, n: int) -> None:
    world, chance = World(steepness), random.Random(f"certified {steepness} {n}")
    broken = 0
    for _ in range(SIMULATIONS):
        found = certify([world.label(chance) for _ in range(n)], error=ERROR, confidence=CONFIDENCE)
        broken += found.threshold is not None and world.error_from(found.threshold) > ERROR
    assert broken <= (1 - CONFIDENCE) * SIMULATIONS


def test_a_good_model_gets_a_threshold_and_more_labels_get_it_a_lower_one() -> None:
    world, chance = World(3.0), random.Random("power")
    shares = []
    for n in (100, 300, 1000):
        found = [certify([world.label(chance) for _ in range(n)], error=ERROR, confidence=CONFIDENCE)
                 for _ in range(30)]  # fmt: skip
        shares.append(sum(each.coverage for each in found) / len(found))
    assert shares == sorted(shares)
    assert shares[-1] > 0.5


def clustered(chance: random.Random, clusters: int, size: int) -> tuple[list[Judged], list[int]]:
    """Copies of a text are right or wrong together."""
    labels, names = [], []
    for name in range(clusters):
        correct = chance.random() > 1.2 * ERROR
        for _ in range(size):
            labels.append(Judged(confidence=0.5 + chance.random() / 2, correct=correct))
            names.append(name)
    return labels, names


def test_of_copies_one_counts_else_the_promise_is_broken_far_more_often() -> None:
    chance = random.Random("clustered")
    broken = {"all": 0, "one of each": 0}
    for _ in range(SIMULATIONS):
        labels, names = clustered(chance, 60, 10)
        for how, given in {"all": labels, "one of each": one_of_each_cluster(labels, names)}.items():
            # Whatever the threshold, a document of this world is wrong with 1.2 times the declared error.
            broken[how] += certify(given, error=ERROR, confidence=CONFIDENCE).threshold is not None
    assert broken["one of each"] <= (1 - CONFIDENCE) * SIMULATIONS < broken["all"]


def test_labels_of_unequal_chance_are_thinned_to_the_smallest() -> None:
    """A stratum that was drawn five times as often, and is right more often, does not make the rest look better."""
    chance = random.Random("chances")
    kept = {"often": 0, "seldom": 0}
    for _ in range(200):
        inclusion = {f"often {n}": 0.5 for n in range(50)} | {f"seldom {n}": 0.1 for n in range(10)}
        for name in of_equal_chance(inclusion, {name: chance.random() for name in inclusion}):
            kept[name.partition(" ")[0]] += 1
    assert kept["seldom"] == 200 * 10
    assert kept["often"] == pytest.approx(200 * 50 / 5, rel=0.1)
    assert of_equal_chance({}, {}) == []
    with pytest.raises(ValueError, match="'a' was drawn with the chance 0"):
        of_equal_chance({"a": 0.0}, {"a": 0.5})


def judged(*groups: tuple[int, float, bool]) -> list[Judged]:
    return [Judged(confidence=sure, correct=right) for number, sure, right in groups for _ in range(number)]


def test_equal_confidences_stand_or_fall_together() -> None:
    found = certify(judged((60, 0.9, True), (30, 0.8, True), (30, 0.8, False)), error=ERROR, confidence=CONFIDENCE)
    assert (found.threshold, found.accepted, found.errors) == (0.9, 60, 0)
    assert "from 0.9 on: error at most 5 % with 90 % confidence; that is 50% of the documents" in found.sentence


def test_too_few_labels_are_said_as_a_number_and_that_many_more_are_enough() -> None:
    few = certify(judged((7, 0.9, True)), error=ERROR, confidence=CONFIDENCE)
    assert (few.threshold, few.missing) == (None, 38)
    assert "38 more labels of documents drawn at random needed" in few.sentence
    assert certify(judged((7 + 38, 0.9, True)), error=ERROR, confidence=CONFIDENCE).threshold == 0.9
    assert certify(judged((7 + 37, 0.9, True)), error=ERROR, confidence=CONFIDENCE).missing == 1


def test_where_the_surest_are_wrong_too_often_it_says_how_many_more_or_that_none_would_help() -> None:
    nearly = certify(judged((1, 0.95, False), (49, 0.95, True)), error=ERROR, confidence=CONFIDENCE)
    assert nearly.threshold is None
    assert nearly.missing is not None
    more = nearly.labels + nearly.missing
    wrong = math.ceil(more / 50)
    again = certify(judged((wrong, 0.95, False), (more - wrong, 0.95, True)), error=ERROR, confidence=CONFIDENCE)
    assert again.threshold == 0.95
    hopeless = certify(judged((20, 0.95, False), (80, 0.95, True)), error=ERROR, confidence=CONFIDENCE)
    assert hopeless.missing is None
    assert "more labels would not help" in hopeless.sentence


@pytest.mark.parametrize("labels", [[], judged((5, math.nan, True))], ids=["none", "no numbers"])
def test_nothing_is_accepted_of_nothing(labels: list[Judged]) -> None:
    found = certify(labels, error=ERROR, confidence=CONFIDENCE)
    assert (found.threshold, found.labels, found.missing) == (None, 0, 45)
    assert coverage_curve(labels, CONFIDENCE) == ()


def test_the_curve_ends_with_everything_and_has_a_hundred_points_at_most() -> None:
    world, chance = World(2.0), random.Random("curve")
    points = coverage_curve(
        [Judged(confidence=chance.random(), correct=chance.random() < 0.9) for _ in range(500)], 0.9
    )
    assert len(points) == 100
    assert points[-1].coverage == 1.0
    assert [point.threshold for point in points] == sorted((point.threshold for point in points), reverse=True)
    assert all(point.error <= point.upper for point in points)
    assert world.right(1.0) == 1.0
