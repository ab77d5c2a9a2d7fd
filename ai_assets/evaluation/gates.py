"""Gates: each judges the scores of one metric and says whether a candidate may be made. Pure: no files, no Dagster.

The built-in gate is a minimum. A gate of a user's own is a function of a `GateCase`, named by `use:` in defs.yaml.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import ValidationInfo

from ai_assets.base.errors import OwnCodeFailed
from ai_assets.base.plural import plural
from ai_assets.evaluation.figures import figure
from ai_assets.evaluation.floors import (
    PairedLabels,
    PairedSearch,
    PairedSlices,
    judge_against_live,
    judge_any_time,
    judge_lower_bound,
    judge_search_against_live,
    judge_slices,
    judge_slices_against_live,
)
from ai_assets.evaluation.judged_gates import judge_ratings_against_live, unrated
from ai_assets.evaluation.scoring import (
    ANSWERED_SHARE,
    BUILTIN_METRICS,
    ECE,
    JUDGED,
    OF_JUDGES,
    OF_LABELS,
    OF_QUERIES,
    Score,
)
from ai_assets.evaluation.slices import SliceScore
from ai_assets.evaluation.verdict import Baseline, GateVerdict, Interval, Ruling
from ai_assets.extensions import Options

LESS_IS_BETTER = (ECE,)
OF_STATISTICS = ("at", "no_worse_by", "slices", "slice_documents", "confidence", "undecided")


class Gate(BaseModel):
    """What a score must hold before a release candidate is made: a minimum, or what a gate of one's own says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    stage: str | None = None
    """Which stage's labels, where several are scored; of search, the asset of a further embedding; of
    `answered_share` which stage, and without it all."""
    min: float | None = Field(default=None, allow_inf_nan=False)
    """The least it must reach; needed unless `use` is there. Of a built-in metric from 0 to 1."""
    max: float | None = Field(default=None, ge=0, le=1)
    """In place of `min`: the most it may reach. Of `ece`, of which less is better."""
    at: Literal["value", "lower", "any_time"] = "value"
    """What must reach `min`: the value, the lower bound of its interval, or a lower bound that holds however often
    somebody looks while labels come in. The last one is of `accuracy`, and goes with `no_worse_by` too."""
    no_worse_by: float | None = Field(default=None, ge=0, lt=1)
    """In place of `min`: at most so much worse than the live release. Of `accuracy` and of search, on the same golden
    items, and of `judged`, by the same judge."""
    slices: tuple[str, ...] = ()
    """`min` or `no_worse_by` holds in each slice by these: language, source, length, label, tenant, or `STAGE.COLUMN`.
    Of `accuracy`."""
    slice_documents: int = Field(default=20, ge=5)
    """Golden documents that a slice must have."""
    confidence: float = Field(default=0.95, ge=0.6, le=0.999)
    """Of bounds, of the comparison with the live release, and of slices over all of them (Holm)."""
    undecided: Literal["block", "warn"] = "block"
    """What too few golden items do."""
    waivable: bool = False
    """Where it fails, a candidate is made all the same, and whoever approves must say why."""
    use: str | None = Field(default=None, min_length=1)
    """A gate of one's own: `module:name`, or the name of an entry point in the group `ai_assets.gates`."""
    options: Options = Field(default={})
    """Keyword arguments of that gate."""

    @field_validator("min")
    @classmethod
    def _is_a_share(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("metric") in BUILTIN_METRICS:
            if value > 1:
                raise PydanticCustomError("less_than_equal", "should be at most 1", {"le": 1.0})
            if value < 0:
                raise PydanticCustomError("greater_than_equal", "should be at least 0", {"ge": 0.0})
        return value

    @model_validator(mode="after")
    def _has_one_judge(self) -> "Gate":
        if self.use is None and self.min is None and self.max is None and self.no_worse_by is None:
            key = "max" if self.metric in LESS_IS_BETTER else "min"
            raise PydanticCustomError("wrong", "{problem}", {"problem": "is missing", "at": (key,)})
        if found := next(self._contradictions(), None):
            key, problem = found
            raise PydanticCustomError("wrong", "{problem}", {"problem": problem, "at": (key,)})
        for key in ("min",) if self.use is not None else ("options",):
            if key in self.model_fields_set:
                problem = "it has no meaning with 'use'; give it to the gate under 'options'" if self.use else (
                    "it has no meaning without 'use'"
                )  # fmt: skip
                raise PydanticCustomError("wrong", "{problem}", {"problem": problem, "at": (key,)})
        return self

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        given = self.model_fields_set
        if self.use is not None:
            for key in OF_STATISTICS:
                if key in given:
                    yield key, "it has no meaning with 'use'; give it to the gate under 'options'"
        if "max" in given and self.metric not in LESS_IS_BETTER:
            yield (
                "max",
                f"it is for {', '.join(LESS_IS_BETTER)} alone; of '{self.metric}' more is better: declare 'min'",
            )
        for key in ("min", "at"):
            if key in given and self.metric in LESS_IS_BETTER and self.use is None:
                yield key, f"of '{self.metric}' less is better; declare 'max'"
        for key in ("min", "at"):
            if self.no_worse_by is not None and key in given and (key != "at" or self.at != "any_time"):
                yield key, "it has no meaning with 'no_worse_by'; declare a gate of its own"
        if "no_worse_by" in given and self.metric not in ("accuracy", JUDGED, *OF_QUERIES):
            yield "no_worse_by", f"it is for accuracy, {JUDGED}, {', '.join(OF_QUERIES)}"
        if "slices" in given and self.metric != "accuracy":
            yield "slices", "it is for 'accuracy' alone"
        if "slices" in given and not self.slices:
            yield "slices", "it names no slice; name some, or leave it out"
        if self.at == "any_time" and self.metric != "accuracy":
            yield "at", "'any_time' is for 'accuracy' alone"
        if self.slices and self.at != "value":
            yield "at", "slices are judged by their own test; leave 'at' away"
        if "slice_documents" in given and not self.slices:
            yield "slice_documents", "it has no meaning without 'slices'"
        if len(set(self.slices)) < len(self.slices):
            yield "slices", "a slice is here twice"
        if self.metric == ANSWERED_SHARE and self.is_statistical:
            yield next(key for key in OF_STATISTICS if key in given), f"it has no meaning for {ANSWERED_SHARE}"

    @property
    def judge(self) -> str:
        """Of the built-in kinds, in one word."""
        if self.no_worse_by is not None:
            return "live by slice" if self.slices else "live at any time" if self.at == "any_time" else "live"
        if self.max is not None:
            return "max"
        return "slices" if self.slices else {"value": "min", "lower": "lower bound", "any_time": "any time"}[self.at]

    @property
    def is_statistical(self) -> bool:
        """Whether it asks more than the value."""
        return self.at != "value" or self.no_worse_by is not None or bool(self.slices)

    @property
    def name(self) -> str:
        found = self.metric if self.stage is None else f"{self.metric} of {self.stage}"
        found += f" by {' and '.join(self.slices)}" if self.slices else ""
        found += " against live" if self.no_worse_by is not None else ""
        found += {"value": "", "lower": " lower bound", "any_time": " at any time"}[self.at]
        return found if self.use is None else f"{found} by {self.use.rpartition(':')[2]}"

    @property
    def least(self) -> float:
        """Of a gate without `use`."""
        assert self.min is not None
        return self.min

    @property
    def described(self) -> dict[str, Any]:
        """What of it counts in the code version of the candidate."""
        found: dict[str, Any] = {"metric": self.metric, "stage": self.stage, "min": self.min, "waivable": self.waivable}
        if self.max is not None:
            found |= {"max": self.max}
        if self.is_statistical:
            asked = self.model_dump(mode="json", include=set(OF_STATISTICS))
            found |= {"slices": list(self.slices), **asked}
        return found if self.use is None else {**found, "use": self.use, "options": self.options}

    @property
    def in_words(self) -> str:
        at = {"value": "", "lower": " at the lower bound", "any_time": " at any time"}[self.at]
        at = f" in each {' and '.join(self.slices)}" if self.slices else at
        if self.no_worse_by is not None:
            return f"{self.metric} at most {self.no_worse_by:g} worse than live{at}"
        if self.max is not None:
            return f"{self.metric} ≤ {self.max:g}"
        return f"{self.metric} ≥ {self.min:g}{at}" if self.use is None else self.name


@dataclass(frozen=True, kw_only=True)
class GateCase:
    """What a gate judges, and the ways to say what it finds."""

    gate: Gate
    score: Score | None
    """The metric's; over the corpus where it has such a score. None where nothing was scored under that name."""
    live: Score | None
    """The same score of the release that is live; None where nothing is live or it was not scored then."""
    live_release: int | None
    pending: int
    """Golden documents of partitions that are not computed yet."""
    absent: int
    """Golden documents that are nowhere in the source."""
    slice: str | None = None
    """Which one the score is of."""

    def passed(self, sentence: str, *, baseline: Baseline | None = None, margin: float | None = None) -> GateVerdict:
        return self._verdict("passed", sentence, baseline, margin, holds=False)

    def failed(self, sentence: str, *, baseline: Baseline | None = None, margin: float | None = None) -> GateVerdict:
        return self._verdict("failed", sentence, baseline, margin, holds=True)

    def undecided(
        self, sentence: str, *, holds: bool = True, baseline: Baseline | None = None, margin: float | None = None
    ) -> GateVerdict:
        """What there is to judge by does not say. It holds the candidate back unless `holds` is False."""
        return self._verdict("undecided", sentence, baseline, margin, holds=holds)

    def with_interval(self, interval: Interval) -> "GateCase":
        return self if self.score is None else replace(self, score=replace(self.score, interval=interval))

    def with_score(self, value: float | None, n: int, slice_: str | None) -> "GateCase":
        """Of a part of what the metric scores."""
        if self.score is None:
            return self
        return replace(self, score=replace(self.score, value=value, n=n, interval=None), slice=slice_)

    @property
    def without_live(self) -> GateVerdict:
        """Of a gate that compares with what is live, before the first release."""
        return self.undecided(f"{self.gate.name}: not judged, because no release is live to compare with", holds=False)

    @property
    def baseline(self) -> Baseline | None:
        """The live release's score as a baseline."""
        if self.live is None:
            return None
        return Baseline(
            kind="live",
            value=self.live.value,
            n=self.live.n,
            release=self.live_release,
            interval=self.live.interval,
        )

    def _verdict(
        self, verdict: Ruling, sentence: str, baseline: Baseline | None, margin: float | None, *, holds: bool
    ) -> GateVerdict:
        return GateVerdict(
            name=self.gate.name,
            metric=self.gate.metric,
            stage=self.gate.stage,
            judge=self.gate.use or self.gate.judge,
            value=None if self.score is None else self.score.value,
            n=0 if self.score is None else self.score.n,
            interval=None if self.score is None else self.score.interval,
            baseline=baseline,
            margin=margin,
            verdict=verdict,
            holds=holds,
            waivable=self.gate.waivable,
            sentence=sentence,
            slice=self.slice,
        )


class GateFunction(Protocol):
    """A gate of a user's own. What it takes beside the case comes from `options`."""

    def __call__(self, case: GateCase, /, **options: Any) -> GateVerdict: ...


def gate(function: Callable[..., GateVerdict]) -> Callable[..., GateVerdict]:
    """Marks a function as a gate."""
    function.__ai_assets_gate__ = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True, kw_only=True)
