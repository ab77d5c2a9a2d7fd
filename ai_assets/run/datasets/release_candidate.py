"""`release_candidate`: what a partition would publish, frozen into files, with the digest that people sign."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ai_assets.checks.errors import GateFailed
from ai_assets.checks.registry import refuse_unsound_candidate
from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.documents.passages import OF, STRUCTURE, STRUCTURE_NUMBERS
from ai_assets.embedding.searched_by import SEARCHED_BY, SearchedBy, as_recorded_search, recorded_search
from ai_assets.embedding.spec import (
    FIRST,
    WITHOUT,
    Embedding,
    as_recorded,
    recorded_embedding,
    spaces_key,
    vector_column,
)
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.ceilings import paid_usd
from ai_assets.run.datasets.documents import SHOWN
from ai_assets.run.datasets.embeddings import reasons_of
from ai_assets.run.datasets.holding import PartitionHolds, partition_holds
from ai_assets.run.datasets.llm_stage import arrow_type
from ai_assets.run.datasets.passages import vector_type, with_vectors
from ai_assets.run.datasets.review_request import ask, by_stage, headline, headlines
from ai_assets.run.errors import InputStale
from ai_assets.signoff import requests
from ai_assets.signoff.candidate import Leaves, candidate_digest, snapshot_folder
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.signoff.holds import HELD, keep, known_until
from ai_assets.stages.base import StageSettings
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.storage.arrow_columns import column
from ai_assets.storage.content import has_own_bytes
from ai_assets.storage.digest import canonical_json, digest
from ai_assets.storage.lake import Manifest, RowWriter, parquet_columns, writing_rows

if TYPE_CHECKING:
    from ai_assets.signoff.drifting import DriftFound

DOCUMENT_COLUMNS = (
    "document_id", "path", "row_key", "status", "reason", "duplicate_of", "source_digest", "digest", "title", "text",
    "language",
)  # fmt: skip
CHUNKS = ["chunk_id", "document_id", "ordinal", "start", "end", "title", "text"]
EMBEDDED_BY = "embedded by"
"""Among the inputs of a candidate: another embedder may make the very same vectors."""


def build(work: Work, partition: str) -> Outcome:
    """Freeze the rows, compute the digest, and ask for sign-off where it differs from what is live."""
    manifests = {name: work.input("release_candidate", partition, name) for name in _inputs(work)}
    _refuse_mixed(work, partition, manifests)
    with work.stores.state.read() as connection:
        asked = requests.latest_of(connection, work.collection.name, partition)
    until = known_until(asked)
    drift = partial(_looked_at, work, partition, manifests)
    held = partition_holds(work, partition, manifests, until, drift)
    outcome = _made(work, partition, manifests, held)
    if until is not None and until < work.hold_decisions.last and not _is_asked(outcome.manifest, asked):
        # What people are asked about is void anyway: all that was decided meanwhile joins now.
        held = partition_holds(work, partition, manifests, None, drift)
        outcome = _made(work, partition, manifests, held)
    if work.collection.holding:
        with work.fenced() as connection:
            keep(connection, work.collection.name, partition, held.waiting)
    refuse_unsound_candidate(work, outcome.manifest)
    _refuse_drifted(work, outcome.manifest)
    _refuse_changed_models(work, outcome.manifest)
    refuse_broken_contract(work, outcome.manifest)
    return replace(outcome, request_id=ask(work, partition, outcome.manifest, held))


def _made(work: Work, partition: str, manifests: dict[str, Manifest], held: PartitionHolds) -> Outcome:
    started = time.perf_counter()
    inputs = {name: manifest.version for name, manifest in manifests.items()}
    inputs[EMBEDDED_BY] = spaces_key(_embeddings(work, manifests))
    searched_by = _searched_by(work, manifests)
    inputs |= {SEARCHED_BY: searched_by.key} if searched_by.key else {}
    inputs |= {HELD: held.digest} if held.digest else {}
    outcome = work.unchanged("release_candidate", partition, inputs)
    if outcome is not None and _snapshot_exists(work, outcome.manifest):
        return outcome
    return _freeze(work, partition, manifests, inputs, searched_by, held, started)


def _looked_at(work: Work, partition: str, manifests: dict[str, Manifest], held: PartitionHolds) -> "DriftFound":
    """How far the documents are from what is live that would be published if nothing suspended a threshold."""
    embeddings = _embeddings(work, manifests)
    rows = _released(_documents(work, manifests, {}), held)
    passages = _without_held(_chunks(work, manifests), held)
    space = embeddings[FIRST].space_key if FIRST in embeddings else ""
    named = digest([{name: manifest.version for name, manifest in manifests.items()}, held.digest])
    return work.drift.look(partition, rows, passages, space, named)


def _is_asked(manifest: Manifest, asked: requests.SignoffRequest | None) -> bool:
    return asked is not None and asked.digest == FrozenCandidate.of(manifest).digest


def _refuse_drifted(work: Work, manifest: Manifest) -> None:
    """Nobody is asked about a candidate that may not be published anyway."""
    if work.collection.settings.drift is not None:
        verdict = work.drift.found(FrozenCandidate.of(manifest)).verdict
        if verdict.stops:
            raise GateFailed([verdict])


def _refuse_changed_models(work: Work, manifest: Manifest) -> None:
    if work.collection.canaries and (verdict := work.canary(FrozenCandidate.of(manifest)).verdict).stops:
        raise GateFailed([verdict])


def refuse_broken_contract(work: Work, manifest: Manifest) -> None:
    verdict = work.contract(FrozenCandidate.of(manifest))
    if verdict is not None and verdict.stops:
        raise GateFailed([verdict])


def _embeddings(work: Work, manifests: Mapping[str, Manifest]) -> dict[str, Embedding]:
    """By name, what made the vectors that are there."""
    return {each.name: recorded_embedding(manifests[each.asset].stats) for each in work.collection.embeddings}


def _searched_by(work: Work, manifests: Mapping[str, Manifest]) -> SearchedBy:
    """What its golden queries were judged with; where there are none, what is declared."""
    scores = manifests.get("evaluation_scores")
    return work.searched_by if scores is None else recorded_search(scores.stats)


def _inputs(work: Work) -> tuple[str, ...]:
    return work.collection.inputs_of("release_candidate")


def _refuse_mixed(work: Work, partition: str, manifests: dict[str, Manifest]) -> None:
    """All datasets must come from one another's current versions; a partial materialization can break that."""
    for name, manifest in manifests.items():
        for needed, version in manifest.inputs.items():
            if needed in manifests and manifests[needed].version != version:
                raise InputStale(work.collection.name, name, partition, needed)


