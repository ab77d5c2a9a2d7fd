"""What the built-in classifier learns from examples, and how far it trusts that: closed form, judged leaving one out.

Three heads look at the examples: a regularised linear one on their vectors, the words that they have, and their manner.
How much each counts beside the descriptions is what would have labelled the examples best, had each been left out; few
examples say little about that, so weights stay near where they start.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ai_assets.stages.classify.base import manner_of, unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ai_assets.stages.classify.descriptions import Descriptions, ReadText

# Chosen on the developing corpora of bench/classifier_corpora.py.
_RIDGE = 2.0
_WORD_PRIOR = 0.5
_MANNER_SPREAD = 0.2
_CLEARLY = 4.0
"""By how many standard deviations manner alone beats chance where it counts: labels are seldom manners of speaking."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What a part may count."""

    starts: float
    others: tuple[float, ...]
    stays: float
    """Likelihood, in nats, that moving it by a factor of e takes; of twice as far, four times as much."""

    def moving(self, to: float) -> float:
        return self.stays * math.log((1 + to) / (1 + self.starts)) ** 2


DESCRIPTIONS = Weight(starts=1.0, others=(0.5, 0.25), stays=16.0)
VECTORS = Weight(starts=5.0, others=(0.0, 2.0, 10.0, 20.0, 40.0), stays=8.0)
WORDS = Weight(starts=1.0, others=(0.0, 0.5, 2.0, 4.0), stays=4.0)
MANNER = Weight(starts=8.0, others=(0.0, 1.0, 2.0, 4.0), stays=1.0)
NOTHING = Weight(starts=0.0, others=(), stays=0.0)

_TEMPERATURES = tuple(1.05**step for step in range(-28, 29))
_STAY_WARM = 4.0
LEAST_GOLDEN = 30
"""Golden documents from which on a temperature is fitted."""


class Head(Protocol):
    left_out: np.ndarray
    """Scores of the examples, each judged without itself: examples x labels."""

    def scores(self, read: ReadText) -> np.ndarray: ...


class Learned:
    """Heads fitted to examples, with their weights."""

    def __init__(self, descriptions: Descriptions, examples: Sequence[tuple[ReadText, int]]) -> None:
        import numpy as np

        self._descriptions = descriptions
        reads, labels = [read for read, _ in examples], np.array([label for _, label in examples])
        self._heads: tuple[Head, ...] = (
            VectorHead(descriptions.vectors, reads, labels),
            WordHead(descriptions.stems, reads, labels),
            MannerHead(len(descriptions.stems), reads, labels),
        )
        said = np.stack([descriptions.scores(read) for read in reads])
        self.weights = weigh([said, *(head.left_out for head in self._heads)], labels)

    def scores(self, read: ReadText) -> np.ndarray:
        import numpy as np

        parts = [self._descriptions.scores(read), *(head.scores(read) for head in self._heads)]
        total: np.ndarray = np.array(self.weights) @ np.stack(parts)
        return total


def weigh(parts: Sequence[np.ndarray], labels: np.ndarray) -> tuple[float, ...]:
    """Of the descriptions, vectors, words and manner. An example that is alone with its label cannot be left out."""
    import numpy as np

    judged = np.bincount(labels, minlength=parts[0].shape[1])[labels] > 1
    rows, truth = [part[judged] for part in parts], labels[judged]
    weights = (DESCRIPTIONS, VECTORS, WORDS, MANNER if _tells_clearly(rows[-1], truth) else NOTHING)

    def cost(chosen: tuple[float, ...]) -> float:
        moved = sum(weight.moving(to) for weight, to in zip(weights, chosen, strict=True))
        return unlikelihood(sum(to * part for to, part in zip(chosen, rows, strict=True)), truth) + moved

    return min(itertools.product(*((each.starts, *each.others) for each in weights)), key=cost)


def _tells_clearly(scores: np.ndarray, truth: np.ndarray) -> bool:
    """Whether the best score is the right label so often that it is no chance."""
    count, chance = len(truth), 1 / int(scores.shape[1])
    right = int((scores.argmax(axis=1) == truth).sum())
    return right - count * chance > _CLEARLY * math.sqrt(count * chance * (1 - chance))


def unlikelihood(scores: np.ndarray, truth: np.ndarray) -> float:
    """In nats, over all rows."""
    import numpy as np

    above = scores - scores.max(axis=1, keepdims=True)
    told = above[np.arange(len(truth)), truth] - np.log(np.exp(above).sum(axis=1))
    return -float(told.sum())


def temperature(scores: np.ndarray, truth: np.ndarray) -> float:
    """By which scores are divided so that shares are as sure as they are right; near 1 where few labels are known."""
    if len(truth) < LEAST_GOLDEN:
        return 1.0
    return min(_TEMPERATURES, key=lambda each: unlikelihood(scores / each, truth) + _STAY_WARM * math.log(each) ** 2)


