"""The disk below the home and the one for temporary files: what is free, and for how long that lasts."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ai_assets.backup.restoring import RESTORING
from ai_assets.base import temporary
from ai_assets.base.folders import files_below
from ai_assets.base.plural import plural
from ai_assets.doctor.findings import Finding, fine, noted, warned, wrong
from ai_assets.doctor.installation import Installation

FULL_BYTES = 200 * 1_000_000
LOW_BYTES = 1_000_000_000
FULL_SHARE, FEW_DAYS = 0.95, 14
DAYS = 7
_FREE = "`ai-assets status --disk` says what takes how much, `ai-assets retention run` removes what may go."


def look(at: Installation) -> Iterator[Finding]:
    root = at.home.root
    folder = next(each for each in (root, *root.parents) if each.exists())
    yield from _room(folder, f"disk of {root}", at)
    try:
        place = Path(tempfile.gettempdir())
    except FileNotFoundError:
        yield warned("temporary files", found="no folder for them can be written", fix="Set TMPDIR to one that can.")
    else:
        if os.stat(place).st_dev != os.stat(folder).st_dev:  # noqa: PTH116
            yield from _room(place, f"temporary files in {place}", None)
    left = [path for each in temporary.places() for path in temporary.abandoned(each)]
    if left:
        yield noted(
            "temporary files",
            found=f"killed processes left {len(left)} folder(s) of copies",
            fix="The next one that needs such a folder, or `ai-assets retention run`, removes them.",
        )
    if begun := temporary.abandoned_beside(root, RESTORING):
        yield noted(
            f"restores to {root}",
            found=f"killed ones left {plural(len(begun), 'folder')} beside it, such as {begun[0].name}",
            fix="The next restore to it removes them; they may be deleted by hand, too.",
        )


def _room(folder: Path, what: str, at: Installation | None) -> Iterator[Finding]:
    total, _, free = shutil.disk_usage(folder)
    files = os.statvfs(folder)
    said = f"{_bytes(free)} of {_bytes(total)} are free"
    if files.f_files and files.f_favail < files.f_files * (1 - FULL_SHARE):
        yield warned(what, found=f"only {plural(files.f_favail, 'more file fits', 'more files fit')} on it", fix=_FREE)
    if free < FULL_BYTES:
        yield wrong(what, found=said, fix=_FREE)
        return
    if free < LOW_BYTES:
        yield warned(what, found=said, fix=_FREE)
        return
    if at is None or not at.home.root.is_dir():
        yield fine(what, said)
        return
    size, new, days = _growth(at.home.root)
    per_day = new / days
    grown = f"{said}; the home takes {_bytes(size)}, {_bytes(new)} of it written in the last {days:.0f} day(s)"
    if per_day and free / per_day < FEW_DAYS:
        yield warned(what, found=f"{grown}: at that rate it is full in {free / per_day:.0f} days", fix=_FREE)
    else:
        yield fine(what, grown)


def _growth(root: Path) -> tuple[int, int, float]:
    """Bytes in all, those of files that are new within the days, and how many days those are."""
    now, size, new, oldest = time.time(), 0, 0, time.time()
    for path in files_below(root):
        try:
            facts = path.lstat()
        except OSError:
            continue
        taken = facts.st_blocks * 512
        size += taken
        oldest = min(oldest, facts.st_mtime)
        if now - facts.st_mtime < DAYS * 86_400:
            new += taken
    return size, new, min(float(DAYS), max(1.0, (now - oldest) / 86_400))


def _bytes(number: float) -> str:
    for unit, one in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= one:
            return f"{number / one:,.1f} {unit}"
    return f"{number / 1e3:,.0f} KB"
