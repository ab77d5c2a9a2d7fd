"""How far people who judge the same things agree, beyond what chance alone would make them: 1 is always, 0 is no more
often than by chance. For words that have no order."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ai_assets.statistics.intervals import ValueBounds

Opinions = Mapping[str, Hashable]
"""Of one thing, what each person said."""


def cohens_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Of two people; None where nothing can be said: there are no pairs, or both always say one and the same word."""
    if not pairs:
        return None
    n = len(pairs)
    observed = sum(one == other for one, other in pairs) / n
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    expected = sum(first[word] * second[word] for word in first) / n**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def kappa_bounds(pairs: Sequence[tuple[Hashable, Hashable]], level: float) -> "ValueBounds | None":
    """Of Cohen's kappa: from the bounds of how often both say the same, with chance as it was found (Cohen 1960)."""
    from ai_assets.statistics.intervals import ValueBounds, mean_bounds

    value = cohens_kappa(pairs)
    bounds = mean_bounds([float(one == other) for one, other in pairs], range(len(pairs)), level) if pairs else None
    if value is None or bounds is None:
        return None
    observed = sum(one == other for one, other in pairs) / len(pairs)
    if observed == 1:
        by_chance = sum((number / len(pairs)) ** 2 for number in Counter(one for one, _ in pairs).values())
    else:
        by_chance = (observed - value) / (1 - value)
    low, high = ((bound - by_chance) / (1 - by_chance) for bound in (bounds.low, bounds.high))
    return ValueBounds(max(-1.0, min(low, value)), min(1.0, max(high, value)), bounds.clusters)


def krippendorffs_alpha(things: Iterable[Opinions]) -> float | None:
    """Of any number of people, who need not all have judged everything; None as above."""
    judged = [Counter(opinions.values()) for opinions in things if len(opinions) > 1]
    total: Counter[Hashable] = Counter()
    disagreed = 0.0
    for words in judged:
        n = sum(words.values())
        total.update(words)
        disagreed += sum(number * (n - number) for number in words.values()) / (n - 1)
    n = sum(total.values())
    by_chance = sum(number * (n - number) for number in total.values())
    return None if not by_chance else 1 - (n - 1) * disagreed / by_chance


def by_pair(things: Iterable[Opinions]) -> dict[tuple[str, str], list[tuple[Hashable, Hashable]]]:
    """What each two people said of the things that both judged."""
    found: dict[tuple[str, str], list[tuple[Hashable, Hashable]]] = {}
    for opinions in things:
        people = sorted(opinions)
        for place, one in enumerate(people):
            for other in people[place + 1 :]:
                found.setdefault((one, other), []).append((opinions[one], opinions[other]))
    return found
