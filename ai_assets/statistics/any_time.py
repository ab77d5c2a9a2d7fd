"""What is shown of a mean while its values come in, however often somebody looks: tests by betting.

Of a claim "the mean is at most m" somebody bets against it on every value, with a share of what they have. As long as
the claim is true nobody can expect to win, so that they ever multiply their stake by 1 / risk has a probability of at
most `risk` (Ville's inequality), at whatever value one stops. The stake is spread over shares that are fixed before the
first value; so what was won is the same in whatever order the values came.
"""

import math
from collections.abc import Mapping

import numpy as np

SHARES = (np.arange(200) + 0.5) / 200
"""Evenly: for values of 0 and 1 each is the best bet against one true mean above m, and none of them is preferred."""
PRECISION = 1e-6


def log_wealth(values: Mapping[float, float], mean: float) -> float:
    """The logarithm of what a stake of 1 has become, by bets against "the mean is at most `mean`".

    `values`: how often each value from 0 to 1 came; numbers that are not whole ask what would have become of so many.
    """
    if mean <= 0:
        return math.inf if any(value > 0 and number for value, number in values.items()) else 0.0
    won = np.zeros_like(SHARES)
    for value, number in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"values are between 0 and 1, and {value} is not")
        won += number * np.log1p(SHARES * (value / mean - 1))
    most = float(won.max())
    return most + math.log(float(np.exp(won - most).mean()))


def is_above(values: Mapping[float, float], mean: float, risk: float) -> bool:
    """Whether it is shown that the mean is above that: if it is not, this is ever said with a probability of at most
    `risk`."""
    return log_wealth(values, mean) >= -math.log(risk)


def is_below(values: Mapping[float, float], mean: float, risk: float) -> bool:
    return is_above(_mirrored(values), 1 - mean, risk)


def lower_bound(values: Mapping[float, float], risk: float) -> float:
    """At no time is it above the mean, with a probability of at least `1 - risk`."""
    low, high = 0.0, 1.0
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if is_above(values, middle, risk) else (low, middle)
    return low


def upper_bound(values: Mapping[float, float], risk: float) -> float:
    return 1 - lower_bound(_mirrored(values), risk)


def _mirrored(values: Mapping[float, float]) -> Mapping[float, float]:
    return {1 - value: number for value, number in values.items()}
