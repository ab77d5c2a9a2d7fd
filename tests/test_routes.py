"""Claims about routes: which endpoints are tried for a request, in which order."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.inference.errors import RouteUnknown
from ai_assets.inference.records import Request
from ai_assets.inference.routes import endpoints_for, order_of
from ai_assets.inference.settings import InferenceSettings

NAMES = ("near", "long", "fast", "alone")


def settings_with(*rules: dict[str, object]) -> InferenceSettings:
    return InferenceSettings.model_validate(
        {
            "endpoints": {name: {"base_url": "rehearsal", "model": f"{name}-model"} for name in NAMES},
            "routes": {"default": {"endpoints": ["near", "long", "fast"], "rules": rules}},
        }
    )


LONG: dict[str, object] = {"use": "long", "longer_than_tokens": 1000}
SLOW: dict[str, object] = {"use": "fast", "slower_than_s": 5}
SHORT_TEXT, LONG_TEXT = "short", "x" * 5000


def order(settings: InferenceSettings, request: Request, **taken_s: float) -> list[str]:
    """Where every endpoint takes as long as it is said here, and the others no time."""
    return order_of(settings, request, lambda first, limit_s: taken_s.get(first, 0.0) > limit_s)


def asks(text: str, route: str = "default") -> Request:
    return Request(messages=({"role": "user", "content": text},), route=route)


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    rules: tuple[dict[str, object], ...] = ()
    text: str = SHORT_TEXT
    near_s: float | None = None
    tried: list[str]


CASES = [
    Case(id="no rules", tried=["near", "long", "fast"]),
    Case(id="short enough", rules=(LONG,), tried=["near", "long", "fast"]),
    Case(id="too long", rules=(LONG,), text=LONG_TEXT, tried=["long", "near", "fast"]),
    Case(id="nothing known of speed", rules=(SLOW,), tried=["near", "long", "fast"]),
    Case(id="fast enough", rules=(SLOW,), near_s=5, tried=["near", "long", "fast"]),
    Case(id="too slow", rules=(SLOW,), near_s=5.1, tried=["fast", "near", "long"]),
    Case(id="first of two", rules=(LONG, SLOW), text=LONG_TEXT, near_s=9, tried=["long", "near", "fast"]),
    Case(id="second of two", rules=(LONG, SLOW), near_s=9, tried=["fast", "near", "long"]),
    Case(id="the other first", rules=(SLOW, LONG), text=LONG_TEXT, near_s=9, tried=["fast", "near", "long"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_first_rule_that_holds_puts_its_endpoint_first(case: Case) -> None:
    known = {} if case.near_s is None else {"near": case.near_s}
    assert order(settings_with(*case.rules), asks(case.text), **known) == case.tried


def test_slow_is_said_of_the_routes_own_first_endpoint() -> None:
    assert order(settings_with(SLOW), asks(SHORT_TEXT), long=99, fast=99) == ["near", "long", "fast"]


def test_an_endpoint_named_directly_stands_alone_with_its_model() -> None:
    assert order(settings_with(SLOW), asks(SHORT_TEXT, route="alone"), near=99, alone=99) == ["alone"]
    ((name, endpoint),) = endpoints_for(settings_with(LONG), asks(LONG_TEXT, route="alone"))
    assert (name, endpoint.llm) == ("alone", "alone-model")


@pytest.mark.parametrize(
    ("settings", "route", "says"),
    [
        (settings_with(), "defualt", "There is no route or endpoint 'defualt'; did you mean 'default'?"),
        (settings_with(), "alon", "There is no route or endpoint 'alon'; did you mean 'alone'?"),
        (settings_with(), "zzz", "There is no route or endpoint 'zzz'; known here: alone, default, fast, long, near"),
        (
            InferenceSettings(),
            "default",
            "There is no route or endpoint 'default'; inference.yaml declares none",
        ),
    ],
    ids=["almost a route", "almost an endpoint", "neither", "nothing declared"],
)
def test_a_name_nobody_declared_is_refused_with_the_nearest(settings: InferenceSettings, route: str, says: str) -> None:
    with pytest.raises(RouteUnknown) as caught:
        endpoints_for(settings, asks(SHORT_TEXT, route=route))
    assert str(caught.value) == says


@given(
    st.lists(
        st.fixed_dictionaries({"use": st.sampled_from(NAMES[:3]), "longer_than_tokens": st.integers(1, 3000)})
        | st.fixed_dictionaries({"use": st.sampled_from(NAMES[:3]), "slower_than_s": st.floats(0.1, 10)}),
        max_size=4,
    ),
    st.integers(0, 12_000),
    st.dictionaries(st.sampled_from(NAMES), st.floats(0, 20)),
)
def test_rules_lose_no_endpoint_and_move_at_most_one(
    rules: list[dict[str, object]], length: int, taken_s: dict[str, float]
) -> None:
    tried = order(settings_with(*rules), asks("x" * length), **taken_s)
    assert sorted(tried) == ["fast", "long", "near"]
    assert [name for name in tried if name != tried[0]] == [n for n in ("near", "long", "fast") if n != tried[0]]
