"""Gates on what judges say: no rating of people, no verdict; and the ratings of two judges are never compared. Pure."""

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from ai_assets.base.plural import plural
from ai_assets.evaluation.figures import between, decimals
from ai_assets.evaluation.floors import interval_of, no_worse
from ai_assets.evaluation.judged import nothing_said
from ai_assets.evaluation.verdict import Baseline, GateVerdict, Interval

if TYPE_CHECKING:
    from ai_assets.evaluation.gates import GateCase


def unrated(case: "GateCase") -> GateVerdict:
    """People rated too little of what the judge judged."""
    gate, rated = case.gate, 0 if case.score is None else case.score.n
    declared = None if gate.min is None else Baseline(kind="declared", value=gate.min)
    return case.undecided(
        f"{gate.name}: not judged; {nothing_said(rated)}", holds=gate.undecided == "block", baseline=declared
    )


def judge_ratings_against_live(case: "GateCase") -> GateVerdict:
    """At most so much worse than what the same judge, corrected by people, said of the live release.

    Both are taken as independent. Where both are of the same documents, the true difference is known better than that.
    """
    gate, now, live = case.gate, case.score, case.live
    holds = gate.undecided == "block"
    assert now is not None
    assert now.value is not None
    if case.live_release is None:
        return case.without_live
    baseline, release = case.baseline, case.live_release
    if live is None or live.value is None or live.interval is None:
        said = f"{gate.name}: not judged, because the outputs of release {release} have no ratings to compare with"
        return case.undecided(said, holds=False)
    if live.judge != now.judge:
        return case.undecided(
            f"{gate.name}: not compared, because release {release} was judged by another judge ({live.judge}) than "
            f"this ({now.judge}); declare 'min' until a release of this judge is live", holds=holds,
        )  # fmt: skip
    bounds = None
    if now.error is not None and now.clusters is not None:
        bounds = interval_of(now.value, now.error, now.clusters, gate.confidence)
    if bounds is None:
        return case.undecided(f"{gate.name}: it has no interval", holds=holds, baseline=baseline)
    case = case.with_interval(Interval(low=bounds.low, high=bounds.high, level=2 * gate.confidence - 1))
    before = _at(live.interval, live.value, gate.confidence)
    # Of two intervals, that of the difference (Newcombe's method).
    mean = now.value - live.value
    low = mean - math.hypot(now.value - bounds.low, before.high - live.value)
    high = mean + math.hypot(bounds.high - now.value, live.value - before.low)
    limit = None if gate.no_worse_by is None else -gate.no_worse_by
    said = (
        f"{gate.name}: {decimals(mean, limit, signed=True)} {between(low, high, limit)} "
        f"against release {release}, by the same judge "
        f"({now.n} and {plural(live.n, 'output')} rated by people)"
    )
    return no_worse(case, said, baseline, mean, low, lambda: "rate more outputs")


def _at(interval: Interval, value: float, confidence: float) -> Interval:
    """As wide as it is at another level."""
    normal = NormalDist().inv_cdf
    factor = normal(confidence) / normal(0.5 + interval.level / 2)
    low, high = value - (value - interval.low) * factor, value + (interval.high - value) * factor
    return Interval(low=max(0.0, low), high=min(1.0, high), level=2 * confidence - 1)
