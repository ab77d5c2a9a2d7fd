"""Which passages each of many questions may find, and the documents that it finds of them.

Contenders of a question are its best passages by vectors and by words, a few more than count, and beside them how good
any other passage is at most. So an answer is certain as long as the last one that counts is better than that.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ai_assets.storage.name_suffixes import SUFFIX_WEIGHT, suffix_signs
from ai_assets.storage.text_scores import FIELD_BOOSTS, Vocabulary

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.storage.large_index import LargeIndex, Weights
    from ai_assets.storage.ranked_documents import Depth, SearchQuestion

UNTOLD = -1
"""Of a contender that is new: how many words of its question it has is not known yet."""


@dataclass(frozen=True, kw_only=True)
class WordsAsked:
    """The words of many questions, one after the other: each in each column, then those of phrases."""

    begins: np.ndarray
    """Where each question's words begin; one more at the end."""
    field: np.ndarray
    word: np.ndarray
    boost: np.ndarray
    phrase: np.ndarray
    """Which of `phrases`; -1 for words that count alone."""
    phrases: Sequence[tuple[str, ...]]
    questions: np.ndarray
    """Of each word, whose it is."""

    @classmethod
    def of(cls, questions: Sequence[SearchQuestion], vocabulary: Vocabulary, fields: int) -> Self:
        import numpy as np

        said: list[tuple[int, int, float, int]] = []
        begins, phrases = [0], dict[tuple[str, ...], int]()
        for question in questions:
            for word, times in Counter(question.words.words).items():
                number = vocabulary.number(word)
                said.extend((field, number, boost * times, -1) for field, boost in enumerate(FIELD_BOOSTS[:fields]))
            for phrase in question.words.phrases:
                number = phrases.setdefault(phrase, len(phrases))
                said.extend((0, vocabulary.number(word), 1.0, number) for word in phrase)
            begins.append(len(said))
        found = np.array(said or np.empty((0, 4)), np.float64)
        field, word, boost, phrase = found.T
        return cls(
            begins=np.array(begins), field=field.astype(np.int8), word=word.astype(np.int64), boost=boost,
            phrase=phrase.astype(np.int64), phrases=list(phrases),
            questions=np.repeat(np.arange(len(questions)), np.diff(begins)),
        )  # fmt: skip

    def of_question(self, number: int) -> range:
        return range(int(self.begins[number]), int(self.begins[number + 1]))


@dataclass(frozen=True, kw_only=True)
class ByVector:
    """Passages, and how near they are; `bound`, by question: how near any other one is at most."""

    question: np.ndarray
    row: np.ndarray
    score: np.ndarray
    bound: np.ndarray

    def of(self, chosen: np.ndarray) -> ByVector:
        return replace(self, question=self.question[chosen], row=self.row[chosen], score=self.score[chosen])


@dataclass(frozen=True, kw_only=True)
class ByWords:
    """Passages, and how often they have which words; `bound`, by question: what any other one scores at most."""

    question: np.ndarray
    row: np.ndarray
    told: np.ndarray
    """How many words of the question it has."""
    bound: np.ndarray
    member: np.ndarray
    """Of each occurrence of a word, which of the passages above has it; words of one passage are in their order."""
    slot: np.ndarray
    """Which word of its question, counted from the first one of that question."""
    count: np.ndarray

    def of(self, chosen: np.ndarray) -> ByWords:
        """`chosen`: for each of the passages whether it stays."""
        import numpy as np

        new = np.cumsum(chosen) - 1
        kept = chosen[self.member]
        return replace(
            self, question=self.question[chosen], row=self.row[chosen], told=self.told[chosen],
            member=new[self.member[kept]], slot=self.slot[kept], count=self.count[kept],
        )  # fmt: skip

    def scores(self, asked: WordsAsked, weights: Sequence[Weights]) -> np.ndarray:
        import numpy as np

        at = asked.begins[self.question[self.member]] + self.slot
        row, found = self.row[self.member], np.zeros(len(at))
        for number, weight in enumerate(weights):
            of_field = asked.field[at] == number
            words = asked.word[at[of_field]]
            found[of_field] = weight.scores(words, row[of_field], self.count[of_field].astype(np.float64))
        return np.bincount(self.member, found * asked.boost[at], minlength=len(self.row))


