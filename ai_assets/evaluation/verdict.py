"""`GateVerdict`: what a gate found, as one record that is the same from the check in Dagster to the desk. Pure.

It is written into requests as JSON. What earlier versions wrote there, without a format number, is still read.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from ai_assets.evaluation.errors import VerdictUnreadable

FORMAT = 1
NO_CANDIDATE = "No release candidate was made."
"""What ends the message of a partition that a gate stopped."""
Ruling: TypeAlias = Literal["passed", "failed", "undecided"]
"""`undecided`: what there is to judge by does not say. Whether that holds the candidate back is the gate's to say."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Where the true value lies, at the level of confidence."""

    low: float
    high: float
    level: float = 0.95
    unit: str = "document"
    """What was resampled; items of one document are not independent."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a score was judged against."""

    kind: Literal["declared", "live"]
    """A number from defs.yaml, or the same metric of the live release."""
    value: float | None
    n: int | None = None
    release: int | None = None
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """The verdict of one gate on one partition's candidate."""

    name: str
    """Of the gate, unique in its collection; a waiver names it."""
    metric: str
    stage: str | None
    judge: str
    """`min` for the built-in gate, else the `use` of one of the user's own."""
    value: float | None
    n: int
    interval: Interval | None = None
    baseline: Baseline | None = None
    margin: float | None = None
    """How far inside of what is asked for the value is, negative where it is outside; None where that has no number."""
    verdict: Ruling
    holds: bool
    """Whether it holds the candidate back: a failed gate always does, an undecided one if its gate says so."""
    waivable: bool
    """Whether an approver may pass over it, with a reason."""
    sentence: str
    slice: str | None = None
    """Which one the value is of, where a gate looks at slices."""

    def __post_init__(self) -> None:
        if self.verdict != "undecided" and self.holds is (self.verdict == "passed"):
            does = "holds" if self.holds else "does not hold"
            raise ValueError(f"gate {self.name}: its verdict is '{self.verdict}', and it {does} the candidate back")

    @property
    def passed(self) -> bool:
        """Nothing is left to do about it: it passed, or it could not decide and does not hold the candidate back."""
        return not self.holds

    @property
    def in_words(self) -> str:
        return "is undecided" if self.verdict == "undecided" else self.verdict

    @property
    def stops(self) -> bool:
        """No candidate is made."""
        return self.holds and not self.waivable

    def as_data(self) -> dict[str, Any]:
        found = {"format": FORMAT, **asdict(self)}
        if self.slice is None:
            del found["slice"]
        return found

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "GateVerdict":
        """From a request of this version or an earlier one."""
        if "format" not in data:
            return _of_first_version(data)
        if data["format"] != FORMAT:
            raise VerdictUnreadable(str(data.get("name")), data["format"], FORMAT)
        baseline = data["baseline"]
        return cls(
            **{
                **{name: value for name, value in data.items() if name != "format"},
                "interval": _interval(data["interval"]),
                "baseline": baseline and Baseline(**{**baseline, "interval": _interval(baseline["interval"])}),
            }
        )


def _interval(data: Mapping[str, Any] | None) -> Interval | None:
    return None if data is None else Interval(**data)


def _of_first_version(data: Mapping[str, Any]) -> GateVerdict:
    """`{name, min, value, n, passed, waivable, message}`: a minimum, which passed where nothing could be judged yet."""
    metric, _, stage = str(data["name"]).partition(" of ")
    value, least = data["value"], float(data["min"])
    waits = data["passed"] and value is None and bool(str(data["message"]).startswith("not judged"))
    return GateVerdict(
        name=data["name"],
        metric=metric,
        stage=stage or None,
        judge="min",
        value=value,
        n=data["n"],
        baseline=Baseline(kind="declared", value=least),
        margin=None if value is None else float(value) - least,
        verdict="undecided" if waits else "passed" if data["passed"] else "failed",
        holds=not data["passed"],
        waivable=data["waivable"],
        sentence=data["message"],
    )


def verdicts_of(summary: Mapping[str, Any]) -> tuple[GateVerdict, ...]:
    """Of a request's summary, in the order in which the gates are declared."""
    return tuple(GateVerdict.of(data) for data in summary.get("gates", ()))
