"""Claims about calls and windows: none leaves while it is closed, none is lost when it closes, each costs what it costs
at the moment it leaves."""

import datetime
import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import eventually
from engines import (
    CALLER,
    PRICE,
    ask,
    attempts,
    check_books,
    endpoint,
    opened,
    question,
    questions,
    settings,
    states,
    to_embed,
)
from hours import HOUR, around, closed, now, set_ahead
from hours import opened as open_now
from provider import Provider

from ai_assets.base.window_settings import WindowSettings, hours_of
from ai_assets.base.windows import WeeklyHours
from ai_assets.inference.records import Answer, Request, Unanswered
from ai_assets.inference.settings import InferenceSettings

PATIENCE_S = 300.0


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.configure(fault={}, latency_ms=10, jitter_ms=0)
    running.reset()
    running.script([])
    return running


@pytest.fixture
def local(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state.db"


def one(url: str, **more: Any) -> InferenceSettings:
    return settings({"mini": endpoint(url, **more)})


def hours(windows: list[dict[str, Any]]) -> WeeklyHours:
    return hours_of([WindowSettings.model_validate(window) for window in windows])


def outside(found: list[Any]) -> list[Unanswered]:
    return [each for each in found if isinstance(each, Unanswered) and each.error == "outside_window"]


# Whether it leaves


@pytest.mark.parametrize("make", [question, to_embed])
def test_nothing_leaves_for_an_endpoint_whose_window_is_closed(store_url: str, provider: Provider, make: Any) -> None:
    found = ask(store_url, one(provider.url, windows=closed()), [make(number) for number in range(3)])
    assert len(outside(found)) == 3
    assert isinstance(found[0], Unanswered)
    assert found[0].opens is not None
    assert datetime.timedelta(hours=5) < found[0].opens.at - now() <= datetime.timedelta(hours=6)
    assert found[0].message.startswith("its window is closed until ")
    assert attempts(store_url) == []
    assert provider.stats()["calls"] == 0


def test_an_open_window_changes_nothing(store_url: str, provider: Provider) -> None:
    found = ask(store_url, one(provider.url, windows=open_now()), questions(3))
    assert all(isinstance(each, Answer) for each in found)


def test_who_asks_may_have_windows_too(local: str, provider: Provider) -> None:
    request = question(1, hours=hours(closed()))
    assert outside(ask(local, one(provider.url), [request]))
    assert outside(ask(local, one(provider.url, windows=[around(-60, 60)]), [request]))


def test_an_answer_that_is_there_is_used_at_any_hour(local: str, provider: Provider) -> None:
    ask(local, one(provider.url), questions(3))
    found = ask(local, one(provider.url, windows=closed()), questions(4))
    assert [isinstance(each, Answer) and each.reused for each in found] == [True, True, True, False]
    assert len(outside(found)) == 1


def test_somebody_who_waits_is_answered_at_any_hour(local: str, provider: Provider) -> None:
    asked: list[Request] = [question(1, priority="interactive"), question(2, priority="batch"), question(3)]
    found = ask(local, one(provider.url, windows=closed()), asked)
    assert [isinstance(each, Answer) for each in found] == [True, False, False]


def test_texts_of_one_request_are_of_one_priority(local: str, provider: Provider) -> None:
    asked = [to_embed(1), to_embed(2, priority="interactive"), to_embed(3)]
    found = ask(local, one(provider.url, windows=closed()), asked)
    assert [isinstance(each, Answer) for each in found] == [False, True, False]


def test_a_route_takes_the_endpoints_that_are_open_now(local: str, provider: Provider) -> None:
    declared = settings({
        "night": endpoint(provider.url, windows=closed()), "day": endpoint(provider.url, windows=open_now()),
    })  # fmt: skip
    found = ask(local, declared, questions(5))
    assert {each.endpoint for each in found} == {"day"}


def test_there_is_no_fallback_to_an_endpoint_that_is_closed(local: str, provider: Provider) -> None:
    declared = settings({
        "day": endpoint(provider.url), "night": endpoint(provider.url, windows=closed()),
    })  # fmt: skip
    provider.configure(fault={"overloaded": 1.0})
    (found,) = ask(local, declared, [question(1)])
    assert isinstance(found, Unanswered)
    assert found.error == "overloaded"
    assert {row.endpoint for row in attempts(local)} == {"day"}


def test_of_several_ways_the_first_that_opens_is_said(local: str, provider: Provider) -> None:
    declared = settings({
        "late": endpoint(provider.url, windows=[around(8 * HOUR, 9 * HOUR)]),
        "soon": endpoint(provider.url, windows=[around(3 * HOUR, 4 * HOUR)]),
    })  # fmt: skip
    (found,) = outside(ask(local, declared, [question(1)]))
    assert found.opens is not None
    assert found.opens.at - now() <= datetime.timedelta(hours=3)


# When it closes


def test_when_it_closes_what_is_in_flight_ends_and_nothing_else_leaves(local: str, provider: Provider) -> None:
    declared = one(provider.url, windows=open_now(), limits={"concurrency": 2})
    provider.configure(latency_ms=300)
    with opened(local, declared) as engine:
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.extend(engine.map(questions(20), CALLER)))
        asking.start()
        eventually(lambda: provider.stats()["calls"] >= 2, PATIENCE_S)
        set_ahead(engine, 7 * HOUR)
        asking.join(PATIENCE_S)
    answered = [each for each in found if isinstance(each, Answer)]
    sent = provider.stats()["calls"]
    assert sent < 20
    assert len(answered) == sent
    assert len(outside(found)) == 20 - sent
    assert states(local) == {"settled": sent}
    check_books(local)
    again = ask(local, one(provider.url), questions(20))
    assert sum(isinstance(each, Answer) and each.reused for each in again) == sent
    assert provider.stats()["calls"] == 20
    assert provider.stats()["billed_twice"] == 0


