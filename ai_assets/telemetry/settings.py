"""What the standard's variables say (OTEL_*). Pure but for reading them; no OpenTelemetry."""

from dataclasses import dataclass

from ai_assets.base.home import variable
from ai_assets.telemetry.conventions import LATEST, OPT_IN
from ai_assets.telemetry.endpoints import is_off, target

PROTOCOLS = {"traces": "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "metrics": "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"}
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
SPOKEN = "http/protobuf"
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_WITH_CONTENT = ("true", "span_only", "span_and_event")
_QUEUE, _BATCH, _DELAY = "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_LONGEST = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    traces: str | None
    """Where spans go, for people; None: nowhere."""
    metrics: str | None
    latest_names: bool
    content: bool
    """Whether messages go along."""
    propagates: bool
    """Whether requests say which span they leave from."""
    most_waiting: int = 8192
    """Spans that wait to be sent; more are dropped. A run can make thousands in a second, so it is four times the
    standard's default."""
    batch: int = 2048
    """Four times the standard's default as well: a request takes more than encoding its spans."""
    delay_s: float = 5.0
    metrics_every_s: float = 60.0
    longest_value: int = 16_384
    """Characters of an attribute."""
    problem: str | None = None
    """What is configured and cannot be done."""


def telemetry_settings() -> TelemetrySettings | None:
    """None where nothing is configured, or it is switched off."""
    if is_off():
        return None
    traces, metrics = target("traces"), target("metrics")
    if traces is None and metrics is None:
        return None
    propagators = (variable("OTEL_PROPAGATORS") or "tracecontext").lower()
    return TelemetrySettings(
        traces=traces,
        metrics=metrics,
        latest_names=LATEST in [each.strip() for each in (variable(OPT_IN) or "").split(",")],
        content=(variable(CONTENT) or "").lower() in _WITH_CONTENT,
        propagates=traces is not None and "tracecontext" in propagators,
        most_waiting=int(_number(_QUEUE, 8192)),
        batch=int(_number(_BATCH, 2048)),
        delay_s=_number(_DELAY, 5_000) / 1000,
        metrics_every_s=_number(_INTERVAL, 60_000) / 1000,
        longest_value=int(next((_number(name, 0) for name in _LONGEST if variable(name)), 0)) or 16_384,
        problem=_problem(),
    )


def _problem() -> str | None:
    for name in (*PROTOCOLS.values(), PROTOCOL):
        found = variable(name)
        if found and found != SPOKEN:
            return (
                f"{name} is '{found}', and only {SPOKEN} is spoken here. Set it so, with the collector's port for HTTP"
            )
    return None


def _number(name: str, otherwise: float) -> float:
    """As the standard has it, a value that is no number counts as none."""
    try:
        found = float(variable(name) or otherwise)
    except ValueError:
        return otherwise
    return found if found > 0 else otherwise
