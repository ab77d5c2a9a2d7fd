"""Claims about a judge's mean that people correct, by seeded simulation; and about the bounds of their agreement."""

import functools

import numpy as np
import pytest

from ai_assets.statistics.agreement import cohens_kappa, kappa_bounds
from ai_assets.statistics.intervals import mean_bounds, share_bounds
from ai_assets.statistics.prediction_powered import corrected_mean

TIMES = 500


@functools.cache
def simulated(points: int, rated: int, judged: int, off: float, noise: float) -> dict[str, float]:
    """How often each interval has the true mean of people's ratings, and how wide it is. The judge sees the quality of
    an output as people do, and is off by `off` and by a noise of its own."""
    chance = np.random.default_rng(11)
    step = 1 / (points - 1)

    def on_scale(quality: np.ndarray) -> np.ndarray:
        return np.round(np.clip(quality, 0, 1) / step) * step

    true = on_scale(chance.normal(0.65, 0.22, 400_000)).mean()
    found = dict.fromkeys(("corrected", "naive", "width", "width_of_people"), 0.0)
    for _ in range(TIMES):
        quality = chance.normal(0.65, 0.22, judged)
        people = on_scale(quality)
        judge = on_scale(quality + off + chance.normal(0, noise, judged))
        mean = corrected_mean(judge, list(zip(judge[:rated], people[:rated], strict=True)), step=step)
        assert mean is not None
        bounds = share_bounds(mean.value, mean.error, mean.clusters, 0.95)
        naive = mean_bounds(list(judge), range(judged), 0.95)
        alone = mean_bounds(list(people[:rated]), range(rated), 0.95)
        assert bounds
        assert naive
        assert alone
        found["corrected"] += bounds.low <= true <= bounds.high
        found["naive"] += naive.low <= true <= naive.high
        found["width"] += bounds.high - bounds.low
        found["width_of_people"] += alone.high - alone.low
    return {name: value / TIMES for name, value in found.items()}


@pytest.mark.parametrize(("points", "rated"), [(5, 20), (5, 60), (2, 20), (2, 60)])
def test_of_a_judge_that_is_too_kind_the_corrected_interval_has_the_truth_and_the_naive_one_has_not(
    points: int, rated: int
) -> None:
    found = simulated(points, rated, 400, 0.12, 0.1)
    assert found["corrected"] >= 0.93
    assert found["naive"] <= 0.05


def test_a_good_judge_makes_the_interval_much_narrower_than_people_alone() -> None:
    found = simulated(5, 60, 400, 0.12, 0.1)
    assert found["width"] <= 0.72 * found["width_of_people"]


def test_a_judge_that_guesses_costs_hardly_any_width_and_misleads_nobody() -> None:
    found = simulated(5, 60, 400, 0.0, 2.0)
    assert found["corrected"] >= 0.93
    assert found["width"] <= 1.08 * found["width_of_people"]


def test_the_formula_is_the_judge_over_all_and_the_difference_over_the_rated() -> None:
    judged, pairs = [1.0, 1.0, 0.5, 0.75, 1.0, 0.5], [(1.0, 0.75), (0.5, 0.25), (0.75, 0.75)]
    found = corrected_mean(judged, pairs, weight=1.0)
    assert found is not None
    assert found.value == pytest.approx(sum(judged) / 6 + (-0.25 - 0.25 + 0) / 3)


def test_people_alone_count_where_all_is_rated_and_nothing_is_said_of_two() -> None:
    pairs = [(1.0, 0.5), (0.5, 0.5), (0.75, 0.25), (0.25, 0.0)]
    found = corrected_mean([judge for judge, _ in pairs], pairs)
    assert found is not None
    assert found.value == pytest.approx(np.mean([people for _, people in pairs]))
    assert corrected_mean([1.0, 0.5, 0.5], pairs[:2]) is None
    with pytest.raises(ValueError, match="4 outputs are rated, and only 2 are judged"):
        corrected_mean([1.0, 0.5], pairs)


def test_a_judge_that_was_never_wrong_is_not_known_to_be_never_wrong() -> None:
    few, many = ([(0.5, 0.5), (1.0, 1.0)] * half for half in (5, 50))
    errors = [corrected_mean([0.5, 1.0] * 500, pairs, step=0.5) for pairs in (few, many)]
    assert errors[0]
    assert errors[1]
    assert errors[0].error > 0.05 > errors[1].error > 0


def test_the_bounds_of_kappa_are_around_it_and_narrow_with_the_number() -> None:
    pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10 + [("b", "b")] * 15
    few, many = kappa_bounds(pairs, 0.95), kappa_bounds(pairs * 10, 0.95)
    assert few
    assert many
    assert few.low < many.low < (cohens_kappa(pairs) or 0) < many.high < few.high
    sure = kappa_bounds([("a", "a"), ("b", "b")] * 10, 0.95)
    assert sure
    assert 0.5 < sure.low < sure.high == 1
    assert kappa_bounds([("a", "a")] * 9, 0.95) is kappa_bounds([], 0.95) is None