@dataclass(frozen=True, kw_only=True)
class Contenders:
    by_vector: ByVector
    by_words: ByWords

    @classmethod
    def none(cls, questions: int) -> Self:
        """Of so many questions."""
        import numpy as np

        whole, nothing = np.empty(0, np.int64), np.full(questions, -np.inf)
        return cls(
            by_vector=ByVector(question=whole, row=whole, score=np.empty(0), bound=nothing),
            by_words=ByWords(
                question=whole, row=whole, told=whole.astype(np.int16), bound=nothing, member=whole, slot=whole,
                count=whole.astype(np.uint16),
            ),
        )  # fmt: skip

    @classmethod
    def together(cls, parts: Sequence[Contenders]) -> Self:
        """Of different questions, each with bounds of its own: of the others they are minus infinity."""
        import numpy as np

        vectors, words = [part.by_vector for part in parts], [part.by_words for part in parts]
        sizes = np.cumsum([0, *(len(each.row) for each in words)])
        return cls(
            by_vector=ByVector(
                **{
                    name: np.concatenate([getattr(each, name) for each in vectors])
                    for name in ("question", "row", "score")
                },
                bound=np.max([each.bound for each in vectors], axis=0),
            ),
            by_words=ByWords(
                **{
                    name: np.concatenate([getattr(each, name) for each in words])
                    for name in ("question", "row", "told", "slot", "count")
                },
                member=np.concatenate([each.member + size for each, size in zip(words, sizes, strict=False)]),
                bound=np.max([each.bound for each in words], axis=0),
            ),
        )

    def of(self, questions: np.ndarray) -> Contenders:
        """Those of some questions; the numbers of questions stay."""
        import numpy as np

        vectors, words = self.by_vector, self.by_words
        return Contenders(
            by_vector=replace(
                vectors.of(questions[vectors.question]), bound=np.where(questions, vectors.bound, -np.inf)
            ),
            by_words=replace(words.of(questions[words.question]), bound=np.where(questions, words.bound, -np.inf)),
        )


def products(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Of pairs, in double precision, and of equal pairs the same to the last digit: a product of matrices adds in an
    order that depends on what stands beside."""
    import numpy as np

    found: np.ndarray = (vectors.astype(np.float64) * queries.astype(np.float64)).sum(axis=-1)
    return found


def best_of_documents(
    index: LargeIndex, question: np.ndarray, row: np.ndarray, score: np.ndarray, documents: int
) -> np.ndarray:
    """Places of the best passage of each of the best documents, question by question, best first; of equal ones the
    first by name."""
    import numpy as np

    order = np.lexsort((index.rank[row], -score, question))
    keys = question[order] * np.int64(len(index.names)) + index.document_of[row[order]]
    _, first = np.unique(keys, return_index=True)
    found: np.ndarray = order[np.sort(first)]
    return found[places_within(question[found]) < documents]


def places_within(question: np.ndarray) -> np.ndarray:
    """Of what is in order of questions, the how many-th of its question each is."""
    import numpy as np

    begins = np.searchsorted(question, question, side="left")
    places: np.ndarray = np.arange(len(question)) - begins
    return places


def documents_of(
    index: LargeIndex,
    questions: Sequence[SearchQuestion],
    found: Contenders,
    scores: np.ndarray,
    depth: Depth,
) -> list[list[str]]:
    """By the rules of `ranking.combined`, for all questions at once. `scores`: of the contenders by words."""
    import numpy as np

    number, rules = len(questions), depth.rules
    vectors, words = found.by_vector, found.by_words
    near = best_of_documents(index, vectors.question, vectors.row, vectors.score, depth.of_each)
    of = vectors.question[near]
    score = vectors.score[near]
    begins = np.searchsorted(of, np.arange(number + 1))
    there = np.flatnonzero(np.diff(begins))
    worst, best = np.zeros(number), np.zeros(number)
    best[there], worst[there] = score[begins[:-1][there]], score[begins[1:][there] - 1]
    spread = np.maximum(best - worst, 1e-9)
    by_vector = rules.vector_weight * (score - worst[of]) / spread[of]

    said = best_of_documents(index, words.question, words.row, scores, depth.of_each)
    asked, worded = words.question[said], scores[said]
    sizes = np.array([len(question.content) for question in questions], np.int64)
    begins = np.searchsorted(asked, np.arange(number + 1))
    there = np.flatnonzero(np.diff(begins))
    highest = np.zeros(number)
    highest[there] = worded[begins[:-1][there]]
    weighed = (highest[asked] > 0) & (sizes[asked] > 0)
    safe = np.where(weighed, highest[asked], 1.0), np.where(weighed, sizes[asked], 1)
    by_words = np.where(weighed, worded / safe[0] * words.told[said] / safe[1], worded)

    documents = np.int64(len(index.names))
    keys = [
        of * documents + index.document_of[vectors.row[near]],
        asked * documents + index.document_of[words.row[said]],
    ]
    every, at = np.unique(np.concatenate(keys), return_inverse=True)
    total = np.zeros(len(every))
    total[at[: len(near)]] = by_vector
    total[at[len(near) :]] += by_words
    question, document = np.divmod(every, documents)
    if rules.by_name:
        total += SUFFIX_WEIGHT * _signs(index, questions, question, document)
    order = np.lexsort((document, -total, question))
    order = order[places_within(question[order]) < depth.documents]
    names: list[list[str]] = [[] for _ in questions]
    for of_question, place in zip(question[order].tolist(), document[order].tolist(), strict=True):
        names[of_question].append(index.names[place])
    return names


def _signs(
    index: LargeIndex, questions: Sequence[SearchQuestion], question: np.ndarray, document: np.ndarray
) -> np.ndarray:
    import numpy as np

    begins = np.searchsorted(question, np.arange(len(questions) + 1)).tolist()
    names = [index.names[place] for place in document.tolist()]
    signs = [
        suffix_signs(names[start:end], asked.text)
        for asked, (start, end) in zip(questions, itertools.pairwise(begins), strict=True)
    ]
    return np.fromiter(itertools.chain.from_iterable(signs), np.float64, len(names))
