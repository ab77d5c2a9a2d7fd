"""Hours of the week by a time zone's clock: whether they hold at a moment, when they begin and when they end. Pure.

A time of day stands for one instant of its date: the first at which that zone's clock shows it or has gone past it. So
an hour that comes twice counts the first time, one that is skipped has no length, and windows that meet by the clock
neither overlap nor leave a gap.
"""

import datetime
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
INTERACTIVE: Literal["interactive"] = "interactive"
"""The priority of work that somebody waits for: windows are not for it."""
_LOOK_DAYS = 22
"""A week, and two more for a window that daylight saving swallows."""
_NEVER_DAYS = 400
"""Hours of two zones that do not meet within a year, with both changes of the clocks, never meet."""
_ALWAYS = datetime.timedelta(days=9)
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class WeeklyWindow:
    """Begins on each of the days at a minute of the day; one that ends at or before it ends on the next day."""

    days: tuple[int, ...]
    """Monday is 0."""
    start: int
    end: int
    """In minutes of the day, at most 1,440."""
    timezone: str

    @property
    def said(self) -> str:
        """`mon-fri 22:00-06:00 Europe/Berlin`."""
        return f"{_days_said(self.days)} {clock(self.start)}-{clock(self.end)} {self.timezone}"


@dataclass(frozen=True, slots=True)
class Opening:
    """When something may begin, and the time zone in which its window is declared."""

    at: datetime.datetime
    timezone: str

    def said(self, moment: datetime.datetime) -> str:
        """`Mon 22:00 Europe/Berlin`; with its date where that is a week or more from the moment."""
        local = self.at.astimezone(_zone(self.timezone))
        day = DAYS[local.weekday()].capitalize()
        date = f" {local:%Y-%m-%d}" if self.at - moment >= datetime.timedelta(days=6) else ""
        return f"{day}{date} {local:%H:%M} {self.timezone}"


@dataclass(frozen=True, slots=True)
class WeeklyHours:
    """The union of some windows; without any it always holds."""

    windows: tuple[WeeklyWindow, ...] = ()

    def __bool__(self) -> bool:
        """Whether any are declared."""
        return bool(self.windows)

    def allowed(self, moment: datetime.datetime, priority: str | None = None) -> bool:
        """Whether work of this priority may begin."""
        return priority == INTERACTIVE or self.open_at(moment)

    def open_at(self, moment: datetime.datetime) -> bool:
        return not self.windows or any(True for _ in self._around(moment))

    def next_opening(self, moment: datetime.datetime) -> Opening | None:
        """The moment itself while it holds; None where it never does."""
        if not self.windows:
            return Opening(moment, "UTC")
        if (around := next(self._around(moment), None)) is not None:
            return Opening(moment, around[0].timezone)
        first: Opening | None = None
        for window in self.windows:
            for start, end in _spans(window, moment, _LOOK_DAYS):
                if start > moment and start < end:
                    if first is None or start < first.at:
                        first = Opening(start, window.timezone)
                    break
        return first

    def closes_at(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The end of the time in which it holds without a break; None where it does not end. For a moment at which it
        holds."""
        at = moment
        while at - moment < _ALWAYS:
            ends = [end for _, end in self._around(at)]
            if not ends:
                return at
            at = max(ends)
        return None

    def _around(self, moment: datetime.datetime) -> Iterator[tuple[WeeklyWindow, datetime.datetime]]:
        """The windows that hold, each with its end."""
        for window in self.windows:
            for start, end in _spans(window, moment, 1):
                if start <= moment < end:
                    yield window, end

    @property
    def said(self) -> str:
        return ", ".join(window.said for window in self.windows)


ALWAYS = WeeklyHours()


def common_opening(hours: Sequence[WeeklyHours], moment: datetime.datetime) -> Opening | None:
    """When all of them hold, at the moment or after it; None where they never meet."""
    found = Opening(moment, "UTC")
    latest = moment + datetime.timedelta(days=_NEVER_DAYS)
    while found.at < latest:
        nexts = [each.next_opening(found.at) for each in hours]
        last: Opening | None = None
        for opening in nexts:
            if opening is None:
                return None
            if opening.at > found.at and (last is None or opening.at > last.at):
                last = opening
        if last is None:
            return found
        found = last
    return None


def earliest(openings: Iterable[Opening | None]) -> Opening | None:
    """Of several ways the one that opens first."""
    return min((each for each in openings if each is not None), key=lambda each: each.at, default=None)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _days_said(days: Sequence[int]) -> str:
    if len(days) == len(DAYS):
        return "daily"
    if len(days) > 2 and list(days) == list(range(days[0], days[-1] + 1)):
        return f"{DAYS[days[0]]}-{DAYS[days[-1]]}"
    return ",".join(DAYS[day] for day in days)


@lru_cache(maxsize=64)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo(name)


def _spans(
    window: WeeklyWindow, moment: datetime.datetime, days: int
) -> Iterator[tuple[datetime.datetime, datetime.datetime]]:
    """From that of the day before the moment's to so many days after it, by the window's own clock. The next day counts
    at least: a clock that is set back at midnight shows two dates twice."""
    today = moment.astimezone(_zone(window.timezone)).date()
    for ahead in range(-1, days + 1):
        date = today + ahead * _DAY
        if date.weekday() in window.days:
            yield _span(window, date)


@lru_cache(maxsize=8192)
def _span(window: WeeklyWindow, date: datetime.date) -> tuple[datetime.datetime, datetime.datetime]:
    ends_on = date if window.end > window.start else date + _DAY
    return instant_of(date, window.start, window.timezone), instant_of(ends_on, window.end, window.timezone)


def instant_of(date: datetime.date, minute: int, timezone: str) -> datetime.datetime:
    """The first instant at which the zone's clock shows this time of this date, or has gone past it."""
    local = datetime.datetime.combine(date, datetime.time()) + datetime.timedelta(minutes=minute)
    zone = _zone(timezone)
    found = local.replace(tzinfo=zone).astimezone(datetime.UTC)
    if found.astimezone(zone).replace(tzinfo=None) == local:
        return found
    # Skipped: the clock goes past it at the one instant between these two at which it is set forward.
    before, after = local.replace(tzinfo=zone, fold=1).astimezone(datetime.UTC), found
    while after - before > datetime.timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).replace(tzinfo=None) < local:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)
