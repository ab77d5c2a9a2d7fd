"""A metric of one's own: how often the label that costs most is missed."""

from ai_assets.evaluation import Evidence, Interval, Measure, metric


@metric(of="labels")
def found_share(evidence: Evidence, *, label: str) -> Measure:
    """Of the golden documents with this label, the share that the model gave it too, with Wilson's interval."""
    wanted = [item for item in evidence.labels if item.golden == label]
    if not wanted:
        return Measure(value=None, n=0)
    n, found = len(wanted), sum(item.predicted == label for item in wanted)
    return Measure(value=found / n, n=n, interval=wilson(found, n))


@metric(of="rows")
def title_share(evidence: Evidence) -> Measure:
    """The share of a partition's documents that have a title."""
    titles = [row["title"] for row in evidence.rows(["title"])]
    return Measure(value=sum(map(bool, titles)) / len(titles) if titles else None, n=len(titles))


def wilson(found: int, n: int, z: float = 1.96) -> Interval:
    share, wide = found / n, z * z / n
    middle = (share + wide / 2) / (1 + wide)
    half = z / (1 + wide) * (share * (1 - share) / n + wide / (4 * n)) ** 0.5
    return Interval(low=min(share, max(0.0, middle - half)), high=max(share, min(1.0, middle + half)))
