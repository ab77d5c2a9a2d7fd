"""Shares of right labels, of all golden documents and of each slice, beside what a gate asks: SVG as in `charts.py`."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ai_assets.desk.charts import BAR_PX, NOTHING, number, picture
from ai_assets.evaluation.verdict import Ruling

ROW_PX = 54
BAR_AT_PX, MIDDLE_PX = 23, 29
"""Within a row: where the bar begins, and its middle."""
OVER_PX = 5
"""By so much a minimum stands out of the bar."""
SCALE = (0.0, 0.25, 0.5, 0.75, 1.0)
SCALE_PX = 22


@dataclass(frozen=True, kw_only=True)
class SliceMark:
    """A line of the picture."""

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    minimum: float | None
    """What a gate asks of it; None where none does."""
    ruling: Ruling | None
    """What that gate says of it."""
    live: float | None
    """In the release that is live; None where that is the same, or not known."""

    @property
    def in_words(self) -> str:
        return self.found + self.beside

    @property
    def found(self) -> str:
        return f"{self.value:.3f} of {self.n:,}"

    @property
    def beside(self) -> str:
        """What a narrow screen has no room for."""
        below = {"failed": "below the minimum", "undecided": "not decided, minimum"}.get(self.ruling or "", "minimum")
        asked = "" if self.minimum is None else f", {below} {self.minimum:g}"
        return asked if self.live is None else f"{asked}; live {self.live:.3f}"


def slice_lines(name: str, title: str, finding: str, marks: Sequence[SliceMark]) -> Markup:
    """A line each: the share in its interval, the minimum as a stroke across, and what is live as a ring."""
    rows = NOTHING.join(_row(place * ROW_PX, mark) for place, mark in enumerate(marks))
    height = len(marks) * ROW_PX
    return picture(name, title, finding, rows + _scale(height), height + SCALE_PX, "chart scores slices")


def _row(top: int, mark: SliceMark) -> Markup:
    middle = top + MIDDLE_PX
    drawn = Markup(
        '<text class="name" x="0" y="{0}">{1}</text><text class="amount" x="100%" y="{0}">{2}'
        '<tspan class="beside">{3}</tspan></text><rect class="track" x="0" y="{4}" width="100%" height="{5}" rx="2"/>'
    ).format(top + 14, mark.name, mark.found, mark.beside, top + BAR_AT_PX, BAR_PX)
    if mark.low is not None and mark.high is not None:
        drawn += Markup('<line class="whisker" x1="{0}%" x2="{1}%" y1="{2}" y2="{2}"/>').format(
            number(100 * mark.low), number(100 * mark.high), middle
        )
    if mark.minimum is not None:
        drawn += Markup('<line class="minimum" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(
            number(100 * mark.minimum), top + BAR_AT_PX - OVER_PX, top + BAR_AT_PX + BAR_PX + OVER_PX
        )
    if mark.live is not None:
        drawn += Markup('<circle class="live" cx="{}%" cy="{}" r="5"><title>live: {}</title></circle>').format(
            number(100 * mark.live), middle, f"{mark.live:.3f}"
        )
    drawn += Markup('<circle class="dot" cx="{}%" cy="{}" r="6"><title>{}</title></circle>').format(
        number(100 * mark.value), middle, f"{mark.name}: {mark.in_words}"
    )
    return Markup('<g class="{}">{}</g>').format(mark.ruling or "none", drawn)


def _scale(top: int) -> Markup:
    ends = {0.0: "day first", 1.0: "day last"}
    return NOTHING.join(
        Markup('<text class="{}" x="{}%" y="{}">{}</text>').format(
            ends.get(step, "day"), number(100 * step), top + 12, f"{step:g}"
        )
        for step in SCALE
    )
