"""The built-in classifier: which of the described labels a document resembles most, and where it shows.

It begins with the descriptions alone, and learns from the examples of each label. No label and no collection is
special, and nothing of other documents counts but what a declared file says (adaptation.py).
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
from ai_assets.stages.classify.confidence import Sureness, fitted_sureness
from ai_assets.stages.classify.descriptions import Descriptions
from ai_assets.stages.classify.learning import Learned

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ai_assets.embedding.builtin import BuiltinEmbedder
    from ai_assets.stages.classify.adaptation import Adaptation
    from ai_assets.stages.classify.descriptions import ReadText

__all__ = ["READ_CHARACTERS", "BuiltinClassifier", "Classification", "Label", "sentence_spans"]

ALGORITHM_VERSION = "2"
_SHORTEST_EVIDENCE = 16
"""In characters, as not every script has words between spaces."""


class BuiltinClassifier:
    """Reads the labels once. What it says of a document depends on that document, the labels and the adaptation."""

    def __init__(
        self,
        labels: Sequence[Label],
        embedder: BuiltinEmbedder,
        *,
        adaptation: Adaptation | None = None,
        sureness: Sureness | None = None,
    ) -> None:
        self._labels = distinct(labels)
        self._embedder = embedder
        self._adaptation = adaptation
        self._unfitted = Sureness(doubt=adaptation.doubt if adaptation else 0.0)
        self.sureness = sureness or self._unfitted

    @functools.cached_property
    def version(self) -> str:
        """Changes when an answer could: labels, algorithm, embedder, adaptation or how sure it is."""
        return self.version_with(ALGORITHM_VERSION)

    def version_with(self, algorithm: str) -> str:
        """What it would be with another algorithm."""
        embedder = self._embedder
        key: list[object] = [algorithm, embedder.name, embedder.version, [asdict(label) for label in self._labels]]
        if self._adaptation is not None:
            key.append(self._adaptation.digest)
        if self.sureness != self._unfitted:
            key += self.sureness.described
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
        scores = np.stack([self.scores(self.read(title, text)) for title, text, _ in known])
        return self.fitted_to(scores, np.array([label for _, _, label in known]))

    def fitted_to(self, scores: np.ndarray, truth: np.ndarray) -> BuiltinClassifier:
        """The same, by the scores of such documents and the numbers of their labels."""
        return self.at(fitted_sureness(scores, truth, self._adaptation.doubt if self._adaptation else None))

    def at(self, sureness: Sureness | None) -> BuiltinClassifier:
        """The same, so sure; None: as it is by itself."""
        return BuiltinClassifier(self._labels, self._embedder, adaptation=self._adaptation, sureness=sureness)

    @functools.cached_property
    def _descriptions(self) -> Descriptions:
        return Descriptions(self._labels, self._embedder, self._adaptation)

    @functools.cached_property
    def _learned(self) -> Learned | None:
        examples = [
            (self._descriptions.read("", text[:READ_CHARACTERS]), number)
            for number, label in enumerate(self._labels)
            for text in label.examples
        ]
        return Learned(self._descriptions, examples) if examples else None

    def read(self, title: str, text: str) -> ReadText:
        return self._descriptions.read(title, text[:READ_CHARACTERS])

    def scores(self, read: ReadText) -> np.ndarray:
        """Per label, before they are made shares."""
        return (self._learned or self._descriptions).scores(read)

    def _classify(self, title: str, text: str) -> Classification:
        spans = _telling(sentence_spans(text))
        sentences = [text[start:end] for start, end in spans]
        return decided(
            self._labels, self.sureness.shares(self.scores(self.read(title, text))), text,
            lambda winner: self._descriptions.support(sentences)[:, winner], spans,
        )  # fmt: skip


def _telling(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that are more than a word or two ("Invoice no."), which show a person nothing; all where none is."""
    return [(start, end) for start, end in spans if end - start >= _SHORTEST_EVIDENCE] or spans
