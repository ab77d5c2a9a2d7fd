"""Metrics: each scores evidence. The built-in ones and those of a user's own are the same kind of thing.

A metric scores golden labels, golden queries, or the rows of a dataset. `datasets/evaluation_scores.py` gathers the
evidence; the formulas of the built-in ones are in `stages/evaluate.py`.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

from ai_assets.base.errors import OwnCodeFailed
from ai_assets.evaluation.scoring import (
    ECE,
    NDCG_DEPTH,
    RECALL_DEPTHS,
    LabelScores,
    RetrievalScores,
    Score,
    label_scores,
    retrieval_scores,
)
from ai_assets.evaluation.verdict import Interval

Of: TypeAlias = Literal["labels", "queries", "rows"]
"""What a metric scores: golden labels, golden queries, or the rows of one dataset of a partition."""


@dataclass(frozen=True, kw_only=True)
class LabelEvidence:
    """One golden document."""

    document: str
    golden: str
    predicted: str | None
    """The model's own label; None where it gave none."""
    confidence: float | None = None
    """Of that label."""
    is_drawn: bool = True
    """Of the golden file, or drawn at random, so that it stands for others; not one that somebody chose."""


@dataclass(frozen=True, kw_only=True)
class QueryEvidence:
    """One golden query."""

    query: str
    relevant: tuple[str, ...]
    """Documents that answer it."""
    found: tuple[str, ...]
    """Documents that search found, the best first."""


def _no_rows(_columns: Sequence[str] | None = None) -> Iterator[Mapping[str, Any]]:
    return iter(())


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a metric looks at: the golden items of the corpus or of one partition, or that partition's rows."""

    collection: str
    partition: str | None
    """None for the whole corpus."""
    stage: str | None = None
    """Whose labels or rows these are; of queries, the asset of the embedding, and None for the first one."""
    label_names: tuple[str, ...] = ()
    """As declared."""
    labels: tuple[LabelEvidence, ...] = ()
    queries: tuple[QueryEvidence, ...] = ()
    rows: Callable[..., Iterator[Mapping[str, Any]]] = field(default=_no_rows)
    """`rows()` or `rows(["column", ...])`: of the stage, or of `documents`; a row group is in memory at a time."""
    documents: Callable[..., Iterator[Mapping[str, Any]]] = field(default=_no_rows)
    """Of rows of a stage, those of the documents, in the same order and read in the same way."""
    columns: tuple[str, ...] = ()
    """Of rows of a stage, the names of its columns."""
    headline: str | None = None
    """Of these the one that people read first."""
    schema: Mapping[str, Any] | None = None
    """Of a stage whose answers are held to one."""

    @cached_property
    def label_scores(self) -> LabelScores:
        truth = {item.document: item.golden for item in self.labels}
        predicted = {item.document: item.predicted for item in self.labels}
        return label_scores(truth, predicted, self.label_names)

    @property
    def clusters(self) -> Sequence[str]:
        """Of each query, the document that it shares with others: they succeed and fail together."""
        return [min(item.relevant) for item in self.queries]

    @cached_property
    def retrieval_scores(self) -> RetrievalScores:
        return retrieval_scores([(item.found, item.relevant) for item in self.queries])


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a metric found."""

    value: float | None
    """None where nothing could be scored."""
    n: int
    """Items that it is over."""
    interval: Interval | None = None
    error: float | None = None
    """The standard error of a value from 0 to 1; a gate with `at: lower` needs it."""
    clusters: int | None = None
    """How many independent groups of items there are; without it each item is one."""


MetricFunction: TypeAlias = Callable[..., Measure]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as a collection uses it."""

    name: str
    of: Of
    function: MetricFunction
    use: str | None = None
    """How defs.yaml names it; None for a built-in one."""
    stage: str | None = None
    """Of a metric of rows: whose; None for `documents`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    source_digest: str = ""
    """Of one of the user's own."""

    def score(self, evidence: Evidence) -> Score:
        measure = self.function(evidence) if self.use is None else self._of_own_code(self.use, evidence)
        return Score(
            metric=self.name,
            scope="corpus" if evidence.partition is None else "partition",
            stage=evidence.stage,
            value=measure.value,
            n=measure.n,
            interval=measure.interval,
            error=measure.error,
            clusters=measure.n if measure.clusters is None and measure.error is not None else measure.clusters,
        )

    def _of_own_code(self, use: str, evidence: Evidence) -> Measure:
        try:
            found = self.function(evidence, **self.options)
        except Exception as error:  # the user's own code: the metric is named, and its partition fails
            raise OwnCodeFailed("metric", use, f"{type(error).__name__}: {error}") from error
        if problem := _problem(found):
            raise OwnCodeFailed("metric", use, problem)
        value = None if found.value is None else float(found.value)  # of numpy, too
        return replace(found, value=value, n=int(found.n))

    @property
    def described(self) -> list[Any]:
        """What of one of the user's own counts in the code version of `evaluation_scores`."""
        return [self.name, self.of, self.stage, dict(self.options), self.source_digest]


