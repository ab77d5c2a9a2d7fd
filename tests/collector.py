"""A collector of OTLP over HTTP: a real server that reads the protobufs, and can be told to misbehave."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@dataclass(frozen=True)
class Span:
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    began_ns: int
    ended_ns: int
    attributes: dict[str, Any]
    status: int
    said: str
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]
    state: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]


@dataclass
class Collector:
    url: str = ""
    status: int = 200
    delay_s: float = 0.0
    spans: list[Span] = field(default_factory=list)
    metrics: list[tuple[str, dict[str, Any], Any]] = field(default_factory=list)
    """Name, attributes and data point."""
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    requests: int = 0

    def named(self, start: str) -> list[Span]:
        return [span for span in self.spans if span.name.startswith(start)]

    def below(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_id == parent.span_id]

    def total(self, metric: str, **labels: Any) -> float:
        found = [
            point.sum if hasattr(point, "bucket_counts") else point.as_double or point.as_int
            for name, attributes, point in self.metrics
            if name == metric and labels.items() <= attributes.items()
        ]
        return float(sum(found))

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path.endswith("/v1/traces"):
            self.spans += spans_in(body)
        else:
            for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in of_resource.scope_metrics:
                    for metric in scope.metrics:
                        points = (metric.histogram if metric.HasField("histogram") else metric.sum).data_points
                        self.metrics += [(metric.name, values(point.attributes), point) for point in points]


def spans_in(body: bytes) -> list[Span]:
    return [
        Span(
            span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.kind,
            span.start_time_unix_nano, span.end_time_unix_nano, values(span.attributes), span.status.code,
            span.status.message, [(event.name, values(event.attributes)) for event in span.events],
            values(of_resource.resource.attributes), span.trace_state,
        )
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]  # fmt: skip


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    found = getattr(value, kind)
    return [_value(each) for each in found.values] if kind == "array_value" else found


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.requests += 1
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            until = time.monotonic() + collector.delay_s
            while time.monotonic() < until and not over.is_set():
                time.sleep(0.01)
            if collector.status == 200:
                body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
                collector.take(self.path, body)
            try:
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()
            except OSError:
                return

        def log_message(self, *_args: object) -> None: ...

    over = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
