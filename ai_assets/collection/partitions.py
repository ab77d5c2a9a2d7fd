"""Which partition a document belongs to, and which partitions there are. Dagster's definitions are made from this.

The keys are Dagster's own: `2026-10-05` for a day, the Monday for a week, the first day for a month.
"""

import datetime
import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ai_assets.collection.errors import PartitionUnknown, RangeReversed
from ai_assets.collection.settings import PartitionSettings

if TYPE_CHECKING:
    import dagster as dg

DATE_IN_PATH = re.compile(r"(?<!\d)(\d{4})[-/_.]?(\d{2})[-/_.]?(\d{2})(?!\d)")
MONTH_IN_PATH = re.compile(r"(?<!\d)(\d{4})[-/_.](\d{2})(?![\d])")


RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
"""Tags of a run that takes all partitions between two; a Dagster range covers every key between its ends."""


class Unassigned(ValueError):
    """A document that fits no partition; the message says why."""


@dataclass(frozen=True)
class PartitionScheme:
    """The partitions of one collection."""

    collection: str
    settings: PartitionSettings

    @property
    def per_row(self) -> bool:
        """Whether the rows of one table file may belong to different partitions."""
        return self.settings.column is not None or self.settings.by == "shards"

    def key_for(self, path: str, row_key: str | None = None, row_value: str | None = None) -> str:
        """The partition of a document; raises Unassigned with the reason when there is none."""
        match self.settings.by:
            case "shards":
                count = self.settings.count or 1
                name = path if row_key is None else f"{path}#{row_key}"
                number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count
                return self._shard(number)
            case "folder":
                folder, slash, _ = path.partition("/")
                if not slash:
                    raise Unassigned("it lies in no folder, and this collection is partitioned by folder")
                return folder
            case _:
                column = self.settings.column
                if column is None or row_key is None:
                    return self._time_key(_date_in(path, self.settings.by))
                if row_value is None:
                    raise Unassigned(f"it has no value in the column '{column}'")
                return self._time_key(_date_of(row_value))

    def row_belongs(self, partition: str, path: str, row_key: str, row_value: str | None) -> bool:
        try:
            return self.key_for(path, row_key, row_value) == partition
        except Unassigned:
            return False

    def _time_key(self, date: datetime.date) -> str:
        start, end = self._range()
        if not start <= date <= end:
            raise Unassigned(f"its date {date} is outside {start} to {end}")
        return period_start(date, self.settings.by).isoformat()

    def _range(self) -> tuple[datetime.date, datetime.date]:
        start = self.settings.start or datetime.date.min
        first = period_start(start, self.settings.by)
        return first, self.settings.end or datetime.datetime.now(datetime.UTC).date()

    def keys(self, known_folders: Sequence[str] = ()) -> list[str]:
        """All partitions, in order. Folders are what the source was last seen to have."""
        match self.settings.by:
            case "shards":
                return [self._shard(number) for number in range(self.settings.count or 1)]
            case "folder":
                return sorted(known_folders)
            case by:
                return [*_periods(*self._range(), by)]

    @property
    def is_open(self) -> bool:
        """Whether what the source has decides which partitions there are."""
        return self.settings.by == "folder"

    def has(self, key: str) -> bool:
        """Whether it is a partition; any folder may be one."""
        match self.settings.by:
            case "folder":
                return True
            case "shards":
                number = key.removeprefix("shard-")
                return (
                    number.isdecimal() and int(number) < (self.settings.count or 1) and key == self._shard(int(number))
                )
            case by:
                try:
                    day = datetime.date.fromisoformat(key)
                except ValueError:
                    return False
                start, end = self._range()
                return start <= day <= end and key == day.isoformat() == period_start(day, by).isoformat()

    def _shard(self, number: int) -> str:
        return f"shard-{number:0{len(str((self.settings.count or 1) - 1))}d}"

    def select(self, first: str, last: str, known_folders: Sequence[str] = ()) -> list[str]:
        """The partitions from `first` to `last`; an unknown one is an error that names the range."""
        keys = self.keys(known_folders)
        for key in (first, last):
            if key not in keys:
                raise self.unknown(key, keys)
        if keys.index(first) > keys.index(last):
            raise RangeReversed(self.collection, first, last)
        return keys[keys.index(first) : keys.index(last) + 1]

    def unknown(self, key: str, keys: Sequence[str]) -> PartitionUnknown:
        """The error for a partition that is not among `keys`."""
        return PartitionUnknown(self.collection, key, self.settings.by, keys, self._near(key, keys))

    def _near(self, key: str, keys: Sequence[str]) -> str | None:
        """What was meant: the week or month of a day, or what is written nearly so. Another day is none of these."""
        try:
            day = datetime.date.fromisoformat(key)
        except ValueError:
            return next(iter(difflib.get_close_matches(key, keys, n=1, cutoff=0.7)), None)
        if self.settings.by not in ("week", "month"):
            return None
        found = period_start(day, self.settings.by).isoformat()
        return found if found in keys else None

    def definition(self) -> "dg.PartitionsDefinition[str]":
        """The same partitions for Dagster. `tests/test_partitions.py` holds the two together."""
        import dagster as dg

        match self.settings.by:
            case "shards":
                return dg.StaticPartitionsDefinition(self.keys())
            case "folder":
                return dg.DynamicPartitionsDefinition(name=self.dynamic_name)
            case by:
                first, end = self._range()
                until, offset = None, 1
                if self.settings.end is not None:
                    last = period_start(end, by)
                    until = _next(last, by).isoformat()
                    offset = _periods_to_come(last, by)
                if by == "day":
                    return dg.DailyPartitionsDefinition(start_date=first.isoformat(), end_date=until, end_offset=offset)
                if by == "week":
                    return dg.WeeklyPartitionsDefinition(
                        start_date=first.isoformat(), end_date=until, end_offset=offset, day_offset=1
                    )
                return dg.MonthlyPartitionsDefinition(start_date=first.isoformat(), end_date=until, end_offset=offset)

    @property
    def dynamic_name(self) -> str:
        return f"{self.collection}__folders"


