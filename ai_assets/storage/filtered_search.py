"""Some documents of a version in the order in which the whole ranking has them, without a walk through it.

Every vector is compared and every word looked up, by identity alone; texts are read only of those that can be among the
best. `tests/test_filtered_search.py` holds it to the whole ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.storage import batch_search
from ai_assets.storage.batch_search import PASSAGE, within
from ai_assets.storage.name_suffixes import SUFFIX_WEIGHT, suffix_signs
from ai_assets.storage.ranking import Hit, best_first, content_words, words_in
from ai_assets.storage.text_scores import lance_query

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ai_assets.storage.search_rules import SearchRules

NAMED_IN_QUERY = 1_000
"""So few documents are named to LanceDB, which then scores no others; of more, all are scored and these are taken."""
_READ_AT_ONCE = 64
_ROUNDING = 1e-9
_FOUND = ("document_id", "chunk_id")


@dataclass(frozen=True, kw_only=True)
class FilteredQuestion:
    vector: np.ndarray | None
    """None: by words alone, and not combined."""
    text: str
    """As far as words of it are looked up."""
    whole_text: str
    column: str
    of: Sequence[str]
    rules: SearchRules


@dataclass(frozen=True)
class _Best:
    """The best passage of a document, of one kind."""

    score: float
    chunk_id: str
    row: int


def best_among(table: Any, rows: int, question: FilteredQuestion, documents: pa.Array, k: int) -> list[Hit]:
    """The `k` best of these documents, scored as in the ranking of all documents of the version."""
    by_vector, names = _vector_part(table, rows, question, documents)
    by_text, more_names = _text_part(table, rows, question, documents, wide=names is None)
    moved = _moved(question, names if more_names is None else {*(names or ()), *more_names}, [*by_vector, *by_text])
    words = content_words(question.text)
    at_most = {
        name: (by_vector[name].score if name in by_vector else 0.0)
        + (by_text[name].score if name in by_text else 0.0)
        + moved.get(name, 0.0)
        for name in {**by_vector, **by_text}
    }
    waiting = sorted(at_most, key=lambda name: (-at_most[name], name))
    found: list[Hit] = []
    for start in range(0, len(waiting), _READ_AT_ONCE):
        block = waiting[start : start + _READ_AT_ONCE]
        if len(found) >= k and found[k - 1].score > at_most[block[0]] + _ROUNDING:
            break
        passages = _passages(table, [(by_text.get(name) or by_vector[name]).row for name in block])
        for name in block:
            shown = by_text.get(name) or by_vector[name]
            row = passages[name, shown.chunk_id]
            score = by_vector[name].score if name in by_vector else 0.0
            if name in by_text:
                share = by_text[name].score
                if words:
                    by_name = name if question.rules.by_name else ""
                    share = share * len(words_in(words, row["title"] or "", row["text"], by_name)) / len(words)
                score += share
            hit = {column: row[column] for column in PASSAGE if column != "title"}
            found.append(Hit(**hit, title=row["title"] or "", score=score + moved.get(name, 0.0)))
        found.sort(key=best_first)
    return found[:k]


def _vector_part(
    table: Any, rows: int, question: FilteredQuestion, documents: pa.Array
) -> tuple[dict[str, _Best], set[str] | None]:
    """By their place between the worst and the best of all; and the names of all, where none is without a vector."""
    import pyarrow.compute as pc

    if question.vector is None or not question.vector.any():
        return {}, None
    among = batch_search.among(question.of)
    search = table.search(question.vector, vector_column_name=question.column).distance_type("dot")
    search = within(search.bypass_vector_index(), among)
    read = search.select([*_FOUND, "_distance"]).with_row_id(True).limit(rows).to_arrow()
    if not read.num_rows:
        return {}, None
    nearest = read.group_by("document_id").aggregate([("_distance", "min")])
    best, worst = 1 - pc.min(nearest["_distance_min"]).as_py(), 1 - pc.max(nearest["_distance_min"]).as_py()
    spread, weight = max(best - worst, 1e-9), question.rules.vector_weight
    found = {
        name: _Best(weight * (each.score - worst) / spread, each.chunk_id, each.row)
        for name, each in _best_of(read, documents, "_distance").items()
    }
    whole = read.num_rows == table.count_rows(among)
    return found, set(nearest["document_id"].to_pylist()) if whole and question.rules.by_name else None


def _text_part(
    table: Any, rows: int, question: FilteredQuestion, documents: pa.Array, *, wide: bool
) -> tuple[dict[str, _Best], set[str] | None]:
    """As shares of the best of all; `wide`: also the names of all that were found, where rules ask for them."""
    import pyarrow.compute as pc

    among = batch_search.among(question.of)
    combines = question.vector is not None and question.rules.by_name
    few = len(documents) <= NAMED_IN_QUERY and not (wide and combines)
    query = lance_query(question.text, by_name=question.rules.by_name)

    def read(condition: str | None, most: int) -> pa.Table:
        search = within(table.search(query, query_type="fts"), condition)
        return search.select([*_FOUND, "_score"]).with_row_id(True).limit(most).to_arrow()

    if few:
        named = batch_search.condition("document_id", documents.to_pylist())
        best_of_all = read(among, 1)
        found = read(named if among is None else f"({among}) AND ({named})", rows)
    else:
        best_of_all = found = read(among, rows)
    if not found.num_rows or not best_of_all.num_rows:
        return {}, set()
    best = pc.max(best_of_all["_score"]).as_py()
    names = set(found["document_id"].to_pylist()) if wide and combines else None
    scale = best if best > 0 and content_words(question.text) else 1.0
    return {
        name: _Best(each.score / scale, each.chunk_id, each.row)
        for name, each in _best_of(found, documents, "_score").items()
    }, names


def _best_of(read: pa.Table, documents: pa.Array, column: str) -> dict[str, _Best]:
    """Of these documents alone."""
    import pyarrow.compute as pc

    chosen = read.filter(pc.is_in(read["document_id"], documents))
    columns = [chosen[name].to_pylist() for name in (*_FOUND, column, "_rowid")]
    found: dict[str, _Best] = {}
    for name, chunk, value, row in zip(*columns, strict=True):
        score = 1 - value if column == "_distance" else value
        held = found.get(name)
        if held is None or (-score, chunk) < (-held.score, held.chunk_id):
            found[name] = _Best(score, chunk, row)
    return found


def _moved(question: FilteredQuestion, names: set[str] | None, wanted: Sequence[str]) -> dict[str, float]:
    """What their suffixes put forward or back, among all that the question finds."""
    if not question.rules.by_name or question.vector is None:
        return {}
    every = sorted({*(names or ()), *wanted})
    signs = dict(zip(every, suffix_signs(every, question.whole_text), strict=True))
    return {name: SUFFIX_WEIGHT * signs[name] for name in wanted if signs[name]}


def _passages(table: Any, rows: Sequence[int]) -> dict[tuple[str, str], dict[str, Any]]:
    read = table.take_row_ids(list(rows)).select(list(PASSAGE)).to_arrow()
    return {(row["document_id"], row["chunk_id"]): row for row in read.to_pylist()}
