"""What many questions find in a large index, computed: all vectors are compared, words are counted as they are.

From `EXACT_BELOW_ROWS` on the index itself compares the vectors of some cells alone, goes on counting words of removed
passages for a while, and takes 0.1 s of processor time for a question. What is computed here depends on the passages
alone, not on earlier edits, in a tenth of the time. Documents are ranked by the rules of `ranking`, from the same
scores: BM25 with LanceDB's tokenizer, products of vectors. See docs/adr/0126.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ai_assets.storage.ranked_documents import SAMPLE, Depth
from ai_assets.storage.ranking import Hit, combined, weigh_by_words
from ai_assets.storage.text_scores import (
    FIELD_BOOSTS,
    SATURATION,
    TextQuery,
    Tokenize,
    Vocabulary,
    has_phrase,
    length_norms,
    rarity,
    tokenizer,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

AS_SERVED = 0.95
"""Of the documents that readers get for a sample of questions, at least this share has to be found here, on average."""
AT_ONCE = 24
"""Questions whose scores of all passages are in memory at once, in single precision."""
_SIDE_BY_SIDE = 2
_BLOCK = 16_384
"""Passages whose words are counted at once."""
_SPARE = 8
"""Further neighbours that are compared in double precision."""
_STRETCH = 64
"""Passages of which the best is looked at first."""
_MANY = 6
"""A word that one in so many passages has is added to all of them."""
_MOST_DENSE = 64
"""Such words are kept as a number for each passage, up to so many."""


def sampled(numbers: Sequence[int]) -> Sequence[int]:
    """Of questions, those that the index is asked too: some from everywhere."""
    return numbers[:: max(1, len(numbers) // SAMPLE)][:SAMPLE]


def shared_share(found: Sequence[str], served: Sequence[str]) -> float:
    """How many of the documents that readers get were found, of 1."""
    theirs = set(served)
    return len(theirs & set(found)) / len(theirs) if theirs else 1.0


class Postings:
    """One column of all passages: by word the passages that have it, and what it adds to their score."""

    def __init__(self, index: LargeIndex, column: str, vocabulary: Vocabulary, words: int) -> None:
        import numpy as np

        rows, found_rows, found_words, counts = len(index), [], [], []
        lengths, start = np.zeros(rows, np.float64), 0
        for block in index.column(column):
            numbers = [vocabulary.of(text) for text in block]
            sizes = np.fromiter(map(len, numbers), np.int64, len(numbers))
            lengths[start : start + len(block)] = sizes
            flat = np.fromiter(itertools.chain.from_iterable(numbers), np.int64, int(sizes.sum()))
            keys = np.repeat(np.arange(len(block)), sizes) * words + flat
            there, number = np.unique(keys[flat >= 0], return_counts=True)
            found_rows.append(index.place_of[there // words + start].astype(np.int32))
            found_words.append((there % words).astype(np.int32))
            counts.append(number.astype(np.float32))
            start += len(block)
        lengths = lengths[index.lies_at]
        of_words = np.concatenate(found_words)
        del found_words
        order = np.argsort(of_words, kind="stable")
        having = np.bincount(of_words, minlength=words)
        del of_words
        self._starts = np.concatenate([[0], np.cumsum(having)])
        self._rows = np.concatenate(found_rows)[order]
        scores = np.concatenate(counts)[order]
        del found_rows, counts, order
        norms = length_norms(lengths).astype(np.float32)
        weight = (rarity(int((lengths > 0).sum()), having) * (SATURATION + 1)).astype(np.float32)
        below = norms[self._rows]
        below += scores
        scores /= below
        scores *= np.repeat(weight, having)
        self._scores = scores

    def of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Passages, in any order, and what the word adds to each."""
        found = slice(self._starts[number], self._starts[number + 1])
        return self._rows[found], self._scores[found]


@dataclass(frozen=True, kw_only=True)
class _Question:
    vector: np.ndarray
    text: str
    words: TextQuery


