"""By when something is to be done, as a user writes it: `due: "06:00"` with a time zone, or `within: 4h`. No I/O.

A time of day that daylight saving skips is due when the clocks jump over it, one that it repeats the first time.
"""

import datetime
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.window_settings import known_timezone
from ai_assets.base.windows import instant_of
from ai_assets.base.yaml_settings import Strict, wrong

UTC = "UTC"
_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_SPAN = re.compile(r"([0-9]{1,7})([mhd])", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
MOST_DAYS = 366
"""A longer span is a slip."""
YEARS = 1970, 2999
"""Of a moment; nearer to the ends of the calendar it has no equal in every time zone."""


@dataclass(frozen=True, kw_only=True)
class DueMoment:
    """When it is due, in UTC."""

    at: datetime.datetime
    note: str | None = None
    """What daylight saving makes of that day."""


@dataclass(frozen=True, kw_only=True)
class DeclaredDeadline:
    """One of `due` and `within_s`."""

    due: str | None = None
    within_s: float | None = None
    timezone: str = UTC

    @property
    def absolute(self) -> datetime.datetime | None:
        """The moment, where a date was named."""
        if self.due is None or _OF_DAY.fullmatch(self.due):
            return None
        return _absolute(self.due, self.timezone).astimezone(datetime.UTC)

    def moment(self, since: datetime.datetime) -> DueMoment:
        """When the work that was first wanted at `since` is due: a time of day the next time that it comes."""
        if self.within_s is not None:
            return DueMoment(at=since + datetime.timedelta(seconds=self.within_s))
        if (at := self.absolute) is not None:
            return DueMoment(at=at)
        day = since.astimezone(zoneinfo.ZoneInfo(self.timezone)).date()
        days = (self._on(day + datetime.timedelta(days=number)) for number in range(3))
        return next(each for each in days if each.at > since)

    def _on(self, day: datetime.date) -> DueMoment:
        assert self.due is not None
        time, zone = datetime.time.fromisoformat(self.due), zoneinfo.ZoneInfo(self.timezone)
        at, note = instant_of(day, 60 * time.hour + time.minute, self.timezone), None
        match _shift_at(datetime.datetime.combine(day, time, zone)):
            case "skipped":
                told = f"{at.astimezone(zone):%H:%M}"
                note = f"{day} has no {self.due} in {self.timezone}: the clocks go forward, and it is due at {told}"
            case "repeated":
                note = f"{day} has {self.due} twice in {self.timezone}: the clocks go back, and the first one counts"
        return DueMoment(at=at, note=note)

    def __str__(self) -> str:
        if self.within_s is not None:
            return f"within {_span(self.within_s)}"
        return f"due {self.due} ({self.timezone})"


class WithDeadline(Strict):
    """The keys of what can have a deadline."""

    due: str | None = None
    """By when it is to be answered: a time of day, `"06:00"`, or a moment, `"2026-12-24T06:00"`."""
    within: str | None = None
    """The same as a span of time from when it was first wanted: `90m`, `4h`, `2d`."""
    timezone: str | None = Field(default=None, max_length=100)
    """Of `due`, such as Europe/Berlin; without it UTC."""

    @field_validator("due", "within", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, str):  # YAML reads 18:00 as the number 1080
            raise ValueError('should be in quotation marks, such as "18:00" or "4h" (YAML reads it as something else)')
        return value

    @field_validator("within")
    @classmethod
    def _leaves_time(cls, value: str | None) -> str | None:
        match = _SPAN.fullmatch(value or "")
        if value is None or (match and 0 < span_seconds(value) <= MOST_DAYS * 86_400):
            return value
        if match or re.fullmatch(r"-.*", value):
            raise ValueError(f"'{value}' leaves no time, or more than a year; write such as 90m, 4h or 2d")
        raise ValueError(f"'{value}' is no span of time such as 90m, 4h or 2d")

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str | None) -> str | None:
        return value if value is None else known_timezone(value)

    @property
    def deadline(self) -> DeclaredDeadline | None:
        if self.due is not None:
            return DeclaredDeadline(due=self.due, timezone=self.timezone or UTC)
        return DeclaredDeadline(within_s=span_seconds(self.within)) if self.within is not None else None

    def wrong_deadline(self) -> Iterator[PydanticCustomError]:
        """What the keys contradict each other in. A moment that is over is no mistake of the file: see plan and run."""
        if self.due is not None and self.within is not None:
            yield wrong("it has 'due' or 'within', not both", "within")
        if self.timezone is not None and self.due is None:
            yield wrong("a time zone is that of 'due', which is not here", "timezone")
        if self.due is not None and (problem := _problem(self.due, self.timezone or UTC)) is not None:
            yield wrong(problem, "due")


def _problem(due: str, timezone: str) -> str | None:
    if _OF_DAY.fullmatch(due):
        return None
    try:
        at = datetime.datetime.fromisoformat(due)
    except ValueError:
        at = None
    if at is None or "T" not in due:
        return f'\'{due}\' is neither a time of day such as "06:00" nor a moment such as "2026-12-24T06:00"'
    if not YEARS[0] <= at.year <= YEARS[1]:
        return f"'{due}' is not between the years {YEARS[0]} and {YEARS[1]}; write the moment by which it is wanted"
    if at.tzinfo is not None:
        return None
    match _shift_at(_absolute(due, timezone)):
        case "skipped":
            return f"there is no {due} in {timezone}: the clocks go forward over it; choose another time"
        case "repeated":
            first, second = (_absolute(due, timezone).replace(fold=fold).isoformat() for fold in (0, 1))
            return f"{due} comes twice in {timezone}, where the clocks go back; write {first} or {second}"
    return None


def _absolute(due: str, timezone: str) -> datetime.datetime:
    at = datetime.datetime.fromisoformat(due)
    return at if at.tzinfo is not None else at.replace(tzinfo=zoneinfo.ZoneInfo(timezone))


def _shift_at(wanted: datetime.datetime) -> str:
    """What daylight saving does with this time on the wall: `skipped`, `repeated` or nothing."""
    back = wanted.astimezone(datetime.UTC).astimezone(wanted.tzinfo)
    if back.replace(tzinfo=None, fold=0) != wanted.replace(tzinfo=None, fold=0):
        return "skipped"
    return "repeated" if wanted.replace(fold=0).utcoffset() != wanted.replace(fold=1).utcoffset() else ""


def span_seconds(span: str) -> int:
    """Of `90m`, `4h` or `2d`; 0 for what is no span."""
    match = _SPAN.fullmatch(span)
    return int(match[1]) * _SECONDS[match[2]] if match else 0


def _span(seconds: float) -> str:
    unit = next(unit for unit in ("d", "h", "m") if seconds % _SECONDS[unit] == 0 or unit == "m")
    return f"{seconds / _SECONDS[unit]:g}{unit}"