def _freeze(
    work: Work,
    partition: str,
    manifests: dict[str, Manifest],
    inputs: dict[str, str],
    searched_by: SearchedBy,
    held: PartitionHolds,
    started: float,
) -> Outcome:
    scores = work.read(manifests["evaluation_scores"]).to_pylist() if "evaluation_scores" in manifests else []
    code_versions = {name: manifest.code_version for name, manifest in manifests.items()}
    if searched_by.key:  # people sign how it is searched
        code_versions[SEARCHED_BY] = searched_by.key
    if held.digest:  # and which documents wait, or were let in or rejected, by whom and why
        code_versions[HELD] = held.digest
    cost_usd = paid_usd(work, manifests)
    folder = snapshot_folder(work.stores.lake.root, work.collection.name, partition)
    reasons = _without(work, manifests)
    statuses: Counter[str] = Counter()
    preview: list[dict[str, Any]] = []
    schema = _documents_schema(work, _shown(work, manifests), holes=bool(reasons), marks=bool(held.marked))
    with (
        writing_rows(folder, schema) as documents_out,
        writing_rows(folder, _chunks_schema(work, manifests["chunks"])) as chunks_out,
        work.writing("release_candidate", partition, _leaf_schema(work)) as out,
    ):
        passages = _without_held(_chunks(work, manifests), held)
        leaves = Leaves(_released(_documents(work, manifests, reasons), held), _passing(passages, chunks_out))
        for row, leaf in leaves:
            documents_out.append({**row, "leaf": leaf})
            named = {"document_id": row["document_id"], "status": row["status"]}
            out.append({**named, **headlines(work, row), "leaf": leaf})
            statuses[row["status"]] += 1
            if len(preview) < PREVIEW_ROWS:
                preview.append({**named, **by_stage(work, row)})
    for path in (documents_out.path, chunks_out.path):
        work.stores.lake.keep(path)
    signed = candidate_digest(work.collection.name, partition, leaves.content, code_versions, scores, cost_usd)
    return work.commit(
        "release_candidate",
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=out.rows,
        documents_out=statuses["ok"],
        reused=0,
        quarantined=statuses["quarantined"],
        preview=preview,
        digest=signed,
        content=leaves.content,
        documents_file=documents_out.path.name,
        chunks_file=chunks_out.path.name,
        code_versions=code_versions,
        scores=scores,
        cost_usd=cost_usd,
        **as_recorded(_embeddings(work, manifests)),
        **as_recorded_search(searched_by),
        **({WITHOUT: len(reasons)} if reasons else {}),
        **({HELD: held.documents} if work.collection.holding else {}),
        **(
            {"hold_thresholds": told}
            if (
                told := {
                    name: {**each.told, **({"suspended": held.suspended[name]} if name in held.suspended else {})}
                    for name, each in work.certificates.items()
                }
            )
            else {}
        ),
    )


