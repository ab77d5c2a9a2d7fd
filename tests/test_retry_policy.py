"""Claims about retries: what is tried again, how often, and how long the wait is."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.base.kinds import EMBED, STAGE_KINDS
from ai_assets.inference.records import RETRYABLE, ErrorClass
from ai_assets.inference.retry import DEFAULTS, delay_s, rule_for
from ai_assets.inference.settings import InferenceSettings, RetryRule

NOTHING = InferenceSettings()
POLICY: dict[ErrorClass, tuple[int, float, float] | None] = {
    "rate_limited": (10, 1, 60),
    "tier_unavailable": (2, 1, 10),
    "overloaded": (8, 1, 60),
    "server_error": (6, 0.5, 30),
    "gateway_error": (3, 0.5, 30),
    "unreachable": (6, 0.5, 30),
    "timeout": (3, 1, 30),
    "connection_lost": (3, 0.5, 30),
    "garbled": (2, 0.5, 30),
    "too_large": None,
    "malformed": None,
    "auth": None,
    "quota": None,
    "refused": None,
    "context_too_long": None,
    "invalid_output": None,
    "held": None,
    "budget": None,
    "unhashable": None,
    "not_run": None,
    "in_batch": None,
    "outside_window": None,
}
"""Attempts, base and cap; None is never tried again."""
errors = st.sampled_from(sorted(RETRYABLE))
KINDS = (*STAGE_KINDS, EMBED)
kinds = st.sampled_from(KINDS)
rules = st.builds(
    lambda attempts, base, more: RetryRule(attempts=attempts, base_s=base, cap_s=base + more),
    st.integers(1, 100),
    st.floats(0, 60),
    st.floats(0, 3000),
)
fractions = st.floats(0, 1)


def declared(retries: dict[str, dict[str, dict[str, float]]]) -> InferenceSettings:
    return InferenceSettings.model_validate({"retries": retries})


def numbers(rule: RetryRule | None) -> tuple[int, float, float] | None:
    return (rule.attempts, rule.base_s, rule.cap_s) if rule else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", get_args(ErrorClass))
def test_every_class_has_its_row(kind: str, error: ErrorClass) -> None:
    assert numbers(rule_for(NOTHING, kind, error)) == POLICY[error]


def test_what_can_be_retried_has_a_default_and_nothing_else() -> None:
    assert set(DEFAULTS) == RETRYABLE


ALL = {"all": {"timeout": {"attempts": 9, "cap_s": 99}}}
BOTH = {**ALL, "classify": {"timeout": {"attempts": 7}}}


@pytest.mark.parametrize(
    ("retries", "kind", "expected"),
    [
        (ALL, "classify", (9, 1, 99)),
        (BOTH, "classify", (7, 1, 99)),
        (BOTH, "extract", (9, 1, 99)),
        ({"classify": {"timeout": {"base_s": 0}}}, "classify", (3, 0, 30)),
        ({"classify": {"timeout": {"base_s": 0}}}, "embed", (3, 1, 30)),
        ({"classify": {"garbled": {"attempts": 9}}}, "classify", (3, 1, 30)),
    ],
    ids=["all", "the kind before all", "another kind", "the kind alone", "not the kind", "another class"],
)
def test_the_kind_goes_before_all_and_all_before_the_default_key_by_key(
    retries: dict[str, dict[str, dict[str, float]]], kind: str, expected: tuple[int, float, float]
) -> None:
    assert numbers(rule_for(declared(retries), kind, "timeout")) == expected


@given(errors, kinds, rules)
def test_a_rule_said_in_full_is_taken_as_it_is(error: ErrorClass, kind: str, rule: RetryRule) -> None:
    assert rule_for(declared({kind: {error: rule.model_dump()}}), kind, error) == rule


def test_the_longest_wait_doubles_up_to_the_cap() -> None:
    rule = RetryRule(base_s=0.5, cap_s=30)
    waits = [delay_s(rule, failures, None, lambda: 1.0) for failures in range(1, 9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(rules, st.integers(1, 10_000), fractions)
def test_the_wait_is_between_nothing_and_the_cap(rule: RetryRule, failures: int, fraction: float) -> None:
    assert 0 <= delay_s(rule, failures, None, lambda: fraction) <= rule.cap_s


@given(rules, st.integers(1, 100), fractions)
def test_the_wait_is_spread_evenly_below_its_bound(rule: RetryRule, failures: int, fraction: float) -> None:
    bound = delay_s(rule, failures, None, lambda: 1.0)
    assert delay_s(rule, failures, None, lambda: fraction) == fraction * bound


@given(rules, st.integers(1, 100), fractions, st.floats(-10, 10_000))
def test_retry_after_is_the_floor_above_the_cap_too(
    rule: RetryRule, failures: int, fraction: float, retry_after_s: float
) -> None:
    without = delay_s(rule, failures, None, lambda: fraction)
    assert delay_s(rule, failures, retry_after_s, lambda: fraction) == max(without, retry_after_s)


@given(rules, st.integers(1, 100), fractions)
def test_one_failure_more_never_shortens_the_wait(rule: RetryRule, failures: int, fraction: float) -> None:
    waits = [delay_s(rule, failures + more, None, lambda: fraction) for more in (0, 1)]
    assert waits == sorted(waits)


def test_a_retry_after_that_is_no_number_is_no_floor() -> None:
    assert delay_s(RetryRule(base_s=1), 1, float("nan"), lambda: 0.5) == 0.5
