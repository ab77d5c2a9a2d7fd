"""`release_candidate`: what a partition would publish, frozen into files, with the digest that people sign."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ai_assets.datasets.asking import ask, by_stage, headline, headlines
from ai_assets.datasets.llm_stage import arrow_type
from ai_assets.embedding import recorded_embedding
from ai_assets.errors import InputStale
from ai_assets.signoff.candidate import candidate_digest, content_digest, leaves_of, snapshot_folder
from ai_assets.work import Outcome, Work
from resources.lake import Manifest, write_parquet

DOCUMENT_COLUMNS = (
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "source_digest", "digest", "title", "text",
    "language",
)  # fmt: skip
EMBEDDED_BY = "embedded by"
"""Among the inputs of a candidate: another embedder may make the very same vectors."""


def build(work: Work, partition: str) -> Outcome:
    """Freeze the rows, compute the digest, and ask for sign-off where it differs from what is live."""
    started = time.perf_counter()
    manifests = {name: work.input("release_candidate", partition, name) for name in _inputs(work)}
    _refuse_mixed(work, partition, manifests)
    inputs = {name: manifest.version for name, manifest in manifests.items()}
    inputs[EMBEDDED_BY] = recorded_embedding(manifests["embeddings"].stats).space_key
    outcome = work.unchanged("release_candidate", partition, inputs)
    if outcome is None or not _snapshot_exists(work, partition, outcome.manifest):
        outcome = _freeze(work, partition, manifests, inputs, started)
    return replace(outcome, request_id=ask(work, partition, outcome.manifest))


def _inputs(work: Work) -> tuple[str, ...]:
    return work.collection.inputs_of("release_candidate")


def _refuse_mixed(work: Work, partition: str, manifests: dict[str, Manifest]) -> None:
    """All datasets must come from one another's current versions; a partial materialization can break that."""
    for name, manifest in manifests.items():
        for needed, version in manifest.inputs.items():
            if needed in manifests and manifests[needed].version != version:
                raise InputStale(work.collection.name, name, partition, needed)


def _freeze(
    work: Work, partition: str, manifests: dict[str, Manifest], inputs: dict[str, str], started: float
) -> Outcome:
    documents = _documents(work, manifests)
    chunks = _chunks(work, manifests)
    leaves = leaves_of(documents, chunks)
    scores = work.read(manifests["evaluation_scores"]).to_pylist() if "evaluation_scores" in manifests else []
    code_versions = {name: manifest.code_version for name, manifest in manifests.items()}
    content = content_digest(leaves)
    cost_usd = _cost_usd(work, manifests)
    digest = candidate_digest(work.collection.name, partition, content, code_versions, scores, cost_usd)
    folder = snapshot_folder(work.stores.lake.root, work.collection.name, partition)
    statuses = documents["status"].to_pylist()
    readable = statuses.count("ok")
    return work.commit(
        "release_candidate",
        partition,
        _leaf_table(work, documents, leaves),
        inputs,
        started=started,
        documents_in=documents.num_rows,
        documents_out=readable,
        reused=0,
        quarantined=statuses.count("quarantined"),
        preview=[
            {"document_id": row["document_id"], "status": row["status"],
             **by_stage(work, row)}
            for row in documents.slice(0, 5).to_pylist()
        ],
        digest=digest,
        content=content,
        documents_file=write_parquet(folder, _with_leaves(documents, leaves)).name,
        chunks_file=write_parquet(folder, chunks).name,
        code_versions=code_versions,
        scores=scores,
        cost_usd=cost_usd,
        embedding=asdict(recorded_embedding(manifests["embeddings"].stats)),
    )  # fmt: skip


def _documents(work: Work, manifests: dict[str, Manifest]) -> Any:
    """Every document that is there, with what each stage made of it."""
    import pyarrow as pa

    rows = [
        r for r in work.read(manifests["documents"], list(DOCUMENT_COLUMNS)).to_pylist() if r["status"] != "deleted"
    ]
    fields = [(name, pa.string()) for name in DOCUMENT_COLUMNS]
    for stage in work.collection.stages:
        columns = stage.columns
        made = {row["document_id"]: row for row in work.read(manifests[stage.name]).to_pylist()}
        for row in rows:
            found = made.get(row["document_id"], {})
            row.update({f"{stage.name}_{column}": found.get(column) for column in columns.published})
        fields += [(f"{stage.name}_{name}", arrow_type(columns.dataset[name])) for name in columns.published]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def _with_leaves(documents: Any, leaves: Mapping[str, str]) -> Any:
    """So that two candidates, or a candidate and a release, can be compared without their chunks."""
    import pyarrow as pa

    found = [leaves[name] for name in documents["document_id"].to_pylist()]
    return documents.append_column("leaf", pa.array(found, pa.string()))


def _chunks(work: Work, manifests: dict[str, Manifest]) -> Any:
    chunks = work.read(manifests["chunks"], ["chunk_id", "document_id", "ordinal", "start", "end", "title", "text"])
    return chunks.append_column("vector", work.read(manifests["embeddings"], ["vector"])["vector"])


def _leaf_table(work: Work, documents: Any, leaves: dict[str, str]) -> Any:
    import pyarrow as pa

    rows = [
        {
            "document_id": row["document_id"],
            "status": row["status"],
            **headlines(work, row),
            "leaf": leaves[row["document_id"]],
        }
        for row in documents.to_pylist()
    ]
    names = ["document_id", "status", *(headline(stage) for stage in work.collection.stages), "leaf"]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))


def _cost_usd(work: Work, manifests: Mapping[str, Manifest]) -> float:
    """What the answers and vectors cost when they were paid for, so that reusing them changes no digest."""
    paying = ["embeddings", *(stage.name for stage in work.collection.stages)]
    paid = [float(manifests[name].stats.get("paid_usd", 0.0)) for name in paying]
    return round(math.fsum(paid), 9)


def _snapshot_exists(work: Work, partition: str, manifest: Manifest) -> bool:
    folder = snapshot_folder(work.stores.lake.root, work.collection.name, partition)
    return all((folder / manifest.stats[name]).is_file() for name in ("documents_file", "chunks_file"))
