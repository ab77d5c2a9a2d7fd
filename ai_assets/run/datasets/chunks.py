"""`chunks`: the passages of each readable document, under identities that survive edits elsewhere in it."""

import json
import time
from collections.abc import Iterator
from typing import Any

from ai_assets.collection.builtins import newest
from ai_assets.documents.by_document import ByDocument, Row
from ai_assets.documents.passages import STRUCTURE, STRUCTURE_NUMBERS, cut, made_from, texts_of
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets.documents import MADE_BY, PAGES, ok_rows, versions_of
from ai_assets.storage.lake import parquet_columns


def build(work: Work, partition: str) -> Outcome:
    """Cut what is new or changed; chunks of documents whose texts are the same are taken over."""
    started = time.perf_counter()
    documents = work.input("chunks", partition, "documents")
    earlier = {stage: work.input("chunks", partition, stage) for stage in work.collection.embedded_stages}
    inputs = versions_of(documents, earlier)
    if same := work.unchanged("chunks", partition, inputs):
        return same
    settings = work.collection.settings.chunking
    known = ByDocument(known_chunks(work, partition))
    made = {stage: ByDocument(work.rows(manifest, columns_of(work, stage))) for stage, manifest in earlier.items()}
    preview: list[Row] = []
    reused = cut_documents = 0
    total = documents.stats["documents_out"]
    mixed = "chunker" in work.collection.settings.builtins.older
    paged = PAGES in parquet_columns(work.stores.lake.path(documents))
    read = ["document_id", "digest", "title", "text", *((PAGES,) if paged else ())]
    with work.writing("chunks", partition, _schema(of=bool(earlier), mixed=mixed)) as out:
        for number, document in enumerate(ok_rows(work, documents, read), 1):
            name = document["document_id"]
            said = {stage: rows.one(name) for stage, rows in made.items()}
            texts = texts_of(work.collection.embedded, document["text"], said)
            source = made_from(document["digest"], texts)
            rows = taken_over(known, name, source, document["title"])
            if rows:
                reused += 1
            else:
                shared = {"document_digest": source, "title": document["title"], MADE_BY: newest("chunker")}
                pieces = cut(
                    name,
                    texts,
                    max_characters=settings.max_characters,
                    overlap=settings.overlap,
                    pages=json.loads(document.get(PAGES) or "[]"),
                )
                rows = [{**piece, **shared} for piece in pieces]
            cut_documents += bool(rows)
            preview += [{k: row[k] for k in ("chunk_id", "document_id", "ordinal", "text")} for row in rows]
            del preview[PREVIEW_ROWS:]
            for row in rows:
                out.append(row)
            work.advance("chunks", partition, number, total, reused)
    return work.commit(
        "chunks",
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=total,
        documents_out=cut_documents,
        reused=reused,
        preview=preview,
        chunks=out.rows,
    )


def columns_of(work: Work, stage: str) -> list[str]:
    """Of a stage, those that are cut."""
    return ["document_id", *dict.fromkeys(text.column for text in work.collection.embedded if text.stage == stage)]


def known_chunks(work: Work, partition: str) -> Iterator[Row]:
    """The chunks of the partition as they are, if today's settings made them."""
    previous = work.previous("chunks", partition)
    if previous and previous.code_version == work.collection.code_versions["chunks"]:
        yield from work.rows(previous)


def taken_over(known: ByDocument, document: str, source: str, title: str | None) -> list[Row]:
    """Those of a document whose texts and title are the same; documents are asked for in order."""
    found = known.of(document)
    return [row for row in found if (row["document_digest"], row["title"]) == (source, title)]


def _schema(*, of: bool, mixed: bool) -> Any:
    """With the name of the text that a passage is from, where that is not always the document's own; and with the
    version of the chunker, where rows may be of several."""
    import pyarrow as pa

    more = (*(("of",) if of else ()), *((MADE_BY,) if mixed else ()))
    said = tuple(name for name in STRUCTURE if name not in STRUCTURE_NUMBERS)
    text = ("chunk_id", "document_id", "document_digest", "title", "text", "text_digest", *more, *said)
    numbers = ("ordinal", "start", "end", *STRUCTURE_NUMBERS)
    return pa.schema([*((name, pa.string()) for name in text), *((name, pa.int64()) for name in numbers)])
