"""How good a classifier is on documents of known label, each judged by one that was fitted without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ai_assets.stages.classify.learning import LEAST_GOLDEN

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ai_assets.stages.classify.builtin import BuiltinClassifier

FoldScores: TypeAlias = "tuple[BuiltinClassifier, np.ndarray]"
FOLDS = 5
BINS = 10


@dataclass(frozen=True, kw_only=True)
class JudgedLabels:
    accuracy: float
    ece: float
    """Expected calibration error, in ten bins."""
    fitted: bool
    """Whether confidence was fitted, each time to the other four fifths."""


def judged_apart(truth: np.ndarray, without: Callable[[np.ndarray], FoldScores]) -> JudgedLabels:
    """`truth`: the numbers of the labels of documents, in an order by chance. `without`: a classifier that has not seen
    some of them, by a mask, and its scores of all of them."""
    import numpy as np

    fold = np.arange(len(truth)) % FOLDS
    fitted = int((fold != 0).sum()) >= LEAST_GOLDEN
    sure, right = np.zeros(len(truth)), np.zeros(len(truth), dtype=bool)
    for number in sorted(set(fold.tolist())):
        apart = fold == number
        made, scores = without(apart)
        if fitted:
            made = made.fitted_to(scores[~apart], truth[~apart])
        shares = made.sureness.shares(scores[apart])
        sure[apart], right[apart] = shares.max(axis=1), shares.argmax(axis=1) == truth[apart]
    return JudgedLabels(accuracy=float(right.mean()), ece=calibration_error(sure, right), fitted=fitted)


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """How far confidence is from the share of right answers, in bins of a tenth."""
    import numpy as np

    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    return float(sum(abs((confidences - right)[bins == number].sum()) for number in range(BINS)) / len(confidences))
