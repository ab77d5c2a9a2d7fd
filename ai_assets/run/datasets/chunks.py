"""`chunks`: the passages of each readable document, under identities that survive edits elsewhere in it."""

import time
from collections.abc import Iterator
from typing import Any

from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.documents.chunk import chunk_document
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.documents import ok_rows


def build(work: Work, partition: str) -> Outcome:
    """Cut what is new or changed; chunks of unchanged documents are taken over."""
    started = time.perf_counter()
    documents = work.input("chunks", partition, "documents")
    inputs = {"documents": documents.version}
    if same := work.unchanged("chunks", partition, inputs):
        return same
    settings = work.collection.settings.chunking
    known = ByDocument(known_chunks(work, partition))
    preview: list[Row] = []
    reused = cut = 0
    total = documents.stats["documents_out"]
    with work.writing("chunks", partition, _schema()) as out:
        for number, document in enumerate(ok_rows(work, documents, ["document_id", "digest", "title", "text"]), 1):
            rows = taken_over(known, document["document_id"], document["digest"], document["title"])
            if rows:
                reused += 1
            else:
                chunks = chunk_document(
                    document["document_id"],
                    document["text"],
                    max_characters=settings.max_characters,
                    overlap=settings.overlap,
                )
                shared = {"document_digest": document["digest"], "title": document["title"]}
                rows = [{**vars(chunk), **shared} for chunk in chunks]
            cut += bool(rows)
            preview += [{k: row[k] for k in ("chunk_id", "document_id", "ordinal", "text")} for row in rows]
            del preview[PREVIEW_ROWS:]
            for row in rows:
                out.append(row)
            work.advance("chunks", partition, number, total)
    return work.commit(
        "chunks",
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=total,
        documents_out=cut,
        reused=reused,
        preview=preview,
        chunks=out.rows,
    )


def known_chunks(work: Work, partition: str) -> Iterator[Row]:
    """The chunks of the partition as they are, if today's settings made them."""
    previous = work.previous("chunks", partition)
    if previous and previous.code_version == work.collection.code_versions["chunks"]:
        yield from work.rows(previous)


def taken_over(known: ByDocument, document: str, digest: str, title: str | None) -> list[Row]:
    """Those of a document whose text and title are the same; documents are asked for in order."""
    found = known.of(document)
    return [row for row in found if (row["document_digest"], row["title"]) == (digest, title)]


def _schema() -> Any:
    import pyarrow as pa

    text = ("chunk_id", "document_id", "document_digest", "title", "text", "text_digest")
    numbers = ("ordinal", "start", "end")
    return pa.schema([*((name, pa.string()) for name in text), *((name, pa.int64()) for name in numbers)])
