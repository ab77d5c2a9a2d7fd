"""Vectors of passages in memory: a question is compared with all of them in one walk through memory.

Where they do not fit they are read from the files for each question, which takes some six times as long; LanceDB, which
puts all rows in order too, takes twenty times as long.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ai_assets.storage.batch_search import within

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.storage.passage_places import PassagePlaces

KEPT_BYTES = 512 << 20
"""Of vectors, over all collections, versions and tenants of a process: those of 500,000 passages with 256 numbers each.
Those of a version that has more are read anew for each question; of several that have more together, those asked last
are kept."""
_AT_ONCE = 8_192


class PassageVectors:
    """Of the passages of a version that have a vector, in any order."""

    def __init__(
        self, table: Any, most: int, places: PassagePlaces, column: str, among: str | None, length: int
    ) -> None:  # fmt: skip
        """`most`: how many passages there are at most. `among`: a condition."""
        import numpy as np

        self.row_ids, self._vectors = np.zeros(most, np.uint64), np.zeros((most, length), np.float32)
        there = 0
        for row_ids, vectors in _in_the_files(table, most, column, among, length):
            self._vectors[there : there + len(vectors)] = vectors
            self.row_ids[there : there + len(vectors)] = row_ids
            there += len(vectors)
        self.row_ids, self._vectors = self.row_ids[:there], self._vectors[:there]
        self.documents, self.ranks = places.of_rows(self.row_ids)
        self.of_all = bool(there == table.count_rows(among))
        """Whether each passage has one."""

    def scores(self, query: np.ndarray) -> np.ndarray:
        """Products with the query, in the order of `row_ids`."""
        return _products(self._vectors, query)


def scores_in_the_files(
    table: Any, most: int, column: str, among: str | None, query: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a vector and its product with the query, where there are too many to be kept: read each time,
    and none of them stays in memory."""
    import numpy as np

    row_ids, scores, there = np.zeros(most, np.uint64), np.zeros(most), 0
    for rows, vectors in _in_the_files(table, most, column, among, len(query)):
        row_ids[there : there + len(rows)] = rows
        scores[there : there + len(rows)] = _products(vectors, query)
        there += len(rows)
    return row_ids[:there], scores[:there]


def _in_the_files(
    table: Any, most: int, column: str, among: str | None, length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and their vectors, a piece at a time."""
    search = within(table.search().select([column]).with_row_id(True).limit(max(most, 1)), among)
    for batch in search.to_batches(_AT_ONCE):
        has_vector = batch[column].is_valid().to_numpy(zero_copy_only=False)
        vectors = batch[column].drop_null().flatten().to_numpy().reshape(-1, length)
        yield batch["_rowid"].to_numpy()[has_vector], vectors


def _products(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Each is computed alike, which BLAS does not promise: equal vectors have equal scores wherever they are."""
    import numpy as np

    found: np.ndarray = np.einsum("ij,j->i", vectors, query).astype(np.float64)
    return found


@dataclass(eq=False)
class _HeldVectors:
    size: int
    vectors: PassageVectors | None = None
    reading: threading.Lock = field(default_factory=threading.Lock)


class KeptVectors:
    """Of the readers that asked last. Those of a reader go when it does."""

    def __init__(self, most: int) -> None:
        self._most, self._guard = most, threading.Lock()
        self._of_readers: weakref.WeakKeyDictionary[object, dict[tuple[str, str | None], _HeldVectors]]
        self._of_readers = weakref.WeakKeyDictionary()

    def of(
        self, reader: object, key: tuple[str, str | None], size: int, read: Callable[[], PassageVectors]
    ) -> PassageVectors | None:
        """`size`: how many bytes they take at most. None where that is more than may be kept."""
        if size > self._most:
            return None
        with self._guard:
            mine = self._of_readers[reader] = self._of_readers.pop(reader, {})  # it asked last
            if key not in mine:
                self._make_room(size)
                mine = self._of_readers.setdefault(reader, {})
                mine[key] = _HeldVectors(size)
            kept = mine[key]
        with kept.reading:  # several that ask at the same time wait for one
            if kept.vectors is None:
                kept.vectors = read()
            return kept.vectors

    def _make_room(self, size: int) -> None:
        while self._of_readers and self._sum() + size > self._most:
            self._of_readers.pop(next(iter(self._of_readers)))

    def _sum(self) -> int:
        return sum(kept.size for each in self._of_readers.values() for kept in each.values())


VECTORS = KeptVectors(KEPT_BYTES)
"""Of this process."""
