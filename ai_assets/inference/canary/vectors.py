"""Vectors of a canary's texts: how far a run's are from those kept of the epoch, by cosine. Pure.

Only the run that others are held against keeps its vectors: a distance is one number, and a vector thousands.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ai_assets.inference.canary.records import CanaryAnswer, CanaryRun

if TYPE_CHECKING:
    import numpy as np


def packed(vector: Sequence[float]) -> str | None:
    """The vector at length one, as text; None of one that has no direction."""
    import numpy as np

    found = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(found))
    if not np.isfinite(length) or not length:
        return None
    return base64.b64encode((found / length).astype("<f4").tobytes()).decode()


def unpacked(text: str) -> "np.ndarray":
    import numpy as np

    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


def reference(runs: Sequence[CanaryRun]) -> Mapping[str, str]:
    """By text, the vector of the newest run that kept its own."""
    kept = [run for run in runs if any(each.vector for each in run.answers)]
    return {each.question: each.vector for each in kept[-1].answers if each.vector} if kept else {}


def measured(answers: Sequence[CanaryAnswer], kept: Mapping[str, str]) -> tuple[CanaryAnswer, ...]:
    """With the cosine distance of each vector; to the first one of its text in this run, where none was kept."""
    known = dict(kept) or {each.question: each.vector for each in reversed(answers) if each.vector}
    return tuple(replace(each, distance=_distance(each.vector, known.get(each.question))) for each in answers)


def without_vectors(answers: Sequence[CanaryAnswer]) -> tuple[CanaryAnswer, ...]:
    return tuple(replace(each, vector=None) for each in answers)


def _distance(vector: str | None, kept: str | None) -> float | None:
    """None where they cannot be compared."""
    if vector is None or kept is None:
        return None
    one, other = unpacked(vector), unpacked(kept)
    if len(one) != len(other):
        return None
    return round(max(0.0, 1.0 - float(one @ other)), 6)