def _problem(found: object) -> str | None:
    if not isinstance(found, Measure):
        return f"it returned {found!r}; return Measure(value=..., n=...)"
    if not isinstance(found.n, Integral) or isinstance(found.n, bool) or int(found.n) < 0:
        return f"n is {found.n!r}; it must be a whole number of items, 0 or more"
    numbers = [("value", found.value), ("error", found.error)]
    if found.interval is not None:
        numbers += [("low", found.interval.low), ("high", found.interval.high)]
    for name, value in numbers:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            return f"{name} is {value!r}; it must be a finite number, or None where nothing could be scored"
    if found.value is not None and not found.n:
        return f"it gave the value {found.value!r} over no items; with n = 0 the value is None"
    interval = found.interval
    if interval is not None and not (found.value is not None and interval.low <= found.value <= interval.high):
        return f"the value {found.value!r} is outside of its interval [{interval.low}, {interval.high}]"
    return None


def metric(*, of: Of = "labels") -> Callable[[MetricFunction], MetricFunction]:
    """Marks a function of `Evidence` as a metric, and says what it scores."""

    def mark(function: MetricFunction) -> MetricFunction:
        function.__ai_assets_metric__ = of  # type: ignore[attr-defined]
        return function

    return mark


def of_function(function: object) -> Of | None:
    """What a marked function scores; None where it is not a metric."""
    found: Of | None = getattr(function, "__ai_assets_metric__", None)
    return found


def evaluate(metrics: Iterable[Metric], evidence_of: Callable[[Metric], Sequence[Evidence]]) -> list[Score]:
    """In order, one for each piece of evidence of the metric's kind: search is judged by each embedding."""
    return [each.score(evidence) for each in metrics for evidence in evidence_of(each)]


@metric(of="labels")
def accuracy(evidence: Evidence) -> Measure:
    right = [float(item.predicted == item.golden) for item in evidence.labels]
    return _mean_of(evidence.label_scores.accuracy, right, range(len(right)))


@metric(of="labels")
def ece(evidence: Evidence) -> Measure:
    """Of golden documents that were drawn."""
    from ai_assets.evaluation.reliability import reliability

    found = reliability(evidence)
    if found is None:
        return Measure(value=None, n=0)
    interval = Interval(low=found.low, high=found.high)
    return Measure(value=found.ece, n=found.n, interval=interval, error=found.error, clusters=found.n)


@metric(of="labels")
def macro_f1(evidence: Evidence) -> Measure:
    from ai_assets.statistics.intervals import macro_f1_error

    value, n = evidence.label_scores.macro_f1, evidence.label_scores.n
    if value is None:
        return Measure(value=None, n=n)
    known = frozenset(evidence.label_names)
    said = ((item.golden, item.predicted if item.predicted in known else None) for item in evidence.labels)
    return Measure(value=value, n=n, error=macro_f1_error(Counter(said)), clusters=n)


def _recall_at(depth: int) -> MetricFunction:
    @metric(of="queries")
    def recall(evidence: Evidence) -> Measure:
        scores = evidence.retrieval_scores
        return _mean_of(scores.recall[depth], scores.by_query[f"recall@{depth}"], evidence.clusters)

    return recall


@metric(of="queries")
def mrr(evidence: Evidence) -> Measure:
    return _mean_of(evidence.retrieval_scores.mrr, evidence.retrieval_scores.by_query["mrr"], evidence.clusters)


@metric(of="queries")
def ndcg(evidence: Evidence) -> Measure:
    scores = evidence.retrieval_scores
    return _mean_of(scores.ndcg_at_10, scores.by_query["ndcg"], evidence.clusters)


def _mean_of(value: float | None, of_items: Sequence[float], clusters: Sequence[Hashable]) -> Measure:
    from ai_assets.statistics.intervals import mean_error

    error, number = mean_error(of_items, clusters)
    return Measure(value=value, n=len(of_items), error=error, clusters=number)


CALIBRATION = Metric(name=ECE, of="labels", function=ece)
"""Only where a gate asks for it: a row more would be another candidate of everybody's."""
BUILTIN: tuple[Metric, ...] = (
    Metric(name="accuracy", of="labels", function=accuracy),
    Metric(name="macro_f1", of="labels", function=macro_f1),
    *(Metric(name=f"recall@{depth}", of="queries", function=_recall_at(depth)) for depth in RECALL_DEPTHS),
    Metric(name="mrr", of="queries", function=mrr),
    Metric(name=f"ndcg@{NDCG_DEPTH}", of="queries", function=ndcg),
)
"""In the order of the rows of `evaluation_scores`."""
