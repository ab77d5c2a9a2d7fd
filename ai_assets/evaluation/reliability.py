"""How well confidence says how often a label is right: bins for a picture, and the expected calibration error. Pure.

The error of few documents is large by chance alone, so what chance would give is said beside it, and the interval
reaches down by as much.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ai_assets.evaluation.metrics import Evidence

BINS = 10
LEVEL = 0.95
COLUMNS = 40
"""Letters of a bar."""


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Golden documents with a confidence from `low` to below `high`; the last bin has 1, too."""

    low: float
    high: float
    n: int
    confidence: float
    """Their mean."""
    right: float
    """Share of right labels."""


@dataclass(frozen=True, kw_only=True)
class Reliability:
    n: int
    ece: float
    """The mean over documents of how far confidence and the share of right labels of their bin are apart."""
    by_chance: float
    """What so many documents would show if every confidence were true."""
    error: float
    low: float
    high: float
    bins: Sequence[ReliabilityBin]
    """Those with a document, in order."""

    def as_data(self) -> dict[str, Any]:
        return {**asdict(self), "bins": [asdict(each) for each in self.bins]}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "bins": [ReliabilityBin(**each) for each in data["bins"]]})


def reliability_markdown(found: Mapping[str, Any]) -> str:
    """A plot in letters, as Dagster's metadata shows it: a bar is the share of right labels, and `|` the confidence
    that the model had on average."""
    lines = []
    for each in found["bins"]:
        cells = ["█" if place < round(each["right"] * COLUMNS) else "·" for place in range(COLUMNS)]
        cells[min(int(each["confidence"] * COLUMNS), COLUMNS - 1)] = "|"
        at = f"{each['low']:.1f} to {each['high']:.1f}"
        lines.append(
            f"{at}  {''.join(cells)}  {each['right']:.3f} right, confidence {each['confidence']:.3f}, n = {each['n']}"
        )
    return "\n".join(["```", *lines, "```"])


def reliability(evidence: "Evidence") -> Reliability | None:
    """Of the golden documents that were drawn and have a confidence; None where there are fewer than two."""
    items = [
        (float(item.confidence), float(item.predicted == item.golden))
        for item in evidence.labels
        if item.is_drawn and item.confidence is not None
    ]
    return reliability_of(items)


def reliability_of(items: Sequence[tuple[float, float]]) -> Reliability | None:
    """Of pairs of confidence and 1 for right or 0 for wrong."""
    from ai_assets.statistics.intervals import quantile

    number = len(items)
    if number < 2:
        return None
    grouped: dict[int, list[tuple[float, float]]] = {}
    for confidence, right in items:
        grouped.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, right))
    bins, apart, chance = [], [], 0.0
    for at, found in sorted(grouped.items()):
        sure, right = (math.fsum(values) / len(found) for values in zip(*found, strict=True))
        bins.append(ReliabilityBin(low=at / BINS, high=(at + 1) / BINS, n=len(found), confidence=sure, right=right))
        sign = 1.0 if sure >= right else -1.0
        apart += [sign * (one - is_right) for one, is_right in found]
        chance += math.sqrt(2 / math.pi * math.fsum(one * (1 - one) for one, _ in found))
    ece, by_chance = math.fsum(apart) / number, chance / number
    error = math.sqrt(math.fsum((each - ece) ** 2 for each in apart) / (number - 1) / number)
    spread = quantile(LEVEL, number - 1) * error
    return Reliability(
        n=number, ece=ece, by_chance=by_chance, error=error, low=max(0.0, ece - by_chance - spread),
        high=min(1.0, ece + spread), bins=bins,
    )  # fmt: skip