class GateInputs:
    """All that the gates of one partition are judged by."""

    scores: Sequence[Score]
    pending: int
    absent: int
    live: Sequence[Score] = ()
    live_release: int | None = None
    of_rows: frozenset[str] = field(default_factory=frozenset)
    """Metrics that score rows and not golden data: of those nothing is pending."""
    labels_to_come: bool = False
    """People give golden labels on the desk, so that none yet is no mistake."""
    slices: Sequence[SliceScore] = ()
    paired: PairedLabels | None = None
    paired_slices: PairedSlices | None = None
    paired_search: PairedSearch | None = None


def judge(gates: Sequence[Gate], bench: GateInputs, own: Mapping[str, GateFunction] | None = None) -> list[GateVerdict]:
    """One verdict per gate, in order; `own` are the functions of those with `use`, by name of the gate.

    Where nothing could be scored, a minimum is undecided as long as golden documents are pending, and fails when none
    are. A score of the whole corpus is preferred to one of a partition.
    """
    return [_judged(each, bench, (own or {}).get(each.name)) for each in gates]


def _judged(each: Gate, bench: GateInputs, function: GateFunction | None) -> GateVerdict:
    found = _scores(each, bench.scores)
    of_rows = each.metric in bench.of_rows
    case = GateCase(
        gate=each,
        score=found[0] if found else None,
        live=next(iter(_scores(each, bench.live)), None),
        live_release=bench.live_release,
        pending=0 if of_rows else bench.pending,
        absent=0 if of_rows else bench.absent,
    )
    if len(found) > 1:
        stages = ", ".join(sorted({score.stage or "search" for score in found}))
        unclear = replace(case, score=None)
        return unclear.failed(f"{each.name}: {plural(len(found), 'score')} ({stages}); name one with 'stage:'")
    if function is None:
        if each.metric in OF_JUDGES and (case.score is None or case.score.value is None):
            return unrated(case)
        scored = case.score is not None and case.score.n > 0 and case.score.value is not None
        if scored and each.is_statistical:
            return _statistical(case, bench)
        if scored and each.max is not None:
            return _maximum(case, each.max)
        return _minimum(case, of_rows=of_rows, to_come=bench.labels_to_come and each.metric in OF_LABELS)
    try:
        verdict = function(case, **each.options)
    except Exception as error:  # the user's own code: the gate is named, and its partition fails
        raise OwnCodeFailed("gate", each.use or each.name, f"{type(error).__name__}: {error}") from error
    if not isinstance(verdict, GateVerdict):
        raise OwnCodeFailed("gate", each.use or each.name, f"it returned {verdict!r}; return case.passed(...), "
                            "case.failed(...) or case.undecided(...)")  # fmt: skip
    return verdict


