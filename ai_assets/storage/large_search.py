"""What many questions find in a large index, computed: all vectors are compared, words are counted as they are.

From `EXACT_BELOW_ROWS` on the index itself compares the vectors of some cells alone, goes on counting words of removed
passages for a while, and takes 0.1 s of processor time for a question. What is computed here depends on the passages
alone, not on earlier edits, in a tenth of the time. Documents are ranked by the rules of `ranking`, from the same
scores: BM25 with LanceDB's tokenizer, products of vectors. All passages are looked at in single precision, and the best
of them once more in double precision, so that the order does not depend on the machine. See docs/adr/0126.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_assets.base.allocator import give_back
from ai_assets.storage.contenders import (
    UNTOLD,
    ByVector,
    ByWords,
    Contenders,
    WordsAsked,
    best_of_documents,
    documents_of,
    products,
)
from ai_assets.storage.large_index import FEW, PART, LargeIndex, PassagePart, Postings
from ai_assets.storage.lasting_search import AskedIndex, KnownSearch, LastingSearch, longest
from ai_assets.storage.ranked_documents import SAMPLE, Depth, SearchQuestion
from ai_assets.storage.ranking import SoughtWords, content_words
from ai_assets.storage.text_scores import TextQuery, Vocabulary, passages_with, tokenizer

if TYPE_CHECKING:
    import numpy as np

AS_SERVED = 0.95
"""Of the documents that readers get for a sample of questions, at least this share has to be found here, on average."""
AT_ONCE = 24
"""Questions whose scores of all passages are in memory at once, in single precision."""
_SIDE_BY_SIDE = 2
_SPARE = 16
"""Further documents that are compared in double precision, and may take the place of those that an edit removes."""
_MOST_CONTENDERS = 1024
"""Of one question: where more passages are level, only the best of each document is one."""
_GROUP = 64
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


def computed(
    table: Any,
    rows: int,
    questions: Sequence[tuple[np.ndarray, str]],
    depth: Depth,
    column: str,
    of: Sequence[str],
    lasting: LastingSearch | None = None,
) -> list[list[str] | None]:
    """The documents that each question (vector, text) finds; None where the index has to be asked, because LanceDB may
    take its words otherwise. Few questions are computed too, so that each has one answer whatever else is asked.
    `lasting`: contenders of an earlier version, from which the answers of most questions are told again."""
    tokenize = tokenizer()
    if tokenize is None or not questions:
        return [None for _ in questions]
    words = [TextQuery.of(text, tokenize) for _, text in questions]
    asked = [
        (number, SearchQuestion(vector=vector, text=text, words=said, content=content_words(text)))
        for number, ((vector, text), said) in enumerate(zip(questions, words, strict=True))
        if said is not None and text
    ]
    answers: list[list[str] | None] = [None if said is None else [] for said in words]
    if asked:
        give_back()  # what LanceDB needed to write this version
        columns = ["text", "title", *(["document_id"] if depth.rules.by_name else [])]
        index = LargeIndex(table, rows, column, of)
        search = _LargeSearch(
            AskedIndex(
                index=index, questions=[each for _, each in asked], depth=depth, columns=columns, space=[column, *of],
                tokenize=tokenize,
            )
        )  # fmt: skip
        for (number, _), documents in zip(asked, search.answers(lasting), strict=True):
            answers[number] = documents
        give_back()
    return answers


class _LargeSearch:
    def __init__(self, asked: AskedIndex) -> None:
        self._asked, self._index, self._questions = asked, asked.index, asked.questions
        self._sought = SoughtWords(set().union(*(each.content for each in asked.questions)))
        self._longest = 0.0

    def answers(self, lasting: LastingSearch | None) -> list[list[str]]:
        import numpy as np

        found = lasting.told_again(self._asked) if lasting else None
        if found is None:
            found = self._all()
        elif len(again := np.flatnonzero(~found.certain)):
            parts = [found.contenders, self._by_vector(again), *self._by_words(found.words, found.postings, again)]
            found = replace(found, contenders=Contenders.together(parts))
        self._tell(found)
        scores = found.contenders.by_words.scores(found.words, [each.weights for each in found.postings])
        answers = documents_of(self._index, self._questions, found.contenders, scores, self._asked.depth)
        if lasting is not None:
            lasting.note(self._asked, found)
        return answers

    def _all(self) -> KnownSearch:
        """All questions are asked of all passages."""
        import numpy as np

        asked, index, number = self._asked, self._index, np.arange(len(self._questions))
        digests = np.empty((len(index), 2), np.uint64)
        near = self._by_vector(number, digests)
        vocabulary = Vocabulary(sorted(asked.words), asked.tokenize)
        words = WordsAsked.of(asked.questions, vocabulary, len(asked.columns))
        postings = [
            Postings.counted(index.column(name), vocabulary, range(len(index)), len(index)) for name in asked.columns
        ]
        return KnownSearch(
            vocabulary=vocabulary, postings=postings, words=words, text=index.text, digests=digests,
            contenders=Contenders.together([near, *self._by_words(words, postings, number)]),
            certain=np.ones(len(number), bool), longest=self._longest,
        )  # fmt: skip

    def _by_vector(self, numbers: np.ndarray, digests: np.ndarray | None = None) -> Contenders:
        """Contenders of these questions by vectors, which are in memory some at a time; then each passage's digest is
        told too, where it is wanted."""
        import numpy as np

        nearest = [_Nearest() for _ in numbers]
        blocks = [range(start, min(start + AT_ONCE, len(numbers))) for start in range(0, len(numbers), AT_ONCE)]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            whole = digests is not None
            for part in self._index.parts(at_once=PART if whole else FEW, with_texts=whole):
                self._longest = max(self._longest, longest(part.vectors))
                looked = [pool.submit(self._look, part, numbers, nearest, block) for block in blocks]
                if digests is not None:
                    digests[part.rows] = part.digests()
                for each in looked:
                    each.result()
        found = Contenders.none(len(self._questions))
        bound = found.by_vector.bound.copy()
        bound[numbers] = [each.bound for each in nearest]
        rows, scores = [each.rows for each in nearest], [each.exact for each in nearest]
        by_vector = ByVector(
            question=np.repeat(numbers, list(map(len, rows))), row=np.concatenate(rows), score=np.concatenate(scores),
            bound=bound,
        )  # fmt: skip
        return replace(found, by_vector=by_vector)

    def _look(self, part: PassagePart, numbers: np.ndarray, nearest: Sequence[_Nearest], block: range) -> None:
        import numpy as np

        vectors = np.stack([self._questions[numbers[place]].vector for place in block])
        near = vectors @ part.vectors.T
        near[:, part.without_vector | self._index.left_out[part.rows]] = -np.inf
        wanted = self._asked.depth.of_each + _SPARE
        for place, vector, scores in zip(block, vectors, near, strict=True):
            if vector.any():
                nearest[place].look(self._index, part, vector, scores, wanted)

    def _by_words(self, words: WordsAsked, postings: Sequence[Postings], numbers: np.ndarray) -> list[Contenders]:
        among = _AllPassages(self._asked, words, postings)
        blocks = [numbers[start : start + AT_ONCE].tolist() for start in range(0, len(numbers), AT_ONCE)]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(among.contenders, blocks))

    def _tell(self, found: KnownSearch) -> None:
        """How many words of their question new contenders have."""
        import numpy as np

        words, last, said = found.contenders.by_words, -1, set[str]()
        places = np.flatnonzero(words.told == UNTOLD)
        for place in places[np.argsort(words.row[places], kind="stable")].tolist():  # a passage is found by many
            row = int(words.row[place])
            if row != last:
                name = self._index.name(row) if self._asked.depth.rules.by_name else ""
                last, said = row, self._sought.of(found.text(row, "title"), found.text(row, "text"), name)
            words.told[place] = len(self._questions[int(words.question[place])].content & said)


class _Nearest:
    """To one question, among the passages that were looked at."""

    def __init__(self) -> None:
        import numpy as np

        self.rows, self.exact, self.bound = np.empty(0, np.int64), np.empty(0), -math.inf
        self._scores = np.empty(0, np.float32)

    def look(self, index: LargeIndex, part: PassagePart, vector: np.ndarray, scores: np.ndarray, wanted: int) -> None:
        import numpy as np

        places, bound = best_passages(scores, part.rows, index, wanted, self.bound)
        exact = products(part.vectors[places], vector)
        rows, of_rows = np.concatenate([self.rows, part.rows[places]]), np.concatenate([self._scores, scores[places]])
        self.exact = np.concatenate([self.exact, exact])
        kept, least = best_passages(of_rows, rows, index, wanted, -math.inf)
        self.rows, self._scores, self.exact = rows[kept], of_rows[kept], self.exact[kept]
        self.bound = max(bound, least)


class _Field:
    """One column in single precision: by word the passages that have it, and what it adds to their score."""

    def __init__(self, postings: Postings) -> None:
        import numpy as np

        self.postings = postings
        weights = postings.weights
        below = weights.norms.astype(np.float32)[postings.rows]
        below += postings.counts
        self._scores = postings.counts.astype(np.float32)
        self._scores /= below
        del below
        self._scores *= np.repeat(weights.of_words.astype(np.float32), postings.having)

    def of(self, word: int) -> tuple[np.ndarray, np.ndarray]:
        found = self.postings.of(word)
        return self.postings.rows[found], self._scores[found]


class _AllPassages:
    def __init__(self, asked: AskedIndex, words: WordsAsked, postings: Sequence[Postings]) -> None:
        self._asked, self._index, self._questions = asked, asked.index, asked.questions
        self._words, self._fields = words, [_Field(each) for each in postings]
        self._dense: dict[tuple[int, int], np.ndarray] = {}
        self._having: dict[int, np.ndarray] = {}
        """By phrase, the passages that have it."""

    def contenders(self, numbers: Sequence[int]) -> Contenders:
        import numpy as np

        index, wanted = self._index, self._asked.depth.of_each + _SPARE
        found = Contenders.none(len(self._questions))
        bound = found.by_words.bound.copy()
        every, rows = np.arange(len(index)), []
        for number in numbers:
            best, bound[number] = best_passages(self._scores(number), every, index, wanted, 0)
            rows.append(best)
        sizes = np.cumsum([0, *map(len, rows)])
        occurrences = [
            (size + at, slot, count)
            for number, size, of_question in zip(numbers, sizes.tolist(), rows, strict=False)
            for at, slot, count in self._occurrences(number, of_question)
        ]
        member, slot, count = (
            np.concatenate([np.broadcast_to(each[place], len(each[0])) for each in occurrences] or [np.empty(0)])
            for place in range(3)
        )
        order = np.lexsort((slot, member))
        by_words = ByWords(
            question=np.repeat(np.array(numbers, np.int64), list(map(len, rows))), row=np.concatenate(rows),
            told=np.full(sizes[-1], UNTOLD, np.int16), bound=bound, member=member[order].astype(np.int64),
            slot=slot[order].astype(np.int32), count=count[order].astype(np.uint16),
        )  # fmt: skip
        return replace(found, by_words=by_words)

    def _occurrences(self, number: int, rows: np.ndarray) -> list[tuple[np.ndarray, int, np.ndarray]]:
        """Of the question's words, in which of these passages each is, and how often."""
        import numpy as np

        found: list[tuple[np.ndarray, int, np.ndarray]] = []
        if not len(rows):
            return found
        for slot, at in enumerate(self._words.of_question(number)):
            postings = self._fields[self._words.field[at]].postings
            of_word = postings.of(self._words.word[at])
            having = postings.rows[of_word]
            if not len(having):
                continue
            places = np.minimum(np.searchsorted(having, rows), len(having) - 1)
            there = having[places] == rows
            if (phrase := int(self._words.phrase[at])) >= 0:
                there &= np.isin(rows, self._with_phrase(phrase))
            members = np.flatnonzero(there)
            found.append((members, slot, postings.counts[of_word][places[members]]))
        return found

    def _scores(self, number: int) -> np.ndarray:
        """Of all passages."""
        import numpy as np

        words, scores = self._words, np.zeros(len(self._index), np.float32)
        for at in words.of_question(number):
            field, word, phrase = int(words.field[at]), int(words.word[at]), int(words.phrase[at])
            if phrase < 0:
                self._add(field, word, np.float32(words.boost[at]), scores)
            else:
                rows, added = self._fields[field].of(word)
                chosen = np.isin(rows, self._with_phrase(phrase))
                scores[rows[chosen]] += added[chosen]
        scores[self._index.left_out] = 0
        return scores

    def _add(self, field: int, word: int, weight: np.float32, scores: np.ndarray) -> None:
        import numpy as np

        rows, added = self._fields[field].of(word)
        if len(rows) * _MANY < len(scores):
            scores[rows] += weight * added
            return
        dense = self._dense.get((field, word))
        if dense is None:
            dense = np.zeros(len(scores), np.float32)
            dense[rows] = added
            if len(self._dense) < _MOST_DENSE:
                self._dense[field, word] = dense
        scores += weight * dense

    def _with_phrase(self, number: int) -> np.ndarray:
        if number not in self._having:
            phrase, words = self._words.phrases[number], self._words
            of_words = dict(zip(phrase, words.word[words.phrase == number].tolist(), strict=False))
            self._having[number] = passages_with(
                phrase, lambda word: self._fields[0].of(of_words[word])[0], self._index.text, self._asked.tokenize
            )
        return self._having[number]


