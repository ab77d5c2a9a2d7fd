"""Whether what was counted could have been chance; and several such questions at once."""

import math
from collections.abc import Sequence


def mcnemar(better: int, worse: int) -> float:
    """Of pairs that differ: how often as uneven a split, or more, comes by chance. Exact, two-sided."""
    number = better + worse
    if number == 0:
        return 1.0
    tail = math.fsum(_binomial(each, number, 0.5) for each in range(min(better, worse) + 1))
    return min(1.0, 2 * tail)


def at_most(successes: int, number: int, share: float) -> float:
    """How often so few successes or fewer come where the true share is this one: small where it must be less. Exact."""
    return min(1.0, math.fsum(_binomial(each, number, share) for each in range(successes + 1)))


def _binomial(successes: int, number: int, share: float) -> float:
    if share <= 0 or share >= 1:
        return float(successes == (0 if share <= 0 else number))
    log = math.lgamma(number + 1) - math.lgamma(successes + 1) - math.lgamma(number - successes + 1)
    return math.exp(log + successes * math.log(share) + (number - successes) * math.log1p(-share))


def holm(chances: Sequence[float]) -> list[float]:
    """Each as it counts when all of them were looked at."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    adjusted, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, chances[place] * (len(chances) - rank)))
        adjusted[place] = least
    return adjusted
