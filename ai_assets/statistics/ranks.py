"""What a share of ordered numbers do not exceed. Pure, and of plain lists."""

import math
from collections.abc import Sequence


def nearest_rank(ordered: Sequence[float], share: float) -> float | None:
    """The least of the numbers that at least this share of them do not exceed, as SQL's `percentile_disc`; None of
    none."""
    if not ordered:
        return None
    # A share as 0.95 of 20 is 19.000000000000004 in binary.
    return ordered[min(max(math.ceil(share * len(ordered) - 1e-9), 1), len(ordered)) - 1]
