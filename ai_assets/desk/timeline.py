"""A picture of what was under way when: lanes with bars over time, as SVG. Colours are in desk.css."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ai_assets.desk.charts import NOTHING, PATTERNS, hatched, number, picture

LANE_PX, BAR_PX, AXIS_PX = 34, 10, 24
NARROWEST = 0.4
"""Per cent of the width: what is shorter can still be seen."""
MOST_TICKS = 5
LONGEST_LABEL = 34
"""Characters that fit beside a length of time on a phone."""
_STEPS_S = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800,
    86400,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stretch:
    began_at: str
    ended_at: str
    failed: bool
    said: str


@dataclass(frozen=True, kw_only=True)
class Lane:
    label: str
    said: str
    """Beside the label."""
    series: int
    """Which colour."""
    stretches: Sequence[Stretch]


def timeline(name: str, title: str, finding: str, lanes: Sequence[Lane]) -> Markup:
    """A lane each: what it is and how long it took, and below that when."""
    first = min(epoch_s(stretch.began_at) for lane in lanes for stretch in lane.stretches)
    last = max(epoch_s(stretch.ended_at) for lane in lanes for stretch in lane.stretches)
    whole = max(last - first, 0.001)
    height = len(lanes) * LANE_PX
    drawn = [_grid(whole, height)]
    for place, lane in enumerate(lanes):
        top = place * LANE_PX
        drawn.append(
            Markup('<text x="0" y="{0}">{1}</text><text class="amount" x="100%" y="{0}">{2}</text>').format(
                top + 13, _short(lane.label), lane.said
            )
        )
        drawn += [_bar(name, lane, stretch, first, whole, top + 18) for stretch in lane.stretches]
    return picture(name, title, finding, hatched(name) + NOTHING.join(drawn), height + AXIS_PX)


def _bar(name: str, lane: Lane, stretch: Stretch, first: float, whole: float, top: float) -> Markup:
    width = max(100 * (epoch_s(stretch.ended_at) - epoch_s(stretch.began_at)) / whole, NARROWEST)
    left = min(max(100 * (epoch_s(stretch.began_at) - first) / whole, 0.0), 100 - NARROWEST)
    fill = Markup('class="failed"') if stretch.failed else Markup('fill="url(#{}-{})"').format(
        name, lane.series % PATTERNS
    )  # fmt: skip
    return Markup('<rect x="{}%" y="{}" width="{}%" height="{}" {}><title>{}</title></rect>').format(
        number(left), top, number(min(width, 100 - left)), BAR_PX, fill, stretch.said
    )


def _grid(whole: float, height: int) -> Markup:
    """Moments since the beginning, evenly apart."""
    step = next((step for step in _STEPS_S if whole / step <= MOST_TICKS), _days(whole))
    ticks = [place * step for place in range(int(whole / step) + 1)]
    made = []
    for tick in ticks:
        x = number(100 * tick / whole)
        kind = "first" if tick == 0 else "last" if tick / whole > 0.9 else ""  # else it would be cut off at the edge
        made.append(
            Markup(
                '<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="{1}"/>'
                '<text class="day {2}" x="{0}%" y="{3}">{4}</text>'
            ).format(x, height, kind, height + 17, length(tick))
        )
    return NOTHING.join(made)


def _days(whole: float) -> float:
    return 86400.0 * max(1, -(-whole // (86400 * MOST_TICKS)))


def length(seconds: float) -> str:
    """Of a time, as people say it: 0.25 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + " s"
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit} {rest} {smaller}" if rest else f"{whole // size} {unit}"
    return f"{whole} s"


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def epoch_s(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()
