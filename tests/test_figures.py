"""Claims about numbers in sentences: none contradicts the decision that it stands beside."""

import ast
import re

import pytest
from conftest import REPOSITORY
from hypothesis import example, given
from hypothesis import strategies as st

from ai_assets.evaluation.drift import MIX, WORDS, Comparison
from ai_assets.evaluation.figures import between, decimals, lower, upper

SHARES = st.floats(-1, 1, allow_nan=False)


@given(value=SHARES, limit=SHARES)
@example(value=0.8499, limit=0.85)
@example(value=0.8504, limit=0.8502)
@example(value=-0.02001, limit=-0.02)
def test_what_is_shown_is_on_the_side_of_the_limit_that_the_value_is_on(value: float, limit: float) -> None:
    for shown in (decimals, lower):
        assert (float(shown(value, limit)) < limit) == (value < limit)


@given(value=SHARES)
def test_a_bound_is_rounded_away_from_what_it_bounds(value: float) -> None:
    assert float(lower(value)) <= value <= float(upper(value))


@pytest.mark.parametrize(
    ("said", "is_said"),
    [
        (lower(0.8499, 0.85), "0.849"),
        (lower(0.85, 0.85), "0.850"),
        (upper(0.0301), "0.031"),
        (decimals(0.84999, 0.85), "0.84999"),
        (lower(-0.0001, signed=True), "-0.001"),
        (upper(-0.0001, signed=True), "+0.000"),
        (between(-0.02001, 0.1, -0.02), "[-0.021, +0.100]"),
    ],
)
def test_three_decimals_where_they_do(said: str, is_said: str) -> None:
    assert said == is_said


@pytest.mark.parametrize(
    ("kind", "effect", "limit", "said"),
    [(MIX, 0.20004, 0.2, "stability index 0.20004, at most 0.2"), (WORDS, 0.1304, 0.13, "13.04%, at most 13%")],
)
def test_drift_beyond_its_limit_is_not_shown_as_the_limit(kind: str, effect: float, limit: float, said: str) -> None:
    compared = Comparison(
        look="language", slice="", against="release 1", kind=kind, n=100, reference_n=100, effect=effect, limit=limit,
        p=0.01, drifted=True,
    )  # fmt: skip
    assert said in compared.in_words


ROUNDED = re.compile(r"'\+?\.\df'")


def test_no_sentence_rounds_a_bound_by_itself() -> None:
    """Wherever gates, cards, pages and commands show `.low` or `.high`."""
    found = [
        f"{path.relative_to(REPOSITORY)}:{node.lineno}: {ast.unparse(node.value)}"
        for path in sorted((REPOSITORY / "ai_assets").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None
        if ROUNDED.search(ast.unparse(node.format_spec)) and re.search(r"\.(low|high)$", ast.unparse(node.value))
    ]
    assert found == [], "use lower and upper of ai_assets/evaluation/figures.py"
