"""Claims about intervals and tests, by simulation: how often they hold what is true."""

import random
from collections import Counter

import pytest

from ai_assets.evaluation.scoring import label_scores
from ai_assets.statistics.chance import holm, mcnemar
from ai_assets.statistics.fewest import fewest_more
from ai_assets.statistics.intervals import difference_bounds, macro_f1_error, mean_bounds, quantile, share_bounds
from ai_assets.statistics.ranks import nearest_rank

RUNS = 600
LEAST = 0.925
"""Of 600 intervals at 95 % fewer hold the true value once in a hundred times."""


def test_queries_that_share_a_document_are_covered_and_taken_alone_they_are_not() -> None:
    chance = random.Random(1)
    covered = naive = 0
    for _ in range(RUNS):
        values, clusters = [], []
        for document in range(30):
            easy = chance.random() < 0.7  # what is hard about a document is hard for all its questions
            for _ in range(10):
                values.append(float(chance.random() < (0.95 if easy else 0.25)))
                clusters.append(document)
        true = 0.7 * 0.95 + 0.3 * 0.25
        by_document = mean_bounds(values, clusters, 0.95)
        alone = mean_bounds(values, range(len(values)), 0.95)
        assert by_document is not None
        assert alone is not None
        covered += by_document.low <= true <= by_document.high
        naive += alone.low <= true <= alone.high
    assert covered / RUNS >= LEAST
    assert naive / RUNS < 0.8


@pytest.mark.parametrize(("true", "number"), [(0.9, 20), (0.9, 66), (0.98, 60), (0.5, 15), (0.99, 30)])
def test_shares_of_few_documents_and_near_one_are_covered(true: float, number: int) -> None:
    chance = random.Random(number)
    covered = 0
    for _ in range(RUNS):
        values = [float(chance.random() < true) for _ in range(number)]
        found = mean_bounds(values, range(number), 0.95)
        assert found is not None
        covered += found.low <= true <= found.high
    assert covered / RUNS >= LEAST


def test_values_between_right_and_wrong_are_covered() -> None:
    chance = random.Random(5)
    covered = 0
    for _ in range(RUNS):
        ranks = [chance.choice([1.0, 1.0, 0.5, 1 / 3, 0.0]) for _ in range(40)]
        found = mean_bounds(ranks, range(40), 0.95)
        assert found is not None
        covered += found.low <= (2 + 0.5 + 1 / 3) / 5 <= found.high
    assert covered / RUNS >= LEAST


def test_what_is_all_right_is_not_certain() -> None:
    found = mean_bounds([1.0] * 66, range(66), 0.95)
    assert found is not None
    assert (0.93 < found.low < 0.95, found.high) == (True, 1.0)


def test_the_value_of_the_issue_reaches_below_its_minimum() -> None:
    found = mean_bounds([1.0] * 59 + [0.0] * 7, range(66), 0.95)
    assert found is not None
    assert found.low < 0.85 < 59 / 66


def test_one_cluster_says_nothing() -> None:
    assert mean_bounds([1.0, 0.0], ["a", "a"], 0.95) is None
    assert share_bounds(0.5, 0.1, 1, 0.95) is None
    assert difference_bounds([1.0], 0.95) is None


def test_macro_f1_is_covered() -> None:
    chance, labels = random.Random(3), ["a", "b", "c"]

    def drawn(number: int) -> "Counter[tuple[str, str | None]]":
        found: Counter[tuple[str, str | None]] = Counter()
        for _ in range(number):
            golden = chance.choices(labels, [6, 3, 1])[0]
            found[golden, golden if chance.random() < 0.85 else chance.choice(labels)] += 1
        return found

    def score(counts: "Counter[tuple[str, str | None]]") -> float:
        pairs = list(counts.elements())
        truth = {str(place): golden for place, (golden, _) in enumerate(pairs)}
        predicted = {str(place): said for place, (_, said) in enumerate(pairs)}
        value = label_scores(truth, predicted, labels).macro_f1
        assert value is not None
        return value

    true, covered = score(drawn(60_000)), 0
    for _ in range(300):
        counts = drawn(120)
        found = share_bounds(score(counts), macro_f1_error(counts), 120, 0.95)
        assert found is not None
        covered += found.low <= true <= found.high
    assert covered / 300 >= 0.91


@pytest.mark.parametrize(("worse", "better"), [(0.05, 0.05), (0.15, 0.05), (0.01, 0.0)])
def test_differences_of_pairs_are_covered(worse: float, better: float) -> None:
    chance, covered = random.Random(4), 0
    for _ in range(RUNS):
        pairs = [chance.choices([-1.0, 1.0, 0.0], [worse, better, 1 - worse - better])[0] for _ in range(100)]
        found = difference_bounds(pairs, 0.95)
        assert found is not None
        covered += found.low <= better - worse <= found.high
    assert covered / RUNS >= LEAST


@pytest.mark.parametrize(("freedom", "known"), [(4, 2.776), (9, 2.262), (29, 2.045), (999, 1.962)])
def test_students_quantile(freedom: int, known: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(known, abs=0.01)


def test_mcnemar_against_known_values() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(10, 10) == 1.0
    assert mcnemar(1, 9) == pytest.approx(0.021484375)


def test_holm_raises_each_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_several_true_nulls_raise_an_alarm_no_more_often_than_one() -> None:
    chance = random.Random(6)
    alarms = sum(min(holm([chance.random() for _ in range(8)])) <= 0.05 for _ in range(2000))
    assert alarms / 2000 <= 0.065


@pytest.mark.parametrize(
    ("number", "share", "rank"),
    [
        (1, 0.95, 1),
        (2, 0.5, 1),
        (3, 0.5, 2),
        (19, 0.95, 19),
        (20, 0.95, 19),
        (21, 0.95, 20),
        (100, 0.95, 95),
        (4, 0.0, 1),
    ],
)
def test_the_nearest_rank_is_the_least_that_covers_the_share(number: int, share: float, rank: int) -> None:
    assert nearest_rank([float(each) for each in range(1, number + 1)], share) == rank
    assert nearest_rank([], share) is None


@pytest.mark.parametrize(("least", "most"), [(1, 1), (2, 9), (3, 3), (100, 100), (37, 10_000)])
def test_the_fewest_that_are_enough_are_found_and_one_less_is_not(least: int, most: int) -> None:
    assert fewest_more(lambda more: more >= least, most) == least
    assert fewest_more(lambda more: more >= least, least - 1) is None
