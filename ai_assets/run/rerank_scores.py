"""What a reranker said, kept beside the evaluation index by the digests of the texts: nothing is computed twice.

It can always be thrown away, and is in no backup. Where it cannot be written, as in a home that is read only, all is
computed that is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

FOLDER = "evaluation-rerank"
"""Beside the evaluation indexes, and like them in no backup."""
Key: TypeAlias = bytes
_AT_ONCE = 500
_WAIT_S = 10.0


def forget_scores(folder: Path) -> bool:
    """Of a collection: vectors of a text that is to be forgotten must not stay. Whether there were any."""
    there = (folder / FOLDER).is_dir()
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return there


def key_of(*parts: object) -> Key:
    return hashlib.sha256("\n".join(hashlib.sha256(str(part).encode()).hexdigest() for part in parts).encode()).digest()


class RerankScores:
    """Vectors or scores, as bytes by key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self, keys: Sequence[Key]) -> Mapping[Key, bytes]:
        found: dict[Key, bytes] = {}
        if not self._path.is_file():
            return found
        with contextlib.suppress(sqlite3.Error), contextlib.closing(self._opened()) as connection:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                found |= connection.execute(f"SELECT key, value FROM kept WHERE key IN ({marks})", some).fetchall()  # noqa: S608 - question marks
        return found

    def keep(self, found: Mapping[Key, bytes]) -> None:
        if not found:
            return
        with contextlib.suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(self._opened()) as connection, connection:
                connection.execute("CREATE TABLE IF NOT EXISTS kept (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
                connection.executemany("INSERT OR IGNORE INTO kept VALUES (?, ?)", found.items())

    def _opened(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_WAIT_S)
