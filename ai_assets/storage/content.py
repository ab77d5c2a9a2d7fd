"""Files that are named by their own SHA-256, and whether they still hold the bytes that their name says.

A digest is remembered per process while its file stays the same: path, device, inode, size and both times. A
modification time that was put back does not help, because the kernel sets the change time.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

REMEMBERED = 100_000
"""So many files at most, about 30 MB; of a larger lake some are read again."""
_NAME = re.compile(r"[0-9a-f]{64}")

Facts = tuple[int, int, int, int, int]


def facts_of(path: Path) -> Facts:
    """What changes when a file is replaced or written to."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Digests:
    """SHA-256 of files, each computed once; safe to share between threads."""

    def __init__(self, most: int = REMEMBERED, compute: Callable[[Path], str] = file_sha256) -> None:
        self._most = most
        self._compute = compute
        self._known: OrderedDict[str, tuple[Facts, str]] = OrderedDict()
        self._guard = threading.Lock()

    def of(self, path: Path) -> str:
        facts, name = facts_of(path), os.fspath(path)
        with self._guard:
            known = self._known.get(name)
            if known is not None and known[0] == facts:
                self._known.move_to_end(name)
                return known[1]
        found = self._compute(path)
        self._remember(name, facts, found, path)
        return found

    def note(self, path: Path, sha256: str) -> None:
        """Of a file that this process has just written."""
        self._remember(os.fspath(path), facts_of(path), sha256, path)

    def _remember(self, name: str, facts: Facts, sha256: str, path: Path) -> None:
        if facts_of(path) != facts:
            return  # it was written to while it was read
        with self._guard:
            self._known[name] = facts, sha256
            self._known.move_to_end(name)
            while len(self._known) > self._most:
                self._known.popitem(last=False)


DIGESTS = Digests()
"""Of this process."""


def named_by_content(name: str) -> str | None:
    """The SHA-256 in a file's name; None where the name is no such digest."""
    stem = name.partition(".")[0]
    return stem if _NAME.fullmatch(stem) else None


def has_own_bytes(path: Path) -> bool:
    """Whether the file is there with the bytes that its name says."""
    wanted = named_by_content(path.name)
    try:
        return wanted is not None and DIGESTS.of(path) == wanted
    except OSError:
        return False
