"""The coverage-against-error curve of a certified threshold, as SVG made on the server; colours are in desk.css."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ai_assets.desk.held_views import ThresholdView
from ai_assets.statistics.selective import CoveragePoint

WIDTH, HEIGHT = 600, 200
LEFT, RIGHT, BOTTOM = 56, 28, 34


@dataclass(frozen=True, kw_only=True)
class CoverageChart:
    collection: str
    stage: str
    said: str
    labels: int
    made_at: str
    markup: Markup
    """Empty where there is no label."""


def coverage_chart(found: ThresholdView, points: Sequence[CoveragePoint]) -> CoverageChart:
    return CoverageChart(
        collection=found.collection,
        stage=found.stage,
        said=found.said,
        labels=found.labels,
        made_at=found.made_at,
        markup=_drawn(found, points) if points else Markup(""),
    )


def _drawn(found: ThresholdView, points: Sequence[CoveragePoint]) -> Markup:
    top = min(1.0, max(2 * found.error, *(point.error for point in points), 0.01) * 1.15)

    def at(coverage: float, error: float) -> str:
        across = LEFT + coverage * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - min(error, top) / top * (HEIGHT - BOTTOM - 10):.1f}"

    accepted = [point for point in points if found.threshold is not None and point.threshold >= found.threshold]
    limit = at(0, found.error).partition(",")[2]
    parts = [
        Markup('<line class="axis" x1="{0}" y1="10" x2="{0}" y2="{1}"/><line class="axis" x1="{0}" y1="{1}" x2="{2}" '
               'y2="{1}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT),
        Markup('<line class="limit" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(LEFT, limit, WIDTH - RIGHT, limit),
        Markup('<text x="{}" y="{}" class="end">{}</text>').format(LEFT - 6, float(limit) + 4, f"{found.error:.3g}"),
        Markup('<polyline class="bound" points="{}"/>').format(" ".join(at(p.coverage, p.upper) for p in points)),
        Markup('<polyline class="error" points="{}"/>').format(" ".join(at(p.coverage, p.error) for p in points)),
    ]  # fmt: skip
    if accepted:
        across = at(accepted[-1].coverage, 0).partition(",")[0]
        parts.append(Markup('<line class="chosen" x1="{0}" y1="10" x2="{0}" y2="{1}"/>').format(
            across, HEIGHT - BOTTOM))  # fmt: skip
    for share in (0, 0.25, 0.5, 0.75, 1):
        across = at(share, 0).partition(",")[0]
        parts.append(Markup('<text x="{}" y="{}" class="middle">{:.0%}</text>').format(across, HEIGHT - 14, share))
    title = f"Error against the share that is accepted, {found.collection} {found.stage}. {found.said}"
    return Markup('<svg class="coverage" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )
