"""What a partition's documents are like, in so few numbers that those of a whole release can be held side by side.

Mixes are counts. Words and vectors are samples by the smallest digests, so a sample of several partitions together is
one of the samples of each. No text is in it.
"""

import hashlib
import heapq
import io
import json
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ai_assets.documents.source_listing import source_of

FORMAT = 1
WORDS = 8192
"""Of the vocabulary, those with the smallest digests."""
WORD_DOCUMENTS = 1500
"""Documents whose words make the vocabulary."""
ASKED_DOCUMENTS = 100
"""Documents of which it is asked what share of their words another vocabulary has not got."""
CHARACTERS = 4000
"""Of each of them."""
VECTORS = 200
MOST_VALUES = 200
OTHERS = "(others)"
ALL = ""
"""The slice that is all documents."""
_WORD = re.compile(r"\w+")
_ONLY_WORDS = bytes(code if code < 128 and _WORD.match(chr(code)) else ord(" ") for code in range(256))
"""Of ASCII."""
Digests = npt.NDArray[np.uint32]


@dataclass(kw_only=True)
class Profile:
    """Of one partition."""

    documents: int = 0
    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """By what is looked at and slice, how often each value."""
    words: Digests = field(default_factory=lambda: np.empty(0, np.uint32))
    asked: list[Digests] = field(default_factory=list)
    """The words of some documents."""
    vectors: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    space: str = ""
    """What made the vectors."""

    @property
    def below(self) -> int:
        """Up to which digest the vocabulary is whole."""
        return int(self.words[-1]) if len(self.words) == WORDS else 2**32 - 1

    def encoded(self) -> bytes:
        head = {"format": FORMAT, "documents": self.documents, "counts": self.counts, "space": self.space}
        kept = io.BytesIO()
        asked = np.concatenate(self.asked) if self.asked else np.empty(0, np.uint32)
        sizes = np.array([len(each) for each in self.asked], np.int64)
        said = np.frombuffer(json.dumps(head, sort_keys=True).encode(), np.uint8)
        np.savez(kept, head=said, words=self.words, asked=asked, sizes=sizes, vectors=self.vectors.astype(np.float16))
        return kept.getvalue()

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """None where another version wrote it, or it is damaged: it can be made again."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as kept:
                head = json.loads(kept["head"].tobytes())
                if head["format"] != FORMAT:
                    return None
                cuts = np.cumsum(kept["sizes"])[:-1]
                asked = np.split(kept["asked"], cuts) if len(kept["sizes"]) else []
                vectors = kept["vectors"].astype(np.float32)
                return cls(
                    documents=head["documents"], counts=head["counts"], space=head["space"], words=kept["words"],
                    asked=list(asked), vectors=vectors,
                )  # fmt: skip
        except (ValueError, KeyError, OSError, EOFError, zlib.error, zipfile.BadZipFile):
            return None


@dataclass(kw_only=True)
class ProfileBuilder:
    """Takes documents and vectors as they come, and keeps no more than a profile needs."""

    labels: Sequence[str]
    """Columns of labels."""
    sure: Sequence[str]
    """Columns of confidence."""
    slices: Sequence[str]
    space: str
    _counts: dict[str, dict[str, Counter[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )
    _documents: int = 0
    _texts: list[tuple[int, str]] = field(default_factory=list)
    """By the largest digest first, negated, as a heap keeps the smallest."""
    _vectors: list[tuple[int, int, Any]] = field(default_factory=list)
    _seen: int = 0

    @property
    def columns(self) -> list[str]:
        return ["document_id", "path", "status", "language", "text", *self.labels, *self.sure]

    def add(self, row: Mapping[str, Any]) -> None:
        if row["status"] == "ok":
            self._documents += 1
            _keep_smallest(self._texts, WORD_DOCUMENTS, (-_digest(row["document_id"]), row["text"][:CHARACTERS]))
        elif row["status"] != "quarantined":
            return  # deleted, forgotten or a duplicate: nothing of it is published
        found = dict(_looks(row, self.labels, self.sure))
        within = [ALL, *(f"{name} {found[name]}" for name in self.slices if name in found)]
        for look, value in found.items():
            for slice_ in within:
                if slice_.partition(" ")[0] != look:
                    self._counts[look][slice_][value] += 1

    def wants_vector(self, key: str) -> bool:
        return len(self._vectors) < VECTORS or -_digest(key) > self._vectors[0][0]

    def add_vector(self, key: str, vector: Any) -> None:
        self._seen += 1
        _keep_smallest(self._vectors, VECTORS, (-_digest(key), self._seen, vector))

    def profile(self) -> Profile:
        texts = sorted(self._texts, reverse=True)
        words = [_words(text) for _, text in texts]
        vocabulary = _digests(set().union(*words))
        vectors = [vector for _, _, vector in sorted(self._vectors, key=lambda kept: kept[:2], reverse=True)]
        kept = Profile(
            documents=self._documents,
            counts={look: {s: _most(values) for s, values in found.items()} for look, found in self._counts.items()},
            words=vocabulary[:WORDS],
            vectors=np.asarray(vectors, np.float32) if vectors else np.empty((0, 0), np.float32),
            space=self.space,
        )
        asked = [_digests(each) for each in words[:ASKED_DOCUMENTS]]
        kept.asked = [each[each <= kept.below] for each in asked]
        return kept


def _looks(row: Mapping[str, Any], labels: Sequence[str], sure: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield "readable", "yes" if row["status"] == "ok" else "no"
    yield "source", source_of(row["path"])
    if row["status"] != "ok":
        return
    yield "length", _octave(len(row["text"]))
    yield "language", row["language"] or "unknown"
    for name in labels:
        if row[name] is not None:
            yield name, str(row[name])
    for name in sure:
        if row[name] is not None:
            low = min(int(row[name] * 10), 9) / 10
            yield name, f"{low:.1f} to {low + 0.1:.1f}"


def _octave(characters: int) -> str:
    low = 1 << max(0, characters.bit_length() - 1)
    return f"{low:,} to {2 * low - 1:,} characters"


def _most(values: Counter[str]) -> dict[str, int]:
    kept = dict(sorted(values.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES])
    rest = values.total() - sum(kept.values())
    return {**kept, OTHERS: kept.get(OTHERS, 0) + rest} if rest else kept


def _keep_smallest(kept: list[Any], most: int, item: Any) -> None:
    if len(kept) < most:
        heapq.heappush(kept, item)
    else:
        heapq.heappushpop(kept, item)


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")


def _words(text: str) -> set[bytes]:
    lowered = text.lower()
    if lowered.isascii():  # a fifth of the time
        return set(lowered.encode().translate(_ONLY_WORDS).split())
    return {word.encode("utf-8", "surrogatepass") for word in _WORD.findall(lowered)}


def _digests(words: set[bytes]) -> Digests:
    return np.unique(_mixed(np.fromiter(map(zlib.crc32, words), np.uint32, len(words))))


def _mixed(digests: Digests) -> Digests:
    """A checksum is not spread evenly enough to sample by; multiplied and folded it is."""
    found = digests.copy()
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        found ^= found >> np.uint32(shift)
        found *= np.uint32(factor)
    return found ^ (found >> np.uint32(16))


@dataclass(kw_only=True)
class Reference:
    """Several partitions together. What they have in common is put together once, for all that is held against them."""

    profiles: Sequence[Profile]
    _counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    _vectors: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    _vocabularies: dict[int, "_Vocabulary"] = field(default_factory=dict)

    @cached_property
    def documents(self) -> int:
        return sum(each.documents for each in self.profiles)

    def has(self, look: str, slice_: str) -> bool:
        return any(each.counts.get(look, {}).get(slice_) for each in self.profiles)

    def has_vectors(self, space: str) -> bool:
        return any(each.space == space and len(each.vectors) for each in self.profiles)

    def counts(self, look: str, slice_: str) -> Counter[str]:
        if (look, slice_) not in self._counts:
            found: Counter[str] = Counter()
            for each in self.profiles:
                found.update(each.counts.get(look, {}).get(slice_, {}))
            self._counts[look, slice_] = found
        return self._counts[look, slice_]

    def vectors(self, space: str) -> npt.NDArray[np.float32]:
        """Evenly of all, so that a large partition does not speak for the others."""
        if space not in self._vectors:
            there = [each.vectors for each in self.profiles if each.space == space and len(each.vectors)]
            each = max(2, -(-2 * VECTORS // max(len(there), 1)))
            self._vectors[space] = (
                np.concatenate([vectors[:each] for vectors in there])[: 3 * VECTORS]
                if there
                else np.empty((0, 0), np.float32)
            )
        return self._vectors[space]

    def unseen(self, new: Profile) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """By document, the share of its words that the partitions have not got; and of their own documents, that the
        others of them have not got."""
        below = min(new.below, self._below)
        if (known := self._vocabularies.get(below)) is None:
            known = self._vocabulary(below)
            if below == self._below:  # a new side with a larger vocabulary is the exception
                self._vocabularies[below] = known
        return _shares(new.asked, known.words, below), known.own

    @cached_property
    def _below(self) -> int:
        return min(each.below for each in self.profiles)

    def _vocabulary(self, below: int) -> "_Vocabulary":
        cut = [each.words[each.words <= below] for each in self.profiles]
        words, there = np.unique(np.concatenate(cut), return_counts=True)
        shared = words[there > 1]
        own = [_shares(each.asked, shared, below) for each in self.profiles]
        return _Vocabulary(words=words, own=np.concatenate(own))


@dataclass(frozen=True, kw_only=True)
class _Vocabulary:
    """Of several partitions, up to one digest."""

    words: Digests
    own: npt.NDArray[np.float64]
    """Of their documents, the share of words that no other partition has."""


def _shares(documents: Sequence[Digests], known: Digests, below: int) -> npt.NDArray[np.float64]:
    """`known` is in order. Documents without a word up to there have no share."""
    cut = [words[words <= below] for words in documents]
    sizes = np.array([len(words) for words in cut if len(words)], np.int64)
    if not len(sizes):
        return np.empty(0, np.float64)
    asked = np.concatenate(cut)
    there = np.zeros(len(asked), np.int64)
    if len(known):
        there = (known[np.minimum(np.searchsorted(known, asked), len(known) - 1)] == asked).astype(np.int64)
    return np.asarray(1 - np.add.reduceat(there, np.concatenate([[0], np.cumsum(sizes)[:-1]])) / sizes)
