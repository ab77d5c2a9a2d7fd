"""Answers of a large index that last: after an edit most questions are told again from what is kept, and few are asked.

A changed passage moves the score of every other one a little, since the weight of a word depends on how many passages
have it, and on how long they are. By how much at most is known. So a contender that was kept for a question is not
passed by a passage that was not, as long as the last one that counts is better by more than that. Kept are contenders,
how often passages have which words of the questions, and a digest of each passage; what is told again is what would be
found if all were asked. What is kept can always be thrown away. See docs/adr/0159.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.storage.contenders import (
    UNTOLD,
    ByVector,
    ByWords,
    Contenders,
    WordsAsked,
    best_of_documents,
    products,
)
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.large_index import DIGEST_BYTES, FEW, LargeIndex, PassagePart, Postings, Weights
from ai_assets.storage.text_scores import Tokenize, Vocabulary, passages_with

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.storage.ranked_documents import Depth, SearchQuestion

FORMAT = 1
MOST_CHANGED = 0.1
"""Of the passages. Where more are others, all questions are asked."""
UNSAMPLED = 0.01
"""Once so many passages are others, what readers get is sampled again."""
_AT_ONCE = 64
"""New passages whose words are looked for in all questions at once."""
_ROUNDED = 1e-5
"""How far scores in single precision may be off, as a share, generously."""
_POSTINGS = ("starts", "rows", "counts", "lengths")
_BY_VECTOR = ("question", "row", "score", "bound")
_BY_WORDS = ("question", "row", "told", "bound", "member", "slot", "count")


@dataclass(frozen=True, kw_only=True)
class AskedIndex:
    """Questions, and the passages that they are asked of."""

    index: LargeIndex
    questions: Sequence[SearchQuestion]
    depth: Depth
    columns: Sequence[str]
    """That are searched by words."""
    space: Sequence[str]
    """Which vectors, and of which texts."""
    tokenize: Tokenize

    @property
    def words(self) -> set[str]:
        """All that is asked for."""
        said = {word for each in self.questions for word in each.words.words}
        return said | {word for each in self.questions for phrase in each.words.phrases for word in phrase}

    @property
    def named(self) -> str:
        """What kept contenders have to be of."""
        told: list[Json] = [
            FORMAT, version("lancedb"), self.depth.of_each, list(self.columns), list(self.space),
        ]  # fmt: skip
        return digest(told)


@dataclass(frozen=True, kw_only=True)
class KnownSearch:
    """Contenders of all questions that are certain, with what they were found by."""

    vocabulary: Vocabulary
    postings: Sequence[Postings]
    words: WordsAsked
    contenders: Contenders
    certain: np.ndarray
    """By question."""
    digests: np.ndarray
    """Of all passages."""
    longest: float
    """Of all vectors."""
    text: Callable[[int, str], str]
    """Of a passage."""
    changed: int = 0
    """Passages that are others than those of what was kept."""


@dataclass(kw_only=True)
class LastingSearch:
    """The file that it is kept in."""

    path: Path
    parts: Mapping[str, str] | None = None
    """By partition, which version of it the index has: of the same one no passage is looked at."""
    is_kept: bool = True
    """Else the file is of another version of nearly the same passages, and stays as it is."""
    _changed: int | None = None
    """Passages that are others than when it was sampled last what readers get; None if it never was."""
    _said: dict[str, Json] = field(default_factory=dict)
    _noted: dict[str, np.ndarray] = field(default_factory=dict)

    def wants_sample(self, passages: int) -> bool:
        """Whether it has to be sampled again what readers get."""
        return not self.is_kept or self._changed is None or self._changed > UNSAMPLED * passages

    def told_again(self, asked: AskedIndex) -> KnownSearch | None:
        """None where nothing that is kept fits."""
        import numpy as np

        try:
            with self.path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                said = json.loads(file["said"].tobytes())
                if said["of"] != asked.named or not asked.words <= set(said["words"]):
                    return None
                kept = {name: file[name] for name in file.files}
            now = self.parts or {}
            same = [name for name in asked.index.partitions if name in now and said["parts"].get(name) == now[name]]
            found = _Kept(asked, said, kept, same).found()
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zlib.error, zipfile.BadZipFile):
            return None  # not there, or not whole
        if found is not None:
            self._changed = said["changed"] + found.changed
        return found

    def note(self, asked: AskedIndex, found: KnownSearch) -> None:
        """For `keep`."""
        import numpy as np

        if not self.is_kept:
            return
        self._noted = {
            "questions": np.frombuffer(b"".join(map(_key, asked.questions)), np.uint8),
            "digests": found.digests,
            "rank": asked.index.rank,
            "partition": asked.index.partition_of,
            "longest": np.array(found.longest),
            **{f"vector {name}": getattr(found.contenders.by_vector, name) for name in _BY_VECTOR},
            **{f"words {name}": getattr(found.contenders.by_words, name) for name in _BY_WORDS},
        }
        for number, postings in enumerate(found.postings):
            self._noted |= {f"{number} {name}": getattr(postings, name) for name in _POSTINGS}
        self._said = {
            "of": asked.named, "words": list(found.vocabulary.words), "parts": dict(self.parts or {}),
            "partitions": list(asked.index.partitions),
        }  # fmt: skip

    def keep(self, *, sampled: bool) -> None:
        """`sampled`: readers get what was found."""
        import numpy as np

        if not self._noted:
            return
        said = json.dumps({**self._said, "changed": 0 if sampled else self._changed}).encode()
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        with contextlib.suppress(OSError):  # where it cannot be kept, all are asked again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, said=np.frombuffer(said, np.uint8), **self._noted)
            temporary.replace(self.path)
        temporary.unlink(missing_ok=True)
        self._noted.clear()

    def forget(self) -> None:
        self._noted.clear()
        if self.is_kept:
            self.path.unlink(missing_ok=True)


def _key(question: SearchQuestion) -> bytes:
    told = question.text.encode("utf-8", "surrogatepass") + b"\0" + question.vector.tobytes()
    return hashlib.blake2b(told, digest_size=DIGEST_BYTES).digest()


class _Kept:
    """What was kept, and the passages as they are now."""

    def __init__(
        self, asked: AskedIndex, said: Mapping[str, Any], kept: Mapping[str, np.ndarray], same: Sequence[str]
    ) -> None:
        """`same`: partitions whose passages are all as they were."""
        import numpy as np

        self._asked, self._index = asked, asked.index
        self._vocabulary = Vocabulary(said["words"], asked.tokenize)
        self._words = WordsAsked.of(asked.questions, self._vocabulary, len(asked.columns))
        self._before = [
            Postings(**{name: kept[f"{number} {name}"] for name in _POSTINGS}) for number in range(len(asked.columns))
        ]
        self._by_vector = ByVector(**{name: kept[f"vector {name}"] for name in _BY_VECTOR})
        self._by_words = ByWords(**{name: kept[f"words {name}"] for name in _BY_WORDS})
        self._longest = float(kept["longest"])
        numbers = {_key(question): number for number, question in enumerate(asked.questions)}
        keys = kept["questions"].tobytes()
        self._now = np.array([numbers.get(key, -1) for key in _cut(keys)], np.int64)
        """Of each question that was kept, its number now; -1 for those that nobody asks any more."""
        self._follow(kept, said["partitions"], same)

    def _follow(self, kept: Mapping[str, np.ndarray], partitions: Sequence[str], same: Sequence[str]) -> None:
        """Where each passage is now. `partitions`: those that were there."""
        import numpy as np

        index, digests = self._index, kept["digests"]
        old, new = _within(same, partitions, kept["partition"]), _within(same, index.partitions, index.partition_of)
        if old.sum() != new.sum():
            same, old, new = (), np.zeros(len(old), bool), np.zeros(len(new), bool)
        self._new_row = np.full(len(old), -1, np.int32)
        """Of each passage that was there, its number now; -1 of one that is gone."""
        self._new_row[_in_order(old, kept["rank"])] = _in_order(new, index.rank)
        self._digests = np.empty((len(index), 2), np.uint64)
        known, found = _Known(digests, np.flatnonzero(~old)), []
        for part in index.parts([name for name in index.partitions if name not in set(same)], at_once=FEW):
            of_part = part.digests()
            self._digests[part.rows] = of_part
            places = known.places(of_part)
            self._new_row[places[places >= 0]] = part.rows[places >= 0]
            found.append(part.of(places < 0))
        there = self._new_row[self._new_row >= 0]
        self._digests[there] = digests[self._new_row >= 0]
        self._new = PassagePart.together(found) if found else None

    def found(self) -> KnownSearch | None:
        """None where too many passages are others."""
        import numpy as np

        passages = len(self._index)
        is_new = np.ones(passages, bool)
        is_new[self._new_row[self._new_row >= 0]] = False
        changed = int(is_new.sum() + (self._new_row < 0).sum())
        if changed > MOST_CHANGED * passages:
            return None
        new, rows = self._new, np.flatnonzero(is_new)
        added = [
            Postings.counted([] if new is None else [new.column(name)], self._vocabulary, rows, passages)
            for name in self._asked.columns
        ]
        postings = [old.moved(self._new_row, new) for old, new in zip(self._before, added, strict=True)]
        bounds = self._bounds(postings)
        self._before.clear()
        near = self._near(bounds[0])
        weights = [each.weights for each in postings]
        worded = [
            self._worded(rows[start : start + _AT_ONCE], added, weights, bounds[1])
            for start in range(0, len(rows), _AT_ONCE)
        ]
        nothing = Contenders.none(len(self._asked.questions))
        parts = [replace(nothing, by_vector=near), *(replace(nothing, by_words=each) for each in worded)]
        contenders = Contenders.together([self._still_there(bounds), *parts])
        certain = self._certain(contenders, weights)
        return KnownSearch(
            vocabulary=self._vocabulary, postings=postings, words=self._words, contenders=contenders.of(certain),
            certain=certain, digests=self._digests, longest=self._longest, text=self.text, changed=changed,
        )  # fmt: skip

    def _bounds(self, postings: Sequence[Postings]) -> tuple[np.ndarray, np.ndarray]:
        """How good a passage that is no contender is at most, by vectors and by words: that score was its own when
        words weighed what they weighed then."""
        import numpy as np

        words, number = self._words, len(self._asked.questions)
        risen = np.ones(len(words.word))
        for place, (old, new) in enumerate(zip(self._before, postings, strict=True)):
            before, after = old.weights, new.weights
            ratio = np.where(old.having > 0, after.of_words / before.of_words, 1.0)
            of_field = words.field == place
            risen[of_field] = ratio[words.word[of_field]] * max(1.0, after.mean / max(before.mean, 1e-9))
        most = np.zeros(number)
        np.maximum.at(most, words.questions, risen)
        near, worded = np.full((2, number), np.inf)  # of questions that were not kept, anything may be
        there = self._now >= 0
        near[self._now[there]] = self._by_vector.bound[there]
        worded[self._now[there]] = self._by_words.bound[there] * most[self._now[there]]
        return near, worded

    def _still_there(self, bounds: tuple[np.ndarray, np.ndarray]) -> Contenders:
        vectors, words = self._by_vector, self._by_words
        vectors = vectors.of((self._now[vectors.question] >= 0) & (self._new_row[vectors.row] >= 0))
        words = words.of((self._now[words.question] >= 0) & (self._new_row[words.row] >= 0))
        return Contenders(
            by_vector=replace(
                vectors, question=self._now[vectors.question], row=self._new_row[vectors.row], bound=bounds[0]
            ),
            by_words=replace(words, question=self._now[words.question], row=self._new_row[words.row], bound=bounds[1]),
        )

    def _near(self, bound: np.ndarray) -> ByVector:
        """New passages that are as near as a contender."""
        import numpy as np

        if self._new is None:
            return replace(Contenders.none(len(bound)).by_vector, bound=bound)
        out = self._new.without_vector | self._index.left_out[self._new.rows]
        rows, vectors = self._new.rows[~out], self._new.vectors[~out]
        self._longest = max(self._longest, longest(vectors))
        queries = np.stack([each.vector for each in self._asked.questions])
        least = bound - self._rounded()
        near: np.ndarray = queries @ vectors.T >= least[:, None]
        near[~queries.any(axis=1)] = False
        question, place = np.nonzero(near)
        score = products(vectors[place], queries[question])
        return ByVector(question=question, row=rows[place], score=score, bound=bound)

    def _rounded(self) -> np.ndarray:
        """By question, how far a product of vectors in single precision may be off."""
        import numpy as np

        lengths = np.array([float(np.linalg.norm(each.vector)) for each in self._asked.questions])
        return _ROUNDED * self._longest * lengths

    def _worded(
        self, rows: np.ndarray, added: Sequence[Postings], weights: Sequence[Weights], bound: np.ndarray
    ) -> ByWords:
        """Those of some new passages that have a contender's score by words."""
        import numpy as np

        words, passages = self._words, len(self._index)
        of_rows = [each.of_rows(rows) for each in added]
        parts = [self._alone(number, each) for number, each in enumerate(of_rows)]
        parts.append(self._in_phrases(of_rows[0]))
        at, of_row, count = (np.concatenate([part[place] for part in parts]) for place in range(3))
        keys, member = np.unique(words.questions[at] * passages + of_row, return_inverse=True)
        order = np.lexsort((at, member))
        question, row = np.divmod(keys, passages)
        found = ByWords(
            question=question, row=row, told=np.full(len(keys), UNTOLD, np.int16), bound=bound, member=member[order],
            slot=(at - words.begins[words.questions[at]])[order].astype(np.int32), count=count[order],
        )  # fmt: skip
        scores = found.scores(words, weights)
        return found.of((scores >= bound[question]) & (scores > 0) & ~self._index.left_out[row])

    def _alone(self, number: int, added: Postings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which words of the questions new passages have: places among the words asked, passages, how often."""
        import numpy as np

        words = self._words
        slots = np.flatnonzero((words.field == number) & (words.phrase < 0))
        slots = slots[np.argsort(words.word[slots], kind="stable")]
        of_slots, of_rows = words.word[slots], added.words_of_rows()
        begins = np.searchsorted(of_slots, of_rows, side="left")
        times = np.searchsorted(of_slots, of_rows, side="right") - begins
        within = np.arange(int(times.sum())) - np.repeat(np.cumsum(times) - times, times)
        return slots[np.repeat(begins, times) + within], np.repeat(added.rows, times), np.repeat(added.counts, times)

    def _in_phrases(self, added: Postings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import numpy as np

        words, vocabulary = self._words, self._vocabulary
        found: list[tuple[int, int, int]] = []

        def rows_of(word: str) -> np.ndarray:
            return added.rows[added.of(vocabulary.number(word))]

        for number, phrase in enumerate(words.phrases):
            rows = passages_with(phrase, rows_of, self.text, self._asked.tokenize)
            for slot in np.flatnonzero(words.phrase == number).tolist() if len(rows) else ():
                of_slot = added.of(words.word[slot])
                counts = dict(zip(added.rows[of_slot].tolist(), added.counts[of_slot].tolist(), strict=True))
                found += [(slot, row, counts[row]) for row in rows.tolist()]
        at, row, count = np.array(found or np.empty((0, 3)), np.int64).T
        return at, row, count.astype(np.uint16)

    def text(self, row: int, name: str = "text") -> str:
        """Of a new passage it is at hand."""
        import numpy as np

        new = self._new
        place = -1 if new is None else int(np.searchsorted(new.rows, row))
        if new is not None and place < len(new.rows) and new.rows[place] == row:
            return new.texts[name][place].as_py() or ""
        return self._index.text(row, name)

    def _certain(self, found: Contenders, weights: Sequence[Weights]) -> np.ndarray:
        """Of which questions no other passage can be among those that count."""
        import numpy as np

        vectors, words = found.by_vector, found.by_words
        scores = words.scores(self._words, weights)
        near = vectors.bound + self._rounded()
        worded = words.bound * (1 + _ROUNDED)
        certain: np.ndarray = self._lasts(vectors.question, vectors.row, vectors.score, near, -np.inf)
        certain &= self._lasts(words.question, words.row, scores, worded, 0.0)
        return certain

    def _lasts(
        self, question: np.ndarray, row: np.ndarray, score: np.ndarray, bound: np.ndarray, nothing: float
    ) -> np.ndarray:
        import numpy as np

        most, number = self._asked.depth.of_each, len(bound)
        best = best_of_documents(self._index, question, row, score, most)
        counts = np.bincount(question[best], minlength=number)
        last = np.full(number, np.inf)
        np.minimum.at(last, question[best], score[best])
        lasts: np.ndarray = (bound <= nothing) | ((counts == most) & (last > bound))
        return lasts


def _cut(digests: bytes) -> list[bytes]:
    return [digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES)]


def longest(vectors: np.ndarray) -> float:
    import numpy as np

    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max(initial=0.0)))


def _within(names: Sequence[str], of: Sequence[str], codes: np.ndarray) -> np.ndarray:
    """Which of these codes stand for one of the names."""
    import numpy as np

    chosen = set(names)
    of_codes = np.array([name in chosen for name in of], bool)
    found: np.ndarray = of_codes[codes]
    return found


def _in_order(chosen: np.ndarray, rank: np.ndarray) -> np.ndarray:
    import numpy as np

    places = np.flatnonzero(chosen)
    found: np.ndarray = places[np.argsort(rank[places])]
    return found


class _Known:
    """Passages that were there, by digest."""

    def __init__(self, digests: np.ndarray, among: np.ndarray) -> None:
        """`among`: which of all they are. Of the same ones only the first can be found."""
        import numpy as np

        firsts, once = np.unique(digests[among, 0], return_index=True)
        self._firsts, self._seconds, self._places = firsts, digests[among[once], 1], among[once]
        self._is_left = np.ones(len(firsts), bool)

    def places(self, digests: np.ndarray) -> np.ndarray:
        """Which passage each of these was; -1 for a new one. Each is found once."""
        import numpy as np

        found = np.full(len(digests), -1, np.int64)
        if not len(self._firsts):
            return found
        at = np.minimum(np.searchsorted(self._firsts, digests[:, 0]), len(self._firsts) - 1)
        same = (self._firsts[at] == digests[:, 0]) & (self._seconds[at] == digests[:, 1]) & self._is_left[at]
        _, once = np.unique(at, return_index=True)
        same &= np.isin(np.arange(len(at)), once)
        found[same] = self._places[at[same]]
        self._is_left[at[same]] = False
        return found
