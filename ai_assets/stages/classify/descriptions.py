"""How much a text resembles the description of each label: what the built-in classifier knows before any example."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.stages.classify.base import Label, clauses, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ai_assets.embedding.builtin import BuiltinEmbedder
    from ai_assets.stages.classify.adaptation import Adaptation

# Fitted by likelihood on the developing corpora of bench/classifier_corpora.py and tests/data/classify_dev.jsonl, each
# counting the same, so the shares that they give need no further temperature there. docs/classifier.md has the figures.
_WEIGHTS = (4.3, 4.1, 2.4, 1.5, 0.7)

_STEM_CHARACTERS = 6
_CACHED_WORDS = 100_000
_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION_WORDS = frozenset(
    """about above after all also an and any are as at be because been before being below between both but by can could
    did do does doing down during each etc few for from further had has have having he her here hers him his how if in
    into is it its itself just me more most my no nor not now of off on once only or other our out over own same she
    should so some such than that the their theirs them then there these they this those through to too under until up
    very was we were what when where which while who whom why will with would you your""".split()
)


@dataclass(frozen=True, kw_only=True)
class ReadText:
    """A text with its title, as all parts of the classifier look at it."""

    title: str
    whole: str
    vector: np.ndarray
    words: Counter[str]
    """Those that say something, and how often."""

    @property
    def stems(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for word, count in self.words.items():
            found[stem(word)] += count
        return found


class Descriptions:
    """The labels' names and descriptions in several views, which are added up."""

    def __init__(
        self, labels: Sequence[Label], embedder: BuiltinEmbedder, adaptation: Adaptation | None = None
    ) -> None:
        import numpy as np

        self._adapted: tuple[np.ndarray, float] | None = None
        if adaptation is not None:
            rows = np.array([adaptation.numbers[label.name] for label in labels], dtype=np.float64)
            self._adapted = rows, adaptation.temperature
        self._embedder = embedder
        self._known: dict[str, tuple[np.ndarray, float]] = {}
        full = [f"{label.name}: {label.description}" for label in labels]
        phrases = [embedder.embed([label.name, *clauses(label.description)]) for label in labels]
        self.vectors = embedder.embed(full).astype(np.float64)
        """Of each label's name and description."""
        self.stems = [{stem(word) for word in words_of(text)} for text in full]
        self._phrases = phrases
        self._means = unit(np.stack([rows.mean(axis=0) for rows in phrases]))
        self._centre = self._means.mean(axis=0)
        self._directions = unit(self._means - self._centre)
        self._topics = unit(np.stack([embedder.sums(sorted(words_of(text))).sum(axis=0) for text in full]))
        owners = Counter(each for stems in self.stems for each in stems)
        self._shares = [{each: 1 / owners[each] for each in stems} for stems in self.stems]
        self._owned = frozenset(owners)

    def read(self, title: str, text: str) -> ReadText:
        whole = f"{title}\n{text}" if title.strip() else text
        return ReadText(title=title, whole=whole, vector=self._embedder.embed([whole])[0], words=words_of(whole))

    def scores(self, read: ReadText) -> np.ndarray:
        """Per label the logarithm of how likely it is, up to what all of them have in common."""
        import numpy as np

        views = np.stack(
            [
                self._by_topic(read.words),
                self._means @ read.vector,
                np.array([(rows @ read.vector).max() for rows in self._phrases]),
                self._by_title(read.title),
                self._by_words(read.words),
            ]
        ).astype(np.float64)
        total: np.ndarray = np.array(_WEIGHTS) @ (views - views.mean(axis=1, keepdims=True))
        if self._adapted is None:
            return total
        rows, temperature = self._adapted
        adapted: np.ndarray = (total + rows[:, 0] + rows[:, 1:] @ read.vector.astype(np.float64)) / temperature
        return adapted

    def support(self, sentences: Sequence[str]) -> np.ndarray:
        """How much each sentence speaks for each label."""
        import numpy as np

        rows = unit(self._embedder.embed(sentences) - self._centre) @ self._directions.T
        labels = range(len(self.stems))
        shares = [[self._share(label, words) for label in labels] for words in map(words_of, sentences)]
        total: np.ndarray = rows + np.array(shares)
        return total

    def _share(self, label: int, words: Counter[str]) -> float:
        found = {stem(word) for word in words}
        mean = len(found & self._owned) / len(self.stems)
        own = sum(self._shares[label].get(each, 0.0) for each in found)
        return (own - mean) / math.sqrt(len(found) or 1)

    def _by_topic(self, words: Counter[str]) -> np.ndarray:
        """The likeness of the words that tell the labels apart: each counts as far as it resembles some labels more
        than others, so what a text says beside the matter does not blur it."""
        import numpy as np

        if not words:
            return np.zeros(len(self.stems))
        sums, spreads = zip(*[self._word(word) for word in words], strict=True)
        weights = (1 + np.log(list(words.values()))) * np.array(spreads)
        likeness: np.ndarray = self._topics @ unit(weights @ np.stack(sums))
        return likeness

    def _word(self, word: str) -> tuple[np.ndarray, float]:
        """Its vector, and how differently the labels resemble it."""
        found = self._known.get(word)
        if found is None:
            vector = self._embedder.sums([word])[0]
            found = vector, float((self.vectors @ unit(vector)).std())
            if len(self._known) < _CACHED_WORDS:
                self._known[word] = found
        return found

    def _by_title(self, title: str) -> np.ndarray:
        import numpy as np

        if not title.strip():
            return np.zeros(len(self.stems))
        likeness: np.ndarray = self._directions @ unit(self._embedder.embed([title])[0] - self._centre)
        return likeness

    def _by_words(self, words: Counter[str]) -> np.ndarray:
        """Words of the descriptions themselves, each shared among the labels that have it."""
        import numpy as np

        found = {stem(word) for word in words} & self._owned
        return np.array([sum([shares.get(each, 0.0) for each in found]) for shares in self._shares])


def words_of(text: str) -> Counter[str]:
    return Counter([word for word in _WORD.findall(text.lower()) if word not in _FUNCTION_WORDS])


def stem(word: str) -> str:
    return word[:_STEM_CHARACTERS] if len(word) > _STEM_CHARACTERS else word.removesuffix("s")
