"""Whether what was counted could have been chance; and several such questions at once."""

from collections.abc import Sequence

from ai_assets.statistics.exact import probability_of_at_most


def mcnemar(better: int, worse: int) -> float:
    """Of pairs that differ: how often as uneven a split, or more, comes by chance. Exact, two-sided."""
    number = better + worse
    if number == 0:
        return 1.0
    return min(1.0, 2 * probability_of_at_most(min(better, worse), number, 0.5))


def holm(chances: Sequence[float]) -> list[float]:
    """Each as it counts when all of them were looked at."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    adjusted, least = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, chances[place] * (len(chances) - rank)))
        adjusted[place] = least
    return adjusted
