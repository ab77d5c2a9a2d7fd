"""What a judge's ratings say of people: how far both agree, and the mean that people would give. Pure.

A judge says nothing of people before people have rated some of the same outputs. Then the judge's mean is moved by how
much people differ from it (`statistics/prediction_powered.py`). All values are from 0 (the worst of the scale) to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ai_assets.base.plural import plural
from ai_assets.evaluation.scoring import JUDGE_AGREEMENT, JUDGED, Score
from ai_assets.evaluation.verdict import Interval
from ai_assets.statistics.prediction_powered import CorrectedMean, corrected_mean

FEWEST_RATED = 20
"""Outputs that people must have rated. In simulation the interval then covers in at least 95 of 100 cases, on scales of
two and of five points (`tests/test_prediction_powered.py`)."""
LEVEL = 0.95
JUDGE_MEAN, JUDGE_KAPPA = "judge_mean", "judge_kappa"
"""Shown, and judged by no gate: the first says nothing of people, the second depends on how often each rating is."""


@dataclass(frozen=True, kw_only=True)
class JudgedOutputs:
    """All that one judge and people said of the outputs of one stage."""

    stage: str
    """Of the judge."""
    judge: str
    """Who it is: the model, its prompt, and a digest of all that decides its ratings."""
    points: Sequence[int]
    """The scale."""
    counts: Mapping[int, int]
    """How often the judge gave each."""
    pairs: Sequence[tuple[int, int]] = ()
    """The judge's rating and people's, of outputs that both rated."""
    outdated: int = 0
    """Ratings of outputs that have changed since, or are gone."""
    unjudged: int = 0
    """Rated outputs that the judge gave no rating."""
    waiting: Sequence[str] = field(default=())
    """Partitions whose outputs this judge has not judged yet."""

    @property
    def judged(self) -> int:
        return sum(self.counts.values())

    @property
    def lacking(self) -> int:
        """How many more outputs people must rate before anything is said."""
        return max(0, FEWEST_RATED - len(self.pairs))

    def share_of(self, score: float) -> float:
        return (score - self.points[0]) / (self.points[-1] - self.points[0])

    @cached_property
    def corrected(self) -> CorrectedMean | None:
        """None where too few are rated."""
        if self.lacking:
            return None
        every = [self.share_of(point) for point, number in sorted(self.counts.items()) for _ in range(number)]
        pairs = [(self.share_of(judge), self.share_of(people)) for judge, people in self.pairs]
        return corrected_mean(every, pairs, step=1 / (len(self.points) - 1))

    @property
    def equal(self) -> list[float]:
        return [float(judge == people) for judge, people in self.pairs]


def scores_of(found: JudgedOutputs) -> list[Score]:
    """Over the corpus, because a partition alone has too few ratings to say anything."""
    from ai_assets.statistics.agreement import cohens_kappa, kappa_bounds
    from ai_assets.statistics.intervals import mean_bounds, mean_error, share_bounds

    def score(metric: str, value: float | None, n: int, **more: Any) -> Score:
        return Score(
            metric=metric, scope="corpus", stage=found.stage, value=value, n=n, judge=found.judge, **more
        )  # fmt: skip

    rated, mean = len(found.pairs), found.corrected
    places = range(rated)
    bounds = None if mean is None else share_bounds(mean.value, mean.error, mean.clusters, LEVEL)
    error, clusters = mean_error(found.equal, places) if rated else (None, 0)
    total = sum(found.share_of(point) * number for point, number in found.counts.items())
    return [
        score(
            JUDGED, None if mean is None else mean.value, rated, interval=_interval(bounds),
            error=None if mean is None else mean.error, clusters=None if mean is None else mean.clusters,
        ),
        score(
            JUDGE_AGREEMENT, sum(found.equal) / rated if rated else None, rated,
            interval=_interval(mean_bounds(found.equal, places, LEVEL)) if rated else None,
            error=error, clusters=clusters if error is not None else None,
        ),
        score(JUDGE_KAPPA, cohens_kappa(found.pairs), rated, interval=_interval(kappa_bounds(found.pairs, LEVEL))),
        score(JUDGE_MEAN, total / found.judged if found.judged else None, found.judged),
    ]  # fmt: skip


def _interval(bounds: Any) -> Interval | None:
    return None if bounds is None else Interval(low=bounds.low, high=bounds.high, level=LEVEL)


def details_of(found: JudgedOutputs) -> dict[str, Any]:
    """What people want to see beside the numbers."""
    mean = found.corrected
    return {
        "stage": found.stage,
        "judge": found.judge,
        "scale": list(found.points),
        "judged": found.judged,
        "rated": len(found.pairs),
        "lacking": found.lacking,
        "outdated": found.outdated,
        "unjudged": found.unjudged,
        "waiting": len(found.waiting),
        "weight": None if mean is None else mean.weight,
        "people_mean": None if mean is None else mean.people_mean,
    }


def in_words(found: JudgedOutputs) -> str:
    """One sentence for people."""
    mean = found.corrected
    if mean is None:
        return nothing_said(len(found.pairs))
    low, high = found.points[0], found.points[-1]
    return (
        f"people would give {low + mean.value * (high - low):.2f} on average, on a scale from {low} to {high} "
        f"(the judge says {low + mean.judge_mean * (high - low):.2f} of {found.judged}, people "
        f"{low + mean.people_mean * (high - low):.2f} of the {len(found.pairs)} that they rated)"
    )


def nothing_said(rated: int) -> str:
    there = f"; {rated} {'is' if rated == 1 else 'are'} rated" if rated else ""
    more = max(0, FEWEST_RATED - rated)
    return (
        f"a judge without ratings says nothing about people{there}: rate "
        f"{plural(more, 'more output' if rated else 'output')}"
    )
