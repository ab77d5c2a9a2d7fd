"""`embeddings`: one vector per chunk, as a fixed-size list, so that any Parquet reader can use it."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ai_assets.stages.embed import embed_chunks
from ai_assets.work import Outcome, Work

if TYPE_CHECKING:
    import numpy as np


def build(work: Work, partition: str) -> Outcome:
    """Embed the texts that have no vector yet; the same text is embedded once, whatever holds it."""

    started = time.perf_counter()
    chunks = work.input("embeddings", partition, "chunks")
    inputs = {"chunks": chunks.version}
    if same := work.unchanged("embeddings", partition, inputs):
        return same
    rows = work.read(chunks, ["chunk_id", "document_id", "text_digest", "text"])
    digests: list[str] = rows["text_digest"].to_pylist()
    texts = dict(zip(digests, rows["text"].to_pylist(), strict=True))
    known = _known(work, partition)
    embedded = embed_chunks(texts, known, work.embedder)
    document_ids: list[str] = rows["document_id"].to_pylist()
    changed = {document for document, text in zip(document_ids, digests, strict=True) if text not in known}
    documents = len(set(document_ids))
    table = rows.select(["chunk_id", "document_id", "text_digest"]).append_column(
        "vector", _vectors(embedded.vectors, digests, work.embedder.dimensions)
    )
    work.advance("embeddings", partition, documents, documents)
    return work.commit(
        "embeddings",
        partition,
        table,
        inputs,
        started=started,
        documents_in=documents,
        documents_out=documents,
        reused=documents - len(changed),
        preview=[
            {"chunk_id": chunk, "document_id": document, "model": work.embedder.name}
            for chunk, document in zip(rows["chunk_id"][:5].to_pylist(), document_ids[:5], strict=True)
        ],
        texts_embedded=embedded.embedded,
        texts_reused=embedded.reused,
        model=work.embedder.name,
    )


def _known(work: Work, partition: str) -> "dict[str, np.ndarray]":
    """Vectors this partition has already, by the digest of their text."""
    previous = work.previous("embeddings", partition)
    if not previous or previous.code_version != work.collection.code_versions["embeddings"]:
        return {}
    table = work.read(previous, ["text_digest", "vector"]).combine_chunks()
    if table.num_rows == 0:
        return {}
    matrix = vectors_of(table)
    return dict(zip(table["text_digest"].to_pylist(), matrix, strict=True))


def vectors_of(table: Any) -> "np.ndarray":
    """The vector column as a matrix, one row per table row."""
    import numpy as np

    column = table.combine_chunks()["vector"]
    if table.num_rows == 0:
        return np.zeros((0, column.type.list_size), dtype=np.float32)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.asarray(array.flatten(), dtype=np.float32).reshape(table.num_rows, -1)


def _vectors(vectors: "Mapping[str, np.ndarray]", digests: list[str], dimensions: int) -> Any:
    import numpy as np
    import pyarrow as pa

    flat = np.concatenate([vectors[text] for text in digests]) if digests else np.zeros(0, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, type=pa.float32()), dimensions)
