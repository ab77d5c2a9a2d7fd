"""`embeddings`: one vector per chunk, as a fixed-size list, so that any Parquet reader can use it.

Vectors that a model was paid for have a column with what they cost, so that reusing them changes no candidate.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import TYPE_CHECKING

from ai_assets.datasets.text_vectors import TextVectors, digests_in, vectors_in
from ai_assets.embedder import Passage, RouteEmbedder
from ai_assets.stages.embed import Embedder
from ai_assets.work import PREVIEW_ROWS, Outcome, Work
from resources.digest import Json
from resources.lake import Manifest
from resources.spool import Spool, digests_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BLOCK = 500
"""So many texts are embedded at a time where that happens here."""
NAMES = ("chunk_id", "document_id", "text_digest")


def build(work: Work, partition: str) -> Outcome:
    """Embed the texts that have no vector yet; the same text is embedded once, whatever holds it."""
    started = time.perf_counter()
    chunks = work.input("embeddings", partition, "chunks")
    inputs = {"chunks": chunks.version}
    if same := work.unchanged("embeddings", partition, inputs):
        return same
    embedder: Embedder = work.embedder("embeddings", partition)
    with work.spool("embeddings", partition) as spool:
        vectors = _known(work, partition, chunks, spool, embedder.dimensions)
        documents = _Documents()
        for batch in work.stores.lake.batches(chunks, NAMES):
            documents.see(batch, vectors)
        already = int(vectors.known.sum())
        if isinstance(embedder, RouteEmbedder):
            embedder = _ask(work, partition, chunks, vectors, embedder, documents.all)
        else:
            _embed(work, chunks, vectors, embedder)
        work.advance("embeddings", partition, documents.all, documents.all)
        stats: dict[str, Json] = {}
        from_ledger, cost_usd = 0, 0.0
        if isinstance(embedder, RouteEmbedder):
            spent = work.spent("embeddings", partition)
            from_ledger, cost_usd = embedder.reused, spent["cost_usd"]
            stats = {"paid_usd": round(math.fsum(vectors.paid_usd), 9), "spend": spent}
        schema = _schema(embedder.dimensions, paid=isinstance(embedder, RouteEmbedder))
        with work.writing("embeddings", partition, schema) as out:
            for batch in work.stores.lake.batches(chunks, NAMES):
                out.extend(_with_vectors(batch, vectors, schema))
    outcome = work.commit(
        "embeddings",
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=documents.all,
        documents_out=documents.all,
        reused=documents.all - documents.changed,
        quarantined=0,
        preview=[{**row, "model": embedder.name} for row in documents.preview],
        texts_embedded=len(vectors) - already - from_ledger,
        texts_reused=already + from_ledger,
        model=embedder.name,
        embedding=asdict(work.collection.embedding),
        **stats,
    )
    return replace(outcome, cost_usd=cost_usd)


class _Documents:
    """How many there are, counted as their chunks go by, and of how many a text has no vector yet."""

    def __init__(self) -> None:
        self.all = self.changed = 0
        self.preview: list[dict[str, str]] = []
        self._last: str | None = None
        self._last_changed = False

    def see(self, batch: "pa.RecordBatch", vectors: TextVectors) -> None:
        names: list[str] = batch["document_id"].to_pylist()
        for name, known in zip(names, vectors.known[vectors.numbers(digests_in(batch))].tolist(), strict=True):
            if name != self._last:
                self.all, self._last, self._last_changed = self.all + 1, name, False
            if not known and not self._last_changed:
                self.changed, self._last_changed = self.changed + 1, True
        if len(self.preview) < PREVIEW_ROWS:
            room = PREVIEW_ROWS - len(self.preview)
            self.preview += batch.select(["chunk_id", "document_id"]).slice(0, room).to_pylist()


def _known(work: Work, partition: str, chunks: Manifest, spool: Spool, dimensions: int) -> TextVectors:
    """The texts of the partition, with the vectors that it has already and what they cost."""
    digests = bytearray()
    for batch in work.stores.lake.batches(chunks, ["text_digest"]):
        digests += digests_in(batch).tobytes()
    vectors = TextVectors(spool, digests_of(digests), dimensions)
    previous = work.previous("embeddings", partition)
    if previous and previous.code_version == work.collection.code_versions["embeddings"]:
        for batch in work.stores.lake.batches(previous):
            usd = batch["cost_usd"].to_numpy(zero_copy_only=False) if "cost_usd" in batch.schema.names else None
            vectors.take_over(digests_in(batch), vectors_in(batch), usd)
    return vectors


def _missing(work: Work, chunks: Manifest, vectors: TextVectors) -> Iterator[tuple[int, Passage]]:
    """Each text without a vector, once, with the first document that has it."""
    for batch in work.stores.lake.batches(chunks, ["document_id", "text_digest", "text"]):
        columns = (batch[name].to_pylist() for name in ("document_id", "text"))
        for number, document, text in zip(vectors.numbers(digests_in(batch)), *columns, strict=True):
            if vectors.ask_for(number):
                yield number, Passage(document, text)


def _embed(work: Work, chunks: Manifest, vectors: TextVectors, embedder: Embedder) -> None:
    missing = _missing(work, chunks, vectors)
    while block := list(islice(missing, BLOCK)):
        rows = embedder.embed([passage.text for _, passage in block])
        for (number, _), vector in zip(block, rows, strict=True):
            vectors.put(number, vector)


def _ask(
    work: Work, partition: str, chunks: Manifest, vectors: TextVectors, embedder: RouteEmbedder, documents: int
) -> RouteEmbedder:
    embedder = replace(
        embedder,
        advance=lambda done: work.advance("embeddings", partition, documents * done // len(vectors), documents),
    )
    asked: list[int] = []

    def passages() -> Iterator[Passage]:
        for number, passage in _missing(work, chunks, vectors):
            asked.append(number)
            yield passage

    def take(place: int, vector: "np.ndarray", paid_usd: float) -> None:
        vectors.put(asked[place], vector, paid_usd)

    embedder.embed_each(passages(), take)
    return embedder


def _schema(dimensions: int, *, paid: bool) -> "pa.Schema":
    import pyarrow as pa

    fields = [*((name, pa.string()) for name in NAMES), ("vector", pa.list_(pa.float32(), dimensions))]
    return pa.schema([*fields, ("cost_usd", pa.float64())] if paid else fields)


def _with_vectors(batch: "pa.RecordBatch", vectors: TextVectors, schema: "pa.Schema") -> "pa.RecordBatch":
    import pyarrow as pa

    numbers = vectors.numbers(digests_in(batch))
    columns = [*(batch[name] for name in NAMES), vectors.column(numbers)]
    if "cost_usd" in schema.names:
        columns.append(vectors.usd(numbers))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
