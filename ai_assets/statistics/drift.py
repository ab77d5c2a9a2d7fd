"""Whether two samples come from the same source: how far apart they are, and how often chance alone does that.

A large sample makes any difference certain, and a small one makes any difference possible, so both are given: the size
of the difference is what counts, and the share of chance says whether to believe it. All chances are simulated with a
given seed, so they hold for small counts, and are the same on any machine. Drawing stops as soon as no further draw
could make the chance as small as `level`: most comparisons find nothing, and take a fortieth of the draws.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
SMOOTHED = 0.5
"""Added to each count of a mix: a value that one side has not got is far, and not infinitely far."""
MOST_CELLS = 4_000_000
"""Of one simulated block in memory."""
FIRST_DRAWS = 128
"""Of the first block; each further one has twice as many."""


@dataclass(frozen=True)
class Apart:
    """How two samples differ."""

    effect: float
    p: float
    """How often samples from one source differ at least so much."""


def mixes_apart(new: Mapping[str, int], old: Mapping[str, int], *, draws: int, seed: int, level: float = 1.0) -> Apart:
    """Two mixes of values, such as languages: the population stability index, and the chance of the chi-square
    statistic where both were drawn from the mix of both together."""
    values = sorted({*new, *old})
    counts = np.array([[side.get(value, 0) for value in values] for side in (new, old)], dtype=np.float64)
    sizes = counts.sum(axis=1)
    if len(values) < 2 or not sizes.all():
        return Apart(0.0, 1.0)
    smooth = counts + SMOOTHED
    shares = smooth / smooth.sum(axis=1, keepdims=True)
    stability = float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())
    pooled = counts.sum(axis=0) / sizes.sum()
    found, rng = _chi_square(counts[0], counts[1]), np.random.default_rng(seed)

    def at_least(number: int) -> int:
        one, two = (rng.multinomial(int(size), pooled, size=number).astype(np.float64) for size in sizes)
        return int((_chi_square(one, two) >= found * (1 - 1e-12)).sum())

    return Apart(stability, _chance(at_least, draws, MOST_CELLS // len(values), level))


def _chance(at_least: Callable[[int], int], draws: int, most: int, level: float) -> float:
    """`at_least` says of so many draws how many differ as much as what was found. Where a chance of `level` is out of
    reach, the draws so far say how large it is."""
    drawn = found = 0
    number = FIRST_DRAWS
    while drawn < draws and (found + 1) <= level * (draws + 1):
        block = max(1, min(number, most, draws - drawn))
        found += at_least(block)
        drawn, number = drawn + block, 2 * number
    return (found + 1) / (drawn + 1)


def _chi_square(one: Numbers, two: Numbers) -> Numbers:
    """Of tables of two rows; the last axis has the values."""
    sizes = [side.sum(axis=-1, keepdims=True) for side in (one, two)]
    pooled = (one + two) / (sizes[0] + sizes[1])
    safe = np.where(pooled > 0, pooled, 1.0)
    parts = [
        ((side - size * pooled) ** 2 / (size * safe)).sum(axis=-1) for side, size in zip((one, two), sizes, strict=True)
    ]
    return np.asarray(parts[0] + parts[1])


def means_apart(new: Numbers, old: Numbers, *, draws: int, seed: int, level: float = 1.0) -> Apart:
    """Two samples of a number: the difference of their means, and its chance where the values are dealt out anew."""
    if not len(new) or not len(old):
        return Apart(0.0, 1.0)
    both, size = np.concatenate([new, old]), len(new)
    found = float(new.mean() - old.mean())
    rng, total = np.random.default_rng(seed), both.sum()

    def at_least(number: int) -> int:
        sums = both[_dealt(rng, number, len(both), size)].sum(axis=1) if size < len(both) else np.full(number, total)
        means = sums / size - (total - sums) / max(1, len(both) - size)
        return int((np.abs(means) >= abs(found) * (1 - 1e-12)).sum())

    return Apart(found, _chance(at_least, draws, MOST_CELLS // len(both), level))


def _dealt(rng: np.random.Generator, number: int, of: int, size: int) -> npt.NDArray[np.int64]:
    """So many times `size` different ones, each set as likely as any other."""
    if size * size > 2 * of:
        return rng.random((number, of)).argpartition(size - 1, axis=1)[:, :size].astype(np.int64)
    found = rng.integers(0, of, (number, size))
    while True:  # of few among many, most sets have nothing twice: the others are drawn again
        ordered = np.sort(found, axis=1)
        again = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if not len(again):
            return found
        found[again] = rng.integers(0, of, (len(again), size))


def vectors_apart(new: Numbers, old: Numbers, *, draws: int, seed: int, level: float = 1.0) -> Apart:
    """Two samples of vectors: of the spread of both, were they of one size, the share that is between them and not
    within them, by a kernel of the median distance (maximum mean discrepancy); and its chance where the vectors are
    dealt out anew."""
    if len(new) < 2 or len(old) < 2:
        return Apart(0.0, 1.0)
    both, size = np.concatenate([new, old]), len(new)
    kernel, rest = _kernel(both), len(both) - size
    whole = kernel.sum()

    def means(first: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Of the kernel within both samples and between them, for each column of `first`, which has a 1 where a vector
        is dealt to the first sample. A vector is 1 to itself, which does not count."""
        to_first = kernel @ first
        in_first = (first * to_first).sum(axis=0)
        across = to_first.sum(axis=0) - in_first
        in_rest = whole - in_first - 2 * across
        return (in_first - size) / (size * (size - 1)), (in_rest - rest) / (rest * (rest - 1)), across / (size * rest)

    def discrepancy(first: Numbers) -> Numbers:
        one, other, across = means(first)
        return one + other - 2 * across

    dealt = np.zeros((len(both), 1))
    dealt[:size] = 1
    found = float(discrepancy(dealt)[0])
    rng = np.random.default_rng(seed)

    def at_least(number: int) -> int:
        first = np.zeros((len(both), number))
        places = rng.random((number, len(both))).argpartition(size - 1, axis=1)[:, :size].T
        np.put_along_axis(first, places, 1.0, axis=0)
        return int((discrepancy(first) >= found - 1e-12).sum())

    p = _chance(at_least, draws, MOST_CELLS // len(both), level)
    spread = 1 - float(sum(part[0] * weight for part, weight in zip(means(dealt), (0.25, 0.25, 0.5), strict=True)))
    return Apart(max(0.0, min(1.0, found / 4 / max(spread, 1e-12))), p)


def _kernel(vectors: Numbers) -> Numbers:
    squares = (vectors**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T, 0.0)
    middle = float(np.median(distances[np.triu_indices(len(vectors), 1)])) or 1.0
    return np.asarray(np.exp(-distances / middle))
