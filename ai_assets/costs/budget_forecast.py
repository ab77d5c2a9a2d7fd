"""What may be left of a budget when it starts over, from what each day took so far. Pure."""

import calendar
import datetime
from dataclasses import dataclass
from decimal import Decimal

from ai_assets.costs.figures import BudgetUse

LONGEST_DAYS = 31
"""So far ahead is looked where a budget never starts over."""
SPREAD = Decimal("1.645")
"""Standard deviations to either side, as in the forecast of the month: about 9 of 10 times it ends in between."""
_MONTH = 7
_DAY = 10


@dataclass(frozen=True, kw_only=True)
class Outlook:
    last: datetime.date
    low_usd: Decimal
    """Left then, at the least; below nothing where more would be asked for than there is."""
    likely_usd: Decimal
    high_usd: Decimal
    used_up: datetime.date | None
    """The day on which nothing is left, at the pace so far; None where that lasts beyond `last`."""


def last_day(period: str) -> datetime.date | None:
    """Of a month. None: it never starts over."""
    if len(period) == _MONTH:
        year, month = map(int, period.split("-"))
        return datetime.date(year, month, calendar.monthrange(year, month)[1])
    return None


def outlook(use: BudgetUse, today: datetime.date) -> Outlook | None:
    """None where the days so far say nothing about those to come."""
    if not use.burn or len(use.period) == _DAY:
        return None
    spent = {burn.day: burn.spent_usd for burn in use.burn}
    so_far = (today - use.burn[0].day).days
    last = last_day(use.period) or today + datetime.timedelta(days=min(so_far + 1, LONGEST_DAYS))
    ahead = (last - today).days
    if so_far < 0 or ahead < 0:
        return None
    # Today is not over: it counts only where there is no day before it.
    complete = [today - datetime.timedelta(days=place) for place in range(1, so_far + 1)] or [today]
    daily = [spent.get(day, Decimal(0)) for day in complete]
    mean = sum(daily, Decimal(0)) / len(daily)
    variance = sum(((value - mean) ** 2 for value in daily), Decimal(0)) / max(1, len(daily) - 1)
    deviation = variance.sqrt() if len(daily) > 1 else mean
    left = use.limit_usd - use.burn[-1].cumulative_usd
    likely = left - max(Decimal(0), mean - spent.get(today, Decimal(0))) - mean * ahead
    margin = SPREAD * deviation * Decimal(ahead + 1).sqrt()
    lasts = int(left / mean) if mean > 0 else None
    used_up = today + datetime.timedelta(days=max(0, lasts)) if lasts is not None and lasts <= ahead else None
    return Outlook(
        last=last,
        low_usd=likely - margin,
        likely_usd=likely,
        high_usd=min(left, likely + margin),
        used_up=used_up,
    )
