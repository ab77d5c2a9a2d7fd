"""Who hears of runs outside: a collector of telemetry and a consumer of lineage, where they are configured."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from ai_assets.base.errors import UserError
from ai_assets.base.extras import need
from ai_assets.base.home import variable
from ai_assets.base.masking import masked
from ai_assets.doctor.findings import Finding, fine, of_error, warned
from ai_assets.doctor.installation import Installation
from ai_assets.lineage.configured import is_configured
from ai_assets.telemetry.settings import telemetry_settings

PATIENCE_S = 3.0


def look(at: Installation) -> Iterator[Finding]:
    yield from _telemetry()
    yield from _lineage(at)


def _telemetry() -> Iterator[Finding]:
    settings = telemetry_settings()
    if settings is None:
        yield fine("telemetry", "no collector is configured (OTEL_EXPORTER_OTLP_ENDPOINT), and nothing is sent")
        return
    if settings.problem is not None:
        found, _, fix = settings.problem.partition(". ")
        yield warned("telemetry", f"nothing is sent: {found}", f"{fix}.")
        return
    try:
        need("otel", "Telemetry")
    except UserError as error:
        yield of_error("telemetry", error, "warning")
        return
    for signal, address in (("spans", settings.traces), ("metrics", settings.metrics)):
        if address is not None:
            yield _reached(f"telemetry ({signal})", address, "OTEL_EXPORTER_OTLP_ENDPOINT")


def _lineage(at: Installation) -> Iterator[Finding]:
    if not is_configured(at.home):
        yield fine("lineage", "OpenLineage is not configured (OPENLINEAGE_URL, openlineage.yml), and nothing is sent")
        return
    try:
        need("openlineage", "Lineage")
    except UserError as error:
        yield of_error("lineage", error, "warning")
        return
    if url := variable("OPENLINEAGE_URL"):
        yield _reached("lineage", url, "OPENLINEAGE_URL")
    else:
        yield fine("lineage", "configured by its file or variables; whether it is reached shows the next run")


def _reached(what: str, address: str, name: str) -> Finding:
    """By a connection alone: what is posted there would be kept."""
    try:
        place = urlsplit(address)
        port = place.port or {"https": 443, "http": 80}[place.scheme]
        with socket.create_connection((place.hostname or "", port), timeout=PATIENCE_S):
            return fine(what, f"{masked(address)} takes connections")
    except (KeyError, ValueError):
        found = f"{masked(address)} is not an address of http or https"
        return warned(what, found, f"Correct {name}, such as http://localhost:4318.")
    except OSError as error:
        found = f"{masked(address)} cannot be reached ({error}); runs go on without it"
        return warned(what, found, f"Start it, or correct {name}.")
