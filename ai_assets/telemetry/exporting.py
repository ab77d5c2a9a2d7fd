"""Spans and metrics on their way to a collector: the one module that imports OpenTelemetry.

Its exporters do what the standard's variables say of headers, certificates, compression, time limits and retries.
"""

import contextlib
import gc
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export as sdk_metrics
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from ai_assets.base.background_sender import BackgroundSender
from ai_assets.base.home import variable
from ai_assets.telemetry import span_encoding
from ai_assets.telemetry.conventions import Instrument
from ai_assets.telemetry.metric_sums import CountedSeries, Labels, MetricSums
from ai_assets.telemetry.settings import TelemetrySettings
from ai_assets.telemetry.span_records import EndedSpan
from ai_assets.telemetry.trace_context import TraceContext

gc.freeze()  # 500 modules that stay for good: looking for garbage among them took a twentieth of a call's time
SCOPE = "ai_assets"
_TEMPORALITY = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}


class _LastWords(logging.Handler):
    """What the exporters complain of: kept, so that it is said in our one sentence and not in a dozen of theirs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):  # words that cannot be formatted are none
            self.said = " ".join(record.getMessage().split())


_words = _LastWords()


def _quieten() -> None:
    for name in ("opentelemetry.exporter", "opentelemetry.sdk"):
        logger = logging.getLogger(name)
        if _words not in logger.handlers:
            logger.addHandler(_words)
        logger.propagate = False


class SpanOutlet:
    """Where spans go: they are sent in a thread of its own. They wait for it as bytes: encoding them while they are in
    the caches of the processor takes half as long, and bytes are nothing that Python's garbage collector walks."""

    def __init__(self, settings: TelemetrySettings, version: str, report: Callable[[str], None]) -> None:
        _quieten()
        self._resource = resource(version)
        self._version = version
        self._exporter = OTLPSpanExporter()
        self._sampler = TracerProvider(resource=self._resource, shutdown_on_exit=False).sampler
        attributes: dict[str, Any] = dict(self._resource.attributes)
        self._encoded = span_encoding.resource(attributes), span_encoding.scope(SCOPE, version)
        client = getattr(self._exporter, "_client", None)
        self._client = client if hasattr(client, "export") else None
        self._sender: BackgroundSender[EndedSpan | bytes] = BackgroundSender(
            self._send,
            name="telemetry spans",
            most_waiting=settings.most_waiting,
            batch=settings.batch,
            delay_s=settings.delay_s,
            report=report,
        )

    def samples(self, trace_id: int, name: str, parent: TraceContext | None) -> bool:
        """As OTEL_TRACES_SAMPLER says."""
        context = None
        if parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
            known = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(known))
        decision = self._sampler.should_sample(context, trace_id, name).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def put(self, span: EndedSpan) -> None:
        self._sender.put(span if self._client is None else span_encoding.encoded(span))

    def close(self, within_s: float) -> None:
        self._sender.close(within_s)
        _shut_down(self._exporter)

    @property
    def lost(self) -> int:
        return self._sender.lost

    def _send(self, spans: Sequence[EndedSpan | bytes]) -> str | None:
        _words.said = ""
        if self._client is not None:
            encoded = [each for each in spans if isinstance(each, bytes)]
            done = self._client.export(span_encoding.request(*self._encoded, encoded)).success
        else:  # an exporter that takes no bytes: its own way is slower, and says the same
            found = [self._readable(each) for each in spans if isinstance(each, EndedSpan)]
            done = self._exporter.export(found) is SpanExportResult.SUCCESS
        return None if done else _words.said or "it did not take them"

    def _readable(self, span: EndedSpan) -> ReadableSpan:
        sampled = TraceFlags(TraceFlags.SAMPLED)

        def context(span_id: int) -> SpanContext:
            return SpanContext(span.trace_id, span_id, is_remote=False, trace_flags=sampled)

        return ReadableSpan(
            span.name,
            context=context(span.span_id),
            parent=context(span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes={**span.attributes, **(span.shared.values if span.shared is not None else {})},
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error is not None else Status(),
            start_time=span.began_ns,
            end_time=max(span.began_ns, span.ended_ns),
            instrumentation_scope=InstrumentationScope(SCOPE, self._version),
        )


class MetricOutlet:
    """Where metrics go: every so often, and at the end."""

    def __init__(
        self, sums: MetricSums, settings: TelemetrySettings, version: str, report: Callable[[str], None]
    ) -> None:
        """`report` says the same thing once, however often it is told."""
        _quieten()
        self._sums, self._version, self._report = sums, version, report
        self._resource = resource(version)
        self._exporter = OTLPMetricExporter()
        self._is_delta = (variable(_TEMPORALITY) or "").lower() == "delta"
        self._since_ns = time.time_ns()
        self._over = threading.Event()
        self._every_s = settings.metrics_every_s
        self._thread = threading.Thread(target=self._run, name="telemetry metrics", daemon=True)
        self._thread.start()

    def close(self, within_s: float) -> None:
        self._over.set()
        self._thread.join(within_s)
        if self._thread.is_alive():
            self._report(f"it had not taken the metrics {within_s:g} s after the end")
        _shut_down(self._exporter)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self._send()
        self._send()

    def _send(self) -> None:
        now_ns = time.time_ns()
        found = self._sums.taken(reset=self._is_delta)
        if not found:
            return
        temporality = sdk_metrics.AggregationTemporality
        kind = temporality.DELTA if self._is_delta else temporality.CUMULATIVE
        metrics = [_metric(each, of, kind, self._since_ns, now_ns) for each, of in found.items()]
        scope = sdk_metrics.ScopeMetrics(InstrumentationScope(SCOPE, self._version), metrics, "")
        data = sdk_metrics.MetricsData([sdk_metrics.ResourceMetrics(self._resource, [scope], "")])
        try:
            done = self._exporter.export(data) is sdk_metrics.MetricExportResult.SUCCESS
            problem = _words.said or "it did not take the metrics"
        except Exception as error:  # noqa: BLE001  # the exporter is somebody else's, and ends no thread
            done, problem = False, f"{type(error).__name__}: {' '.join(str(error).split())}"
        if self._is_delta:
            self._since_ns = now_ns
        if not done:
            self._report(problem)


def _shut_down(exporter: Any) -> None:
    """In a thread: one that waits between two tries need not keep us."""
    threading.Thread(target=exporter.shutdown, name="telemetry shutdown", daemon=True).start()


def _metric(
    instrument: Instrument,
    found: dict[Labels, CountedSeries],
    temporality: sdk_metrics.AggregationTemporality,
    since_ns: int,
    now_ns: int,
) -> sdk_metrics.Metric:
    data: sdk_metrics.Histogram | sdk_metrics.Sum
    if instrument.buckets:
        points = [
            sdk_metrics.HistogramDataPoint(
                attributes=dict(labels),
                start_time_unix_nano=since_ns,
                time_unix_nano=now_ns,
                count=each.count,
                sum=each.total,
                bucket_counts=each.buckets,
                explicit_bounds=instrument.buckets,
                min=each.least,
                max=each.most,
            )
            for labels, each in found.items()
        ]
        data = sdk_metrics.Histogram(points, temporality)
    else:
        sums = [
            sdk_metrics.NumberDataPoint(dict(labels), since_ns, now_ns, each.total) for labels, each in found.items()
        ]
        data = sdk_metrics.Sum(sums, temporality, is_monotonic=True)
    return sdk_metrics.Metric(instrument.name, instrument.description, instrument.unit, data)


def resource(version: str) -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say, over what we are called without them. A process is an
    instance, so that what several of a run count is added up."""
    ours = {"service.name": SCOPE, "service.version": version, "service.instance.id": str(uuid.uuid4())}
    return Resource(ours).merge(OTELResourceDetector().detect())
