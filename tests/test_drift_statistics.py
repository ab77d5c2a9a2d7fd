"""Claims about the tests on drift, by simulation: how often chance alone raises them, and what they find."""

import numpy as np
import pytest

from ai_assets.statistics.drift import _dealt, means_apart, mixes_apart, vectors_apart

RUNS = 200
LEVEL = 0.05
MOST = LEVEL + 3 * (LEVEL * (1 - LEVEL) / RUNS) ** 0.5


def counted(values: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> dict[str, int]:
    names, numbers = np.unique(values, return_counts=True)
    return {str(name): int(number) for name, number in zip(names, numbers, strict=True)}


def test_mixes_of_one_source_are_said_to_differ_no_more_often_than_declared_also_with_rare_values() -> None:
    rng = np.random.default_rng(1)
    shares = [0.6, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01]
    found = [
        mixes_apart(counted(rng.choice(8, 60, p=shares)), counted(rng.choice(8, 400, p=shares)), draws=400, seed=run).p
        for run in range(RUNS)
    ]
    assert sum(p <= LEVEL for p in found) / RUNS <= MOST


def test_a_mix_that_moved_is_found_and_its_size_does_not_depend_on_how_many_were_looked_at() -> None:
    small = mixes_apart({"a": 40, "b": 60}, {"a": 80, "b": 20}, draws=2000, seed=1)
    large = mixes_apart({"a": 4000, "b": 6000}, {"a": 8000, "b": 2000}, draws=2000, seed=1)
    assert max(small.p, large.p) < 0.001
    assert small.effect == pytest.approx(large.effect, rel=0.1)
    assert large.effect == pytest.approx(0.4 * np.log(0.8 / 0.4) + 0.4 * np.log(0.6 / 0.2), rel=0.01)


def test_a_large_sample_makes_a_small_difference_certain_and_not_large() -> None:
    apart = mixes_apart({"a": 51_000, "b": 49_000}, {"a": 50_000, "b": 50_000}, draws=2000, seed=1)
    assert apart.p < 0.001
    assert apart.effect < 0.01


def test_a_value_that_one_side_has_not_got_is_far_and_finite() -> None:
    apart = mixes_apart({"a": 50, "new": 50}, {"a": 100}, draws=2000, seed=1)
    assert 0.5 < apart.effect < 10
    assert apart.p < 0.001


@pytest.mark.parametrize("old", [{}, {"a": 7}])
def test_nothing_to_compare_is_no_difference(old: dict[str, int]) -> None:
    assert mixes_apart({"a": 5}, old, draws=100, seed=1).p == 1.0


def test_means_of_one_source_differ_no_more_often_than_declared_and_a_moved_one_is_found() -> None:
    rng = np.random.default_rng(2)
    same = [
        means_apart(rng.beta(1, 9, 40), rng.beta(1, 9, 200), draws=400, seed=run).p for run in range(RUNS)
    ]  # fmt: skip
    assert sum(p <= LEVEL for p in same) / RUNS <= MOST
    moved = [means_apart(rng.beta(3, 7, 40), rng.beta(1, 9, 200), draws=400, seed=run).p for run in range(20)]
    assert max(moved) <= LEVEL


def test_vectors_of_one_source_differ_no_more_often_than_declared() -> None:
    rng = np.random.default_rng(3)
    found = [
        vectors_apart(rng.normal(size=(40, 16)), rng.normal(size=(80, 16)), draws=199, seed=run) for run in range(RUNS)
    ]
    assert sum(apart.p <= LEVEL for apart in found) / RUNS <= MOST
    assert np.mean([apart.effect for apart in found]) < 0.01


@pytest.mark.parametrize("moved", ["place", "spread"])
def test_vectors_that_moved_or_spread_are_found(moved: str) -> None:
    rng = np.random.default_rng(4)
    old = rng.normal(size=(200, 16))
    new = rng.normal(size=(100, 16)) * (2.0 if moved == "spread" else 1.0) + (1.0 if moved == "place" else 0.0)
    apart = vectors_apart(new, old, draws=999, seed=1)
    assert apart.p <= 0.002
    assert apart.effect > 0.02


def test_how_far_vectors_are_apart_does_not_depend_on_how_many_there_are() -> None:
    rng = np.random.default_rng(6)
    new, old = rng.normal(size=(400, 16)) + 0.7, rng.normal(size=(400, 16))
    effects = [vectors_apart(new[:size], old, draws=9, seed=1).effect for size in (50, 400)]
    assert effects[0] == pytest.approx(effects[1], rel=0.15)


def test_the_same_seed_gives_the_same_chance() -> None:
    rng = np.random.default_rng(5)
    new, old = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    assert vectors_apart(new, old, draws=99, seed=7) == vectors_apart(new, old, draws=99, seed=7)


@pytest.mark.parametrize("seed", range(30))
def test_drawing_stops_only_where_the_chance_cannot_be_as_small_as_asked_for(seed: int) -> None:
    """What is significant is so with all draws, to the last digit; what is not says a chance above the level."""
    rng = np.random.default_rng(seed)
    new, old = rng.normal(rng.choice([0.0, 0.4, 2.0]), size=(40, 4)), rng.normal(size=(400, 4))
    mixes = [counted(rng.integers(0, 6, 60)), counted(rng.choice(6, 900, p=[0.3, 0.3, 0.1, 0.1, 0.1, 0.1]))]
    whole = mixes_apart(*mixes, draws=1999, seed=seed), means_apart(new[:, 0], old[:, 0], draws=1999, seed=seed)
    stopped = (
        mixes_apart(*mixes, draws=1999, seed=seed, level=LEVEL),
        means_apart(new[:, 0], old[:, 0], draws=1999, seed=seed, level=LEVEL),
    )
    both = vectors_apart(new, old, draws=999, seed=seed), vectors_apart(new, old, draws=999, seed=seed, level=LEVEL)
    for one, other in [*zip(whole, stopped, strict=True), both]:
        assert other.effect == one.effect
        assert other.p == one.p if one.p <= LEVEL else other.p > LEVEL


@pytest.mark.parametrize(("of", "size"), [(2000, 30), (40, 30)], ids=["few of many", "most of few"])
def test_each_value_is_dealt_as_often_as_any_other_and_never_twice(of: int, size: int) -> None:
    dealt = _dealt(np.random.default_rng(1), 4000, of, size)
    assert dealt.shape == (4000, size)
    assert all(len(set(row)) == size for row in dealt.tolist())
    often = np.bincount(dealt.ravel(), minlength=of)
    wanted = 4000 * size / of
    assert abs(often - wanted).max() < 5 * wanted**0.5
