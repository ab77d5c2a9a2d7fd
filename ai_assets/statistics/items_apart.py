"""Whether a fixed set of questions is answered as before: by question, for each has answers of its own kind.

Under no change the answers of a question, old and new, could have come in any order. So they are dealt out anew within
each question, with a given seed; numpy alone. It needs answers of different calls to be independent.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ai_assets.statistics.drift import Apart

Numbers = npt.NDArray[np.float64]
FIRST_DRAWS = 199
DOUBTFUL = 0.06
"""Only what is rarer than this is looked at with all draws; what is not so rare is no alarm at any level of ours."""
MOST_CELLS = 4_000_000
_SAME = 1 - 1e-9


def answers_apart(new: Sequence[Sequence[str]], old: Sequence[Sequence[str]], *, draws: int, seed: int) -> Apart:
    """By question, what was answered: the share of answers that would have to be others for both sides to be alike
    (total variation, on average over the questions), and its chance."""
    found, deals = [], []
    for one, other in zip(new, old, strict=True):
        if not one or not other:
            continue
        values = sorted({*one, *other})
        counts = np.array([[side.count(value) for value in values] for side in (one, other)], dtype=np.int64)
        found.append(float(_variation(counts[0], counts[0] + counts[1], len(one))))
        if len(values) > 1:
            deals.append((counts[0] + counts[1], len(one)))

    def dealt(rng: np.random.Generator, number: int) -> Numbers:
        total = np.zeros(number)
        for pooled, size in deals:
            block = max(1, MOST_CELLS // len(pooled))
            for start in range(0, number, block):
                part = rng.multivariate_hypergeometric(pooled, size, size=min(block, number - start))
                total[start : start + len(part)] += _variation(part, pooled, size)
        return total

    return _apart(found, dealt if deals else None, draws, seed)


def _variation(first: npt.NDArray[np.int64], pooled: npt.NDArray[np.int64], size: int) -> Numbers:
    rest = pooled.sum() - size
    return np.asarray(np.abs(first / size - (pooled - first) / rest).sum(axis=-1) / 2)


def numbers_apart(
    new: Sequence[Sequence[float]], old: Sequence[Sequence[float]], *, draws: int, seed: int, relative: bool
) -> Apart:
    """By question, a number of each answer: how far the means moved, on average over the questions, and its chance.

    `relative`: as a share of the mean of both sides.
    """
    found, deals = [], []
    for one, other in zip(new, old, strict=True):
        if not one or not other:
            continue
        both = np.array([*one, *other], dtype=np.float64)
        scale = float(np.abs(both).mean()) if relative else 1.0
        both = both / scale if scale else both
        found.append(abs(float(both[: len(one)].mean() - both[len(one) :].mean())))
        if np.ptp(both) > 0:
            deals.append((both, len(one)))

    def dealt(rng: np.random.Generator, number: int) -> Numbers:
        total = np.zeros(number)
        for both, size in deals:
            block = max(1, MOST_CELLS // len(both))
            for start in range(0, number, block):
                rows = min(block, number - start)
                order = rng.permuted(np.broadcast_to(both, (rows, len(both))), axis=1)
                first = order[:, :size].sum(axis=1)
                total[start : start + rows] += np.abs(first / size - (both.sum() - first) / (len(both) - size))
        return total

    return _apart(found, dealt if deals else None, draws, seed)


def _apart(
    found: Sequence[float], dealt: Callable[[np.random.Generator, int], Numbers] | None, draws: int, seed: int
) -> Apart:
    if not found or dealt is None:
        return Apart(0.0, 1.0)
    effect, total = math.fsum(found) / len(found), math.fsum(found)
    rng = np.random.default_rng(seed)
    for number in (FIRST_DRAWS, max(draws, FIRST_DRAWS)):
        p = (int((dealt(rng, number) >= total * _SAME - 1e-12).sum()) + 1) / (number + 1)
        if p > DOUBTFUL:
            break
    return Apart(effect, p)
