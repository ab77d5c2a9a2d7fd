"""Ceilings: gates on what the rows of a partition cost and how asking for them went, and not on what is right. Pure.

A share of few documents may be held to an upper bound, as metrics are to a lower one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.evaluation.figures import figure
from ai_assets.evaluation.floors import more_needed, needed_in_words
from ai_assets.evaluation.verdict import Baseline, GateVerdict, Interval, Ruling

Measured: TypeAlias = Literal["cost_per_document", "p95_latency_s", "quarantine_share", "unanswered_share"]
MEASURES: tuple[Measured, ...] = ("cost_per_document", "p95_latency_s", "quarantine_share", "unanswered_share")
SHARES: tuple[Measured, ...] = ("quarantine_share", "unanswered_share")
OF_ASKING: tuple[Measured, ...] = ("cost_per_document", "p95_latency_s", "unanswered_share")
"""Of what asks a model."""
OF_EACH_STAGE: tuple[Measured, ...] = ("p95_latency_s", "unanswered_share")
"""Without `stage` these are a gate for each stage; the others are of the partition."""
OF_BOUNDS = ("confidence", "undecided")


class Ceiling(BaseModel):
    """The most that a measure may be for a release candidate to be made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    measure: Measured
    """`cost_per_document`: dollars that its rows cost when they were paid for. `p95_latency_s`: of the calls of the run
    that made them. `quarantine_share`: of files and table rows that cannot be read; of a stage, of its documents.
    `unanswered_share`: documents that were asked about and have no usable answer."""
    stage: str | None = None
    """Which stage, or which embedding by its asset. Without it: cost and quarantine of the partition, else each stage
    that asks a model."""
    max: float = Field(gt=0, allow_inf_nan=False)
    """The most it may be: dollars, seconds, or a share below 1."""
    at: Literal["value", "upper"] = "value"
    """What may not be above `max`: the value, or the upper bound of a share."""
    confidence: float = Field(default=0.95, ge=0.6, le=0.999)
    """Of that bound."""
    undecided: Literal["block", "warn"] = "block"
    """What too few documents do."""
    waivable: bool = False
    """Where it fails, a candidate is made all the same, and whoever approves must say why."""

    @model_validator(mode="after")
    def _fits_its_measure(self) -> "Ceiling":
        if found := next(self._misfits(), None):
            key, problem = found
            raise PydanticCustomError("wrong", "{problem}", {"problem": problem, "at": (key,)})
        return self

    def _misfits(self) -> Iterator[tuple[str, str]]:
        if self.measure in SHARES and self.max >= 1:
            yield "max", "a share is never above 1; write one below it"
        if self.at == "upper" and self.measure not in SHARES:
            yield "at", f"bounds are of shares ({', '.join(SHARES)})"
        for key in OF_BOUNDS:
            if key in self.model_fields_set and self.at != "upper":
                yield key, "it has no meaning without 'at: upper'"

    @property
    def name(self) -> str:
        found = self.measure if self.stage is None else f"{self.measure} of {self.stage}"
        return f"{found} upper bound" if self.at == "upper" else found

    @property
    def described(self) -> dict[str, Any]:
        """What of it counts in the code version of the candidate."""
        return self.model_dump(mode="json")

    @property
    def in_words(self) -> str:
        where = "" if self.stage is None else f" of {self.stage}"
        return f"{self.measure}{where} ≤ {self.max:g}{' at the upper bound' * (self.at == 'upper')}"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Of one ceiling in one partition."""

    value: float | None
    """None where there is nothing to measure."""
    n: int
    of: str
    """What `n` counts, in the plural: documents, calls."""
    hits: int | None = None
    """Of a share."""
    nothing: str = ""
    """Why there is no value."""


def judge_ceiling(ceiling: Ceiling, found: Measurement) -> GateVerdict:
    """What there is nothing of holds nothing back."""
    if found.value is None:
        return _verdict(
            ceiling, found, "undecided", f"{ceiling.name}: not judged, because {found.nothing}", holds=False
        )
    if ceiling.at == "upper":
        return _judge_upper_bound(ceiling, found)
    passed = found.value <= ceiling.max
    said = (
        f"{ceiling.name} {figure(found.value, ceiling.max)} is {'within' if passed else 'above'} the maximum "
        f"{ceiling.max:g} ({_counted(found)})"
    )
    return _verdict(ceiling, found, "passed" if passed else "failed", said, holds=not passed)


def _judge_upper_bound(ceiling: Ceiling, found: Measurement) -> GateVerdict:
    from ai_assets.statistics.exact import lower_bound, upper_bound

    hits, n, most, confidence = found.hits, found.n, ceiling.max, ceiling.confidence
    assert hits is not None
    assert found.value is not None
    high = upper_bound(hits, n, confidence)
    interval = Interval(low=lower_bound(hits, n, confidence), high=high, level=2 * confidence - 1)
    said = f"{ceiling.name} is at most {figure(high, most)} with {confidence:.0%} confidence ({_counted(found)})"
    if high <= most:
        return _verdict(ceiling, found, "passed", f"{said}; maximum {most:g}", holds=False, interval=interval)
    if found.value > most:
        said += f"; the value itself is above the maximum {most:g}"
        return _verdict(ceiling, found, "failed", said, holds=True, interval=interval)
    more = more_needed(lambda factor: upper_bound(round(hits * factor), round(n * factor), confidence) <= most, n)
    said += f", which is above the maximum {most:g}: {needed_in_words(more, 'document')}"
    holds = ceiling.undecided == "block"
    return _verdict(ceiling, found, "undecided", said, holds=holds, interval=interval)


def _counted(found: Measurement) -> str:
    return f"n = {found.n:,} {found.of}" if found.hits is None else f"{found.hits:,} of {found.n:,} {found.of}"


def _verdict(
    ceiling: Ceiling,
    found: Measurement,
    ruling: Ruling,
    sentence: str,
    *,
    holds: bool,
    interval: Interval | None = None,
) -> GateVerdict:
    held_to = found.value if interval is None else interval.high
    return GateVerdict(
        name=ceiling.name,
        metric=ceiling.measure,
        stage=ceiling.stage,
        judge="max" if ceiling.at == "value" else "upper bound",
        value=found.value,
        n=found.n,
        interval=interval,
        baseline=Baseline(kind="declared", value=ceiling.max),
        # As a share of the maximum: dollars, seconds and shares are of different sizes.
        margin=None if held_to is None else round(1 - held_to / ceiling.max, 6),
        verdict=ruling,
        holds=holds,
        waivable=ceiling.waivable,
        sentence=sentence,
    )
