"""Which weight of vectors beside words finds the most of a collection's golden queries. Pure.

The weight is chosen on four fifths of the queries and tried on the fifth that was left out, for each fifth in turn, and
it is used only where that finds more than the default does. Few queries move it little.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ai_assets.base.plural import plural
from ai_assets.storage.ranking import Hit, combined
from ai_assets.storage.search_rules import VECTOR_WEIGHT, RulesVersion, SearchRules

LEAST_QUERIES = 40
MOST_QUERIES = 500
"""More are sampled: the error of a mean over so many is below 0.02, and the fit takes seconds."""
WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)
_DEFAULT = WEIGHTS.index(VECTOR_WEIGHT)
_FOLDS = 5
_PRIOR_QUERIES = 20
"""So many queries pull the choice halfway from the default to what they say."""
_DEPTH, _NEAR = 10, 5
FitOutcome = Literal["fitted", "default is as good", "too few queries"]


@dataclass(frozen=True, kw_only=True)
class JudgedQuery:
    """A golden query, and what vectors and words found for it."""

    query: str
    relevant: frozenset[str]
    by_vector: Sequence[Hit]
    by_text: Sequence[Hit]


@dataclass(frozen=True, kw_only=True)
class FusionFit:
    """What came of it."""

    weight: float
    outcome: FitOutcome
    queries: int
    mrr: float | None = None
    """Of the default, over these queries."""
    recall_at_5: float | None = None
    fitted_mrr: float | None = None
    """Of weights that were chosen without the query they are tried on."""
    fitted_recall_at_5: float | None = None
    gain: float | None = None
    """Of the mean of both, and its standard error."""
    error: float | None = None

    def recorded(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def in_words(self) -> str:
        if self.gain is None:
            return f"{plural(self.queries, 'golden query')} can be answered, and a fit takes {LEAST_QUERIES}"
        return (
            f"weight {self.weight:g} by {plural(self.queries, 'golden query')}, on those left out of each fit: MRR "
            f"{self.fitted_mrr:.3f} against {self.mrr:.3f} and recall@5 {self.fitted_recall_at_5:.3f} against "
            f"{self.recall_at_5:.3f} of {VECTOR_WEIGHT:g}"
        )


def sampled(queries: Sequence[str]) -> list[str]:
    """At most `MOST_QUERIES` of them, the same ones each time."""
    return sorted(queries, key=_place)[:MOST_QUERIES]


def fit_weight(judged: Sequence[JudgedQuery], version: RulesVersion) -> FusionFit:
    import numpy as np

    if len(judged) < LEAST_QUERIES:
        return FusionFit(weight=VECTOR_WEIGHT, outcome="too few queries", queries=len(judged))
    ranks = np.array([_ranks(item, version) for item in judged], dtype=float)
    reciprocal, near = np.where(ranks <= _DEPTH, 1 / ranks, 0.0), (ranks <= _NEAR).astype(float)
    worth = (reciprocal + near) / 2
    folds = np.array([_place(item.query)[0] % _FOLDS for item in judged])
    left_out = np.empty(len(judged), dtype=int)
    for fold in range(_FOLDS):
        if (folds == fold).any():
            left_out[folds == fold] = _chosen(worth[folds != fold])
    rows = np.arange(len(judged))
    gains = worth[rows, left_out] - worth[:, _DEFAULT]
    error = float(gains.std(ddof=1) / math.sqrt(len(gains)))
    chosen = _chosen(worth)
    is_better = chosen != _DEFAULT and gains.mean() > error
    return FusionFit(
        weight=WEIGHTS[chosen] if is_better else VECTOR_WEIGHT,
        outcome="fitted" if is_better else "default is as good",
        queries=len(judged),
        mrr=_rounded(reciprocal[:, _DEFAULT].mean()),
        recall_at_5=_rounded(near[:, _DEFAULT].mean()),
        fitted_mrr=_rounded(reciprocal[rows, left_out].mean()),
        fitted_recall_at_5=_rounded(near[rows, left_out].mean()),
        gain=_rounded(gains.mean()),
        error=_rounded(error),
    )


def _ranks(item: JudgedQuery, version: RulesVersion) -> list[float]:
    """For each weight, where the first relevant document stands; infinity where it is not found."""
    found = []
    for weight in WEIGHTS:
        hits = combined(item.by_vector, item.by_text, item.query, SearchRules(version=version, vector_weight=weight))
        places = (place for place, hit in enumerate(hits[:_DEPTH], start=1) if hit.document_id in item.relevant)
        found.append(float(next(places, math.inf)))
    return found


def _chosen(worth: Any) -> int:
    """The best place among `WEIGHTS`, smoothed over its neighbours, and drawn towards the default where queries are
    few."""
    import numpy as np

    means = np.pad(worth.mean(axis=0), 1, mode="edge")
    smooth = (means[:-2] + 2 * means[1:-1] + means[2:]) / 4
    best = max(range(len(WEIGHTS)), key=lambda place: (smooth[place], -abs(place - _DEFAULT)))
    share = len(worth) / (len(worth) + _PRIOR_QUERIES)
    return round(_DEFAULT + share * (best - _DEFAULT))


def _place(query: str) -> bytes:
    return hashlib.sha256(query.encode()).digest()


def _rounded(value: Any) -> float:
    return round(float(value), 6)
