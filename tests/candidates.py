"""Requests by the thousand, with candidates that no run computed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ai_assets.signoff import requests
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import write_parquet
from ai_assets.storage.stores import Stores


def asked(
    stores: Stores,
    collection: str,
    partition: str,
    documents: Sequence[Mapping[str, Any]] = (),
    *,
    facts: Mapping[str, Any] | None = None,
    risk: float = 0.2,
    passages: Sequence[Mapping[str, Any]] = (),
    **told: Any,
) -> SignoffRequest:
    """A request with all documents added, as a run would have made it."""
    files = {}
    if documents:
        chunks = _written(stores, collection, partition, passages).name if passages else "none"
        files = {"documents_file": _written(stores, collection, partition, documents).name, "chunks_file": chunks}
    summary = {
        "added": sorted(row["document_id"] for row in documents), "changed": [], "removed": [], "unchanged": 0,
        "relabelled": {}, "documents": len(documents), "quarantined": 0, "scores": [], "cost_usd": 0.0,
        "live_release": None, "live_scores": None, "run_id": "run", "gates": [], "authors": [],
        "files": files or None, "live_files": None, "since_last": None, **told,
    }  # fmt: skip
    given = {
        "documents": len(documents), "quarantined": 0, "added": len(documents), "changed": 0, "removed": 0,
        "relabelled": 0, "low_confidence": 0, "failed_gates": 0, "cost_usd": 0.0,
    }  # fmt: skip
    with stores.state.write() as connection:
        found = requests.open_request(
            connection, collection, partition, digest([collection, partition, json.dumps(summary)]),
            summary=summary, facts=given if facts is None else facts, risk=risk, nothing_new=False,
        )  # fmt: skip
    assert found is not None
    return found


def document(number: int, **columns: Any) -> dict[str, Any]:
    """A row of a candidate's file."""
    return {
        "document_id": f"{number:05d}.txt", "path": f"{number:05d}.txt", "title": f"Note {number}",
        "text": f"Text of note {number}. " * 50, "language": "en", "status": "ok", "source_digest": digest([number]),
        "digest": digest([number, "text"]), "kind_label": "invoice", "kind_confidence": (number % 100) / 100,
        "kind_runner_up": "incident", "kind_runner_up_confidence": 0.1, "kind_evidence": f"Text of note {number}.",
        "kind_evidence_start": 0, "kind_model": "builtin", "leaf": digest([number, "leaf"]), **columns,
    }  # fmt: skip


def _written(stores: Stores, collection: str, partition: str, documents: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow as pa

    folder = snapshot_folder(stores.lake.root, collection, partition)
    return write_parquet(folder, pa.Table.from_pylist([dict(row) for row in documents]))
