"""Scores over releases as SVG made on the server, as in `charts.py`: text keeps its size, style sheets have colours."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ai_assets.desk.charts import NOTHING, PLOT_PX, TOP_PX, number, picture
from ai_assets.evaluation.figures import lower, upper
from ai_assets.evaluation.verdict import Interval

BELOW_PX = 26
MOST_NAMED = 6
"""Releases that are named below a plot."""
ROOM = 0.03
"""Of the width, on either side: points at the edge are drawn whole."""
STEPS = 4
STEPS_OF_TENTHS = {1: 2, 2: 2, 3: 3, 4: 4, 5: 5, 6: 3, 7: 7, 8: 4, 9: 3, 10: 5}
"""By how many tenths an axis shows, into how many steps it divides evenly."""


@dataclass(frozen=True, kw_only=True)
class ScorePoint:
    release: int
    value: float
    n: int
    interval: Interval | None

    @property
    def low(self) -> float:
        return self.interval.low if self.interval else self.value

    @property
    def high(self) -> float:
        return self.interval.high if self.interval else self.value

    @property
    def in_words(self) -> str:
        between = "" if self.interval is None else f", {lower(self.low)} to {upper(self.high)}"
        return f"Release {self.release}: {self.value:.3f}{between} (n = {self.n})"


def score_line(name: str, title: str, finding: str, points: Sequence[ScorePoint]) -> Markup:
    """A point for each release in its interval, with a line through them; one or more."""
    bottom, top, steps = _scale(min(each.low for each in points), max(each.high for each in points))
    placed = _Placed(points=points, bottom=bottom, top=top)
    grid = []
    for nth in range(steps + 1):
        step = bottom + (top - bottom) * nth / steps
        grid.append(
            Markup(
                '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
                '<text class="amount" x="-8" y="{0}" dy="4">{1}</text>'
            ).format(number(TOP_PX + placed.down(step)), f"{step:.3g}")
        )
    drawn = Markup('{}<g transform="translate(0 {})">{}</g>').format(NOTHING.join(grid), TOP_PX, placed.drawn())
    return picture(name, title, finding, drawn, TOP_PX + PLOT_PX + BELOW_PX, "chart plot scores")


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """Points on the plane of a plot: across in percent of its width, down in pixels."""

    points: Sequence[ScorePoint]
    bottom: float
    top: float

    def across(self, place: int) -> float:
        share = 0.5 if len(self.points) == 1 else place / (len(self.points) - 1)
        return 100 * (ROOM + (1 - 2 * ROOM) * share)

    def down(self, value: float) -> float:
        return (1 - (value - self.bottom) / (self.top - self.bottom)) * PLOT_PX

    def drawn(self) -> Markup:
        line = " ".join(self._corner(place, each.value) for place, each in enumerate(self.points))
        stretched = Markup(
            '<svg x="0" y="0" width="100%" height="{}" viewBox="0 0 1000 {}" preserveAspectRatio="none">{}'
            '<polyline class="left" points="{}"/></svg>'
        ).format(PLOT_PX, PLOT_PX, self._bands(), line)
        return stretched + NOTHING.join(self._mark(place) for place in range(len(self.points))) + self._releases()

    def _corner(self, place: int, value: float) -> str:
        """In the part that is stretched, where the width is a thousand."""
        return f"{number(10 * self.across(place))},{number(self.down(value))}"

    def _bands(self) -> Markup:
        """Between neighbours that both have an interval."""
        made = []
        for place, (one, other) in enumerate(itertools.pairwise(self.points)):
            if one.interval is not None and other.interval is not None:
                corners = ((place, one.high), (place + 1, other.high), (place + 1, other.low), (place, one.low))
                drawn = " ".join(self._corner(*each) for each in corners)
                made.append(Markup('<polygon class="band" points="{}"/>').format(drawn))
        return NOTHING.join(made)

    def _mark(self, place: int) -> Markup:
        point, x = self.points[place], number(self.across(place))
        whisker = Markup('<line class="whisker" x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>').format(
            x, number(self.down(point.high)), number(self.down(point.low))
        )
        dot = Markup('<circle class="dot" cx="{}%" cy="{}" r="4"><title>{}</title></circle>').format(
            x, number(self.down(point.value)), point.in_words
        )
        return dot if point.interval is None else whisker + dot

    def _releases(self) -> Markup:
        count = len(self.points)
        named = min(MOST_NAMED, count)
        places = sorted({round(nth * (count - 1) / max(1, named - 1)) for nth in range(named)})
        return NOTHING.join(
            Markup('<text class="day" x="{}%" y="{}">{}</text>').format(
                number(self.across(place)), PLOT_PX + 19, self.points[place].release
            )
            for place in places
        )


def _scale(low: float, high: float) -> tuple[float, float, int]:
    """Of a share the axis ends at 1, and begins at a tenth below what is shown."""
    if low >= 0 and high <= 1:
        tenths = min(int(low * 10), 9)
        return tenths / 10, 1.0, STEPS_OF_TENTHS[10 - tenths]
    room = (high - low) * 0.1 or abs(high) * 0.1
    return low - room, high + room, STEPS
