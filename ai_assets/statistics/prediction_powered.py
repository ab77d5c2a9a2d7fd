"""The mean of people's ratings, from many ratings of a judge and a few of people (prediction-powered inference).

The judge's mean over all outputs is moved by how much people differ from it on those that they rated: mean of the judge
over all + mean(people - judge) over the rated. A judge that is off by the same everywhere costs nothing, and one that
knows nothing counts nothing. Each output is a document of its own. All is computed, nothing is drawn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.base.plural import plural

FEWEST = 3
"""Rated outputs, below which nothing is known of how much they differ."""


@dataclass(frozen=True, kw_only=True)
class CorrectedMean:
    """What people would say on average of all that was judged; ratings are from 0 to 1."""

    value: float
    error: float
    """Its standard error."""
    clusters: int
    """As many independent items as quantiles go by: one less than were rated, for the weight is fitted to them."""
    weight: float
    """How much the judge counts, from 0 (people alone) to 1."""
    judged: int
    rated: int
    judge_mean: float
    """Over all that was judged."""
    people_mean: float
    """Over what was rated."""


def corrected_mean(
    judged: Sequence[float], pairs: Sequence[tuple[float, float]], *, step: float = 0.25, weight: float | None = None
) -> CorrectedMean | None:
    """`judged` are the judge's ratings of everything; `pairs` the judge's and people's of what people rated too, which
    must be a random part of it. `step` is the distance of two neighbours on the scale.

    Without `weight` the judge counts as much as is best for the width (the slope of people's ratings over the judge's,
    from 0 to 1). None where too few are rated.
    """
    import numpy as np

    number, rated = len(judged), len(pairs)
    if rated < FEWEST:
        return None
    if number < rated:
        raise ValueError(f"{plural(rated, 'output is', 'outputs are')} rated, and only {number} are judged")
    every = np.asarray(judged, dtype=float)
    judge, people = np.asarray(pairs, dtype=float).T
    spread = float(np.var(judge, ddof=1))
    if weight is None:
        slope = float(np.cov(judge, people)[0, 1]) / spread if spread > 0 else 0.0
        weight = min(max(slope, 0.0), 1.0)
    mean = float(weight * every.mean() + (people - weight * judge).mean())
    # All that was judged is the rated part and the rest, which are independent: of the rated the judge counts so much.
    inner = weight * (1 - rated / number)
    squares = float(np.var(people - inner * judge, ddof=1)) * (rated - 1) / (rated - 2)
    # One rating more on either side that is off by a step (Agresti and Min): a judge who was never wrong on ten outputs
    # is not known to be never wrong.
    variance = squares / rated + 2 * (step / rated) ** 2
    if number > rated:
        variance += inner**2 * float(np.var(every, ddof=1)) / (number - rated)
    return CorrectedMean(
        value=min(max(mean, 0.0), 1.0),
        error=math.sqrt(variance),
        clusters=rated - 1,
        weight=weight,
        judged=number,
        rated=rated,
        judge_mean=float(every.mean()),
        people_mean=float(people.mean()),
    )
