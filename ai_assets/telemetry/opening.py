"""Telemetry of a run, where a collector is configured; else nothing, and nothing is imported."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.base.extras import ExtraMissing, need
from ai_assets.base.masking import masked
from ai_assets.telemetry.call_spans import CallSpans, ParentSpans
from ai_assets.telemetry.metric_sums import MetricSums
from ai_assets.telemetry.parent_spans import StageParents, StepParents, above_of
from ai_assets.telemetry.run_spans import RunSpanSink
from ai_assets.telemetry.settings import TelemetrySettings, telemetry_settings
from ai_assets.telemetry.span_records import UNKNOWN_KIND, EndedSpan, SpanError, Value
from ai_assets.telemetry.trace_context import TraceContext, new_span_id, new_trace_id, trace_of_run

if TYPE_CHECKING:
    from ai_assets.telemetry.exporting import MetricOutlet, SpanOutlet

CLOSE_S = 3.0
"""So long a run waits at its end for what was not sent yet."""
WORKER_CLOSE_S = 2.0


@dataclass(kw_only=True)
class Outlets:
    """Of a process."""

    settings: TelemetrySettings
    spans: "SpanOutlet | None"
    metrics: "MetricOutlet | None"
    sums: MetricSums | None

    def put_of(self, root: TraceContext) -> Callable[[EndedSpan], None] | None:
        return self.spans.put if self.spans is not None and root.is_sampled else None

    def root(self, trace_id: int, parent: TraceContext | None) -> TraceContext:
        """The first span here of a trace, which is the parent's where there is one."""
        trace_id, state = (parent.trace_id, parent.state) if parent is not None else (trace_id, "")
        sampled = self.spans is not None and self.spans.samples(trace_id, "run", parent)
        return TraceContext(trace_id=trace_id, span_id=new_span_id(), is_sampled=sampled, state=state)

    def calls_below(self, parents: ParentSpans) -> CallSpans:
        return CallSpans(self.settings, parents, self.sums)

    def close(self, within_s: float) -> None:
        """Both at once, as far as the time goes."""
        until = time.monotonic() + within_s
        if self.spans is not None:
            self.spans.close(within_s)
        if self.metrics is not None:
            self.metrics.close(max(0.1, until - time.monotonic()))


@dataclass(frozen=True, kw_only=True)
class RunTelemetry:
    root: TraceContext
    """The span of the run, for further processes of it."""
    sink: RunSpanSink
    calls: CallSpans


def of_run(
    *, run_id: str, tenant: str, tags: Mapping[str, str], report: Callable[[str], None], repeats: str = ""
) -> RunTelemetry | None:
    """`repeats`: the run that this one does again."""
    outlets = opened(report)
    if outlets is None:
        return None
    parent = above_of(tags)
    root = outlets.root(trace_of_run(run_id), parent)
    put = outlets.put_of(root)
    sink = RunSpanSink(
        root=root,
        parent=parent,
        tenant=tenant,
        repeats=repeats,
        put=put,
        sums=outlets.sums,
        latest_names=outlets.settings.latest_names,
        content=outlets.settings.content,
        over=lambda: outlets.close(CLOSE_S),
    )
    return RunTelemetry(root=root, sink=sink, calls=outlets.calls_below(StageParents(root, put)))


@dataclass(frozen=True, kw_only=True)
class StepTelemetry:
    """Of calls that steps and programs make for themselves."""

    calls: CallSpans
    steps: StepParents
    outlets: Outlets

    def failed(self, run_id: str, errors: Mapping[tuple[str, str], str]) -> None:
        """By collection and asset, what steps of a run ended with: the class of what was raised."""
        self.steps.failed(run_id, errors)

    def close(self) -> None:
        self.steps.end()
        self.outlets.close(CLOSE_S)


def of_steps(report: Callable[[str], None], tags_of: Callable[[str], Mapping[str, str]]) -> StepTelemetry | None:
    """`tags_of` a run by its id."""
    outlets = opened(report)
    if outlets is None:
        return None
    steps = StepParents(outlets.put_of, outlets.root, tags_of)
    return StepTelemetry(calls=outlets.calls_below(steps), steps=steps, outlets=outlets)


@dataclass(frozen=True, kw_only=True)
class CommandTelemetry:
    """Of one piece of work outside a run."""

    name: str
    root: TraceContext
    parent: TraceContext | None
    about: Mapping[str, Value]
    calls: CallSpans
    outlets: Outlets
    began_ns: int

    def close(self, problem: str | None, kind: str | None) -> None:
        """When it has ended: `problem` is what was wrong with it, of the class `kind` where it was raised."""
        put = self.outlets.put_of(self.root)
        if put is not None:
            error = None if problem is None else SpanError(kind or UNKNOWN_KIND, problem)
            # What an endpoint said of itself is no content.
            content = kind is None or self.outlets.settings.content
            said = None if error is None else error.said(content=content)
            failed = {} if error is None else {"error.type": error.kind}
            parent_id = self.parent.span_id if self.parent is not None else 0
            put(
                EndedSpan(
                    self.name, self.root.trace_id, self.root.span_id, parent_id, self.began_ns, time.time_ns(),
                    "internal", {**self.about, **failed}, said, state=self.root.state,
                )
            )  # fmt: skip
        self.outlets.close(CLOSE_S)


def of_command(name: str, about: Mapping[str, Value], report: Callable[[str], None]) -> CommandTelemetry | None:
    outlets = opened(report)
    if outlets is None:
        return None
    parent = above_of({})
    root = outlets.root(new_trace_id(), parent)
    calls = outlets.calls_below(StageParents(root, outlets.put_of(root)))
    return CommandTelemetry(
        name=name, root=root, parent=parent, about=about, calls=calls, outlets=outlets, began_ns=time.time_ns()
    )


def of_further_process(root: TraceContext) -> tuple[CallSpans, Callable[[], None]] | None:
    """Of the run whose span it is: calls go to the collector from where they are made. What that takes badly is said by
    the run's own process, which sends to the same."""
    outlets = opened(lambda _line: None)
    if outlets is None:
        return None
    calls = outlets.calls_below(StageParents(root, outlets.put_of(root)))
    return calls, lambda: outlets.close(WORKER_CLOSE_S)


def opened(report: Callable[[str], None]) -> Outlets | None:
    """None where nothing is configured, or it cannot be done, which is reported."""
    settings = telemetry_settings()
    if settings is None:
        return None
    if settings.problem is not None:
        report(f"No telemetry is sent: {settings.problem}")
        return None
    try:
        need("otel", "Telemetry")
    except ExtraMissing as error:
        report(str(error))
        return None
    from importlib.metadata import version

    from ai_assets.telemetry.exporting import MetricOutlet, SpanOutlet

    told = _once(report, settings)
    sums = MetricSums() if settings.metrics is not None else None
    try:
        return Outlets(
            settings=settings,
            spans=SpanOutlet(settings, version("ai-assets"), told) if settings.traces is not None else None,
            metrics=MetricOutlet(sums, settings, version("ai-assets"), told) if sums is not None else None,
            sums=sums,
        )
    except Exception as error:  # noqa: BLE001  # what the variables hold is read by the exporters
        told(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return None


def _once(report: Callable[[str], None], settings: TelemetrySettings) -> Callable[[str], None]:
    said = False

    def tell(problem: str) -> None:
        nonlocal said
        if not said:
            said = True
            where = settings.traces or settings.metrics
            report(
                f"The collector of telemetry ({masked(where or '')}) does not take what is sent: {problem}. Nothing "
                "else is affected; some spans and metrics are missing there."
            )

    return tell