def best_passages(
    scores: np.ndarray, rows: np.ndarray, index: LargeIndex, wanted: int, above: float
) -> tuple[np.ndarray, float]:
    """Places of the passages that are as good as the best one of the last document that is wanted, and how good any
    other one is at most; only those above some score. `rows`: which passages the scores are of."""
    import numpy as np

    least = _least_of_best(scores, 4 * wanted)
    places = np.flatnonzero(scores >= max(least, np.nextafter(np.float32(above), np.float32(np.inf))))
    best = _of_documents(places, scores, rows, index, wanted)
    if len(best) < wanted and least > above:  # many passages of few documents
        places = np.flatnonzero(scores > above)
        best = _of_documents(places, scores, rows, index, wanted)
    if len(best) < wanted:
        return (places, above) if len(places) <= _MOST_CONTENDERS else (best, math.inf)
    last = float(scores[best[-1]])
    places = places[scores[places] >= last]
    return (places, last) if len(places) <= _MOST_CONTENDERS else (best, math.inf)


def _of_documents(
    places: np.ndarray, scores: np.ndarray, rows: np.ndarray, index: LargeIndex, documents: int
) -> np.ndarray:
    """Those of one question."""
    import numpy as np

    one = np.zeros(len(places), np.int8)
    best: np.ndarray = places[best_of_documents(index, one, rows[places], scores[places], documents)]
    return best


def _least_of_best(scores: np.ndarray, number: int) -> float:
    """A score that at least so many reach, and not many more: that many groups have a best one of at least it."""
    import numpy as np

    whole = len(scores) // _GROUP * _GROUP
    best = scores[:whole].reshape(_GROUP, -1).max(axis=0)  # side by side, which takes a tenth of the time
    return float(np.partition(best, len(best) - number)[len(best) - number]) if len(best) > number else -math.inf
