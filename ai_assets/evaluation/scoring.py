"""Scores of labels and of search against golden data: the formulas. Pure: no files, no Dagster.

Which of them are metrics is in `evaluation/metrics.py`, what judges them in `evaluation/gates.py`. Golden files are
read in `golden.py`; its names are exported here too.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ai_assets.evaluation.golden import GoldenLabel, GoldenQuery, read_golden_labels, read_golden_queries
from ai_assets.evaluation.verdict import Interval

__all__ = [
    "ANSWERED_SHARE",
    "BUILTIN_METRICS",
    "ECE",
    "Confusion",
    "GoldenLabel",
    "GoldenQuery",
    "LabelScore",
    "LabelScores",
    "RetrievalScores",
    "Scope",
    "Score",
    "confusion_markdown",
    "label_scores",
    "read_golden_labels",
    "read_golden_queries",
    "retrieval_scores",
]

NDCG_DEPTH = 10
RECALL_DEPTHS = (1, 5, 10)
ANSWERED_SHARE = "answered_share"
"""Of no golden data: which share of the documents a stage asked about have a usable answer. `answered.py` judges it."""
ECE = "ece"
"""How far confidence is from the share of right answers; the less the better. It is scored where a gate asks for it."""
OF_LABELS = ("accuracy", "macro_f1", ECE)
OF_QUERIES = (*(f"recall@{depth}" for depth in RECALL_DEPTHS), "mrr", f"ndcg@{NDCG_DEPTH}")
JUDGED, JUDGE_AGREEMENT = "judged", "judge_agreement"
OF_JUDGES = (JUDGED, JUDGE_AGREEMENT)
"""Of what a judge stage and people say of the same outputs: `judged.py`."""
BUILTIN_METRICS = (*OF_LABELS, *OF_QUERIES, *OF_JUDGES, ANSWERED_SHARE)
Scope: TypeAlias = Literal["corpus", "partition"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number, and how many golden items it is over."""

    metric: str
    scope: Scope
    stage: str | None
    """The stage whose labels were judged. Of search, the asset of the embedding; None for the first one."""
    value: float | None
    """None when nothing was judged (n is 0)."""
    n: int
    interval: Interval | None = None
    """Of a metric that gives one."""
    error: float | None = field(default=None, compare=False)
    """The standard error of the value, by clusters of items that succeed and fail together. It is kept beside rows."""
    clusters: int | None = field(default=None, compare=False)
    judge: str | None = None
    """Who judged, where it was a model: scores of two judges are never compared."""

    @property
    def key(self) -> list[str | None]:
        return [self.metric, self.scope, self.stage]

    def as_row(self) -> dict[str, Any]:
        """Columns for an interval, or a judge, are there only where there is one: the digests of what has none stay as
        they are."""
        row = {"metric": self.metric, "scope": self.scope, "stage": self.stage, "value": self.value, "n": self.n}
        row |= {} if self.interval is None else asdict(self.interval)
        return row if self.judge is None else {**row, "judge": self.judge}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Score":
        bounds = {name: row[name] for name in ("low", "high", "level", "unit") if row.get(name) is not None}
        known = {name: row[name] for name in ("metric", "scope", "stage", "value", "n")}
        return cls(**known, interval=Interval(**bounds) if bounds else None, judge=row.get("judge"))


