"""`release_candidate`: what a partition would publish, frozen into files, with the digest that people sign."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ai_assets.datasets import evaluation_scores
from ai_assets.datasets.llm_stage import arrow_type
from ai_assets.embedding import recorded_embedding
from ai_assets.errors import InputStale
from ai_assets.signoff import releases, requests
from ai_assets.signoff.authors import authors
from ai_assets.signoff.candidate import candidate_digest, content_digest, difference, leaves_of, snapshot_folder
from ai_assets.signoff.publication import read_snapshot
from ai_assets.signoff.risk import LOW_CONFIDENCE, request_risk
from ai_assets.stage_settings import Stage
from ai_assets.work import Outcome, Work
from resources.errors import DatasetDamaged
from resources.lake import Manifest, write_parquet

DOCUMENT_COLUMNS = (
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "source_digest", "digest", "title", "text",
    "language",
)  # fmt: skip
EMBEDDED_BY = "embedded by"
"""Among the inputs of a candidate: another embedder may make the very same vectors."""
HEADLINE_CHARACTERS = 160
"""Of a text, in the table of the candidate; the release holds all of it."""


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
    return replace(outcome, request_id=_ask(work, partition, outcome.manifest))


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
             **_by_stage(work, row)}
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
            **_headlines(work, row),
            "leaf": leaves[row["document_id"]],
        }
        for row in documents.to_pylist()
    ]
    names = ["document_id", "status", *(_headline(stage) for stage in work.collection.stages), "leaf"]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))


def _headline(stage: Stage) -> str:
    return f"{stage.name}_{stage.columns.headline}"


def _headlines(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    """What each stage says of a document of a candidate or a release, in short."""
    found = {_headline(stage): row.get(_headline(stage)) for stage in work.collection.stages}
    return {
        name: value[:HEADLINE_CHARACTERS] + "…" if value and len(value) > HEADLINE_CHARACTERS else value
        for name, value in found.items()
    }


def _cost_usd(work: Work, manifests: Mapping[str, Manifest]) -> float:
    """What the answers and vectors cost when they were paid for, so that reusing them changes no digest."""
    paying = ["embeddings", *(stage.name for stage in work.collection.stages)]
    paid = [float(manifests[name].stats.get("paid_usd", 0.0)) for name in paying]
    return round(math.fsum(paid), 9)


def _snapshot_exists(work: Work, partition: str, manifest: Manifest) -> bool:
    folder = snapshot_folder(work.stores.lake.root, work.collection.name, partition)
    return all((folder / manifest.stats[name]).is_file() for name in ("documents_file", "chunks_file"))


def _ask(work: Work, partition: str, manifest: Manifest) -> str | None:
    """Open a request for this digest, once; an earlier candidate's request or unused approval is void.

    The id of the request in which it is decided on, or was.
    """
    stages = [stage.name for stage in work.collection.stages]
    digest = manifest.stats["digest"]
    with work.stores.state.read() as connection:
        live = releases.live(connection, work.collection.name)
        current = requests.latest_of(connection, work.collection.name, partition)
    part = live.parts.get(partition) if live else None
    if current is not None and current.digest == digest and current.status in requests.ANSWERED:
        return current.request_id
    published = {} if part is None else _published(work, partition, part)
    candidate = _headed(work, work.read(manifest).to_pylist())
    changes = difference(candidate, published, stages)
    gates = _gates(work, partition)
    asked_by = authors(work.launched_by, _prompt_files(work))
    facts = {**_facts(work, partition, manifest, changes, gates), "authors": asked_by}
    summary = {
        **changes,
        "documents": manifest.stats["documents_in"],
        "quarantined": manifest.stats["quarantined"],
        "scores": manifest.stats["scores"],
        "cost_usd": manifest.stats["cost_usd"],
        "live_release": live.number if live else None,
        "live_scores": _live_scores(work, partition, part),
        "run_id": manifest.run_id,
        "gates": gates,
        "authors": asked_by,
        "files": {name: manifest.stats[name] for name in ("documents_file", "chunks_file")},
        "live_files": {"documents_file": part.documents_file, "chunks_file": part.chunks_file} if part else None,
        "since_last": _since_last(work, partition, current, candidate, stages),
    }
    with work.stores.state.write() as connection:
        asked = requests.open_request(
            connection,
            work.collection.name,
            partition,
            digest,
            summary=summary,
            facts=facts,
            risk=request_risk(facts, gates),
            nothing_new=_is_live(manifest, part) if part else not candidate,
        )
    return asked.request_id if asked else part.request_id if part else None


def _headed(work: Work, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, dict[str, Any]]]:
    """By document its leaf, and what each stage says of it in short."""
    return {
        row["document_id"]: (row["leaf"], {s.name: row[_headline(s)] for s in work.collection.stages}) for row in rows
    }


def _gates(work: Work, partition: str) -> list[dict[str, Any]]:
    if not work.collection.settings.gates:
        return []
    results = evaluation_scores.gate_results(work, work.input("release_candidate", partition, "evaluation_scores"))
    return [
        {
            "name": result.gate.name, "min": result.gate.min, "value": result.value, "n": result.n,
            "passed": result.passed, "waivable": result.gate.waivable, "message": result.message,
        }
        for result in results
    ]  # fmt: skip


def _facts(
    work: Work, partition: str, manifest: Manifest, changes: Mapping[str, Any], gates: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What an inbox shows, so that it need not read summaries of any size."""
    documents, _ = read_snapshot(work.collection.name, work.stores, partition, manifest.stats)
    touched = {*changes["added"], *changes["changed"]}
    names = documents["document_id"].to_pylist()
    unsure = set()
    for column in [name for name in documents.column_names if name.endswith("_confidence") and "runner_up" not in name]:
        given = zip(names, documents[column].to_pylist(), strict=True)
        unsure |= {name for name, value in given if value is not None and value < LOW_CONFIDENCE}
    return {
        "documents": manifest.stats["documents_in"],
        "quarantined": manifest.stats["quarantined"],
        **{name: len(changes[name]) for name in ("added", "changed", "removed", "relabelled")},
        "low_confidence": len(unsure & touched),
        "failed_gates": sum(not gate["passed"] for gate in gates),
        "cost_usd": manifest.stats["cost_usd"],
    }


