"""Migrations of the state store, applied in order and recorded by name. A landed migration never changes."""

from collections.abc import Callable

import sqlalchemy as sa

from ai_assets.storage.migrations import (
    m001_initial,
    m002_calls,
    m003_desk,
    m004_money,
    m005_fencing,
    m006_reconciliation,
    m007_retries,
    m008_signatures,
    m009_checkpoints,
    m010_launches,
    m011_protocol,
    m012_spans,
    m014_targets,
    m017_builtin_versions,
    m018_claims,
    m019_sent_requests,
    m020_golden_labels,
    m021_tiers,
    m022_batches,
    m024_devices,
    m025_latencies,
    m028_place_queues,
)

MIGRATIONS: tuple[tuple[str, Callable[[sa.Connection], None]], ...] = (
    ("m001_initial", m001_initial.up),
    ("m002_calls", m002_calls.up),
    ("m003_desk", m003_desk.up),
    ("m004_money", m004_money.up),
    ("m005_fencing", m005_fencing.up),
    ("m006_reconciliation", m006_reconciliation.up),
    ("m007_retries", m007_retries.up),
    ("m008_signatures", m008_signatures.up),
    ("m009_checkpoints", m009_checkpoints.up),
    ("m010_launches", m010_launches.up),
    ("m011_protocol", m011_protocol.up),
    ("m012_spans", m012_spans.up),
    ("m014_targets", m014_targets.up),
    ("m017_builtin_versions", m017_builtin_versions.up),
    ("m018_claims", m018_claims.up),
    ("m019_sent_requests", m019_sent_requests.up),
    ("m020_golden_labels", m020_golden_labels.up),
    ("m021_tiers", m021_tiers.up),
    ("m022_batches", m022_batches.up),
    ("m024_devices", m024_devices.up),
    ("m025_latencies", m025_latencies.up),
    ("m028_place_queues", m028_place_queues.up),
)
