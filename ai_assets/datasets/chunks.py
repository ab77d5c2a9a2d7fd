"""`chunks`: the passages of each readable document, under identities that survive edits elsewhere in it."""

import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from ai_assets.datasets.documents import ok_rows
from ai_assets.stages.chunk import chunk_document
from ai_assets.work import Outcome, Work


def build(work: Work, partition: str) -> Outcome:
    """Cut what is new or changed; chunks of unchanged documents are taken over."""
    started = time.perf_counter()
    documents = work.input("chunks", partition, "documents")
    inputs = {"documents": documents.version}
    if same := work.unchanged("chunks", partition, inputs):
        return same
    settings = work.collection.settings.chunking
    known = known_chunks(work, partition)
    rows: list[dict[str, Any]] = []
    reused = 0
    sources = ok_rows(work, documents, ["document_id", "digest", "title", "text"])
    for number, document in enumerate(sources, start=1):
        found = known.get((document["document_id"], document["digest"], document["title"]))
        if found is not None:
            rows += found
            reused += 1
        else:
            chunks = chunk_document(
                document["document_id"],
                document["text"],
                max_characters=settings.max_characters,
                overlap=settings.overlap,
            )
            shared = {"document_digest": document["digest"], "title": document["title"]}
            rows += [{**asdict(chunk), **shared} for chunk in chunks]
        work.advance("chunks", partition, number, len(sources))
    return work.commit(
        "chunks",
        partition,
        _table(rows),
        inputs,
        started=started,
        documents_in=len(sources),
        documents_out=len({row["document_id"] for row in rows}),
        reused=reused,
        preview=[{k: row[k] for k in ("chunk_id", "document_id", "ordinal", "text")} for row in rows],
        chunks=len(rows),
    )


def known_chunks(work: Work, partition: str) -> dict[tuple[str, str, str | None], list[dict[str, Any]]]:
    previous = work.previous("chunks", partition)
    known: dict[tuple[str, str, str | None], list[dict[str, Any]]] = defaultdict(list)
    if previous and previous.code_version == work.collection.code_versions["chunks"]:
        for row in work.read(previous).to_pylist():
            known[row["document_id"], row["document_digest"], row["title"]].append(row)
    return known


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa

    text = ("chunk_id", "document_id", "document_digest", "title", "text", "text_digest")
    numbers = ("ordinal", "start", "end")
    schema = pa.schema([*((name, pa.string()) for name in text), *((name, pa.int64()) for name in numbers)])
    return pa.Table.from_pylist(rows, schema=schema)