class VectorHead:
    """Ridge regression from a text's vector to its label. Each description is an example too, so a label without other
    examples has that; all labels weigh the same, however many examples they have."""

    def __init__(self, described: np.ndarray, reads: Sequence[ReadText], labels: np.ndarray) -> None:
        import numpy as np

        of, count = len(described), len(labels)
        counts = np.bincount(labels, minlength=of)
        weights = np.concatenate([(count / (counts > 0).sum() / np.maximum(counts, 1))[labels], np.ones(of)])
        rows = np.concatenate([np.stack([read.vector for read in reads]).astype(np.float64), described])
        truth = np.eye(of)[np.concatenate([labels, np.arange(of)])] - 1 / of
        self._centre = weights @ rows / weights.sum()
        rows = rows - self._centre
        weighed = rows * weights[:, None]
        inverse = np.linalg.inv(rows.T @ weighed + _RIDGE * np.eye(rows.shape[1]))
        self._map = inverse @ weighed.T @ truth
        own = np.einsum("nd,de,ne->n", rows, inverse, weighed)[:count, None]
        self.left_out = (rows[:count] @ self._map - own * truth[:count]) / (1 - own)

    def scores(self, read: ReadText) -> np.ndarray:
        found: np.ndarray = (read.vector - self._centre) @ self._map
        return found


class WordHead:
    """In which share of a label's examples a word occurs, beside the other labels."""

    def __init__(self, described: Sequence[set[str]], reads: Sequence[ReadText], labels: np.ndarray) -> None:
        import numpy as np

        stems = [read.stems for read in reads]
        known = sorted(set().union(*described, *stems))
        self._index = {each: number for number, each in enumerate(known)}
        self._texts = np.ones(len(described))
        self._found = np.zeros((len(described), len(known)))
        for label, own in enumerate(described):
            self._found[label, [self._index[each] for each in own]] += 1
        for label, words in zip(labels, stems, strict=True):
            self._found[label, [self._index[each] for each in words]] += 1
            self._texts[label] += 1
        self.left_out = np.stack(
            [self._scores(words, without=label) for label, words in zip(labels, stems, strict=True)]
        )

    def scores(self, read: ReadText) -> np.ndarray:
        return self._scores(read.stems)

    def _scores(self, stems: Counter[str], without: int | None = None) -> np.ndarray:
        import numpy as np

        known = [(self._index[each], 1 + math.log(count)) for each, count in stems.items() if each in self._index]
        if not known:
            return np.zeros(len(self._texts))
        columns, weights = zip(*known, strict=True)
        found, texts = self._found[:, columns], self._texts
        if without is not None:
            own = np.eye(len(texts))[without]
            found, texts = found - own[:, None], texts - own
        rates = found / texts[:, None]
        shares = rates / (rates.sum(axis=0) + _WORD_PRIOR / texts.mean())
        total: np.ndarray = (shares - shares.mean(axis=0)) @ np.array(weights) / math.sqrt(len(stems))
        return total


class MannerHead:
    """How texts of a label speak: rates of questions, orders, sums and the like. Labels without examples have none."""

    def __init__(self, of: int, reads: Sequence[ReadText], labels: np.ndarray) -> None:
        import numpy as np

        self._rates = np.stack([manner_of(read.whole) for read in reads])
        self._labels, self._of = labels, of
        self._fitted = self._fit(np.ones(len(labels), dtype=bool))
        others = ~np.eye(len(labels), dtype=bool)
        self.left_out = np.stack(
            [self._scores(rates, self._fit(kept)) for rates, kept in zip(self._rates, others, strict=True)]
        )

    def scores(self, read: ReadText) -> np.ndarray:
        return self._scores(manner_of(read.whole), self._fitted)

    def _fit(self, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        import numpy as np

        labels, rates = self._labels[kept], self._rates[kept]
        there = np.unique(labels)
        if len(there) < 2:
            return None
        means = np.stack([rates[labels == label].mean(axis=0) for label in there])
        centre, spread = means.mean(axis=0), means.std(axis=0) + _MANNER_SPREAD
        directions = np.zeros((self._of, rates.shape[1]))
        directions[there] = unit((means - centre) / spread)
        return centre, spread, directions

    def _scores(self, rates: np.ndarray, fitted: tuple[np.ndarray, np.ndarray, np.ndarray] | None) -> np.ndarray:
        import numpy as np

        if fitted is None:
            return np.zeros(self._of)
        centre, spread, directions = fitted
        found: np.ndarray = directions @ unit((rates - centre) / spread)
        return found
