"""Plots as SVG, made on the server: data in, markup out. No script, no style of their own: colours are in desk.css.

Text keeps its size at any width: what is stretched are shares of the width, never the letters.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup

from ai_assets.costs.figures import Series
from ai_assets.costs.tables import dollars

PLOT_PX, TOP_PX, DAYS_PX = 190, 12, 26
ROW_PX, BAR_PX = 46, 12
LONGEST_LABEL = 27
"""Characters that fit beside an amount on a phone."""
MOST_LABELS = 4
"""Days named below a plot."""
LONGEST_WITHOUT_YEAR = 300
"""Days of a plot below which the months are named without their year."""
SHORT_AMOUNT = 6
"""Characters that fit in the margin."""
PATTERNS = 7
NOTHING = Markup("")
_PART = Markup('<rect x="{}%" y="{}" width="{}%" height="{}" fill="url(#{}-{})"><title>{}</title></rect>')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# What lies over the colour, so that parts are told apart without it.
_HATCHES = (
    "",
    '<path d="M0 8 8 0M-2 2 2-2M6 10 10 6"/>',
    '<circle cx="2" cy="2" r="1.2"/><circle cx="6" cy="6" r="1.2"/>',
    '<path d="M0 0 8 8M-2 6 2 10M6-2 10 2"/>',
    '<path d="M0 2H8M0 6H8"/>',
    '<path d="M2 0V8M6 0V8"/>',
    '<path d="M0 4H8M4 0V8"/>',
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    label: str
    value: Decimal
    pattern: int = 0


@dataclass(frozen=True, kw_only=True)
class Burndown:
    """What is left of a budget, day by day, and what may be left at the end."""

    limit_usd: Decimal
    left: Sequence[tuple[datetime.date, Decimal]]
    """At the end of each day so far."""
    last: datetime.date
    """The day on which it starts over, or how far to look."""
    likely_usd: Decimal
    """Left then."""
    low_usd: Decimal
    high_usd: Decimal


def stacked_days(name: str, title: str, finding: str, found: Series) -> Markup:
    """A bar for each step, its parts one above the other."""
    top, steps = _scale(max(found.sums, default=Decimal(0)))
    count = max(1, len(found.starts))
    gap = 100 / count * 0.18
    parts = []
    for place, start in enumerate(found.starts):
        height = 0.0
        for nth, (part, values) in enumerate(found.parts):
            if not values[place]:
                continue
            own = float(values[place] / top) * PLOT_PX
            height += own
            parts.append(
                _PART.format(
                    number(100 * place / count + gap / 2), number(PLOT_PX - height), number(100 / count - gap),
                    number(own), name, nth % PATTERNS, f"{long_day(start)}, {part}: {dollars(values[place])}",
                )
            )  # fmt: skip
    drawn = hatched(name) + NOTHING.join(parts) + _days(found.starts, centred=True)
    return _plot(name, title, finding, top, steps, drawn)


def bars(name: str, title: str, finding: str, found: Sequence[Bar]) -> Markup:
    """A line each: what it is, how much, and a bar below the two."""
    most = max((bar.value for bar in found), default=Decimal(0)) or Decimal(1)
    rows = [
        Markup(
            '<text x="0" y="{}">{}</text><text class="amount" x="100%" y="{}">{}</text>'
            '<rect class="track" x="0" y="{}" width="100%" height="{}" rx="2"/>'
            '<rect x="0" y="{}" width="{}%" height="{}" rx="2" fill="url(#{}-{})"><title>{}</title></rect>'
        ).format(
            place * ROW_PX + 14, _short(bar.label), place * ROW_PX + 14, dollars(bar.value),
            place * ROW_PX + 21, BAR_PX, place * ROW_PX + 21,
            number(max(0.4 if bar.value else 0, 100 * bar.value / most)), BAR_PX, name, bar.pattern % PATTERNS,
            f"{bar.label}: {dollars(bar.value)}",
        )
        for place, bar in enumerate(found)
    ]  # fmt: skip
    return picture(name, title, finding, hatched(name) + NOTHING.join(rows), max(1, len(found)) * ROW_PX - 8)


def burn_down(name: str, title: str, finding: str, found: Burndown) -> Markup:
    """A falling line from the limit, and from its end the band in which it will go on."""
    first = found.left[0][0]
    span = max(1, (found.last - first).days + 1)
    top, steps = _scale(found.limit_usd)

    def at(day: datetime.date, left: Decimal) -> str:
        x = 1000 * ((day - first).days + 1) / span
        return f"{number(x)},{number(float(1 - max(left, Decimal(0)) / top) * PLOT_PX)}"

    day, left = found.left[-1]
    line = [f"0,{number(float(1 - found.limit_usd / top) * PLOT_PX)}", *(at(*point) for point in found.left)]
    now, end = at(day, left), found.last
    lines = Markup(
        '<svg x="0" y="0" width="100%" height="{}" viewBox="0 0 1000 {}" preserveAspectRatio="none">'
        '<polygon class="band" points="{} {} {}"/><polyline class="likely" points="{} {}"/>'
        '<polyline class="left" points="{}"/></svg>'
    ).format(
        PLOT_PX, PLOT_PX, now, at(end, found.high_usd), at(end, found.low_usd), now, at(end, found.likely_usd),
        " ".join(line),
    )  # fmt: skip
    days = [first + datetime.timedelta(days=place) for place in range(span)]
    return _plot(name, title, finding, top, steps, lines + _days(days))


def swatch(name: str, nth: int) -> Markup:
    """What a part of the plot of this name looks like, for its legend."""
    return Markup(
        '<svg class="swatch" width="16" height="16" aria-hidden="true" focusable="false">'
        '<rect width="16" height="16" rx="3" fill="url(#{}-{})"/></svg>'
    ).format(name, nth % PATTERNS)


def hatched(name: str) -> Markup:
    made = [
        Markup(
            '<pattern id="{}-{}" width="8" height="8" patternUnits="userSpaceOnUse">'
            '<rect class="series-{}" width="8" height="8"/><g class="hatch">{}</g></pattern>'
        ).format(name, nth, nth, Markup(hatch))
        for nth, hatch in enumerate(_HATCHES)
    ]
    return Markup("<defs>{}</defs>").format(NOTHING.join(made))


def picture(name: str, title: str, finding: str, drawn: Markup, height: int, kind: str = "chart") -> Markup:
    return Markup(
        '<svg class="{0}" role="img" aria-labelledby="{1}-title {1}-desc" width="100%" height="{2}">'
        '<title id="{1}-title">{3}</title><desc id="{1}-desc">{4}</desc>{5}</svg>'
    ).format(kind, name, height, title, finding, drawn)


def _plot(name: str, title: str, finding: str, top: Decimal, steps: int, drawn: Markup) -> Markup:
    """With the amounts in a margin to the left, which is padding: it does not stretch, and nothing is cut off there."""
    said = [dollars(top * place / steps) for place in range(steps + 1)]
    levels = [number(TOP_PX + PLOT_PX * (1 - place / steps)) for place in range(steps + 1)]
    kind = "chart plot wide" if max(map(len, said)) > SHORT_AMOUNT else "chart plot"
    grid = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(level)
        + Markup('<text class="amount" x="-8" y="{}" dy="4">{}</text>').format(level, text)
        for level, text in zip(levels, said, strict=True)
    ]
    inner = Markup('{}<g transform="translate(0 {})">{}</g>').format(NOTHING.join(grid), TOP_PX, drawn)
    return picture(name, title, finding, inner, TOP_PX + PLOT_PX + DAYS_PX, kind)


def _days(days: Sequence[datetime.date], *, centred: bool = False) -> Markup:
    """A few of them named, the first and the last too."""
    count = len(days)
    labels = min(MOST_LABELS, count)
    places = sorted({round(nth * (count - 1) / max(1, labels - 1)) for nth in range(labels)})
    made = []
    for place in places:
        kind = "first" if place == 0 and count > 1 else "last" if place == count - 1 and count > 1 else ""
        x = 0.0 if kind == "first" else 100.0 if kind == "last" else 100 * (place + (0.5 if centred else 1)) / count
        made.append(
            Markup('<text class="day {}" x="{}%" y="{}">{}</text>').format(
                kind,
                number(x),
                PLOT_PX + 19,
                _brief(days[place], years=(days[-1] - days[0]).days > LONGEST_WITHOUT_YEAR),
            )
        )
    return NOTHING.join(made)


def _scale(most: Decimal) -> tuple[Decimal, int]:
    """The top of an axis that holds this, and into how many steps it divides evenly."""
    if most <= 0:
        return Decimal(1), 2
    size = Decimal(1).scaleb(most.adjusted())
    for factor, steps in (("1", 2), ("1.5", 3), ("2", 4), ("3", 3), ("4", 4), ("5", 5), ("6", 3), ("8", 4)):
        if most <= size * Decimal(factor):
            return size * Decimal(factor), steps
    return size * 10, 2


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"


def _brief(day: datetime.date, *, years: bool) -> str:
    return f"{_MONTHS[day.month - 1]} {day.year}" if years else f"{day.day} {_MONTHS[day.month - 1]}"


def long_day(day: datetime.date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def number(value: float | Decimal) -> str:
    """Two digits are less than a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
