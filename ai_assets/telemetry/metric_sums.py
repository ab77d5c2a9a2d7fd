"""Metrics as they are counted in a process: sums and histograms by their attributes. Pure.

The SDK's instruments take some ten microseconds for a value; an attempt has half a dozen. Here who counts often keeps
the series that it adds to.
"""

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

from ai_assets.telemetry.conventions import Instrument
from ai_assets.telemetry.span_records import Value

MOST_SERIES = 2000
"""Of an instrument; what is beyond counts under no attributes, as the standard has it."""
Labels = tuple[tuple[str, Value], ...]
OVERFLOW: Labels = (("otel.metric.overflow", True),)


@dataclass(slots=True)
class CountedSeries:
    """Of one set of attributes."""

    bounds: tuple[float, ...] = ()
    total: float = 0
    count: int = 0
    least: float = float("inf")
    most: float = float("-inf")
    buckets: list[int] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1
        if self.bounds:
            self.buckets[bisect_left(self.bounds, value)] += 1
            if value < self.least:  # quicker than min and max
                self.least = value
            if value > self.most:
                self.most = value

    def copy(self) -> "CountedSeries":
        return CountedSeries(self.bounds, self.total, self.count, self.least, self.most, list(self.buckets))

    def clear(self) -> None:
        self.total = self.count = 0
        self.least, self.most = float("inf"), float("-inf")
        self.buckets = [0] * len(self.buckets)


class MetricSums:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Around `add` of a series that somebody keeps."""
        self._found: dict[Instrument, dict[Labels, CountedSeries]] = {}

    def series(self, instrument: Instrument, labels: Labels) -> CountedSeries:
        """What is counted under these attributes, to keep."""
        with self.lock:
            of = self._found.setdefault(instrument, {})
            found = of.get(labels)
            if found is None:
                labels = labels if len(of) < MOST_SERIES else OVERFLOW
                size = len(instrument.buckets) + 1 if instrument.buckets else 0
                found = of.setdefault(labels, CountedSeries(instrument.buckets, buckets=[0] * size))
            return found

    def add(self, instrument: Instrument, value: float, labels: Labels) -> None:
        found = self.series(instrument, labels)
        with self.lock:
            found.add(value)

    def taken(self, *, reset: bool) -> dict[Instrument, dict[Labels, CountedSeries]]:
        """What was counted so far, or since the last time where it is reset."""
        with self.lock:
            counted = {
                instrument: {labels: each.copy() for labels, each in of.items() if each.count}
                for instrument, of in self._found.items()
            }
            if reset:
                for of in self._found.values():
                    for each in of.values():
                        each.clear()
        return {instrument: of for instrument, of in counted.items() if of}
