"""Exact bounds of a share from a number of hits (Clopper-Pearson), with what they need of the binomial distribution.

They hold for independent draws of equal chance, whatever the true share is.
"""

import math
from collections.abc import Callable
from functools import cache

from ai_assets.base.plural import plural

PRECISION = 1e-10


def probability_of_at_most(hits: int, n: int, share: float) -> float:
    """Of so many hits or fewer in `n` draws."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share is between 0 and 1, and {share} is not")
    if hits < 0:
        return 0.0
    if hits >= n or share == 0:
        return 1.0
    if share == 1:
        return 0.0
    mode = (n + 1) * share
    if hits < mode:
        return min(1.0, math.exp(_log_chance(hits, n, share)) * _tail(hits, n, share, down=True))
    return max(0.0, 1.0 - math.exp(_log_chance(hits + 1, n, share)) * _tail(hits + 1, n, share, down=False))


def _log_chance(hits: int, n: int, share: float) -> float:
    ways = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    return ways + hits * math.log(share) + (n - hits) * math.log1p(-share)


def _tail(hits: int, n: int, share: float, *, down: bool) -> float:
    """The chances of so many hits and of fewer, or of more, as a multiple of the first of them. They only fall."""
    odds = share / (1 - share)
    total = term = 1.0
    while term > total * 1e-17:
        if down:
            term *= hits / ((n - hits + 1) * odds)
            hits -= 1
        else:
            term *= (n - hits) * odds / (hits + 1)
            hits += 1
        total += term
    return total


def upper_bound(hits: int, n: int, confidence: float) -> float:
    """The true share is above this with a probability of at most `1 - confidence`; 1 where nothing was drawn."""
    _require(hits, n, confidence)
    if n == 0 or hits == n:
        return 1.0
    return _share_with(lambda share: probability_of_at_most(hits, n, share) > 1 - confidence)


def lower_bound(hits: int, n: int, confidence: float) -> float:
    """The true share is below this with a probability of at most `1 - confidence`."""
    _require(hits, n, confidence)
    return 1.0 - upper_bound(n - hits, n, confidence) if hits else 0.0


def interval(hits: int, n: int, confidence: float) -> tuple[float, float]:
    """Two-sided: half of the risk lies on either side."""
    one_sided = (1 + confidence) / 2
    return lower_bound(hits, n, one_sided), upper_bound(hits, n, one_sided)


@cache
def draws_needed(hits: int, error: float, confidence: float) -> int:
    """The fewest draws of which so many may be hits while the upper bound is at most `error`.

    Without a hit that is `ln(1 - confidence) / ln(1 - error)`, rounded up.
    """
    _require(0, 0, confidence)
    if not 0 < error < 1:
        raise ValueError(f"an error between 0 and 1 can be shown, and {error} is not")
    most = hits + 1
    while probability_of_at_most(hits, most, error) > 1 - confidence:
        most *= 2
    least = hits
    while most - least > 1:
        middle = (least + most) // 2
        if probability_of_at_most(hits, middle, error) > 1 - confidence:
            least = middle
        else:
            most = middle
    return most


def _share_with(is_below: Callable[[float], bool]) -> float:
    """The share at which a falling probability is passed."""
    low, high = 0.0, 1.0
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high


def _require(hits: int, n: int, confidence: float) -> None:
    if not 0 <= hits <= n:
        raise ValueError(f"{plural(hits, 'hit')} of {n} draws cannot be")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is between 0 and 1, and {confidence} is not")
