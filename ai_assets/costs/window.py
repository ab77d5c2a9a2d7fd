"""Which spend is meant: the days, and the collections or tenant that it belongs to."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ai_assets.base.errors import UserError

MOST_DAYS = 36_500
_SPAN = re.compile(r"(?P<count>[1-9]\d{0,5})d", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class WindowInvalid(UserError):
    def __init__(self, asked: str, problem: str) -> None:
        super().__init__(
            f"'{asked[:40]}' {problem}. Write a number of days such as 30d, or a day that has come such as 2026-11-01."
        )


@dataclass(frozen=True, kw_only=True)
class Window:
    """Days in UTC, both included."""

    first: datetime.date
    last: datetime.date

    @classmethod
    def of_days(cls, count: int, last: datetime.date) -> "Window":
        return cls(first=last - datetime.timedelta(days=count - 1), last=last)

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def before(self) -> "Window | None":
        """As long, ending where this begins; None where the calendar begins first."""
        if (self.first - datetime.date.min).days < self.days:
            return None
        return Window.of_days(self.days, self.first - datetime.timedelta(days=1))


def since(asked: str, today: datetime.date) -> Window:
    """Up to today: the last so many days, or from a day on."""
    if match := _SPAN.fullmatch(asked.strip()):
        if int(match["count"]) > MOST_DAYS:
            raise WindowInvalid(asked, f"is more than {MOST_DAYS} days")
        return Window.of_days(int(match["count"]), today)
    first = day(asked)
    if first > today:
        raise WindowInvalid(asked, f"has not come yet: today is {today} (UTC)")
    return Window(first=first, last=today)


def day(asked: str) -> datetime.date:
    if not _DAY.fullmatch(asked.strip()):
        raise WindowInvalid(asked, "is neither a number of days nor a day")
    try:
        return datetime.date.fromisoformat(asked.strip())
    except ValueError as error:
        raise WindowInvalid(asked, "is no day of the calendar") from error


@dataclass(frozen=True, kw_only=True)
class Scope:
    window: Window
    collections: Sequence[str] | None = None
    """None: all, and what belongs to none."""
    tenant: str | None = None
    budgets_of: Sequence[str] = ()
    """Tenants whose budgets are shown too, where collections are named."""

    @property
    def whole(self) -> bool:
        """Whether it leaves nobody out."""
        return self.collections is None and self.tenant is None

    def where(self, *, days: bool = True) -> str:
        """As a condition on a table of the warehouse, whose values are in `given`."""
        wanted = ["day BETWEEN $first AND $last"] if days else []
        if self.collections is not None:
            wanted.append("list_contains($collections, collection)")
        if self.tenant is not None:
            wanted.append("tenant = $tenant")
        return " AND ".join(wanted) or "true"

    def given(self, *, days: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = {"first": self.window.first, "last": self.window.last} if days else {}
        if self.collections is not None:
            found["collections"] = list(self.collections)
        if self.tenant is not None:
            found["tenant"] = self.tenant
        return found

    def earlier(self) -> "Scope | None":
        before = self.window.before
        return replace(self, window=before) if before else None