def consecutive(order: Sequence[str], chosen: Iterable[str], most: int) -> Iterator[list[str]]:
    """The chosen keys as groups of neighbours, each fit for one run."""
    wanted = set(chosen)
    group: list[str] = []
    for key in order:
        if key in wanted and len(group) < most:
            group.append(key)
        else:
            if group:
                yield group
            group = [key] if key in wanted else []
    if group:
        yield group


@lru_cache(maxsize=64)
def _periods(start: datetime.date, end: datetime.date, by: str) -> tuple[str, ...]:
    keys, day = [], start
    while day <= end:
        keys.append(day.isoformat())
        day = _next(day, by)
    return tuple(keys)


def period_start(date: datetime.date, by: str) -> datetime.date:
    if by == "week":
        return date - datetime.timedelta(days=date.weekday())
    return date.replace(day=1) if by == "month" else date


def _next(date: datetime.date, by: str) -> datetime.date:
    if by == "month":
        return (date.replace(day=28) + datetime.timedelta(days=4)).replace(day=1)
    return date + datetime.timedelta(days=7 if by == "week" else 1)


def _periods_to_come(last: datetime.date, by: str) -> int:
    """Dagster leaves out a period that has not ended, but for so many; a declared end holds before it has come."""
    day, periods = period_start(datetime.datetime.now(datetime.UTC).date(), by), 0
    while day <= last:
        day, periods = _next(day, by), periods + 1
    return periods


def _date_in(path: str, by: str) -> datetime.date:
    for year, month, day in DATE_IN_PATH.findall(path):
        try:
            return datetime.date(int(year), int(month), int(day))
        except ValueError:
            continue
    if by == "month":
        for year, month in MONTH_IN_PATH.findall(path):
            try:
                return datetime.date(int(year), int(month), 1)
            except ValueError:
                continue
    raise Unassigned("there is no date such as 2026-10-05 in its path")


def _date_of(value: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(value.strip()[:10])
    except ValueError:
        raise Unassigned(f"'{value[:40]}' is not a date such as 2026-10-05") from None
