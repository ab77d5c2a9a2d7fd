"""Some documents of a version in the order in which the whole ranking has them, without a walk through it.

Every vector is compared, in memory where they fit, and every word looked up, by identity alone; texts are read only of
those that can be among the best. `tests/test_filtered_search.py` holds it to the whole ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.storage import batch_search
from ai_assets.storage.batch_search import PASSAGE, within
from ai_assets.storage.name_suffixes import SUFFIX_WEIGHT
from ai_assets.storage.passage_vectors import scores_in_the_files
from ai_assets.storage.ranking import Hit, best_first, content_words, words_in
from ai_assets.storage.text_scores import lance_query

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ai_assets.storage.index_reader import IndexReader
    from ai_assets.storage.passage_places import PassagePlaces
    from ai_assets.storage.search_rules import SearchRules

NAMED_IN_QUERY = 1_000
"""So few documents are named to LanceDB, which then scores no others; of more, all are scored and these are taken."""
_NAMED_SHARE = 16
"""In a large version one for so many passages is few: reading a name takes as long as giving back eight scores."""
_READ_AT_ONCE = 64
_ROUNDING = 1e-9
_NOTHING = (1 << 64) - 1


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

    @property
    def combines(self) -> bool:
        """Whether suffixes of names count."""
        return self.vector is not None and self.rules.by_name


class _Best:
    """By document, the best of its passages, of one kind: its score, and its row or nothing."""

    def __init__(self, documents: int) -> None:
        import numpy as np

        self.scores, self.rows = np.zeros(documents), np.full(documents, _NOTHING, np.uint64)

    def take(self, read: _Read, wanted: np.ndarray) -> None:
        """Of the wanted documents, a mask; of equal passages the first by name."""
        import numpy as np

        chosen = wanted[read.documents]
        documents, scores = read.documents[chosen], read.scores[chosen]
        order = np.lexsort((read.ranks[chosen], -scores, documents))
        numbers, first = np.unique(documents[order], return_index=True)
        self.scores[numbers] = scores[order][first]
        self.rows[numbers] = read.row_ids[chosen][order][first]

    @property
    def there(self) -> np.ndarray:
        there: np.ndarray = self.rows != _NOTHING
        return there


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What a search gave, as numbers."""

    row_ids: np.ndarray
    scores: np.ndarray
    documents: np.ndarray
    ranks: np.ndarray

    @classmethod
    def of_words(cls, search: Any, most: int, places: PassagePlaces) -> _Read:
        import numpy as np

        read = search.select(["_score"]).with_row_id(True).limit(most).to_arrow()
        row_ids, scores = read["_rowid"].to_numpy(), read["_score"].to_numpy().astype(np.float64)
        documents, ranks = places.of_rows(row_ids)
        return cls(row_ids=row_ids, scores=scores, documents=documents, ranks=ranks)

    def __len__(self) -> int:
        return len(self.scores)


def best_among(reader: IndexReader, question: FilteredQuestion, documents: pa.Array, k: int) -> list[Hit]:
    """The `k` best of these documents, scored as in the ranking of all documents of the version."""
    import numpy as np

    places = reader.places
    wanted = places.mask(documents)
    found = np.zeros(len(wanted), bool)
    by_vector, whole = _vector_part(reader, question, wanted, found)
    by_text = _text_part(reader, question, (documents, wanted), None if whole else found)
    has_words = by_text.there
    numbers = np.flatnonzero(by_vector.there | has_words)
    moved = np.zeros(len(wanted))
    if question.combines:
        found[numbers] = True
        moved[numbers] = SUFFIX_WEIGHT * places.signs(found, numbers, question.whole_text)
    at_most = by_vector.scores + by_text.scores + moved
    waiting = numbers[np.lexsort((numbers, -at_most[numbers]))]
    words = content_words(question.text)
    hits: list[Hit] = []
    for start in range(0, len(waiting), _READ_AT_ONCE):
        block = waiting[start : start + _READ_AT_ONCE]
        if len(hits) >= k and hits[k - 1].score > at_most[block[0]] + _ROUNDING:
            break
        shown = np.where(has_words[block], by_text.rows[block], by_vector.rows[block])
        passages = _passages(reader.table, shown)
        for number, row_id in zip(block.tolist(), shown.tolist(), strict=True):
            row = passages[row_id]
            score = float(by_vector.scores[number])
            if has_words[number]:
                share = float(by_text.scores[number])
                if words:
                    by_name = row["document_id"] if question.rules.by_name else ""
                    share = share * len(words_in(words, row["title"] or "", row["text"], by_name)) / len(words)
                score += share
            hit = {column: row[column] for column in PASSAGE if column != "title"}
            hits.append(Hit(**hit, title=row["title"] or "", score=score + float(moved[number])))
        hits.sort(key=best_first)
    return hits[:k]