def _without(work: Work, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """By document without vectors, why; of a further embedding with its name."""
    found: dict[str, str] = {}
    for each in work.collection.embeddings:
        for document, reason in reasons_of(work, manifests[each.asset]).items():
            said = reason if each.name == FIRST else f"{each.name}: {reason}"
            found[document] = f"{found[document]}; {said}" if document in found else said
    return found


def _documents(work: Work, manifests: Mapping[str, Manifest], reasons: Mapping[str, str]) -> Iterator[Row]:
    """Every document that is there, with what each stage made of it."""
    made = {stage.name: ByDocument(work.rows(manifests[stage.name])) for stage in work.collection.stages}
    for row in work.rows(manifests["documents"], [*DOCUMENT_COLUMNS, *_shown(work, manifests)]):
        if row["status"] == "deleted":
            continue
        for stage in work.collection.stages:
            found = _of_stage(stage, made[stage.name], row["document_id"])
            row.update({f"{stage.name}_{column}": found.get(column) for column in stage.columns.published})
        if reasons:
            row[WITHOUT] = reasons.get(row["document_id"])
        yield row


def _released(rows: Iterator[Row], held: PartitionHolds) -> Iterator[Row]:
    """Without those that wait, or with the mark; a rejected one says why in place of its text."""
    for row in rows:
        name = row["document_id"]
        if name in held.rejected:
            shown = ("document_id", "path", "row_key", "source_digest", "digest")
            rejected = {column: row[column] if column in shown else None for column in row}
            yield {**rejected, "status": "quarantined", "reason": held.rejected[name]}
        elif name not in held.left_out:
            yield {**row, HELD: held.marked.get(name)} if held.marked else row


def _without_held(batches: Iterator[Any], held: PartitionHolds) -> Iterator[Any]:
    """The passages of documents that are released."""
    import pyarrow as pa
    import pyarrow.compute as pc

    out = sorted({*held.left_out, *held.rejected})
    if not out:
        yield from batches
        return
    names = column(out, pa.string())
    for batch in batches:
        yield batch.filter(pc.invert(pc.is_in(batch["document_id"], value_set=names)))


def _of_stage(stage: StageSettings, made: ByDocument, document: str) -> Row:
    """Its row of a document; where a stage makes several, all of them as one JSON text."""
    if not isinstance(stage, FunctionStage) or stage.spec.rows == "one":
        return made.one(document) or {}
    rows = list(made.of(document))
    if not rows:
        return {}
    own = [{name: row[name] for name in ("row_key", *stage.spec.own)} for row in rows if row["status"] == "ok"]
    return {"rows": canonical_json(own), "status": rows[0]["status"], "reason": rows[0]["reason"]}


def _chunks(work: Work, manifests: Mapping[str, Manifest]) -> Iterator[Any]:
    """Passages with their vectors."""
    vectors = {each.name: manifests[each.asset] for each in work.collection.embeddings}
    return with_vectors(work, manifests["chunks"], vectors, _chunk_columns(work, manifests["chunks"]))


def _chunk_columns(work: Work, chunks: Manifest) -> list[str]:
    """With the text that a passage is from, where that is not always the document's own; and with where it stands in
    it, where the dataset says that. No leaf depends on it."""
    there = set(parquet_columns(work.stores.lake.path(chunks)))
    said = [name for name in STRUCTURE if name in there]
    return [*CHUNKS, *([OF] if work.collection.embedded_stages else []), *said]


def _passing(batches: Iterator[Any], out: RowWriter) -> Iterator[Any]:
    """They are written as they go by."""
    for batch in batches:
        out.extend(batch)
        yield batch


def _shown(work: Work, manifests: Mapping[str, Manifest]) -> list[str]:
    """What of `SHOWN` the documents have."""
    present = parquet_columns(work.stores.lake.path(manifests["documents"]))
    return [name for name in SHOWN if name in present]


def _documents_schema(work: Work, shown: Sequence[str], *, holes: bool, marks: bool) -> Any:
    """With leaves, so that two candidates, or a candidate and a release, can be compared without their chunks."""
    import pyarrow as pa

    fields = [(name, pa.string()) for name in DOCUMENT_COLUMNS]
    for stage in work.collection.stages:
        columns = stage.columns
        fields += [
            (f"{stage.name}_{name}", arrow_type(columns.dataset.get(name, "text"))) for name in columns.published
        ]
    fields += [(name, pa.float64() if SHOWN[name] == "number" else pa.string()) for name in shown]
    fields += [(WITHOUT, pa.string())] if holes else []
    fields += [(HELD, pa.string())] if marks else []
    return pa.schema([*fields, ("leaf", pa.string())])


def _chunks_schema(work: Work, chunks: Manifest) -> Any:
    import pyarrow as pa

    numbers = ("ordinal", "start", "end", *STRUCTURE_NUMBERS)
    fields = [(name, pa.int64() if name in numbers else pa.string()) for name in _chunk_columns(work, chunks)]
    vectors = [(vector_column(name), vector_type(each.dimensions)) for name, each in work.collection.spaces.items()]
    return pa.schema([*fields, *vectors])


def _leaf_schema(work: Work) -> Any:
    import pyarrow as pa

    names = ["document_id", "status", *(headline(stage) for stage in work.collection.stages), "leaf"]
    return pa.schema([(name, pa.string()) for name in names])


def _snapshot_exists(work: Work, manifest: Manifest) -> bool:
    """With the bytes that its files were frozen with; else they are made again, which gives the same files."""
    return all(map(has_own_bytes, FrozenCandidate.of(manifest).paths(work.stores.lake)))
