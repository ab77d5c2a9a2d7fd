"""The spans of a run, its partitions and its stages: a sink of the run.

Their ids are derived from the span of the run, so calls find the span of their stage in whatever process they are made.
"""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai_assets.evaluation.scoring import Score
from ai_assets.run.events import (
    BatchAwaited,
    CheckMade,
    DatasetMade,
    RunBegan,
    RunEnded,
    RunEvent,
    StageBegan,
    StageEnded,
    WindowAwaited,
)
from ai_assets.run.sinks import Sink
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.telemetry import conventions
from ai_assets.telemetry.metric_sums import MetricSums
from ai_assets.telemetry.span_records import UNKNOWN_KIND, EndedSpan, SpanError, SpanEvent, Value
from ai_assets.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from ai_assets.run.context import Outcome

MILLISECOND_NS = 1_000_000


@dataclass(slots=True)
class _Partition:
    began_ns: int
    ended_ns: int
    error: SpanError | None = None
    events: list[SpanEvent] = field(default_factory=list)


class RunSpanSink(Sink):
    hears = (RunBegan, RunEnded, StageBegan, StageEnded, BatchAwaited, WindowAwaited, CheckMade, DatasetMade)

    def __init__(
        self,
        *,
        root: TraceContext,
        parent: TraceContext | None,
        tenant: str,
        repeats: str,
        put: Callable[[EndedSpan], None] | None,
        sums: MetricSums | None,
        latest_names: bool,
        content: bool,
        over: Callable[[], None],
    ) -> None:
        """`content`: whether words may be sent that documents could be in. `over` is called when the run is."""
        self._content = content
        self._latest = latest_names
        self._root, self._parent, self._repeats = root, parent, repeats
        self._tenant, self._put, self._sums, self._over = tenant, put, sums, over
        self._partitions: dict[str, _Partition] = {}
        self._open: dict[tuple[str, str], int] = {}
        self._began_ns = 0
        self._asked: dict[str, Value] = {}

    def close(self) -> None:
        self._over()

    def hear(self, event: RunEvent) -> None:
        match event:
            case RunBegan():
                self._began_ns = _ns(event.at)
                self._asked = {"ai_assets.partitions": len(event.partitions), "ai_assets.stages": tuple(event.assets)}
            case StageBegan():
                began_ns = _ns(event.at)
                self._open[event.partition, event.asset] = began_ns
                self._partitions.setdefault(event.partition, _Partition(began_ns, began_ns))
            case StageEnded():
                self._stage_ended(event)
            case BatchAwaited():
                counts: dict[str, Value] = {"ai_assets.calls.answered": event.answered, "ai_assets.calls": event.calls}
                self._postponed(event, event.partition, event.asset, "batch", counts)
            case WindowAwaited():
                documents: dict[str, Value] = {"ai_assets.documents": event.documents}
                self._postponed(event, event.partition, event.asset, "window", documents)
            case CheckMade():
                self._checked(event)
            case DatasetMade():
                self._scored(event.outcome)
            case RunEnded():
                self._run_ended(event)

    def _stage_ended(self, event: StageEnded) -> None:
        began_ns = self._open.pop((event.partition, event.asset), _ns(event.began_at))
        ended_ns = _ns(event.at) + MILLISECOND_NS  # moments are cut to milliseconds, and what is inside is not
        found = self._about(event, event.partition, event.asset)
        found |= {
            "ai_assets.documents": event.documents,
            "ai_assets.documents.out": event.documents_out,
            "ai_assets.documents.reused": event.reused,
            "ai_assets.documents.quarantined": event.quarantined,
            "ai_assets.unchanged": event.unchanged,
            "ai_assets.calls": event.calls,
        }
        error = _error_of(event)
        self._stage(event.partition, event.asset, began_ns, ended_ns, found, error)
        if self._sums is None:
            return
        labels = self._labels(event, event.asset)
        failed = () if error is None else (("error.type", error.kind),)
        self._sums.add(conventions.STAGES, event.seconds, (*labels, *failed))
        computed = event.documents - event.reused
        for outcome, number in (("computed", computed), ("reused", event.reused), ("quarantined", event.quarantined)):
            if number > 0:
                self._sums.add(conventions.DOCUMENTS, number, (*labels, ("ai_assets.documents.outcome", outcome)))

    def _postponed(self, event: RunEvent, partition: str, asset: str, waits_for: str, counts: dict[str, Value]) -> None:
        """It has not failed: a later run goes on."""
        began_ns = self._open.pop((partition, asset), None)
        if began_ns is None:
            return
        found = {**self._about(event, partition, asset), "ai_assets.waits_for": waits_for, **counts}
        self._stage(partition, asset, began_ns, _now_ns(), found, None)

    def _stage(
        self, partition: str, asset: str, began_ns: int, ended_ns: int, found: dict[str, Value], error: SpanError | None
    ) -> None:
        within = self._partitions.setdefault(partition, _Partition(began_ns, ended_ns))
        within.ended_ns = max(within.ended_ns, ended_ns)
        within.error = within.error or error
        self._span(
            f"stage {asset}",
            self._root.below(partition, asset),
            self._root.below(partition),
            began_ns,
            ended_ns,
            found,
            error,
        )

    def _checked(self, event: CheckMade) -> None:
        check = event.check
        if (within := self._partitions.get(check.partition)) is None:
            return
        found: dict[str, Value] = {
            "ai_assets.check": check.name,
            "ai_assets.stage": check.asset,
            "ai_assets.check.passed": check.passed,
            "ai_assets.check.blocking": check.blocking,
        }
        within.events.append(SpanEvent("ai_assets.check", _now_ns(), found))

    def _scored(self, outcome: "Outcome") -> None:
        """What a candidate was judged by, where the names are asked for that know evaluations."""
        manifest = outcome.manifest
        within = self._partitions.get(manifest.partition)
        if not self._latest or within is None or outcome.unchanged or manifest.asset != "release_candidate":
            return
        for score in map(Score.of, FrozenCandidate.of(manifest).scores):
            if score.value is not None:  # else nothing was judged
                found = conventions.evaluation_attributes(score.metric, score.stage or "", score.scope, score.value)
                within.events.append(SpanEvent(conventions.EVALUATION, _now_ns(), found))

    def _run_ended(self, event: RunEnded) -> None:
        ended_ns = _ns(event.at) + MILLISECOND_NS
        for (partition, asset), began_ns in list(self._open.items()):
            found = {**self._about(event, partition, asset), "ai_assets.waits_for": "a later run"}
            self._stage(partition, asset, began_ns, ended_ns, found, None)
        for name, within in self._partitions.items():
            self._span(
                "partition", self._root.below(name), self._root.span_id, within.began_ns, within.ended_ns,
                self._about(event, name), within.error, within.events,
            )  # fmt: skip
        about = {**self._about(event), **self._asked}
        if self._repeats:
            about["ai_assets.run.repeats"] = self._repeats
        parent_id = self._parent.span_id if self._parent is not None else 0
        name = f"run {event.collection}"
        error = _error_of(event)
        self._span(name, self._root.span_id, parent_id, self._began_ns, ended_ns, about, error)
        if self._sums is not None:
            failed = () if error is None else (("error.type", error.kind),)
            self._sums.add(conventions.RUNS, event.seconds, (*self._labels(event), *failed))

    def _span(
        self,
        name: str,
        span_id: int,
        parent_id: int,
        began_ns: int,
        ended_ns: int,
        found: dict[str, Value],
        error: SpanError | None,
        events: Sequence[SpanEvent] = (),
    ) -> None:
        if self._put is None:
            return
        said = None if error is None else error.said(content=self._content)
        if error is not None:
            found = {**found, "error.type": error.kind}
        trace_id, state = self._root.trace_id, self._root.state
        self._put(
            EndedSpan(name, trace_id, span_id, parent_id, began_ns, ended_ns, "internal", found, said, events, state)
        )

    def _about(self, event: RunEvent, partition: str = "", asset: str = "") -> dict[str, Value]:
        found: dict[str, Value] = {"ai_assets.collection": event.collection, "ai_assets.run.id": event.run_id}
        named = {"partition": partition, "stage": asset, "tenant": self._tenant}
        return {**found, **{f"ai_assets.{name}": value for name, value in named.items() if value}}

    def _labels(self, event: RunEvent, asset: str = "") -> tuple[tuple[str, Value], ...]:
        named = {"collection": event.collection, "stage": asset, "tenant": self._tenant}
        return tuple((f"ai_assets.{name}", value) for name, value in named.items() if value)


def _error_of(event: StageEnded | RunEnded) -> SpanError | None:
    return None if event.error is None else SpanError(event.error_kind or UNKNOWN_KIND, event.error)


def _ns(moment: str) -> int:
    return round(datetime.datetime.fromisoformat(moment).timestamp() * 1000) * MILLISECOND_NS


def _now_ns() -> int:
    return round(datetime.datetime.now(datetime.UTC).timestamp() * 1000) * MILLISECOND_NS
