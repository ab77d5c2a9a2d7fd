"""What every version of the built-in classifier takes and gives, and how each reads a text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.stages.classify.style_features import manner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

READ_CHARACTERS = 20_000
"""What a document is shows early: the rest of a longer one is not read."""
EVIDENCE_CHARACTERS = 300

_SENTENCE = re.compile(r"[^\s][^\n.!?]*(?:[.!?]+(?!\s)[^\n.!?]*)*[.!?]*")
_CLAUSE = re.compile(r"[,;:.]")


@dataclass(frozen=True, kw_only=True)
class Label:
    """One kind of document, in its owner's words."""

    name: str
    description: str
    examples: tuple[str, ...] = ()
    """Phrases or whole documents that have the label."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What a document was taken for, how surely, and why."""

    label: str
    confidence: float
    """Between 1 / number of labels and 1; about the share of right answers among documents with this value."""
    runner_up: str | None
    runner_up_confidence: float | None
    evidence: str | None
    """The sentence that speaks most for the label, verbatim; empty if the text has none, None of a model that names
    none."""
    evidence_start: int | None
    """Where it begins in the text, in characters."""


def distinct(labels: Sequence[Label]) -> tuple[Label, ...]:
    if not labels or len({label.name for label in labels}) < len(labels):
        raise ValueError("a classifier needs at least one label, each with its own name")
    return tuple(labels)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences and lines of a text that hold a word begin and end, without surrounding space."""
    spans = []
    for found in _SENTENCE.finditer(text):
        sentence = found.group().rstrip()
        if any(character.isalnum() for character in sentence):
            spans.append((found.start(), found.start() + len(sentence)))
    return spans


def shares_at(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """What scores per label come to as shares of 1."""
    import numpy as np

    odds = np.exp((scores - scores.max(axis=-1, keepdims=True)) / temperature)
    shares: np.ndarray = odds / odds.sum(axis=-1, keepdims=True)
    return shares


def decided(
    labels: Sequence[Label],
    confidences: np.ndarray,
    text: str,
    support: Callable[[int], np.ndarray],
    spans: Sequence[tuple[int, int]],
) -> Classification:
    """The label of the highest confidence, with the sentence of `spans` that supports it most."""
    import numpy as np

    order = np.argsort(-confidences, kind="stable")
    winner = int(order[0])
    runner_up = int(order[1]) if len(order) > 1 else None
    start, end = spans[int(np.argmax(support(winner)))] if spans else (0, 0)
    return Classification(
        label=labels[winner].name,
        confidence=float(confidences[winner]),
        runner_up=None if runner_up is None else labels[runner_up].name,
        runner_up_confidence=None if runner_up is None else float(confidences[runner_up]),
        evidence=text[start : min(end, start + EVIDENCE_CHARACTERS)],
        evidence_start=start,
    )


def manner_of(text: str) -> np.ndarray:
    return manner(text, len(sentence_spans(text)))


def clauses(description: str) -> list[str]:
    return [clause.strip() for clause in _CLAUSE.split(description) if clause.strip()]


def unit(rows: np.ndarray) -> np.ndarray:
    import numpy as np

    scaled: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-9)
    return scaled