def _live_scores(work: Work, partition: str, part: releases.Part | None) -> list[dict[str, Any]] | None:
    """What was measured of the candidate that is live, to hold the new scores against."""
    if part is None:
        return None
    with work.stores.state.read() as connection:
        asked = requests.get(connection, part.request_id)
    return asked.changes["scores"] if asked else None


def _since_last(
    work: Work,
    partition: str,
    last: requests.Request | None,
    candidate: Mapping[str, tuple[str, Mapping[str, Any]]],
    stages: Sequence[str],
) -> dict[str, Any] | None:
    """The difference from the candidate that people were asked about before this one."""
    files = last.changes.get("files") if last else None
    if last is None or files is None:
        return None
    try:
        documents, _ = read_snapshot(work.collection.name, work.stores, partition, files)
    except DatasetDamaged:
        return None  # an old candidate's files may be gone
    if "leaf" not in documents.column_names:
        return None
    before = _headed(work, [{**row, **_headlines(work, row)} for row in documents.to_pylist()])
    return {"request_id": last.request_id, "status": last.status, **difference(candidate, before, stages)}


def _prompt_files(work: Work) -> list[Path]:
    declared = [stage.prompt for stage in work.collection.stages if stage.prompt is not None]
    return [work.collection.folder / prompt for prompt in declared]


def _is_live(manifest: Manifest, part: releases.Part) -> bool:
    """The same rows, and vectors made by the same embedder even where they happen to be equal."""
    same = recorded_embedding(manifest.stats).space == part.embedding.space
    return part.content == manifest.stats["content"] and (same or not part.chunks)


def _published(work: Work, partition: str, part: releases.Part) -> dict[str, tuple[str, dict[str, Any]]]:
    documents, chunks = read_snapshot(work.collection.name, work.stores, partition, vars(part))
    leaves = leaves_of(documents, chunks)
    return {row["document_id"]: (leaves[row["document_id"]], _by_stage(work, row)) for row in documents.to_pylist()}


def _by_stage(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    shown = _headlines(work, row)
    return {stage.name: shown[_headline(stage)] for stage in work.collection.stages}
