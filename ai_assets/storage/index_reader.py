"""Reading one version of the index: what vectors find, what words find, and the best passage of each document."""

from __future__ import annotations

import functools
import math
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from ai_assets.storage import batch_search
from ai_assets.storage.batch_search import within
from ai_assets.storage.passage_places import PassagePlaces
from ai_assets.storage.passage_vectors import VECTORS, PassageVectors
from ai_assets.storage.ranking import Hit, best_first, weigh_by_words
from ai_assets.storage.text_scores import lance_query

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

EXACT_BELOW_ROWS = 50_000
"""Every vector is compared below this many rows (10 ms on two cores); above it an approximate index answers."""

_REFINED = 2
"""In cells vectors are kept in a byte per number, so that making them does not take all vectors into memory; so many
times the passages that are wanted are compared by their whole vectors."""
_TEXTS = 256
"""Of which the highest score is known."""


class IndexReader:
    """A handle on one version, which never changes; searches of several threads may share it."""

    def __init__(self, *, table: Any, rows: int) -> None:
        self.table = table
        self.rows = rows
        self._highest: dict[tuple[str, str | None, bool], Future[float]] = {}
        """By text, condition, and whether names count."""

    @functools.cached_property
    def places(self) -> PassagePlaces:
        """Read when it is asked for first."""
        return PassagePlaces(self.table, self.rows)

    def vectors(self, column: str, among: str | None, length: int) -> PassageVectors | None:
        """Read when they are asked for first; None of more than may be kept."""

        def read() -> PassageVectors:
            return PassageVectors(self.table, self.rows, self.places, column, among, length)

        return VECTORS.of(self, (column, among), 4 * length * self.rows, read)

    def by_vector(self, query: np.ndarray, documents: int, column: str, among: str | None) -> list[Hit]:
        search = self.table.search(query, vector_column_name=column).distance_type("dot")
        exact = self.rows < EXACT_BELOW_ROWS
        search = search.bypass_vector_index() if exact else search.nprobes(probes(self.rows)).refine_factor(_REFINED)
        return self._best_passages(within(search, among), "_distance", documents)

    def by_text(self, text: str, documents: int, among: str | None, *, by_name: bool) -> list[Hit]:
        if len(self._highest) >= _TEXTS:
            self._highest.clear()
        highest = self._highest[text, among, by_name] = Future()
        try:
            hits = self._best_passages(self._worded(text, among, by_name), "_score", documents)
        except BaseException as error:
            highest.set_exception(error)
            self._highest.pop((text, among, by_name), None)
            raise
        highest.set_result(hits[0].score if hits else 0.0)
        return weigh_by_words(hits, text, by_name=by_name)

    def highest_score(self, text: str, among: str | None, *, by_name: bool) -> float:
        """Of all passages, for these words: known of texts that `by_text` was asked for lately, or is being asked."""
        if (known := self._highest.get((text, among, by_name))) is not None:
            return known.result()
        found = self._worded(text, among, by_name).select(["_score"]).limit(1).to_arrow()["_score"].to_pylist()
        return max(found, default=0.0)

    def _worded(self, text: str, among: str | None, by_name: bool) -> Any:
        return within(self.table.search(lance_query(text, by_name=by_name), query_type="fts"), among)

    def many(
        self,
        queries: Sequence[np.ndarray],
        texts: Sequence[str],
        documents: int,
        column: str,
        among: str | None,
        *,
        by_name: bool,
    ) -> list[tuple[list[Hit], list[Hit]]]:
        """As `by_vector` and `by_text` of each; nothing where there is nothing to search for."""
        import numpy as np

        passages = batch_search.PassageRows(self.table, self.rows)
        limit = min(4 * documents, self.rows)
        by_vector: list[list[Hit]] = [[] for _ in queries]
        by_text: list[list[Hit]] = [[] for _ in queries]

        def best(found: batch_search.Found) -> list[Hit] | None:
            """None where a wider search would find more documents."""
            hits = passages.best(found, documents)
            return hits if len(hits) >= documents or len(found) < limit or limit >= self.rows else None

        there = [number for number, text in enumerate(texts) if text and queries[number].any()]
        # More rows than are compared exactly are asked one by one.
        if there and self.rows < EXACT_BELOW_ROWS:
            near = batch_search.by_vectors(self.table, np.stack([queries[n] for n in there]), limit, column, among)
            for number, found in zip(there, near, strict=True):
                hits, query = best(found), queries[number]
                by_vector[number] = self.by_vector(query, documents, column, among) if hits is None else hits
        else:
            for number in there:
                by_vector[number] = self.by_vector(queries[number], documents, column, among)
        said = [number for number, text in enumerate(texts) if text]
        worded = batch_search.by_texts(self.table, [lance_query(texts[n], by_name=by_name) for n in said], limit, among)
        for number, found in zip(said, worded, strict=True):
            hits, text = best(found), texts[number]
            by_text[number] = (
                self.by_text(text, documents, among, by_name=by_name)
                if hits is None
                else weigh_by_words(hits, text, by_name=by_name)
            )
        return list(zip(by_vector, by_text, strict=True))

    def _best_passages(self, search: Any, column: str, documents: int) -> list[Hit]:
        """Widen the search until enough documents are among the passages found, or there are no more."""
        limit = min(4 * documents, self.rows)
        while True:
            columns = ["document_id", "chunk_id", "partition", "title", "text", column]
            found = search.select(columns).limit(limit).to_list()
            best: dict[str, Hit] = {}
            for row in found:
                score = 1 - row["_distance"] if column == "_distance" else row["_score"]
                hit = Hit(
                    document_id=row["document_id"],
                    chunk_id=row["chunk_id"],
                    partition=row["partition"],
                    title=row["title"] or "",
                    text=row["text"],
                    score=score,
                )
                held = best.get(hit.document_id)
                if held is None or best_first(hit) < best_first(held):
                    best[hit.document_id] = hit
            if len(best) >= documents or len(found) < limit or limit >= self.rows:
                return sorted(best.values(), key=best_first)[:documents]
            limit = min(4 * limit, self.rows)


def cells(rows: int) -> int:
    return max(1, math.isqrt(rows))


def probes(rows: int) -> int:
    return max(8, cells(rows) // 8)