class LargeIndex:
    """All passages of a version: numbered in the order of their documents, while their texts lie as they were read."""

    def __init__(self, table: Any, rows: int, column: str, of: Sequence[str]) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = ["document_id", "chunk_id", "title", "text", *(["of"] if of else [])]
        read = table.search().select(wanted).with_row_id(True).limit(max(rows, 1)).to_arrow()
        order = pc.sort_indices(read, [("document_id", "ascending"), ("chunk_id", "ascending")]).to_numpy()
        names = pc.dictionary_encode(read["document_id"]).combine_chunks().indices.to_numpy()[order]
        self.document_of = np.concatenate([[0], np.cumsum(names[1:] != names[:-1])]).astype(np.int32)
        self.left_out = np.zeros(rows, bool)
        if of:
            self.left_out = ~pc.is_in(read["of"], pa.array(list(of))).to_numpy()[order]
        self.lies_at = order
        self.place_of = np.empty(rows, np.int64)
        self.place_of[order] = np.arange(rows)
        self._texts = read.select(["document_id", "title", "text"])
        self.vectors, self.without_vector = self._read_vectors(table, column, read["_rowid"].to_numpy())

    def __len__(self) -> int:
        return len(self.left_out)

    def _read_vectors(self, table: Any, column: str, row_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In batches, apart from the texts, so that they are in memory once."""
        import numpy as np

        vectors, without = None, np.ones(len(self), bool)
        by_id = np.argsort(row_ids)
        ids = row_ids[by_id]
        for batch in table.search().select([column]).with_row_id(True).limit(max(len(self), 1)).to_batches(_BLOCK):
            found = batch[column]
            vectors = np.zeros((len(self), found.type.list_size), np.float32) if vectors is None else vectors
            there = found.is_valid().to_numpy(zero_copy_only=False)
            places = self.place_of[by_id[np.searchsorted(ids, batch["_rowid"].to_numpy())]][there]
            vectors[places] = found.flatten().to_numpy().reshape(-1, found.type.list_size)
            without[places] = False
        assert vectors is not None
        return vectors, without

    def column(self, name: str) -> Iterator[Sequence[str]]:
        """Its texts as they lie, some at a time."""
        found: pa.ChunkedArray = self._texts[name]
        for start in range(0, len(found), _BLOCK):
            yield [text or "" for text in found.slice(start, _BLOCK).to_pylist()]

    def text(self, row: int, name: str = "text") -> str:
        return self._texts[name][int(self.lies_at[row])].as_py() or ""

    def hit(self, row: int, score: float) -> Hit:
        document, title, text = (self.text(row, name) for name in ("document_id", "title", "text"))
        return Hit(document_id=document, chunk_id="", partition="", title=title, text=text, score=score)


def computed(
    table: Any,
    rows: int,
    questions: Sequence[tuple[np.ndarray, str]],
    depth: Depth,
    column: str,
    of: Sequence[str],
) -> list[list[str] | None]:
    """The documents that each question (vector, text) finds; None where the index has to be asked, because LanceDB may
    take its words otherwise. Few questions are computed too, so that each has one answer whatever else is asked."""
    tokenize = tokenizer()
    if tokenize is None or not questions:
        return [None for _ in questions]
    words = [TextQuery.of(text, tokenize) for _, text in questions]
    asked = [
        (number, _Question(vector=vector, text=text, words=said))
        for number, ((vector, text), said) in enumerate(zip(questions, words, strict=True))
        if said is not None and text
    ]
    search = _LargeSearch(LargeIndex(table, rows, column, of), [each for _, each in asked], depth, tokenize)
    answers: list[list[str] | None] = [None if said is None else [] for said in words]
    blocks = [asked[start : start + AT_ONCE] for start in range(0, len(asked), AT_ONCE)]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        for block, answered in zip(
            blocks, pool.map(lambda each: search.answers([q for _, q in each]), blocks), strict=True
        ):
            for (number, _), found in zip(block, answered, strict=True):
                answers[number] = found
    return answers


class _LargeSearch:
    def __init__(self, index: LargeIndex, asked: Sequence[_Question], depth: Depth, tokenize: Tokenize) -> None:
        self._index, self._depth, self._tokenize = index, depth, tokenize
        said = {word for each in asked for word in each.words.words}
        said |= {word for each in asked for phrase in each.words.phrases for word in phrase}
        self._vocabulary = Vocabulary(sorted(said), tokenize)
        columns = ["text", "title", *(["document_id"] if depth.rules.by_name else [])]
        self._fields = [
            (Postings(index, name, self._vocabulary, max(len(said), 1)), boost)
            for name, boost in zip(columns, FIELD_BOOSTS, strict=False)
        ]
        self._of_text = self._fields[0][0]
        self._dense: dict[tuple[int, int], np.ndarray] = {}

    def answers(self, block: Sequence[_Question]) -> list[list[str]]:
        import numpy as np

        index = self._index
        near = np.stack([each.vector for each in block]) @ index.vectors.T
        if len(out := np.flatnonzero(index.without_vector | index.left_out)):
            near[:, out] = -np.inf
        rules, answers = self._depth.rules, []
        for question, row in zip(block, near, strict=True):
            by_vector = self._by_vector(question, row) if question.vector.any() else []
            by_text = weigh_by_words(self._by_text(question), question.text, by_name=rules.by_name)
            hits = combined(by_vector, by_text, question.text, rules)[: self._depth.documents]
            answers.append([hit.document_id for hit in hits])
        return answers

    def _by_vector(self, question: _Question, near: np.ndarray) -> list[Hit]:
        """The nearest are compared once more in double precision: in single precision the order depends on the
        machine."""
        import numpy as np

        rows = self._best(near, self._depth.of_each + _SPARE, -np.inf)
        exact = self._index.vectors[rows].astype(np.float64) @ question.vector.astype(np.float64)
        return self._hits(rows, exact)

    def _by_text(self, question: _Question) -> list[Hit]:
        import numpy as np

        scores = np.zeros(len(self._index), np.float32)
        for word, times in Counter(question.words.words).items():
            for place, (field, boost) in enumerate(self._fields):
                self._add(field, place, self._vocabulary.number(word), boost * times, scores)
        for phrase in question.words.phrases:
            self._add_phrase(phrase, scores)
        scores[self._index.left_out] = 0
        rows = self._best(scores, self._depth.of_each, 0)
        return self._hits(rows, scores[rows].astype(np.float64))

    def _add(self, field: Postings, place: int, number: int, weight: float, scores: np.ndarray) -> None:
        import numpy as np

        rows, added = field.of(number)
        if len(rows) * _MANY < len(scores):
            scores[rows] += np.float32(weight) * added
            return
        dense = self._dense.get((place, number))
        if dense is None:
            dense = np.zeros(len(scores), np.float32)
            dense[rows] = added
            if len(self._dense) < _MOST_DENSE:
                self._dense[place, number] = dense
        scores += np.float32(weight) * dense

    def _add_phrase(self, phrase: Sequence[str], scores: np.ndarray) -> None:
        import numpy as np

        found = [self._of_text.of(self._vocabulary.number(word)) for word in phrase]
        together = functools.reduce(np.intersect1d, [rows for rows, _ in found])
        there = (row for row in together.tolist() if has_phrase(self._tokenize(self._index.text(row)), phrase))
        having = np.fromiter(there, np.int64)
        for rows, added in found:
            chosen = np.isin(rows, having)
            scores[rows[chosen]] += added[chosen]

    def _best(self, scores: np.ndarray, documents: int, above: float) -> np.ndarray:
        """The best passage of each of the best documents; of equal ones the first by name."""
        import numpy as np

        rows = np.flatnonzero(scores >= max(_least_of_best(scores, 4 * documents), np.nextafter(np.float32(above), 1)))
        of = self._index.document_of[rows]
        if len(np.unique(of)) < documents:  # all there are, or many passages of few documents
            rows = np.flatnonzero(scores > above)
            of = self._index.document_of[rows]
        order = np.lexsort((rows, -scores[rows]))
        _, first = np.unique(of[order], return_index=True)  # of each document the best, as they are in order
        first.sort()
        best: np.ndarray = rows[order[first[:documents]]]
        return best

    def _hits(self, rows: np.ndarray, scores: np.ndarray) -> list[Hit]:
        order = sorted(range(len(rows)), key=lambda at: (-scores[at], rows[at]))[: self._depth.of_each]
        return [self._index.hit(int(rows[at]), float(scores[at])) for at in order]


def _least_of_best(scores: np.ndarray, number: int) -> float:
    """A score that at least so many reach, and not many more: that many stretches have a best one of at least it."""
    import numpy as np

    whole = len(scores) // _STRETCH * _STRETCH
    best = scores[:whole].reshape(-1, _STRETCH).max(axis=1)
    return float(np.partition(best, len(best) - number)[len(best) - number]) if len(best) > number else -math.inf