@dataclass(frozen=True, kw_only=True)
class RetrievalScores:
    """Means over `n` golden queries, each query counting the same; None when n is 0."""

    n: int
    recall: Mapping[int, float | None]
    """By depth k: the share of a query's relevant documents that are among its first k."""
    mrr: float | None
    """1 / rank of the first relevant document, 0 where none was found."""
    by_query: Mapping[str, Sequence[float]]
    """Of each query in order: `recall@k`, `mrr`, `ndcg`."""
    ndcg_at_10: float | None
    """Over the first 10: the sum of 1 / log2(rank + 1) of the relevant documents, over the best sum possible."""


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """One label against the rest, from tp, fp, fn: its right, its wrong and its missed predictions."""

    label: str
    precision: float | None
    """tp / (tp + fp); None when the label was never predicted."""
    recall: float | None
    """tp / (tp + fn); None when no golden document has the label."""
    f1: float | None
    """2 tp / (2 tp + fp + fn); None when the label is neither golden nor predicted."""
    support: int
    """Golden documents with this label."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Counts of golden documents: a row per true label, a column per predicted label, and a last one for missing."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """Over `n` golden documents. One without a prediction counts as wrong."""

    n: int
    accuracy: float | None
    """Right predictions / n; None when n is 0."""
    macro_f1: float | None
    """Mean F1 of the labels that are golden or predicted at least once; the others have none."""
    per_label: tuple[LabelScore, ...]
    confusion: Confusion


def retrieval_scores(
    results: Sequence[tuple[Sequence[str], Collection[str]]], k: Sequence[int] = RECALL_DEPTHS
) -> RetrievalScores:
    """Scores of (ranked document ids, relevant document ids), one pair per query.

    A document that is ranked twice (by two of its chunks) counts at its first place only. A query without relevant
    documents has no recall: that is a ValueError, leave it out.
    """
    pairs = [(list(dict.fromkeys(ranked)), frozenset(relevant)) for ranked, relevant in results]
    if empty := [number for number, (_, relevant) in enumerate(pairs) if not relevant]:
        raise ValueError(f"queries without relevant documents cannot be scored: {empty}")
    if any(depth < 1 for depth in k):
        raise ValueError(f"recall needs a depth of 1 or more, not {list(k)}")
    by_query = {
        **{
            f"recall@{depth}": [len(rel.intersection(ranked[:depth])) / len(rel) for ranked, rel in pairs]
            for depth in k
        },
        "mrr": [_reciprocal_rank(ranked, relevant) for ranked, relevant in pairs],
        "ndcg": [_ndcg(ranked, relevant) for ranked, relevant in pairs],
    }
    return RetrievalScores(
        n=len(pairs),
        recall=MappingProxyType({depth: _mean(by_query[f"recall@{depth}"]) for depth in k}),
        mrr=_mean(by_query["mrr"]),
        ndcg_at_10=_mean(by_query["ndcg"]),
        by_query=MappingProxyType(by_query),
    )


def _reciprocal_rank(ranked: Sequence[str], relevant: Collection[str]) -> float:
    return next((1 / rank for rank, document in enumerate(ranked, start=1) if document in relevant), 0.0)


def _ndcg(ranked: Sequence[str], relevant: Collection[str]) -> float:
    gains = [1 / math.log2(rank + 1) for rank in range(1, NDCG_DEPTH + 1)]
    found = math.fsum(gain for gain, document in zip(gains, ranked, strict=False) if document in relevant)
    return found / math.fsum(gains[: len(relevant)])


def label_scores(truth: Mapping[str, str], predicted: Mapping[str, str | None], labels: Sequence[str]) -> LabelScores:
    """Scores of the golden documents in `truth` (document id to label).

    A prediction that is absent, None or no longer a declared label is missing, and so wrong. Predictions for documents
    that are not in `truth` are not looked at.
    """
    if undeclared := sorted(set(truth.values()) - set(labels)):
        raise ValueError(f"golden labels that are not declared: {undeclared}")
    index = {label: place for place, label in enumerate(labels)}
    if len(index) != len(labels):
        raise ValueError(f"a label is declared twice: {list(labels)}")
    missing = len(labels)
    counts = [[0] * (missing + 1) for _ in labels]
    for document, label in truth.items():
        guess = predicted.get(document)
        counts[index[label]][missing if guess is None else index.get(guess, missing)] += 1
    per_label = tuple(_label_score(label, index[label], counts) for label in labels)
    right = sum(counts[place][place] for place in range(len(labels)))
    return LabelScores(
        n=len(truth),
        accuracy=_ratio(right, len(truth)),
        macro_f1=_mean([score.f1 for score in per_label if score.f1 is not None]),
        per_label=per_label,
        confusion=Confusion(labels=tuple(labels), counts=tuple(map(tuple, counts))),
    )


def _label_score(label: str, place: int, counts: Sequence[Sequence[int]]) -> LabelScore:
    right, support, predictions = counts[place][place], sum(counts[place]), sum(row[place] for row in counts)
    return LabelScore(
        label=label,
        precision=_ratio(right, predictions),
        recall=_ratio(right, support),
        f1=_ratio(2 * right, predictions + support),
        support=support,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def confusion_markdown(confusion: Confusion) -> str:
    """The confusion table as Dagster metadata shows it: rows are true labels; a label without counts is left out."""
    columns = range(len(confusion.labels) + 1)
    used = [j for j in columns if any(row[j] for row in confusion.counts) or _has_row(confusion, j)]
    names = [*(_escaped(label) for label in confusion.labels), "*missing*"]
    lines = [["true \\ predicted", *(names[j] for j in used)], ["---", *("---:" for _ in used)]]
    for i, row in enumerate(confusion.counts):
        if i in used:
            lines.append([names[i], *(f"**{row[j]}**" if i == j and row[j] else str(row[j]) for j in used)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _has_row(confusion: Confusion, place: int) -> bool:
    return place < len(confusion.labels) and any(confusion.counts[place])


def _escaped(label: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\|*_`<[" else letter for letter in label)


def errors_by_score(kept: Iterable[Sequence[Any]]) -> dict[tuple[Any, ...], Sequence[Any]]:
    """By the key of a score, its standard error and the number of clusters that it is of: kept beside the rows."""
    return {tuple(said[:3]): said[3:] for said in kept}
