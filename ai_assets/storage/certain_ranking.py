"""Which documents stand first, as far as scores that are known within bounds decide it.

The rules are those of `ranking.combined` and `ranking.weigh_by_words`, over intervals: where two that matter overlap,
the answer is None, and the index itself has to be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np

_ROUNDING = 1e-12
"""Of sums in double precision."""


@dataclass(frozen=True, kw_only=True)
class RankingPart:
    """Documents that may be among the best of one search, and what that adds to their score."""

    documents: np.ndarray
    """By number."""
    low: np.ndarray
    high: np.ndarray
    members: np.ndarray
    """Which are certainly among the best, and not left out for another one."""


def vector_part(scores: np.ndarray, documents: int, weight: float, error: float) -> RankingPart | None:
    """Of each document's nearest passage; -inf where it has none. `error`: how far each score may be off. None where
    the scores are too close to each other."""
    import numpy as np

    found = _first(scores, documents, -np.inf, 2 * error)
    if found is None:
        return nothing()
    candidates, members, last = found
    spread = float(scores[candidates].max()) - last
    if len(candidates) == 1:
        return RankingPart(documents=candidates, low=np.zeros(1), high=np.zeros(1), members=members)
    if spread <= 4 * error + 1e-9:
        return None
    above = scores[candidates] - last
    # Its share of the spread falls where the best or the last one rises: at worst both rise, and the spread stays.
    low = np.maximum(above - 2 * error, 0) * weight / spread
    high = np.clip(above + 2 * error, 0, spread) * weight / spread
    return RankingPart(documents=candidates, low=np.where(members, low, 0), high=high, members=members)


Shares: TypeAlias = "Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]"
"""Of documents."""


def text_part(scores: np.ndarray, documents: int, error: float, shares: Shares) -> RankingPart:
    """Of each document's best passage; 0 where none has a word. `error`: by which share a score may be off. `shares`:
    the least and the largest share of the query's words among the passages that may be the document's best."""
    import numpy as np

    found = _first(scores, documents, 0.0, 2 * error * float(scores.max(initial=0)))
    if found is None:
        return nothing()
    candidates, members, _ = found
    ratio = scores[candidates] / scores[candidates].max()
    least, most = shares(candidates)
    low = np.where(members, ratio * (1 - 3 * error) * least, 0)
    high = np.minimum(ratio * (1 + 3 * error), 1) * most
    return RankingPart(documents=candidates, low=low, high=high, members=members)


def nothing() -> RankingPart:
    import numpy as np

    return RankingPart(
        documents=np.zeros(0, dtype=int), low=np.zeros(0), high=np.zeros(0), members=np.zeros(0, dtype=bool)
    )


def _first(
    scores: np.ndarray, documents: int, above: float, error: float
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Who may be among the best with a score above that, with whether it is certain, and the last score of them."""
    import numpy as np

    there = np.flatnonzero(scores > above)
    if not len(there):
        return None
    found = scores[there]
    if len(there) <= documents:
        return there, np.ones(len(there), dtype=bool), float(found.min())
    ordered = np.partition(found, (len(found) - documents - 1, len(found) - documents))
    next_one, last = ordered[len(found) - documents - 1], ordered[len(found) - documents]
    taken = found >= last - error
    return there[taken], found[taken] > next_one + error, float(last)


Moved: TypeAlias = "Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]"
"""Of documents and which are certainly found: what is added to their scores, at least and at most."""


def first_of(by_vector: RankingPart, by_text: RankingPart, k: int, moved: Moved | None = None) -> list[int] | None:
    """The first `k` documents; None where the bounds do not decide it."""
    import numpy as np

    documents, places = np.unique(np.concatenate([by_vector.documents, by_text.documents]), return_inverse=True)
    if not len(documents):
        return []
    low = np.bincount(places, np.concatenate([by_vector.low, by_text.low]))
    high = np.bincount(places, np.concatenate([by_vector.high, by_text.high])) + _ROUNDING
    members = np.bincount(places, np.concatenate([by_vector.members, by_text.members])) > 0
    if moved is not None:
        least, most = moved(documents, members)
        low, high = low + least, high + most
    order = np.argsort(-(low + high), kind="stable")
    low, high, members = low[order], high[order], members[order]
    apart = bool((low[:k][: len(low) - 1] > high[1 : k + 1]).all())
    if not apart or not members[:k].all() or (len(low) > k and low[k - 1] <= high[k:].max()):
        return None
    taken: list[int] = documents[order[:k]].tolist()
    return taken
