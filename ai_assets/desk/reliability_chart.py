"""Confidence against the share of right labels as SVG made on the server; the table beside it has the numbers."""

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from ai_assets.desk.charts import NOTHING, PLOT_PX, TOP_PX, number, picture
from ai_assets.statistics.exact import interval

BELOW_PX = 42
STEPS = 5
LEVEL = 0.95
LEAST_PX, MOST_PX = 3.0, 9.0
"""The radius of a point, by how many of the documents it is of."""


def reliability_chart(name: str, title: str, finding: str, found: Mapping[str, Any]) -> Markup:
    """A point for each bin with its exact interval, and the line on which confidence would be true."""
    bins, total = found["bins"], max(1, found["n"])
    grid = []
    for nth in range(STEPS + 1):
        share = nth / STEPS
        grid.append(
            Markup(
                '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
                '<text class="amount" x="-8" y="{0}" dy="4">{1}</text>'
                '<text class="day" x="{2}%" y="{3}">{1}</text>'
            ).format(number(TOP_PX + _down(share)), f"{share:.1f}", number(100 * share), TOP_PX + PLOT_PX + 19)
        )
    ideal = Markup(
        '<svg x="0" y="0" width="100%" height="{0}" viewBox="0 0 1000 {0}" preserveAspectRatio="none">'
        '<line class="ideal" x1="0" y1="{0}" x2="1000" y2="0"/></svg>'
    ).format(PLOT_PX)
    points = NOTHING.join(_point(each, each["n"] / total) for each in bins)
    axis = Markup('<text class="day" x="50%" y="{}">confidence</text>').format(PLOT_PX + 36)
    drawn = Markup('{}<g transform="translate(0 {})">{}{}{}</g>').format(
        NOTHING.join(grid), TOP_PX, ideal, points, axis
    )
    return picture(name, title, finding, drawn, TOP_PX + PLOT_PX + BELOW_PX, "chart plot scores reliability")


def in_words(each: Mapping[str, Any]) -> str:
    low, high = _bounds(each)
    return (
        f"Confidence {each['confidence']:.3f} on average: {each['right']:.3f} right, {low:.3f} to {high:.3f} "
        f"(n = {each['n']})"
    )


def _point(each: Mapping[str, Any], share: float) -> Markup:
    low, high = _bounds(each)
    across = number(100 * each["confidence"])
    return Markup(
        '<line class="whisker" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>'
        '<circle class="dot" cx="{0}%" cy="{3}" r="{4}"><title>{5}</title></circle>'
    ).format(
        across, number(_down(high)), number(_down(low)), number(_down(each["right"])),
        number(LEAST_PX + (MOST_PX - LEAST_PX) * math.sqrt(share)), in_words(each),
    )  # fmt: skip


def _bounds(each: Mapping[str, Any]) -> tuple[float, float]:
    """Exact, of both sides together."""
    return interval(round(each["right"] * each["n"]), each["n"], LEVEL)


def _down(share: float) -> float:
    return (1 - share) * PLOT_PX
