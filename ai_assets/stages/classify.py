"""The built-in zero-shot classifier: which of the described labels a document resembles most, and where it shows.

Four views of a document are compared with each label's description and examples: the meaning of its sentences, its
title, the words it shares with one label rather than the others, and its manner. No label or collection is special.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ai_assets.stages.manner import manner

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ai_assets.stages.embed import Embedder

ALGORITHM_VERSION = "1"

READ_CHARACTERS = 20_000
"""What a document is shows early: the rest of a longer one is not read."""
EVIDENCE_CHARACTERS = 300

# Chosen on tests/data/classify_dev.jsonl, 66 texts of another company: each view is divided by its spread there and then
# counts 1, a title 0.25; accuracy is 0.94 to 0.95 for all weights near these. The temperature that fits best there is
# 0.5, taken as 0.7 because the labels and those texts have one author.
_MEANING, _TITLE, _WORDS, _MANNER = 13.0, 2.2, 3.1, 2.7
_TEMPERATURE = 0.7

_SENTENCE = re.compile(r"[^\s](?:[^\n.!?]|[.!?](?!\s))*[.!?]*")
_CLAUSE = re.compile(r"[,;:.]")
_TOKEN = re.compile(r"[^\W\d_]+|[?%]")
_COMMON = frozenset(("a an the of and to in on or is are as at by for with that it this be").split())


@dataclass(frozen=True, kw_only=True)
class Label:
    """One kind of document, in its owner's words."""

    name: str
    description: str
    examples: tuple[str, ...] = ()
    """Short phrases as such a document would have them; they show its manner as well as its words."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a document was taken for, how surely, and why."""

    label: str
    confidence: float
    """Between 1 / number of labels and 1; about the share of right answers among documents with this value."""
    runner_up: str | None
    runner_up_confidence: float | None
    evidence: str
    """The sentence that speaks most for the label, verbatim; empty if the text has none."""
    evidence_start: int
    """Where it begins in the text, in characters."""


class BuiltinClassifier:
    """Reads the labels once. What it says of a document depends on that document and the labels alone."""

    def __init__(self, labels: Sequence[Label], embedder: Embedder) -> None:
        if not labels or len({label.name for label in labels}) < len(labels):
            raise ValueError("a classifier needs at least one label, each with its own name")
        self._labels = tuple(labels)
        self._embedder = embedder

    @functools.cached_property
    def version(self) -> str:
        """Changes when an answer could: labels, algorithm or embedder."""
        key = [ALGORITHM_VERSION, self._embedder.name, self._embedder.version, [asdict(label) for label in self._labels]]
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    def classify(self, texts: Sequence[tuple[str, str]]) -> list[Classification]:
        """One classification per (title, text), in order."""
        return [self._classify(title, text[:READ_CHARACTERS]) for title, text in texts]

    @functools.cached_property
    def _profile(self) -> _Profile:
        return _Profile(self._labels, self._embedder)

    def _classify(self, title: str, text: str) -> Classification:
        import numpy as np

        spans = sentence_spans(text)
        sentences = [text[start:end] for start, end in spans]
        meanings, title_meaning = self._profile.meanings(sentences, title)
        views = self._profile.views(meanings, title_meaning, f"{title}\n{text}")
        odds = np.exp((views - views.max()) / _TEMPERATURE)
        confidences = odds / odds.sum()
        order = np.argsort(-confidences, kind="stable")
        winner = int(order[0])
        runner_up = int(order[1]) if len(order) > 1 else None
        start, end = (0, 0)
        if spans:
            support = [
                meaning[winner] + self._profile.words(Counter(_tokens(sentence)))[winner]
                for meaning, sentence in zip(meanings, sentences, strict=True)
            ]
            start, end = spans[int(np.argmax(support))]
        return Classification(
            label=self._labels[winner].name,
            confidence=float(confidences[winner]),
            runner_up=None if runner_up is None else self._labels[runner_up].name,
            runner_up_confidence=None if runner_up is None else float(confidences[runner_up]),
            evidence=text[start : min(end, start + EVIDENCE_CHARACTERS)],
            evidence_start=start,
        )


class _Profile:
    """What the labels look like, seen in each view and relative to each other."""

    def __init__(self, labels: Sequence[Label], embedder: Embedder) -> None:
        import numpy as np

        self._embedder = embedder
        phrases = [[label.name, *_clauses(label.description), *label.examples] for label in labels]
        vectors = [embedder.embed(each) for each in phrases]
        means = np.stack([each.mean(axis=0) for each in vectors])
        self._centre = means.mean(axis=0)
        self._directions = _unit(means - self._centre)
        self._phrases = [_unit(each - self._centre) for each in vectors]
        words = [set(_tokens(" ".join(each))) for each in phrases]
        known = sorted(set().union(*words))
        owners = np.array([[word in each for each in words] for word in known], dtype=float)
        self._index = {word: i for i, word in enumerate(known)}
        self._shares = owners / owners.sum(axis=1, keepdims=True) - 1 / len(labels)
        manners = np.stack(
            [
                np.mean([manner(text, len(sentence_spans(text))) for text in label.examples or [label.description]], axis=0)
                for label in labels
            ]
        )
        self._manner_centre = manners.mean(axis=0)
        self._manner_spread = manners.std(axis=0) + 0.05
        self._manners = self._in_manner_space(manners)

    def meanings(self, sentences: Sequence[str], title: str) -> tuple[np.ndarray, np.ndarray]:
        """Likeness of each sentence to each label, and of the title to each label's closest phrase."""
        import numpy as np

        rows = _unit(self._embedder.embed([*sentences, title]) - self._centre)
        if title.strip():
            by_title = np.array([(phrases @ rows[-1]).max() for phrases in self._phrases])
        else:
            by_title = np.zeros(len(self._phrases))
        return rows[:-1] @ self._directions.T, by_title

    def words(self, counts: Counter[str]) -> np.ndarray:
        """How far the words are those of one label rather than of all, per word of the text."""
        import numpy as np

        known = [word for word in counts if word in self._index]
        weights = 1 + np.log([counts[word] for word in known])
        total: np.ndarray = weights @ self._shares[[self._index[word] for word in known]] / np.sqrt(max(len(counts), 1))
        return total

    def views(self, meanings: np.ndarray, by_title: np.ndarray, text: str) -> np.ndarray:
        """The four views together, one number per label."""
        import numpy as np

        meaning = meanings.mean(axis=0) if len(meanings) else np.zeros(len(self._phrases))
        by_words = self.words(Counter(_tokens(text)))
        by_manner = self._manners @ self._in_manner_space(manner(text, len(meanings)))
        weighted = ((_MEANING, meaning), (_TITLE, by_title), (_WORDS, by_words), (_MANNER, by_manner))
        return np.sum([weight * (view - view.mean()) for weight, view in weighted], axis=0)

    def _in_manner_space(self, rates: np.ndarray) -> np.ndarray:
        return _unit((rates - self._manner_centre) / self._manner_spread)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences and lines of a text that hold a word begin and end, without surrounding space."""
    spans = []
    for found in _SENTENCE.finditer(text):
        sentence = found.group().rstrip()
        if any(character.isalnum() for character in sentence):
            spans.append((found.start(), found.start() + len(sentence)))
    return spans


def _clauses(description: str) -> list[str]:
    return [clause.strip() for clause in _CLAUSE.split(description) if clause.strip()]


def _tokens(text: str) -> list[str]:
    return [token for token in _TOKEN.findall(text.lower()) if token not in _COMMON]


def _unit(rows: np.ndarray) -> np.ndarray:
    import numpy as np

    scaled: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return scaled
