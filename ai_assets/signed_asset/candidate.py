"""Freezing what an asset returned, and asking for its sign-off. Killed anywhere, the same call again goes on."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.documents.source_listing import Listing
from ai_assets.embedding.spec import builtin_embedding
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.release_candidate import CHUNKS, refuse_broken_contract
from ai_assets.run.datasets.review_request import ask
from ai_assets.run.events import DatasetMade
from ai_assets.run.one_partition import spanned
from ai_assets.run.refresh import run_told
from ai_assets.run.spans import record_span
from ai_assets.signed_asset.errors import SignedAssetWrong
from ai_assets.signed_asset.rows import FrozenRows, Kind, documents_of, file_of, table_of
from ai_assets.signoff.authors import authors
from ai_assets.signoff.candidate import Leaves, candidate_digest, leaves_of_files, snapshot_folder
from ai_assets.signoff.frozen_candidate import FrozenCandidate
from ai_assets.storage import partition_facts
from ai_assets.storage.content import has_own_bytes
from ai_assets.storage.lake import Manifest, write_parquet, writing_rows
from ai_assets.storage.leases import hold
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import record_dataset

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "rows-1"
"""Of how rows are frozen: a part of the digest that people sign."""


def freeze(work: Work, partition: str, value: object, key: Sequence[str], sources: Sequence[Path] = ()) -> Outcome:
    """The candidate of a partition, and the request for its sign-off where it differs from what is live.

    `sources` are the files that the asset is written in: who edited them last does not approve.
    """
    with run_told(work, [partition], ["release_candidate"]):
        made, span = spanned(
            work, partition, "release_candidate", lambda: _freeze(work, partition, value, key, sources)
        )
        with work.stores.state.write() as connection:
            record_span(connection, span)
        work.sinks.tell(DatasetMade(**work.own, outcome=made))
    return made


def _freeze(work: Work, partition: str, value: object, key: Sequence[str], sources: Sequence[Path]) -> Outcome:
    started = time.perf_counter()
    work.refuse_broken_contract()
    asset = work.collection.signed_asset or work.collection.name
    table, kind = table_of(asset, value)
    frozen = documents_of(asset, table, key)
    work.authors = authors(list(sources))
    name = work.collection.name
    with hold(work.stores.state, f"refresh:{name}:{partition}", say=work.say_waiting) as lease:
        work.lease.held = lease
        try:
            inputs = {"rows": frozen.version, "kind": kind}
            outcome = work.unchanged("release_candidate", partition, inputs)
            if outcome is None or not _is_there(work, outcome.manifest):
                outcome = _commit(work, partition, table, frozen, kind, inputs, started)
            with work.fenced() as connection:
                record_dataset(connection, outcome.manifest)
            refuse_broken_contract(work, outcome.manifest)
            outcome = replace(outcome, request_id=ask(work, partition, outcome.manifest))
            _record_run(work, partition)
        finally:
            work.lease.held = None
    return outcome


def _commit(
    work: Work,
    partition: str,
    table: "pa.Table",
    frozen: FrozenRows,
    kind: Kind,
    inputs: dict[str, str],
    started: float,
) -> Outcome:
    import pyarrow as pa

    name = work.collection.name
    folder = snapshot_folder(work.stores.lake.root, name, partition)
    leaves = Leaves((dict(row) for row in frozen.documents), iter(()))
    named = [{"document_id": row["document_id"], "status": "ok", "leaf": leaf} for row, leaf in leaves]
    try:
        documents = write_parquet(folder, file_of(table, frozen, [row["leaf"] for row in named]))
    except pa.ArrowException as error:
        what = " ".join(str(error).split())
        raise SignedAssetWrong(work.collection.signed_asset or name, f"its rows cannot be kept: {what}") from error
    with writing_rows(folder, _no_chunks()) as chunks:
        pass
    _require_kept(work, documents, chunks.path, leaves.content)
    for path in (documents, chunks.path):
        work.stores.lake.keep(path)
    versions = {"rows": FORMAT, "kind": kind}
    digest = candidate_digest(name, partition, leaves.content, versions, [], None)
    rows = pa.Table.from_pylist(named, schema=pa.schema([(each, pa.string()) for each in _LEAF]))
    number = len(named)
    return work.commit(
        "release_candidate",
        partition,
        rows,
        inputs,
        started=started,
        documents_in=number,
        documents_out=number,
        reused=0,
        preview=_preview(frozen),
        digest=digest,
        content=leaves.content,
        documents_file=documents.name,
        chunks_file=chunks.path.name,
        code_versions=versions,
        scores=[],
        cost_usd=None,
        embedding=builtin_embedding().recorded(),
    )


_LEAF = ("document_id", "status", "leaf")


def _preview(frozen: FrozenRows) -> list[dict[str, Any]]:
    return [{"row": row["document_id"], "values": row["text"]} for row in frozen.documents[:PREVIEW_ROWS]]


def _require_kept(work: Work, documents: Path, chunks: Path, content: str) -> None:
    """What is read back is what is signed: some types do not survive in a file."""
    found = leaves_of_files(documents, chunks)
    for _ in found:
        pass
    if found.content != content:
        problem = "its rows are not the same when they are read back; use plainer types"
        raise SignedAssetWrong(work.collection.signed_asset or work.collection.name, problem)


def _no_chunks() -> "pa.Schema":
    import pyarrow as pa

    fields = [(name, pa.int64() if name in ("ordinal", "start", "end") else pa.string()) for name in CHUNKS]
    return pa.schema([*fields, ("vector", pa.list_(pa.float32(), builtin_embedding().dimensions))])


def _is_there(work: Work, manifest: Manifest) -> bool:
    return all(map(has_own_bytes, FrozenCandidate.of(manifest).paths(work.stores.lake)))


def _record_run(work: Work, partition: str) -> None:
    """That the partition is up to date, as `ai-assets status` asks; there is no source that could have changed."""
    with work.fenced() as connection:
        upsert(
            connection,
            "refreshes",
            {"collection": work.collection.name, "partition": partition},
            {
                "status": "ok", "error": None, "listing_digest": Listing(()).digest_of(""),
                "settings_digest": work.collection.settings_digest,
                "corrections_digest": work.corrections.version(partition), "run_id": work.run_id,
                "finished_at": now(),
            },
        )  # fmt: skip
        partition_facts.derive(connection, work.collection.name, [partition])
