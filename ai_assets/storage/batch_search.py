"""Many questions to one version of the index at once, with the answers that each would get alone.

Vectors are compared for many questions in one call, texts are asked side by side, and a passage is read once however
often it is found. Larger indexes than are compared exactly, and a few questions, are asked one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ai_assets.storage.ranking import Hit

if TYPE_CHECKING:
    import numpy as np

FROM_QUESTIONS = 20
"""For fewer, reading all passages once costs more than it saves."""
_AT_ONCE = 64
"""Questions whose vectors are compared in one call."""
_SIDE_BY_SIDE = 8
PASSAGE = ("document_id", "chunk_id", "partition", "title", "text")


Found = Sequence[tuple[int, float]]
"""Rows that a search found, and how good each is."""


class PassageRows:
    """All passages of a version, by row."""

    def __init__(self, table: Any, rows: int) -> None:
        read = table.search().select(list(PASSAGE)).with_row_id(True).limit(max(rows, 1)).to_arrow()
        columns = [read[name].to_pylist() for name in PASSAGE]
        self._found = dict(zip(read["_rowid"].to_pylist(), zip(*columns, strict=True), strict=True))

    def best(self, found: Found, documents: int) -> list[Hit]:
        """The best passage of each document, best first."""
        kept: dict[str, tuple[float, str, str, int]] = {}
        for row, score in found:
            document, chunk = self._found[row][:2]
            place = (-score, document, chunk, row)
            held = kept.get(document)
            if held is None or place < held:
                kept[document] = place
        return [self._hit(row, -score) for score, _, _, row in sorted(kept.values())[:documents]]

    def _hit(self, row: int, score: float) -> Hit:
        document, chunk, partition, title, text = self._found[row]
        return Hit(
            document_id=document, chunk_id=chunk, partition=partition, title=title or "", text=text, score=score
        )  # fmt: skip


def by_vectors(table: Any, queries: np.ndarray, limit: int, column: str, among: str | None) -> list[Found]:
    """Exactly the nearest rows of each query."""
    answers: list[list[tuple[int, float]]] = [[] for _ in queries]
    for start in range(0, len(queries), _AT_ONCE):
        block = queries[start : start + _AT_ONCE]
        # A matrix of one row is a single question, whose answer has no number.
        search = table.search(block if len(block) > 1 else block[0], vector_column_name=column)
        search = within(search.distance_type("dot").bypass_vector_index(), among)
        read = search.select(["_distance"]).with_row_id(True).limit(limit).to_arrow()
        numbers = read["query_index"].to_pylist() if len(block) > 1 else [0] * read.num_rows
        for number, row, distance in zip(
            numbers, read["_rowid"].to_pylist(), read["_distance"].to_pylist(), strict=True
        ):
            answers[start + number].append((row, 1 - distance))
    return list[Found](answers)


def by_texts(table: Any, queries: Sequence[Any], limit: int, among: str | None) -> list[Found]:
    def ask(query: Any) -> Found:
        search = within(table.search(query, query_type="fts"), among)
        read = search.select(["_score"]).with_row_id(True).limit(limit).to_arrow()
        return list(zip(read["_rowid"].to_pylist(), read["_score"].to_pylist(), strict=True))

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(ask, queries))


def within(search: Any, among: str | None) -> Any:
    """Rows are left out before the best are taken, so that there are as many as are asked for."""
    return search if among is None else search.where(among, prefilter=True)


def among(of: Sequence[str]) -> str | None:
    """A condition: passages of these texts; None for all."""
    return condition("of", of) if of else None


def condition(column: str, values: Sequence[str]) -> str:
    """The column has one of these values."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"
