"""The first version of the built-in classifier, as it was: homes that it labelled go on with it until they migrate.

Five views of a document are compared with each label's description and examples: the meaning of its sentences, its
title, the words it shares with one label rather than the others, words akin to those, and its manner. The rehearsal
provider answers by it too. Nothing of it changes, so that a row that is lost is made again as it was signed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

from ai_assets.stages.classify.base import (
    READ_CHARACTERS,
    Classification,
    Label,
    clauses,
    decided,
    distinct,
    manner_of,
    sentence_spans,
    shares_at,
    unit,
)
from ai_assets.stages.classify.style_features import manner

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ai_assets.embedding.builtin import BuiltinEmbedder

VERSION = "1"

# Chosen on tests/data/classify_dev.jsonl: 120 texts of two other companies in two styles. Each view is divided by its
# spread there and multiplied by 0.5, 0.25, 0.5, 1 and 1.5, in the order of `views`. The likeliest temperature there is
# 0.7; it is a little higher because those texts and their labels have one author.
_WEIGHTS = (6.7, 2.5, 1.5, 3.5, 3.6)
_TEMPERATURE = 0.8
_KIN_FROM = 0.4
_KIN_CHARACTERS = 4
_CACHED_WORDS = 100_000

_TOKEN = re.compile(r"[^\W\d_]+|[?%]")
_COMMON = frozenset("a an the of and to in on or is are as at by for with that it this be".split())


class FirstClassifier:
    """Reads the labels once. What it says of a document depends on that document and the labels alone."""

    def __init__(self, labels: Sequence[Label], embedder: BuiltinEmbedder) -> None:
        self._labels = distinct(labels)
        self._embedder = embedder

    @functools.cached_property
    def version(self) -> str:
        """Changes when an answer could: labels, algorithm or embedder."""
        return self.version_with(VERSION)

    def version_with(self, algorithm: str) -> str:
        """What it would be with another algorithm."""
        embedder = self._embedder
        key = [algorithm, embedder.name, embedder.version, [asdict(label) for label in self._labels]]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    def classify(self, texts: Sequence[tuple[str, str]]) -> list[Classification]:
        """One classification per (title, text), in order."""
        return [self._classify(title, text[:READ_CHARACTERS]) for title, text in texts]

    @functools.cached_property
    def _profile(self) -> _Profile:
        return _Profile(self._labels, self._embedder)

    def _classify(self, title: str, text: str) -> Classification:
        spans = sentence_spans(text)
        sentences = [text[start:end] for start, end in spans]
        tokens = [_tokens(sentence) for sentence in sentences]
        meanings, by_title = self._profile.meanings(sentences, title)
        counts = Counter(chain(_tokens(title), *tokens))
        views = self._profile.views(meanings, by_title, counts, manner(f"{title}\n{text}", len(sentences)))

        def support(winner: int) -> np.ndarray:
            return meanings[:, winner] + [self._profile.share(winner, each) for each in tokens]

        return decided(self._labels, shares_at(views, _TEMPERATURE), text, support, spans)


class _Profile:
    """What the labels look like, seen in each view and relative to each other."""

    def __init__(self, labels: Sequence[Label], embedder: BuiltinEmbedder) -> None:
        import numpy as np

        self._embedder = embedder
        phrases = [[label.name, *clauses(label.description), *label.examples] for label in labels]
        vectors = [embedder.embed(each) for each in phrases]
        means = np.stack([each.mean(axis=0) for each in vectors])
        self._centre = means.mean(axis=0)
        self._directions = unit(means - self._centre)
        self._phrases = [unit(each - self._centre) for each in vectors]
        words = [set(_tokens(" ".join(each))) for each in phrases]
        known = sorted(set().union(*words))
        owners = np.array([[word in each for each in words] for word in known], dtype=float)
        self._index = {word: i for i, word in enumerate(known)}
        self._owners = owners / owners.sum(axis=1, keepdims=True)
        self._shares = self._owners - 1 / len(labels)
        self._share_lists: list[list[float]] = self._shares.T.tolist()
        self._cues = embedder.embed(known)
        self._kin: dict[str, list[float]] = {}
        spoken = [label.examples or (label.description,) for label in labels]
        manners = np.stack([np.mean([manner_of(text) for text in each], axis=0) for each in spoken])
        self._manner_centre = manners.mean(axis=0)
        self._manner_spread = manners.std(axis=0) + 0.2
        self._manners = self._in_manner_space(manners)

    def meanings(self, sentences: Sequence[str], title: str) -> tuple[np.ndarray, np.ndarray]:
        """Likeness of each sentence to each label, and of the title to each label's closest phrase."""
        import numpy as np

        rows = unit(self._embedder.embed([*sentences, title]) - self._centre)
        if title.strip():
            by_title = np.array([(phrases @ rows[-1]).max() for phrases in self._phrases])
        else:
            by_title = np.zeros(len(self._phrases))
        return rows[:-1] @ self._directions.T, by_title

    def words(self, counts: Counter[str]) -> np.ndarray:
        """How far the words are those of one label rather than of all, per word of the text."""
        import numpy as np

        known = [(self._index[word], 1 + math.log(count)) for word, count in counts.items() if word in self._index]
        if not known:
            return np.zeros(len(self._phrases))
        rows, weights = zip(*known, strict=True)
        return _weighted_sum(self._shares[list(rows)], weights, len(counts))

    def share(self, label: int, tokens: Sequence[str]) -> float:
        """The same for one label and one sentence."""
        index, shares = self._index, self._share_lists[label]
        return sum(shares[index[word]] for word in tokens if word in index) / math.sqrt(len(tokens) or 1)

    def kin(self, counts: Counter[str]) -> np.ndarray:
        """How near the words come to the words of one label rather than of all."""
        import numpy as np

        rows, weights = [], []
        for word, count in counts.items():
            if len(word) >= _KIN_CHARACTERS:
                rows.append(self._kin.get(word) or self._near(word))
                weights.append(1 + math.log(count))
        return _weighted_sum(np.array(rows), weights, len(counts)) if rows else np.zeros(len(self._phrases))

    def _near(self, word: str) -> list[float]:
        import numpy as np

        likeness = np.maximum(self._cues @ self._embedder.embed([word])[0] - _KIN_FROM, 0) / (1 - _KIN_FROM)
        near = (likeness[:, None] * self._owners).max(axis=0)
        centred: list[float] = (near - near.mean()).tolist()
        if len(self._kin) < _CACHED_WORDS:
            self._kin[word] = centred
        return centred

    def views(self, meanings: np.ndarray, by_title: np.ndarray, counts: Counter[str], rates: np.ndarray) -> np.ndarray:
        """The five views together, one number per label."""
        import numpy as np

        meaning = meanings.mean(axis=0) if len(meanings) else np.zeros(len(self._phrases))
        by_manner = self._manners @ self._in_manner_space(rates)
        views = np.stack([meaning, by_title, self.words(counts), self.kin(counts), by_manner])
        total: np.ndarray = np.array(_WEIGHTS) @ (views - views.mean(axis=1, keepdims=True))
        return total

    def _in_manner_space(self, rates: np.ndarray) -> np.ndarray:
        relative = (rates - self._manner_centre) / self._manner_spread
        return unit(relative)


def _tokens(text: str) -> list[str]:
    return [token for token in _TOKEN.findall(text.lower()) if token not in _COMMON]


def _weighted_sum(rows: np.ndarray, weights: Sequence[float], words: int) -> np.ndarray:
    """Per square root of all words of the text, so that long texts are surer than short ones, but not in proportion."""
    import numpy as np

    total: np.ndarray = np.asarray(weights) @ rows / math.sqrt(words)
    return total
