"""Claims about prices by the hour: which of several holds, and what bounds money before the hour is known."""

import datetime
from typing import Any

import pytest
from engines import PRICE, settings
from hypothesis import given
from hypothesis import strategies as st

from ai_assets.costs.funding import AskingAsset, smallest_call_nusd
from ai_assets.inference.prices import batch_price, price_at, prices_of_day, tier_prices, worst_case_nusd
from ai_assets.inference.settings import Endpoint, TokenPrice

BERLIN = "Europe/Berlin"
NIGHT = {"from": "22:00", "to": "06:00", "timezone": BERLIN}


def price(date: str, usd: float, **more: Any) -> dict[str, Any]:
    return {"from": date, "input": usd, "output": usd, **more}


def endpoint(*prices: dict[str, Any], **more: Any) -> Endpoint:
    return Endpoint.model_validate({"base_url": "rehearsal", "model": "m", "prices": prices, **more})


LISTED = endpoint(
    price("2026-01-01", 1.0), price("2026-01-01", 0.5, windows=[NIGHT]), price("2026-07-01", 0.8),
    price("2026-01-01", 0.4, tier="flex"), price("2026-01-01", 0.2, tier="flex", windows=[NIGHT]),
)  # fmt: skip


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("moment", "tier", "usd"),
    [
        ("2026-02-02 12:00", None, 1.0),
        ("2026-02-02 20:59", None, 1.0),
        ("2026-02-02 21:00", None, 0.5),
        ("2026-02-02 21:00", "flex", 0.2),
        ("2026-02-02 12:00", "flex", 0.4),
        ("2026-03-28 21:00", None, 0.5),
        ("2026-03-29 04:00", None, 1.0),  # at 6:00 by the clock of summer
        ("2026-03-29 03:59", None, 0.5),
        ("2026-06-30 20:00", None, 0.5),
        ("2026-07-02 21:00", None, 0.8),  # a new date begins a new list
        ("2025-12-31 23:30", None, None),
    ],
)
def test_the_price_of_a_moment(moment: str, tier: str | None, usd: float | None) -> None:
    found = price_at(LISTED, at(moment), tier)
    assert (None if found is None else found.input) == usd


def test_a_day_has_the_price_without_hours() -> None:
    day = datetime.date(2026, 2, 2)
    found = price_at(LISTED, day)
    assert found is not None
    assert found.input == 1.0
    assert {each.input for each in prices_of_day(LISTED, day)} == {1.0, 0.5}
    assert [each.input for each in tier_prices(LISTED, at("2026-02-02 23:00"))] == [0.5, 0.2]


@given(st.datetimes(datetime.datetime(2026, 1, 2), datetime.datetime(2026, 6, 29)))
def test_every_moment_has_exactly_one_price(moment: datetime.datetime) -> None:
    found = price_at(LISTED, moment.replace(tzinfo=datetime.UTC))
    assert found is not None
    local = moment.replace(tzinfo=datetime.UTC).astimezone(datetime.timezone(datetime.timedelta(hours=1)))
    if 7 <= local.hour < 21:
        assert found.input == 1.0
    elif local.hour >= 22 or local.hour < 4:
        assert found.input == 0.5


def test_a_line_of_a_batch_has_no_hour() -> None:
    declared = endpoint(price("2026-01-01", 1.0), price("2026-01-01", 0.5, windows=[NIGHT]), batch={"price_share": 0.5})
    assert batch_price("m", declared, at("2026-02-02 23:00")).input == 0.5
    assert batch_price("m", declared, at("2026-02-02 12:00")).input == 0.5


def test_the_smallest_call_is_that_of_the_cheapest_hour() -> None:
    """Else a night's work would be refused by day."""
    night = {**PRICE, "input": 0.01, "output": 0.01, "windows": [NIGHT]}
    declared = settings({"mini": {"base_url": "rehearsal", "model": "m", "prices": [dict(PRICE), night]}})
    asks = AskingAsset(asset="kind", route="default", least_input_tokens=100, max_output_tokens=10, always=True)
    cheapest = min(declared.endpoints["mini"].prices, key=lambda each: each.input)
    found = smallest_call_nusd(asks, declared, datetime.date(2026, 2, 2))
    assert found == worst_case_nusd(cheapest, 100, 10)


def test_the_price_of_a_job_is_read_as_it_was_written() -> None:
    for written in LISTED.prices:
        text = written.model_dump_json(by_alias=True, exclude_defaults=True)
        assert TokenPrice.model_validate_json(text) == written
