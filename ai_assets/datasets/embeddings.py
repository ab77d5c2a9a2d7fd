"""`embeddings`: one vector per chunk, as a fixed-size list, so that any Parquet reader can use it.

Vectors that a model was paid for have a column with what they cost, so that reusing them changes no candidate.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ai_assets.embedder import RouteEmbedder
from ai_assets.stages.embed import Embedder, embed_chunks
from ai_assets.work import Outcome, Work
from resources.digest import Json

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
    known, known_usd = _known(work, partition)
    document_ids: list[str] = rows["document_id"].to_pylist()
    changed = {document for document, text in zip(document_ids, digests, strict=True) if text not in known}
    documents = len(set(document_ids))
    embedder: Embedder = work.embedder("embeddings", partition)
    if isinstance(embedder, RouteEmbedder):
        embedder = replace(
            embedder,
            document_of=dict(zip(rows["text"].to_pylist(), document_ids, strict=True)).__getitem__,
            advance=lambda done: work.advance("embeddings", partition, documents * done // len(texts), documents),
        )
    embedded = embed_chunks(texts, known, embedder)
    table = rows.select(["chunk_id", "document_id", "text_digest"]).append_column(
        "vector", _vectors(embedded.vectors, digests, embedder.dimensions)
    )
    stats: dict[str, Json] = {}
    from_ledger, cost_usd = 0, 0.0
    if isinstance(embedder, RouteEmbedder):
        costs = {name: known_usd.get(name, embedder.paid_usd.get(text, 0.0)) for name, text in texts.items()}
        table = table.append_column("cost_usd", _numbers([costs[name] for name in digests]))
        spent = work.spent("embeddings", partition)
        from_ledger, cost_usd = embedder.reused, spent["cost_usd"]
        stats = {"paid_usd": round(math.fsum(costs.values()), 9), "spend": spent}
    work.advance("embeddings", partition, documents, documents)
    outcome = work.commit(
        "embeddings",
        partition,
        table,
        inputs,
        started=started,
        documents_in=documents,
        documents_out=documents,
        reused=documents - len(changed),
        quarantined=0,
        preview=[
            {"chunk_id": chunk, "document_id": document, "model": embedder.name}
            for chunk, document in zip(rows["chunk_id"][:5].to_pylist(), document_ids[:5], strict=True)
        ],
        texts_embedded=embedded.embedded - from_ledger,
        texts_reused=embedded.reused + from_ledger,
        model=embedder.name,
        embedding=asdict(work.collection.embedding),
        **stats,
    )
    return replace(outcome, cost_usd=cost_usd)


def _known(work: Work, partition: str) -> "tuple[dict[str, np.ndarray], dict[str, float]]":
    """Vectors this partition has already, and what they cost, by the digest of their text."""
    previous = work.previous("embeddings", partition)
    if not previous or previous.code_version != work.collection.code_versions["embeddings"] or not previous.rows:
        return {}, {}
    table = work.read(previous).combine_chunks()
    digests = table["text_digest"].to_pylist()
    costs = table["cost_usd"].to_pylist() if "cost_usd" in table.column_names else []
    return dict(zip(digests, vectors_of(table), strict=True)), dict(zip(digests, costs, strict=bool(costs)))


def vectors_of(table: Any) -> "np.ndarray":
    """The vector column as a matrix, one row per table row."""
    import numpy as np

    column = table.combine_chunks()["vector"]
    if table.num_rows == 0:
        return np.zeros((0, column.type.list_size), dtype=np.float32)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return np.asarray(array.flatten(), dtype=np.float32).reshape(table.num_rows, -1)


def _numbers(values: list[float]) -> Any:
    import pyarrow as pa

    return pa.array(values, type=pa.float64())


def _vectors(vectors: "Mapping[str, np.ndarray]", digests: list[str], dimensions: int) -> Any:
    import numpy as np
    import pyarrow as pa

    flat = np.concatenate([vectors[text] for text in digests]) if digests else np.zeros(0, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, type=pa.float32()), dimensions)
