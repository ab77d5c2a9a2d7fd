"""The built-in classifier: which of the described labels a document resembles most, and where it shows.

It begins with the descriptions alone, and learns from the examples of each label. No label and no collection is
special, and nothing of other documents counts.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ai_assets.stages.classify.base import (
    READ_CHARACTERS,
    Classification,
    Label,
    decided,
    distinct,
    sentence_spans,
)
from ai_assets.stages.classify.descriptions import Descriptions
from ai_assets.stages.classify.learning import Learned, temperature

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ai_assets.embedding.builtin import BuiltinEmbedder

__all__ = ["READ_CHARACTERS", "BuiltinClassifier", "Classification", "Label", "sentence_spans"]

ALGORITHM_VERSION = "2"
_SHORTEST_EVIDENCE = 16
"""In characters, as not every script has words between spaces."""


class BuiltinClassifier:
    """Reads the labels once. What it says of a document depends on that document and the labels alone."""

    def __init__(self, labels: Sequence[Label], embedder: BuiltinEmbedder, *, temperature: float = 1.0) -> None:
        self._labels = distinct(labels)
        self._embedder = embedder
        self.temperature = temperature
        """What scores are divided by: above 1 it is less sure than by itself."""

    @functools.cached_property
    def version(self) -> str:
        """Changes when an answer could: labels, algorithm, embedder or temperature."""
        return self.version_with(ALGORITHM_VERSION)

    def version_with(self, algorithm: str) -> str:
        """What it would be with another algorithm."""
        embedder = self._embedder
        key: list[object] = [algorithm, embedder.name, embedder.version, [asdict(label) for label in self._labels]]
        if self.temperature != 1.0:
            key.append(round(self.temperature, 6))
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]

    def classify(self, texts: Sequence[tuple[str, str]]) -> list[Classification]:
        """One classification per (title, text), in order."""
        return [self._classify(title, text[:READ_CHARACTERS]) for title, text in texts]

    def calibrated(self, golden: Sequence[tuple[str, str, str]]) -> BuiltinClassifier:
        """The same with its confidence fitted to documents of known label: (title, text, label). Labels stay."""
        import numpy as np

        names = [label.name for label in self._labels]
        known = [(title, text, names.index(label)) for title, text, label in golden if label in names]
        if not known:
            return self
        scores = np.stack([self._scores(title, text[:READ_CHARACTERS]) for title, text, _ in known])
        fitted = temperature(scores, np.array([label for _, _, label in known]))
        return self.at(fitted)

    def at(self, temperature: float) -> BuiltinClassifier:
        """The same at another temperature."""
        return BuiltinClassifier(self._labels, self._embedder, temperature=temperature)

    @functools.cached_property
    def _descriptions(self) -> Descriptions:
        return Descriptions(self._labels, self._embedder)

    @functools.cached_property
    def _learned(self) -> Learned | None:
        examples = [
            (self._descriptions.read("", text[:READ_CHARACTERS]), number)
            for number, label in enumerate(self._labels)
            for text in label.examples
        ]
        return Learned(self._descriptions, examples) if examples else None

    def _scores(self, title: str, text: str) -> np.ndarray:
        read = self._descriptions.read(title, text)
        return (self._learned or self._descriptions).scores(read)

    def _classify(self, title: str, text: str) -> Classification:
        spans = _telling(sentence_spans(text))
        sentences = [text[start:end] for start, end in spans]
        scores = self._scores(title, text)
        return decided(
            self._labels, scores, self.temperature, text,
            lambda winner: self._descriptions.support(sentences)[:, winner], spans,
        )  # fmt: skip


def _telling(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that are more than a word or two ("Invoice no."), which show a person nothing; all where none is."""
    return [(start, end) for start, end in spans if end - start >= _SHORTEST_EVIDENCE] or spans
