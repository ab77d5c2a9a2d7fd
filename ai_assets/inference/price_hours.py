"""Prices that hold in declared hours: what may be declared, and which of several holds at a moment. Pure."""

import datetime
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from ai_assets.base.windows import common_opening
from ai_assets.base.yaml_settings import wrong

if TYPE_CHECKING:
    from ai_assets.inference.settings import TokenPrice

Moment = datetime.date
"""When a price is asked for: a moment, by whose hour it is chosen too, or a day, whose price without hours it is."""


def day_of(at: Moment) -> datetime.date:
    """By whose date prices begin: UTC."""
    return at.astimezone(datetime.UTC).date() if isinstance(at, datetime.datetime) else at


def price_of(prices: Sequence["TokenPrice"], tier: str, at: Moment) -> "TokenPrice | None":
    """Of the newest date that has come, the price whose hours hold, else the one without hours."""
    newest = hourly(prices, tier, day_of(at))
    if isinstance(at, datetime.datetime):
        for price in newest:
            if price.hours and price.hours.open_at(at):
                return price
    return next((price for price in newest if not price.hours), None)


def hourly(prices: Sequence["TokenPrice"], tier: str, on: datetime.date) -> list["TokenPrice"]:
    """All of that tier and of the newest date that has come, whatever their hours."""
    come = [price for price in prices if price.tier == tier and price.from_ <= on]
    newest = max((price.from_ for price in come), default=None)
    return [price for price in come if price.from_ == newest]


def wrong_hours(prices: Sequence["TokenPrice"], batch: str, default: str) -> Iterator[PydanticCustomError]:
    """A date begins a price list of its tier: one price without hours, and others that hold in hours of their own."""
    lists: dict[tuple[datetime.date, str], list[int]] = {}
    for number, price in enumerate(prices):
        lists.setdefault((price.from_, price.tier), []).append(number)
    for (date, tier), numbers in lists.items():
        of = "" if tier == default else f" of '{tier}'"
        by_hour = [number for number in numbers if prices[number].hours]
        plain = [number for number in numbers if not prices[number].hours]
        for number in plain[1:]:
            yield wrong(f"there is a price{of} from {date} already", "prices", number, "from")
        if not by_hour:
            continue
        if tier == batch:
            said = "a line of a batch is run at an hour that nobody knows, so its price has no windows"
            yield wrong(said, "prices", by_hour[0], "windows")
            continue
        if not plain:
            said = f"the hours outside of these have no price{of} from {date}; add one without windows"
            yield wrong(said, "prices", by_hour[0], "windows")
        start = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
        for one, other in combinations(by_hour, 2):
            if (both := common_opening([prices[one].hours, prices[other].hours], start)) is not None:
                said = f"its hours overlap with those of prices.{one}, such as on {both.at:%Y-%m-%d %H:%M} UTC"
                yield wrong(said, "prices", other, "windows")
