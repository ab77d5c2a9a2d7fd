"""Claims about agreement of people, by published examples and by simulation."""

import random

import pytest

from ai_assets.statistics.agreement import by_pair, cohens_kappa, krippendorffs_alpha


def test_kappa_is_that_of_the_textbook() -> None:
    """20 times both say yes, 15 times both no, 5 and 10 times they differ: kappa 0.4."""
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_alpha_is_that_of_the_textbook() -> None:
    """Krippendorff (2011), two observers, twelve units of nominal data without gaps... and four with gaps."""
    a, b = "a a b b d c c c e d d a", "b a b b b c c c e d d d"
    things = [{"one": one, "two": two} for one, two in zip(a.split(), b.split(), strict=True)]
    assert krippendorffs_alpha(things) == pytest.approx(0.692, abs=5e-4)
    assert krippendorffs_alpha([*things, {"one": "a"}, {}]) == pytest.approx(0.692, abs=5e-4)


def test_chance_alone_is_no_agreement_and_the_same_words_are_all_of_it() -> None:
    chance = random.Random("agreement")
    words = [{name: chance.choice("abc") for name in ("ann", "ben", "cleo")} for _ in range(3000)]
    assert krippendorffs_alpha(words) == pytest.approx(0.0, abs=0.05)
    assert krippendorffs_alpha([{"ann": each["ann"], "ben": each["ann"]} for each in words]) == 1.0
    pairs = by_pair(words)
    assert sorted(pairs) == [("ann", "ben"), ("ann", "cleo"), ("ben", "cleo")]
    assert all(abs(cohens_kappa(each) or 0.0) < 0.06 for each in pairs.values())


def test_nothing_is_said_of_nothing_or_of_one_word() -> None:
    assert cohens_kappa([]) is None
    assert cohens_kappa([("a", "a")] * 5) is None
    assert krippendorffs_alpha([]) is None
    assert krippendorffs_alpha([{"ann": "a", "ben": "a"}]) is None
