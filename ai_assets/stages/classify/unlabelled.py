"""What the built-in classifier takes from documents without labels: where it says the same of texts that are alike, it
says so of more of them.

It labels a sample by the descriptions, fits a ridge regression from vectors to those shares, and does so again with
what came of it. No golden label, correction or example is looked at. `python -m bench.classifier_adaptation` measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_assets.stages.classify.base import shares_at

if TYPE_CHECKING:
    import numpy as np

# Chosen on the developing corpora of bench/classifier_corpora.py; docs/classifier.md has the figures.
WEIGHT, RIDGE, ROUNDS = 10.0, 5.0, 3
TEMPERATURE, DOUBT = 1.05**4, 0.02
"""The sum is surer than it is right: what it is divided by, and the share of documents that a text does not decide."""
LEAST_DOCUMENTS = 50
DOCUMENTS = 1_000
"""More documents gain more, ever less; twenty lost nothing, and so many fit in seconds."""
_DIGITS = 7


def fit_adaptation(scores: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Per label what is added to its score: a number, and one for each dimension of a vector."""
    import numpy as np

    centre = vectors.mean(axis=0)
    rows = vectors - centre
    inverse = np.linalg.inv(rows.T @ rows + RIDGE * np.eye(rows.shape[1]))
    head = np.zeros((rows.shape[1], scores.shape[1]))
    for _ in range(ROUNDS):
        head = inverse @ rows.T @ (shares_at(scores + WEIGHT * rows @ head) - 1 / scores.shape[1])
    found = WEIGHT * np.concatenate([-(centre @ head)[None], head]).T
    rounded: np.ndarray = np.array([[float(f"{number:.{_DIGITS}g}") for number in row] for row in found])
    return rounded
