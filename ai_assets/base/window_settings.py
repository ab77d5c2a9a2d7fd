"""`windows:` as a user writes it, in `inference.yaml` and `defs.yaml`."""

import re
import zoneinfo
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from ai_assets.base.windows import DAY_MINUTES, DAYS, Day, WeeklyHours, WeeklyWindow, clock
from ai_assets.base.yaml_settings import Strict, nearest, wrong

_TIME = re.compile(r"([0-9]{1,2}):([0-5][0-9])", re.ASCII)


class WindowSettings(Strict):
    """Hours of some days of the week, by the clock of a time zone."""

    days: tuple[Day, ...] = Field(default=DAYS, min_length=1)
    """On which it begins; without it every day."""
    from_: str = Field(default="00:00", alias="from")
    """Such as `"22:00"`; without it the beginning of the day."""
    to: str = "24:00"
    """Such as `"06:00"`, which is on the next day where it is before `from`; without it the end of the day."""
    timezone: str
    """Such as `Europe/Berlin`."""

    @field_validator("from_", "to", mode="before")
    @classmethod
    def _is_time(cls, value: Any) -> str:
        # Without quotes YAML reads 22:00 as the number of its minutes.
        if isinstance(value, int) and not isinstance(value, bool) and 60 <= value <= DAY_MINUTES:
            return clock(value)
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        minute = _minute(value) if match else -1
        if not 0 <= minute <= DAY_MINUTES:
            raise ValueError(f"'{value}' is no time of day such as \"22:00\", in quotes, between 00:00 and 24:00")
        return clock(minute)

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        return known_timezone(value)

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.from_ == "24:00":
            raise wrong('a window begins before 24:00; write "00:00" and the next day', "from")
        if self.from_ == self.to:
            said = f"it is open from {self.from_} to {self.to}, which is no time at all"
            raise wrong(f'{said}; a whole day is from "00:00" to "24:00"', "to")
        return self

    @property
    def window(self) -> WeeklyWindow:
        days = tuple(sorted({DAYS.index(day) for day in self.days}))
        return WeeklyWindow(days, _minute(self.from_), _minute(self.to), self.timezone)


def _minute(time: str) -> int:
    hours, _, minutes = time.partition(":")
    return int(hours) * 60 + int(minutes)


def _some(windows: tuple[WindowSettings, ...]) -> tuple[WindowSettings, ...]:
    if not windows:
        raise ValueError("names no window, so it would never open; leave the key out for any time")
    return windows


Windows = Annotated[tuple[WindowSettings, ...], AfterValidator(_some)]
"""With the default (): at any time."""


def hours_of(windows: Sequence[WindowSettings]) -> WeeklyHours:
    return WeeklyHours(tuple(each.window for each in windows))


def known_timezone(value: str) -> str:
    """Raises ValueError with the nearest name that is one."""
    try:
        zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        known = sorted(zoneinfo.available_timezones())  # reads hundreds of files
        raise ValueError(f"unknown time zone '{value}'{nearest(value, known, 'one is Europe/Berlin')}") from error
    return value