def _maximum(case: GateCase, most: float) -> GateVerdict:
    assert case.score is not None
    assert case.score.value is not None
    value, declared = case.score.value, Baseline(kind="declared", value=most)
    holds = value <= most
    said = (
        f"{case.gate.name} {figure(value, most)} {'is within' if holds else 'exceeds'} the maximum {most:g} "
        f"(n = {case.score.n}"
    )
    said += f"; {case.pending} more pending" if case.pending else ""
    return (case.passed if holds else case.failed)(f"{said})", baseline=declared, margin=most - value)


def _statistical(case: GateCase, bench: GateInputs) -> GateVerdict:
    assert case.score is not None
    if case.gate.no_worse_by is not None and case.gate.metric == JUDGED:
        return judge_ratings_against_live(case)
    if case.gate.no_worse_by is not None:
        if case.gate.metric in OF_QUERIES:
            return judge_search_against_live(case, bench.paired_search)
        if case.gate.slices:
            return judge_slices_against_live(case, bench.paired_slices)
        return judge_against_live(case, bench.paired)
    if case.gate.slices:
        return judge_slices(case, [each for each in bench.slices if each.by in case.gate.slices])
    if case.gate.at == "any_time":
        return judge_any_time(case)
    items = "rating" if case.score.judge is not None else "row" if case.gate.metric in bench.of_rows else "label"
    return judge_lower_bound(case, case.score.error, case.score.clusters, items)


