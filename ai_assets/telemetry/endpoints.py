"""Whether a collector is configured, and where: asked by each run, so it imports nothing."""

from typing import Literal

from ai_assets.base.home import variable

Signal = Literal["traces", "metrics"]
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENDPOINTS = {"traces": "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "metrics": "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"}
EXPORTERS = {"traces": "OTEL_TRACES_EXPORTER", "metrics": "OTEL_METRICS_EXPORTER"}


def is_off() -> bool:
    return (variable("OTEL_SDK_DISABLED") or "").lower() == "true"


def is_configured() -> bool:
    return not is_off() and (target("traces") or target("metrics")) is not None


def target(signal: Signal) -> str | None:
    """Where it goes."""
    if (variable(EXPORTERS[signal]) or "otlp").lower() == "none":
        return None
    own, common = variable(ENDPOINTS[signal]), variable(ENDPOINT)
    return own or (f"{common.rstrip('/')}/v1/{signal}" if common else None)
