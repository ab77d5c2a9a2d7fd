"""Which documents many questions find, computed beside LanceDB: the same documents in the same order as each question
has alone, in a tenth of the time.

Scores are computed for all passages of one version at once, within bounds; a question whose answer the bounds leave
open is asked. Some are asked anyway: should LanceDB score otherwise than is assumed here, all of them are.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.storage import batch_search
from ai_assets.storage.certain_ranking import RankingPart, first_of, nothing, text_part, vector_part
from ai_assets.storage.name_suffixes import SUFFIX_WEIGHT, suffix_signs
from ai_assets.storage.ranking import SoughtWords, content_words
from ai_assets.storage.search_rules import SearchRules
from ai_assets.storage.text_scores import TextQuery, TextScores, lance_query, tokenizer

if TYPE_CHECKING:
    import numpy as np

FROM_QUESTIONS = 100
"""For fewer, reading all passages costs more than it saves."""
LARGEST_VECTORS = 256 << 20
"""Bytes of vectors that are held at once; where there are more, the index is asked."""
SAMPLE = 16
"""Questions whose scores are held to LanceDB's."""
_SCORES = 1_000_000
"""That are in memory at once, of each kind."""
_CONVERTED = 8_192
"""Vectors that are there in double precision at once."""
_LANES = 8
"""Numbers that are added side by side, at least, where a product of two vectors is computed in single precision."""
_ROUNDING = 2.0**-24


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How many are wanted, of how many by vectors and by words."""

    documents: int
    of_each: int
    rules: SearchRules


class PassageMatrix:
    """All passages of a version, sorted by document."""

    def __init__(self, table: Any, rows: int, column: str, of: Sequence[str]) -> None:
        import numpy as np
        import pyarrow.compute as pc

        wanted = ["document_id", "title", "text", column, *(["of"] if of else [])]
        read = table.search().select(wanted).with_row_id(True).limit(max(rows, 1)).to_arrow()
        read = read.take(pc.sort_indices(read, [("document_id", "ascending"), ("_rowid", "ascending")]))
        names = read["document_id"].to_numpy(zero_copy_only=False)
        changes = names[1:] != names[:-1]
        self.names_of_rows: list[str] = names.tolist()
        self.starts = np.flatnonzero(np.concatenate([[True], changes]))
        self.names: list[str] = names[self.starts].tolist()
        self.ends = np.append(self.starts[1:], len(names))
        self.row_ids = read["_rowid"].to_numpy()
        self.titles: list[str | None] = read["title"].to_pylist()
        self.texts: list[str] = read["text"].to_pylist()
        self.left_out = np.zeros(len(names), dtype=bool)
        if of:
            allowed = frozenset(of)
            self.left_out = np.array([each not in allowed for each in read["of"].to_pylist()])
        vectors = read[column].combine_chunks()
        there = vectors.is_valid().to_numpy(zero_copy_only=False)
        self.without_vector = ~there
        self.vectors = np.zeros((len(names), vectors.type.list_size), dtype=np.float32)
        self.vectors[there] = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)

    @functools.cached_property
    def _further(self) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        """Documents that have a second passage, with where it is, then those that have a third one, and so on."""
        import numpy as np

        sizes = self.ends - self.starts
        found: list[tuple[np.ndarray, np.ndarray]] = []
        documents = np.flatnonzero(sizes > 1)
        while len(documents):
            step = len(found) + 1
            found.append((documents, self.starts[documents] + step))
            documents = documents[sizes[documents] > step + 1]
        return found

    def best_of_documents(self, scores: np.ndarray) -> np.ndarray:
        """Of each document's passages."""
        import numpy as np

        if len(self.starts) == len(self.texts):
            return scores
        best: np.ndarray = scores[:, self.starts]
        for documents, rows in self._further:  # `reduceat` takes far longer where documents are short
            best[:, documents] = np.maximum(best[:, documents], scores[:, rows])
        return best

    def note_words(self, words: Set[str], *, by_name: bool) -> None:
        """Which passages have which of the words that queries are about, in the document's name too if `by_name`."""
        import numpy as np

        found: dict[str, list[int]] = {word: [] for word in words}
        names = self.names_of_rows if by_name else [""] * len(self.texts)
        sought = SoughtWords(words)
        for row, (title, text, name) in enumerate(zip(self.titles, self.texts, names, strict=True)):
            for word in sought.of(title or "", text, name):
                found[word].append(row)
        self._having = {word: np.array(rows, dtype=int) for word, rows in found.items()}

    def shares_of_best(
        self, words: Set[str], documents: np.ndarray, scores: np.ndarray, best: np.ndarray, error: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """By document, the least and the largest share of a query's words among those passages of the document that may
        be its best one. `scores` of all passages, `best` of all documents."""
        import numpy as np

        sizes = self.ends[documents] - self.starts[documents]
        begins = np.cumsum(sizes) - sizes
        rows = np.repeat(self.starts[documents] - begins, sizes) + np.arange(int(sizes.sum()))
        shares = np.zeros(len(rows))
        for word in words:
            having = self._having[word]
            if len(having):
                shares += having[np.searchsorted(having[:-1], rows)] == rows
        shares /= max(len(words), 1)
        near = scores[rows] >= np.repeat(best[documents] * (1 - 3 * error), sizes)
        low = np.minimum.reduceat(np.where(near, shares, 1.0), begins)
        high = np.maximum.reduceat(np.where(near, shares, 0.0), begins)
        return low, high


def ranked(
    table: Any,
    rows: int,
    questions: Sequence[tuple[np.ndarray, str]],
    depth: Depth,
    column: str,
    of: Sequence[str],
) -> list[list[str] | None]:
    """The documents that each question (vector, text) finds; None where the index has to be asked."""
    tokenize = tokenizer()
    large = not questions or rows * questions[0][0].nbytes > LARGEST_VECTORS
    if tokenize is None or large or len(questions) < FROM_QUESTIONS:
        return [None for _ in questions]
    words = [TextQuery.of(text, tokenize) for _, text in questions]
    passages = PassageMatrix(table, rows, column, of)
    by_name = depth.rules.by_name
    names = passages.names_of_rows if by_name else ()
    texts = TextScores(passages.texts, passages.titles, [each for each in words if each], tokenize, names=names)
    decided = [number for number, each in enumerate(words) if each is not None]
    asked = [
        SearchQuestion(vector=questions[n][0], text=questions[n][1], words=each, content=content_words(questions[n][1]))
        for n in decided
        if (each := words[n])
    ]
    passages.note_words(set().union(*(each.content for each in asked)), by_name=by_name)
    scorer = _Scorer(passages, texts, depth)
    answers: list[list[str] | None] = [None for _ in questions]
    if not scorer.agrees(table, [each for each in asked if each.text][:: max(1, len(asked) // SAMPLE)], column, of):
        return answers
    at_once = max(1, _SCORES // rows)
    for start in range(0, len(asked), at_once):
        block = asked[start : start + at_once]
        for number, found in zip(decided[start:], scorer.answers(block), strict=False):
            answers[number] = found
    left = [place for place, number in enumerate(decided) if answers[number] is None]
    for start in range(0, len(left), at_once):
        places = left[start : start + at_once]
        exact = scorer.asked_vectors(table, [asked[place] for place in places], column, of)
        for place, found in zip(places, scorer.answers([asked[place] for place in places], exact), strict=True):
            answers[decided[place]] = found
    return answers


@dataclass(frozen=True, kw_only=True)
class SearchQuestion:
    vector: np.ndarray
    text: str
    words: TextQuery
    content: Set[str]
    """Words that weigh what the text search finds."""


class _Scorer:
    def __init__(self, passages: PassageMatrix, texts: TextScores, depth: Depth) -> None:
        import numpy as np

        self._passages, self._texts, self._depth = passages, texts, depth
        self._longest = float(np.sqrt((passages.vectors.astype(np.float64) ** 2).sum(axis=1).max()))
        self._worded: dict[str, RankingPart] = {}

    def answers(self, block: Sequence[SearchQuestion], exact: np.ndarray | None = None) -> Iterator[list[str] | None]:
        """`exact`: what LanceDB itself scores by vectors."""
        by_vector = self._by_vector(block) if exact is None else exact
        by_vector[:, self._passages.without_vector | self._passages.left_out] = -math.inf
        near = self._passages.best_of_documents(by_vector)
        self._note_texts([each for each in block if each.text not in self._worded])
        for number, question in enumerate(block):
            error = self._error(question.vector) if exact is None else 0.0
            found = self._first(question, error, near[number])
            yield None if found is None else [self._passages.names[document] for document in found]

    def _note_texts(self, block: Sequence[SearchQuestion]) -> None:
        """What the words say is kept: a question may be answered a second time, with other scores of vectors."""
        scores = self._texts.scores([each.words for each in block])
        scores[:, self._passages.left_out] = 0
        best = self._passages.best_of_documents(scores)
        for number, question in enumerate(block):
            error = question.words.error
            shares = functools.partial(
                self._passages.shares_of_best, question.content, scores=scores[number], best=best[number], error=error
            )
            self._worded[question.text] = text_part(best[number], self._depth.of_each, error, shares)

    def _first(self, question: SearchQuestion, error: float, near: np.ndarray) -> list[int] | None:
        import numpy as np

        if not question.text:
            return []
        if not question.content and question.words.words:
            return None
        of_each, by_vector = self._depth.of_each, nothing()
        if question.vector.any():
            if np.isnan(near).any():
                return None
            found = vector_part(near, of_each, self._depth.rules.vector_weight, error)
            if found is None:
                return None
            by_vector = found
        by_text = self._worded[question.text]
        moved = functools.partial(self._moved, question.text) if self._depth.rules.by_name else None
        return first_of(by_vector, by_text, self._depth.documents, moved)

    def _moved(self, query: str, documents: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By how much their suffixes put documents forward, at least and at most: which neighbours are found with them
        is not certain of all."""
        import numpy as np

        names = [self._passages.names[document] for document in documents.tolist()]
        of_all = np.array(suffix_signs(names, query), dtype=float)
        certain = of_all.copy()
        if not members.all():
            certain[members] = suffix_signs(list(itertools.compress(names, members)), query)
        return SUFFIX_WEIGHT * np.minimum(of_all, certain), SUFFIX_WEIGHT * np.maximum(of_all, certain)

    def _by_vector(self, block: Sequence[SearchQuestion]) -> np.ndarray:
        import numpy as np

        queries, vectors = np.stack([each.vector for each in block]).astype(np.float64), self._passages.vectors
        parts = [
            queries @ vectors[start : start + _CONVERTED].astype(np.float64).T
            for start in range(0, len(vectors), _CONVERTED)
        ]
        return np.concatenate(parts, axis=1)

    def asked_vectors(self, table: Any, block: Sequence[SearchQuestion], column: str, of: Sequence[str]) -> np.ndarray:
        """LanceDB's own scores of the nearest passages: one call for many questions, where texts take one each. No
        numbers where they are of too few documents."""
        import numpy as np

        limit = min(4 * self._depth.of_each, len(self._passages.texts))
        scores = np.full((len(block), len(self._passages.texts)), -math.inf)
        numbers = [number for number, each in enumerate(block) if each.vector.any()]
        if not numbers:
            return scores
        queries = np.stack([block[number].vector for number in numbers])
        near = batch_search.by_vectors(table, queries, limit, column, batch_search.among(of))
        for number, found in zip(numbers, near, strict=True):
            rows = [self._row_of[row] for row, _ in found]
            documents = len(np.unique(np.searchsorted(self._passages.starts, rows, side="right")))
            enough = documents >= self._depth.of_each or len(found) < limit or limit == scores.shape[1]
            scores[number, rows] = [score for _, score in found] if enough else math.nan
        return scores

    @functools.cached_property
    def _row_of(self) -> dict[int, int]:
        return {row_id: row for row, row_id in enumerate(self._passages.row_ids.tolist())}

    def _error(self, query: np.ndarray) -> float:
        """How far LanceDB's product of two vectors may be off, in single precision."""
        import numpy as np

        length = float(np.sqrt((query.astype(np.float64) ** 2).sum())) * self._longest
        of_sum, of_distance = (len(query) / _LANES + 2 * _LANES) * length, 2 * (1 + length)
        return (of_sum + of_distance) * _ROUNDING

    def agrees(self, table: Any, sample: Sequence[SearchQuestion], column: str, of: Sequence[str]) -> bool:
        """Whether LanceDB gives the passages that it finds the scores that are computed here."""
        import numpy as np

        row_of = self._row_of
        among, limit = batch_search.among(of), min(4 * self._depth.of_each, len(row_of))
        by_text = self._texts.scores([each.words for each in sample])
        worded = batch_search.by_texts(
            table, [lance_query(each.text, by_name=self._depth.rules.by_name) for each in sample], limit, among
        )
        for question, scores, found in zip(sample, by_text, worded, strict=True):
            if any(abs(scores[row_of[row]] - score) > question.words.error * score for row, score in found):
                return False
            if len(found) != min(limit, int((scores[~self._passages.left_out] > 0).sum())):
                return False
        with_vector = [each for each in sample if each.vector.any()]
        if not with_vector:
            return True
        queries = np.stack([each.vector for each in with_vector])
        near = batch_search.by_vectors(table, queries, limit, column, among)
        return all(
            abs(scores[row_of[row]] - score) <= self._error(question.vector)
            for question, scores, found in zip(with_vector, self._by_vector(with_vector), near, strict=True)
            for row, score in found
        )
