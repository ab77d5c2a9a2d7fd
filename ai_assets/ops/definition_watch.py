"""Whether the files that definitions were made of are still as they were: looked at now and then, on any file system.

Nothing here relies on notices of the kernel (a file server gives none) or on the order of times (its clock is its own).
A look costs one `stat` for each file; content is read only where that differs, and for a while after.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ai_assets.ops.trial_load import Stamp, stamp_of

LOOK_S = 1.0
MOST_SHARE = 0.02
"""Of one core: where a look takes long, the next one comes later."""
YOUNG_S = 3.0
"""So long after a change a file is read again at each look: its time may be in whole seconds, and its size the same."""
LARGEST_BYTES = 16 << 20
"""A larger file is not read: its stamp counts."""
MARKS = ("defs.yaml", "component.yaml", "__init__.py")
"""Files that make a folder part of the definitions, where it was none before."""
_PASSING = ("~", ".swp", ".swx", ".tmp", ".bak", ".pyc")
ABSENT = "none"

Prints = Mapping[Path, str]
"""A digest of each file and of each folder's listing."""


@dataclass
class DefinitionWatch:
    """Of one code location."""

    files: frozenset[Path]
    folders: frozenset[Path]
    _stamps: dict[Path, Stamp | None] = field(default_factory=dict)
    _prints: dict[Path, str] = field(default_factory=dict)
    _read_until: dict[Path, float] = field(default_factory=dict)
    """By file, until when its content counts whatever its stamp says."""
    _took_s: float = 0.0

    @classmethod
    def of(cls, files: Iterable[Path], folders: Iterable[Path]) -> "DefinitionWatch":
        return cls(frozenset(files), frozenset(folders))

    @property
    def pause_s(self) -> float:
        """From one look to the next, so that all of them take little."""
        return max(LOOK_S, self._took_s / MOST_SHARE)

    def look(self) -> Prints:
        """As all of them are now."""
        started = time.thread_time()
        now = time.monotonic()
        for path in self.files:
            self._look_at(path, now)
        found = {**self._prints, **{folder: _listing(folder) for folder in self.folders}}
        self._took_s = time.thread_time() - started
        return found

    def is_as_reported(self, reported: Mapping[Path, Stamp | None]) -> bool:
        """Whether the files looked at last are the ones that somebody else has read."""
        return all(self._stamps.get(path) == stamp for path, stamp in reported.items())

    def _look_at(self, path: Path, now: float) -> None:
        stamp = stamp_of(path)
        if path not in self._prints or stamp != self._stamps[path]:
            self._read_until[path] = now + YOUNG_S
        elif path not in self._read_until:
            return
        elif now > self._read_until[path]:
            del self._read_until[path]
        self._stamps[path] = stamp
        self._prints[path] = _print(path, stamp)


def changed(before: Prints, after: Prints) -> list[Path]:
    """In which they differ, in order. A file that was looked for and is not there is as one that nobody looked for."""
    return sorted(path for path in {*before, *after} if before.get(path, ABSENT) != after.get(path, ABSENT))


def _print(path: Path, stamp: Stamp | None) -> str:
    if stamp is None:
        return ABSENT
    if stamp[1] > LARGEST_BYTES:
        return f"stamp {stamp}"
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _listing(folder: Path) -> str:
    """Without what editors and Python leave for a moment."""
    try:
        names = sorted(
            entry.name
            + (
                "/" + ",".join(mark for mark in MARKS if (folder / entry.name / mark).is_file())
                if entry.is_dir()
                else ""
            )
            for entry in folder.iterdir()
            if not entry.name.startswith((".", "__pycache__")) and not entry.name.endswith(_PASSING)
        )
    except OSError:
        return ABSENT
    return hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