def _vector_part(
    reader: IndexReader, question: FilteredQuestion, wanted: np.ndarray, found: np.ndarray
) -> tuple[_Best, bool]:
    """By their place between the worst and the best of all. `found` is told of all that have a vector; whether all
    documents do."""
    import numpy as np

    best = _Best(len(wanted))
    if question.vector is None or not question.vector.any():
        return best, False
    read, whole = _compared(reader, question, question.vector)
    if not len(read):
        return best, False
    nearest = np.full(len(wanted), -np.inf)
    np.maximum.at(nearest, read.documents, read.scores)
    found |= nearest > -np.inf
    first, last = nearest[found].max(), nearest[found].min()
    best.take(read, wanted)
    there = best.there
    best.scores[there] = question.rules.vector_weight * (best.scores[there] - last) / max(first - last, 1e-9)
    return best, whole


def _compared(reader: IndexReader, question: FilteredQuestion, query: np.ndarray) -> tuple[_Read, bool]:
    """All passages that have a vector, and whether all passages do."""
    among = batch_search.among(question.of)
    if (kept := reader.vectors(question.column, among, len(query))) is not None:
        scores = kept.scores(query)
        return _Read(row_ids=kept.row_ids, scores=scores, documents=kept.documents, ranks=kept.ranks), kept.of_all
    row_ids, scores = scores_in_the_files(reader.table, reader.rows, question.column, among, query)
    documents, ranks = reader.places.of_rows(row_ids)
    read = _Read(row_ids=row_ids, scores=scores, documents=documents, ranks=ranks)
    return read, bool(len(read) == reader.table.count_rows(among))


def _text_part(
    reader: IndexReader,
    question: FilteredQuestion,
    documents: tuple[pa.Array, np.ndarray],
    found: np.ndarray | None,
) -> _Best:
    """As shares of the best of all. `found` is told of all that words find, where rules ask for them."""
    names, wanted = documents
    among, by_name = batch_search.among(question.of), question.rules.by_name
    wide = found is not None and question.combines
    condition, few = among, len(names) <= max(NAMED_IN_QUERY, reader.rows // _NAMED_SHARE)
    if few and not wide:
        named = batch_search.condition("document_id", names.to_pylist())
        condition = named if among is None else f"({among}) AND ({named})"
    search = reader.table.search(lance_query(question.text, by_name=by_name), query_type="fts")
    scored = _Read.of_words(within(search, condition), reader.rows, reader.places)
    best = _Best(len(wanted))
    if not len(scored):
        return best
    if found is not None:
        found[scored.documents] = True
    best.take(scored, wanted)
    highest = scored.scores.max() if condition == among else reader.highest_score(question.text, among, by_name=by_name)
    if highest > 0 and content_words(question.text):
        best.scores /= highest
    return best


def _passages(table: Any, rows: np.ndarray) -> dict[int, dict[str, Any]]:
    """By row."""
    read = table.take_row_ids(rows.tolist()).select(list(PASSAGE)).with_row_id().to_arrow()
    return {row["_rowid"]: row for row in read.to_pylist()}
