"""Which partitions fit the documents of a new collection, guessed from their paths, with the reason in words."""

import datetime
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ai_assets.base.plural import plural
from ai_assets.collection.partitions import PartitionScheme, Unassigned, period_start
from ai_assets.collection.settings import PartitionSettings

ENOUGH = 0.8
"""Share of documents that must carry a date, or lie in a folder, before partitions are guessed from it."""
MOST_FOLDERS = 200
MOST_PERIODS = 500
"""More days than this become weeks, more weeks months: a run and a sign-off are for each of them."""
FEWEST_IN_A_FOLDER = 5
"""Documents on average; a partition costs a run's overhead and a person's look, so smaller folders become shards."""
DOCUMENTS_PER_SHARD = 1000

_PERIODS: tuple[Literal["day", "week", "month"], ...] = ("day", "week", "month")
_DAYS = {"day": 1, "week": 7, "month": 30}


@dataclass(frozen=True, kw_only=True)
class Guess:
    """The partitions that fit the documents, and why."""

    lines: tuple[str, ...]
    reason: str
    partitions: int


def guess(name: str, paths: Sequence[str]) -> Guess:
    """By date where paths carry dates, by folder where folders hold enough documents, else in shards."""
    found = _by_date(name, paths)
    if isinstance(found, Guess):
        return found
    folders, why_not = _by_folder(paths)
    if folders is not None:
        return folders
    count = max(1, -(-len(paths) // DOCUMENTS_PER_SHARD))
    because = "; ".join(filter(None, (found, why_not)))
    return Guess(
        lines=("by: shards", f"count: {count}      # fixed: another number moves documents between shards"),
        reason=f"in {plural(count, 'shard')} ({because})",
        partitions=count,
    )


def _by_date(name: str, paths: Sequence[str]) -> Guess | str:
    """The finest period that gives no more than so many partitions; else why there is none."""
    dates = _dates(name, paths)
    if not dates or len(dates) < ENOUGH * len(paths):
        return "no dates in the paths"
    first, last, today = min(dates), max(dates), datetime.datetime.now(datetime.UTC).date()
    end = max(last, today)
    for by in _PERIODS:
        number = (end - period_start(first, by)).days // _DAYS[by] + 1
        if number > MOST_PERIODS:
            continue
        until = f"end: {last}" if last > today else f"# end: {last}        # without an end they go on to today"
        others = len(paths) - len(dates)
        left = f"; the other {others} belong to no partition" if others else ""
        return Guess(
            lines=(f"by: {by}", f"start: {first}", until),
            reason=(
                f"partitioned by {by} ({len(dates)} of {plural(len(paths), 'path carries', 'paths carry')} "
                f"a date{left})"
            ),
            partitions=number,
        )
    return f"the dates in the paths reach from {first} to {end}, which is too many months for partitions"


def _by_folder(paths: Sequence[str]) -> tuple[Guess | None, str]:
    inside = Counter(path.partition("/")[0] for path in paths if "/" in path)
    outside = len(paths) - inside.total()
    if len(inside) < 2:
        return None, "no folders to go by"
    if inside.total() < ENOUGH * len(paths):
        return None, f"{outside} of {plural(len(paths), 'document lies', 'documents lie')} in no folder"
    mean, usual = inside.total() / len(inside), statistics.median(inside.values())
    if mean >= FEWEST_IN_A_FOLDER > usual:
        half = (
            f"half of the {plural(len(inside), 'folder holds', 'folders hold')} "
            f"fewer than {FEWEST_IN_A_FOLDER} documents"
        )
        return None, f"{half}, too few for a partition each"
    if mean < FEWEST_IN_A_FOLDER:
        return (
            None,
            f"{plural(len(inside), 'folder holds', 'folders hold')} {mean:.1f} documents "
            "on average, too few for a partition each",
        )
    if len(inside) > MOST_FOLDERS:
        return (
            None,
            f"{plural(len(inside), 'folder is', 'folders are')} more than the {MOST_FOLDERS} that make good partitions",
        )
    left = f"; the other {outside} belong to no partition" if outside else ""
    reason = f"partitioned by folder ({len(inside)} of them, {mean:.0f} documents each on average{left})"
    return Guess(lines=("by: folder",), reason=reason, partitions=len(inside)), ""


def _dates(name: str, paths: Sequence[str]) -> list[datetime.date]:
    wide = PartitionSettings(by="day", start=datetime.date(1900, 1, 1), end=datetime.date(2199, 12, 31))
    scheme = PartitionScheme(name, wide)
    found = []
    for path in paths:
        try:
            found.append(datetime.date.fromisoformat(scheme.key_for(path)))
        except Unassigned:
            continue
    return found
