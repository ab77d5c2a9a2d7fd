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
from ai_assets.storage.name_suffixes import SUFFIX_WEIGHT
from ai_assets.storage.ranking import Hit, best_first, content_words, words_in
from ai_assets.storage.text_scores import lance_query

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from ai_assets.storage.passage_places import PassagePlaces
    from ai_assets.storage.search_rules import SearchRules

NAMED_IN_QUERY = 1_000
"""So few documents are named to LanceDB, which then scores no others; of more, all are scored and these are taken."""
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


class _Read:
    """What a search gave, as numbers."""

    def __init__(self, search: Any, column: str, most: int, places: PassagePlaces) -> None:
        import numpy as np

        read = search.select([column]).with_row_id(True).limit(most).to_arrow()
        self.row_ids = read["_rowid"].to_numpy()
        values = read[column].to_numpy().astype(np.float64)
        self.scores = 1 - values if column == "_distance" else values
        self.documents, self.ranks = places.of_rows(self.row_ids)

    def __len__(self) -> int:
        return len(self.scores)


def best_among(
    table: Any, rows: int, places: PassagePlaces, question: FilteredQuestion, documents: pa.Array, k: int
) -> list[Hit]:
    """The `k` best of these documents, scored as in the ranking of all documents of the version."""
    import numpy as np

    wanted = np.zeros(len(places.names), bool)
    wanted[places.numbers(documents)] = True
    found = np.zeros(len(wanted), bool)
    by_vector, whole = _vector_part(table, rows, places, question, wanted, found)
    by_text = _text_part(table, rows, places, question, (documents, wanted), None if whole else found)
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
        passages = _passages(table, shown)
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
    table: Any, rows: int, places: PassagePlaces, question: FilteredQuestion, wanted: np.ndarray, found: np.ndarray
) -> tuple[_Best, bool]:
    """By their place between the worst and the best of all. `found` is told of all that have a vector; whether all
    documents do."""
    import numpy as np

    best = _Best(len(wanted))
    if question.vector is None or not question.vector.any():
        return best, False
    among = batch_search.among(question.of)
    search = table.search(question.vector, vector_column_name=question.column).distance_type("dot")
    read = _Read(within(search.bypass_vector_index(), among), "_distance", rows, places)
    if not len(read):
        return best, False
    nearest = np.full(len(wanted), -np.inf)
    np.maximum.at(nearest, read.documents, read.scores)
    found |= nearest > -np.inf
    first, last = nearest[found].max(), nearest[found].min()
    best.take(read, wanted)
    there = best.there
    best.scores[there] = question.rules.vector_weight * (best.scores[there] - last) / max(first - last, 1e-9)
    return best, bool(len(read) == table.count_rows(among))


def _text_part(
    table: Any,
    rows: int,
    places: PassagePlaces,
    question: FilteredQuestion,
    documents: tuple[pa.Array, np.ndarray],
    found: np.ndarray | None,
) -> _Best:
    """As shares of the best of all. `found` is told of all that words find, where rules ask for them."""
    names, wanted = documents
    among = batch_search.among(question.of)
    wide = found is not None and question.combines
    query = lance_query(question.text, by_name=question.rules.by_name)

    def read(condition: str | None, most: int) -> _Read:
        return _Read(within(table.search(query, query_type="fts"), condition), "_score", most, places)

    if len(names) <= NAMED_IN_QUERY and not wide:
        named = batch_search.condition("document_id", names.to_pylist())
        best_of_all = read(among, 1)
        scored = read(named if among is None else f"({among}) AND ({named})", rows)
    else:
        best_of_all = scored = read(among, rows)
    best = _Best(len(wanted))
    if not len(scored) or not len(best_of_all):
        return best
    if found is not None:
        found[scored.documents] = True
    best.take(scored, wanted)
    highest = best_of_all.scores.max()
    if highest > 0 and content_words(question.text):
        best.scores /= highest
    return best


def _passages(table: Any, rows: np.ndarray) -> dict[int, dict[str, Any]]:
    """By row."""
    read = table.take_row_ids(rows.tolist()).select(list(PASSAGE)).with_row_id().to_arrow()
    return {row["_rowid"]: row for row in read.to_pylist()}