def _scores(each: Gate, scores: Sequence[Score]) -> list[Score]:
    found = [score for score in scores if score.metric == each.metric and each.stage in (None, score.stage)]
    if each.stage is None:  # of search, the first embedding
        found = [score for score in found if score.stage is None] or found
    return [score for score in found if score.scope == "corpus"] or found


def _minimum(case: GateCase, *, of_rows: bool, to_come: bool) -> GateVerdict:
    name, score, asked = case.gate.name, case.score, case.gate.min
    required = "no minimum" if asked is None else f"minimum {asked:g}"
    required = required if case.gate.max is None else f"maximum {case.gate.max:g}"
    declared = None if asked is None else Baseline(kind="declared", value=asked)
    if score is None or score.n == 0:
        nothing = f"{name} ({required}), n = 0"
        if of_rows:
            return case.undecided(f"not judged: {nothing}; there are no rows to score", holds=False, baseline=declared)
        if case.pending:
            waits = (
                f"not judged: {nothing}; {plural(case.pending, 'golden document waits', 'golden documents wait')} "
                "for their partition"
            )
            return case.undecided(waits, holds=False, baseline=declared)
        if to_come:
            waits = f"not judged: {nothing}; people give golden labels on the desk, and there is none yet"
            return case.undecided(waits, holds=False, baseline=declared)
        if case.absent:
            gone = f"{nothing}: none of the {plural(case.absent, 'golden document')} exists in the source"
            return case.failed(gone, baseline=declared)
        return case.failed(f"{nothing}: there are no golden documents to judge by", baseline=declared)
    if score.value is None:
        return case.failed(f"{name} ({required}) has no value (n = {score.n})", baseline=declared)
    least = case.gate.least
    reached = score.value >= least
    said = f"{name} {figure(score.value, least)} {'reaches' if reached else 'is below'} the {required} (n = {score.n}"
    said += f"; {case.pending} more pending" if case.pending else ""
    said += f"; {case.absent} not in the source" if case.absent else ""
    say = case.passed if reached else case.failed
    return say(f"{said})", baseline=declared, margin=score.value - least)
