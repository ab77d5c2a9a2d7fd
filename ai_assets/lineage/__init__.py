"""Runs as events of OpenLineage: docs/lineage.md. The package openlineage is imported by `events.py` and `client.py`,
and only where it is configured."""
