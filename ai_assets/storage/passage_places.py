"""Which document each row of one version is of, kept with its reader: a search then brings numbers and no names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ai_assets.storage.name_suffixes import beginnings, name_words

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class PassagePlaces:
    """Documents are numbered in the order of their names; some 20 bytes for each passage are kept, and the names."""

    def __init__(self, table: Any, rows: int) -> None:
        import numpy as np
        import pyarrow.compute as pc

        read = table.search().select(["document_id", "chunk_id"]).with_row_id(True).limit(max(rows, 1)).to_arrow()
        order = pc.sort_indices(read, [("document_id", "ascending"), ("chunk_id", "ascending")])
        read = read.take(order)
        self.names: pa.Array = pc.unique(read["document_id"])
        numbers = pc.index_in(read["document_id"], self.names).to_numpy().astype(np.int32)
        row_ids = read["_rowid"].to_numpy()
        by_id = np.argsort(row_ids)
        self._row_ids = row_ids[by_id]
        self._ranks = by_id.astype(np.int32)
        self._document_of = numbers[by_id]
        self._suffixes: _Suffixes | None = None

    def mask(self, documents: pa.Array) -> np.ndarray:
        """Which of all documents these are."""
        import pyarrow.compute as pc

        found: np.ndarray = pc.is_in(self.names, documents).to_numpy(zero_copy_only=False)
        return found

    def of_rows(self, row_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Their documents, and where they are among all passages by document and passage."""
        import numpy as np

        places = np.searchsorted(self._row_ids, row_ids)
        return self._document_of[places], self._ranks[places]

    def signs(self, found: np.ndarray, wanted: np.ndarray, query: str) -> np.ndarray:
        """As `suffix_signs`, of the wanted documents among those that are found: a mask over all documents."""
        if self._suffixes is None:
            self._suffixes = _Suffixes(self.names.to_pylist())
        return self._suffixes.signs(found, wanted, query)


class _Suffixes:
    """Names as numbers: all that are equal but for extension and digits have one."""

    def __init__(self, names: list[str]) -> None:
        import numpy as np

        known: dict[tuple[str, ...], int] = {}
        self._name_of = np.array([known.setdefault(name_words(name), len(known)) for name in names], np.int32)
        stems: list[int] = []
        self._last: list[str] = []
        for words in list(known):
            stems.append(known.setdefault(words[:-1], len(known)) if words[:-1] else -1)
            self._last.append(words[-1] if words else "")
        self._stem_of = np.array(stems, np.int32)
        self._known = len(known)

    def signs(self, found: np.ndarray, wanted: np.ndarray, query: str) -> np.ndarray:
        import numpy as np

        there = np.zeros(self._known, bool)
        there[self._name_of[found]] = True
        stems = self._stem_of[there[: len(self._stem_of)]]
        neighbours = np.bincount(stems[stems >= 0], minlength=self._known)
        names = self._name_of[wanted]
        stem = self._stem_of[names]
        asked, signs = beginnings(query), np.zeros(len(wanted), np.int8)
        for at in np.flatnonzero((stem >= 0) & (there[stem] | (neighbours[stem] > 1))):
            signs[at] = 1 if self._last[names[at]] in asked else -1
        return signs
