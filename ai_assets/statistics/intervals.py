"""How far the true value may be from one that was measured on some documents.

Items of one document (its queries, its passages) succeed and fail together, so the unit is the cluster. All is
computed and nothing drawn: the same items give the same interval on any machine, and what is all right has an interval
too.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

FEWEST = 2
"""Clusters, below which nothing is known of how much they differ."""


@dataclass(frozen=True)
class ValueBounds:
    low: float
    high: float
    clusters: int


def mean_error(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float | None, int]:
    """The standard error of a mean, and the number of clusters; None where those are too few."""
    sums: defaultdict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster][0] += value
        sums[cluster][1] += 1
    number = len(sums)
    if number < FEWEST:
        return None, number
    mean = math.fsum(values) / len(values)
    residuals = math.fsum((total - mean * size) ** 2 for total, size in sums.values())
    return math.sqrt(residuals * number / (number - 1)) / len(values), number


def mean_bounds(values: Sequence[float], clusters: Sequence[Hashable], level: float) -> ValueBounds | None:
    """Of the mean of values from 0 to 1."""
    error, number = mean_error(values, clusters)
    return None if error is None else share_bounds(math.fsum(values) / len(values), error, number, level)


def share_bounds(value: float, error: float, clusters: int, level: float) -> ValueBounds | None:
    """Of a value from 0 to 1 with its standard error: Wilson's interval, of as many independent items as would have
    that error. Where nothing varied (all right, or all wrong) each cluster counts as one item."""
    if clusters < FEWEST:
        return None
    z = quantile(level, clusters - 1)
    items = value * (1 - value) / error**2 if error > 1e-12 and 0 < value < 1 else float(clusters)
    items = max(items, 1.0)
    middle = (value + z**2 / (2 * items)) / (1 + z**2 / items)
    half = z / (1 + z**2 / items) * math.sqrt(value * (1 - value) / items + z**2 / (4 * items**2))
    return ValueBounds(max(0.0, min(middle - half, value)), min(1.0, max(middle + half, value)), clusters)


def difference_bounds(differences: Sequence[float], level: float) -> ValueBounds | None:
    """Of the mean difference of pairs, from -1 to 1. Where no pair differs the bounds are those of so many pairs of
    which at most one would have differed."""
    number = len(differences)
    if number < FEWEST:
        return None
    mean = math.fsum(differences) / number
    squares = math.fsum((each - mean) ** 2 for each in differences) / (number - 1)
    z = quantile(level, number - 1)
    # One pair more on either side (Agresti and Min), without which few differing pairs look too sure.
    spread = math.sqrt(squares / number + 2 / number**2)
    return ValueBounds(max(-1.0, mean - z * spread), min(1.0, mean + z * spread), number)


def chance_of_difference(differences: Sequence[float], least: float) -> float:
    """How often the mean of so many pairs comes out as low as this, or lower, where the true one is `least`: one minus
    the level at which the upper of the `difference_bounds` is there, of one side."""
    if len(differences) < FEWEST or math.fsum(differences) / len(differences) >= least:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        bounds = difference_bounds(differences, middle)
        assert bounds is not None
        low, high = (middle, high) if bounds.high < least else (low, middle)
    return (1 - low) / 2


def clustered_difference_bounds(
    differences: Sequence[float], clusters: Sequence[Hashable], level: float, factor: float = 1.0
) -> ValueBounds | None:
    """Of the mean difference of pairs from -1 to 1 that come in clusters; `factor`: of so many times as many clusters
    that are like these."""
    error, number = mean_error(differences, clusters)
    if error is None:
        return None
    mean, number = math.fsum(differences) / len(differences), max(FEWEST, round(number * factor))
    # One cluster more on either side, as in `difference_bounds`.
    spread = quantile(level, number - 1) * math.sqrt(error**2 / factor + 2 / number**2)
    return ValueBounds(max(-1.0, mean - spread), min(1.0, mean + spread), number)


def quantile(level: float, freedom: int) -> float:
    """Of Student's distribution, two-sided, by the expansion of Fisher and Cornish."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / float(freedom) ** power for power, term in enumerate(terms))


def macro_f1_error(counts: Mapping[tuple[str, str | None], int]) -> float:
    """The standard error of a macro F1 from its confusion counts, by leaving out one document after the other:
    documents of one cell are alike, so it is one computation for each cell."""
    number = sum(counts.values())
    left = []
    for cell, size in counts.items():
        rest = {**counts, cell: size - 1}
        left.append((_macro_f1(rest), size))
    mean = math.fsum(value * size for value, size in left) / number
    return math.sqrt((number - 1) / number * math.fsum(size * (value - mean) ** 2 for value, size in left))


def _macro_f1(counts: Mapping[tuple[str, str | None], int]) -> float:
    right: defaultdict[str, int] = defaultdict(int)
    seen: defaultdict[str, int] = defaultdict(int)
    for (golden, predicted), size in counts.items():
        seen[golden] += size
        if predicted is not None:
            seen[predicted] += size
        if golden == predicted:
            right[golden] += size
    scores = [2 * right[label] / total for label, total in seen.items() if total]
    return math.fsum(scores) / len(scores) if scores else 0.0
