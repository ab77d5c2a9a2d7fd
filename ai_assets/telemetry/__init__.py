"""Runs and their model calls for a collector of OpenTelemetry: docs/telemetry.md. OpenTelemetry itself is imported by
`exporting.py` alone, and only where an endpoint is configured."""
