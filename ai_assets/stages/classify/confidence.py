"""How sure the built-in classifier is: scores divided by a temperature, and a doubt that no score takes away.

Of an adapted classifier both are fitted: a share of documents is labelled as no text says, so that the surest labels
are less often right than their scores tell, while those in the middle are right more often.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.stages.classify.base import shares_at
from ai_assets.stages.classify.learning import LEAST_GOLDEN, temperature

if TYPE_CHECKING:
    import numpy as np

# Chosen on the developing corpora of bench/classifier_corpora.py, with 100 golden labels.
_STAY_WARM, _STAY_IN_DOUBT = 16.0, 200.0
_TEMPERATURES = tuple(1.05**step for step in range(-28, 29, 2))
_DOUBTS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3)


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """From scores to shares that add up to 1; the order of the labels stays."""

    temperature: float = 1.0
    """Above 1 it is less sure than by itself."""
    doubt: float = 0.0
    """Shared among all labels."""

    def shares(self, scores: np.ndarray) -> np.ndarray:
        found = shares_at(scores, self.temperature)
        if self.doubt:
            found = (1 - self.doubt) * found + self.doubt / scores.shape[-1]
        return found

    @property
    def described(self) -> list[float]:
        """Among what a version is made of; as it was before there was a doubt."""
        known = [round(self.temperature, 6)]
        return [*known, round(self.doubt, 6)] if self.doubt else known


def fitted_sureness(scores: np.ndarray, truth: np.ndarray, adapted: float | None) -> Sureness:
    """To documents of known label. `adapted`: the doubt where nothing is known, of an adapted classifier; without one
    only a temperature is fitted."""
    if adapted is None:
        return Sureness(temperature=temperature(scores, truth))
    if len(truth) < LEAST_GOLDEN:
        return Sureness(doubt=adapted)
    return _fitted(scores, truth, adapted)


def _fitted(scores: np.ndarray, truth: np.ndarray, doubt: float) -> Sureness:
    """The likeliest, by whether the winning label is right; few golden labels move both little."""
    import numpy as np

    right = scores.argmax(axis=1) == truth

    def cost(each: Sureness) -> float:
        sure = np.clip(each.shares(scores).max(axis=1), 1e-6, 1 - 1e-6)
        unlikely = -float(np.log(np.where(right, sure, 1 - sure)).sum())
        moved = _STAY_WARM * math.log(each.temperature) ** 2 + _STAY_IN_DOUBT * (each.doubt - doubt) ** 2
        return unlikely + moved

    return min((Sureness(temperature=t, doubt=d) for t in _TEMPERATURES for d in _DOUBTS), key=cost)