def test_the_next_attempt_is_not_made_once_it_is_closed(local: str, provider: Provider) -> None:
    declared = one(provider.url, windows=open_now())
    provider.configure(fault={"overloaded": 1.0})
    with opened(local, declared) as engine:
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.extend(engine.map([question(1)], CALLER)))
        asking.start()
        eventually(lambda: provider.stats()["calls"] >= 1, PATIENCE_S)
        set_ahead(engine, 7 * HOUR)
        asking.join(PATIENCE_S)
    assert len(outside(found)) == 1
    check_books(local)


def test_a_wrong_clock_of_this_machine_opens_nothing(
    local: str, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """The ledger goes by the state store's clock, here as if that were an hour behind what this machine says."""
    caplog.set_level(logging.CRITICAL)
    declared = one(provider.url, windows=[around(-30, 30)])
    with opened(local, declared) as engine:
        engine.call(question(1), CALLER)
        set_ahead(engine, -60)
        assert outside([engine.call(question(2), CALLER)])
        set_ahead(engine, 0)
        assert isinstance(engine.call(question(2), CALLER), Answer)


# What it costs


CHEAP = {**PRICE, "input": 0.015, "output": 0.06}


def by_hour(url: str, windows: list[dict[str, Any]], **more: Any) -> InferenceSettings:
    listed = [dict(PRICE), {**CHEAP, "windows": windows}]
    return settings({"mini": endpoint(url, prices=listed, **more)})


def test_a_call_costs_what_it_costs_at_the_hour_it_leaves(local: str, provider: Provider) -> None:
    ask(local, by_hour(provider.url, closed()), [question(1)])
    ask(local, by_hour(provider.url, open_now()), [question(2)])
    one_row, other = attempts(local)
    for row, price in ((one_row, PRICE), (other, CHEAP)):
        usd = (row.input_tokens * price["input"] + row.output_tokens * price["output"]) / 1e6
        assert row.cost_nusd == pytest.approx(usd * 1e9, abs=1)
    assert other.reserved_nusd == pytest.approx(one_row.reserved_nusd / 10, rel=0.01)
    assert one_row.price == "2026-01-01 0.15/-/0.6"
    assert other.price.startswith("2026-01-01 [daily ")
    assert other.price.endswith(" UTC] 0.015/-/0.06")


def test_a_call_that_waited_until_another_hour_is_reserved_at_the_price_of_that(local: str, provider: Provider) -> None:
    declared = by_hour(provider.url, open_now(), limits={"concurrency": 1})
    provider.configure(latency_ms=300)
    with opened(local, declared) as engine:
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.extend(engine.map(questions(4), CALLER)))
        asking.start()
        eventually(lambda: provider.stats()["calls"] >= 1, PATIENCE_S)
        set_ahead(engine, 7 * HOUR)
        asking.join(PATIENCE_S)
    prices = [row.price.rpartition(" ")[2] for row in sorted(attempts(local), key=lambda row: row.attempt_id)]
    assert prices[0] == "0.015/-/0.06"
    assert prices[-1] == "0.15/-/0.6"
    check_books(local)


def test_a_tier_has_prices_by_the_hour_too(local: str, provider: Provider) -> None:
    flex = {"from": "2026-01-01", "tier": "flex", "input": 0.075, "output": 0.3}
    night = {**flex, "input": 0.0075, "output": 0.03, "windows": open_now()}
    declared = settings({"mini": endpoint(provider.url, prices=[dict(PRICE), flex, night], tier="flex")})
    provider.configure(serve_tier="flex")
    (found,) = ask(local, declared, [question(1)])
    provider.configure(serve_tier=None)
    assert isinstance(found, Answer)
    (row,) = attempts(local)
    assert row.reserved_nusd > row.cost_nusd
    assert " flex [daily " in row.price


def test_prices_by_the_hour_change_no_call(local: str, provider: Provider) -> None:
    (first,) = ask(local, by_hour(provider.url, closed()), [question(1)])
    (again,) = ask(local, by_hour(provider.url, open_now()), [replace(question(1), hours=hours(open_now()))])
    assert isinstance(first, Answer)
    assert isinstance(again, Answer)
    assert (again.call, again.reused) == (first.call, True)
