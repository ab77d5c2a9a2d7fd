"""`embeddings`: one vector per chunk, as a fixed-size list, so that any Parquet reader can use it.

Vectors that a model was paid for have a column with what they cost, so that reusing them changes no candidate. A
document of which the model does not embed some text is *without vectors*: none of its chunks has one, and a column says
why. That column is there only where a partition has such documents.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.collection.settings import place_of
from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.embedding.on_device import DeviceEmbedder
from ai_assets.embedding.own import OwnEmbedder
from ai_assets.embedding.route import EmbeddingRefusal, Passage, RouteEmbedder
from ai_assets.embedding.spec import WITHOUT
from ai_assets.embedding.text_vectors import TextVectors, digests_in, vectors_in
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.inference.prices import usd_of
from ai_assets.local_models.errors import DeviceClosed
from ai_assets.run.context import PREVIEW_ROWS, Outcome, Work
from ai_assets.run.datasets import unfinished, unfinished_vectors
from ai_assets.run.datasets.passages import Passages
from ai_assets.run.deadlines import asking_of
from ai_assets.run.errors import TooManyWithoutVectors
from ai_assets.storage.arrow_columns import column
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.lake import Manifest
from ai_assets.storage.spool import Spool, digests_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

MAKER = "maker"
"""Among the statistics of an embedding of some texts: what made its vectors."""
NAMES = ("chunk_id", "document_id", "text_digest")


def build(work: Work, partition: str, each: DeclaredEmbedding) -> Outcome:
    """Embed the texts that have no vector yet; the same text is embedded once, whatever holds it."""
    started, asset = time.perf_counter(), each.asset
    chunks = work.input(asset, partition, "chunks")
    inputs = {"chunks": chunks.version}
    if same := settled(work, partition, asset, inputs):
        return same
    embedder = work.embedder(asset, partition, each.embedding)
    passages = Passages(work, chunks, each.embedding.of)
    with work.spool(asset, partition) as spool:
        vectors = _known(work, partition, each, passages, spool)
        documents = _Documents()
        for batch in passages.batches(NAMES):
            documents.see(batch, vectors)
        already = int(vectors.known.sum())
        if isinstance(embedder, RouteEmbedder):
            calls, by_batch = len(vectors) - already, each.settings.tier == "batch"
            asking = asking_of(work, asset, each.settings.route, calls, by_batch=by_batch, asks_for="embedding")
            embedder = replace(embedder, hours=each.settings.hours, asking=asking)
            embedder, documents = _ask(work, partition, asset, passages, vectors, embedder, documents)
        else:
            _embed_in_hours(work, partition, each, passages, vectors, embedder)
        work.advance(asset, partition, documents.all, documents.all, documents.all - documents.changed)
        without = _without(work, partition, asset, passages, vectors) if vectors.refused else {}
        _refuse_too_many(work, partition, each, without, documents.all)
        stats: dict[str, Json] = _told(without)
        if each.embedding.of:
            stats[MAKER] = _maker(each)
        from_ledger, cost_usd = 0, 0.0
        if isinstance(embedder, RouteEmbedder):
            spent = work.spent(asset, partition)
            from_ledger, cost_usd = len(embedder.from_ledger), spent["cost_usd"]
            stats |= {"paid_usd": round(math.fsum(vectors.paid_usd), 9), "spend": spent}
        elif isinstance(embedder, DeviceEmbedder):
            cost_usd = usd_of(embedder.cost_nusd)
            stats |= {"device": embedder.placement.device, "device_s": round(embedder.device_s, 3)}
            stats |= {"device_usd": cost_usd}
        schema = _schema(embedder.dimensions, paid=isinstance(embedder, RouteEmbedder), holes=bool(without))
        with work.writing(asset, partition, schema) as out:
            for batch in passages.batches(NAMES):
                out.extend(_with_vectors(batch, vectors, without, schema))
    outcome = work.commit(
        asset,
        partition,
        out.path,
        inputs,
        started=started,
        documents_in=documents.all,
        documents_out=documents.all,
        reused=documents.all - documents.changed,
        quarantined=0,
        preview=[{**row, "model": embedder.name} for row in documents.preview],
        texts_embedded=len(vectors) - already - from_ledger - len(vectors.refused),
        texts_reused=already + from_ledger,
        model=embedder.name,
        embedding=each.embedding.recorded(),
        **stats,
    )
    unfinished.drop(work, asset, partition)
    return replace(outcome, cost_usd=cost_usd)


def settled(work: Work, partition: str, asset: str, inputs: Mapping[str, str]) -> Outcome | None:
    """The dataset, where a run would leave it as it is: each run asks again for vectors that are missing."""
    same = work.unchanged(asset, partition, inputs)
    return same if same and not without_vectors(same.manifest) else None


def without_vectors(manifest: Manifest) -> int:
    """How many documents the dataset has that are without vectors."""
    return int(manifest.stats.get(WITHOUT, 0))


class _Documents:
    """How many there are, counted as their chunks go by, and of how many a text has no vector yet.

    `bought` are the texts that have one now and were paid for; without it, those that had none before are without."""

    def __init__(self, bought: "np.ndarray | None" = None) -> None:
        self._bought = bought
        self.all = self.changed = 0
        self.preview: list[dict[str, str]] = []
        self._last: str | None = None
        self._last_changed = False

    def see(self, batch: "pa.RecordBatch", vectors: TextVectors) -> None:
        names: list[str] = batch["document_id"].to_pylist()
        there = vectors.known if self._bought is None else ~self._bought
        for name, known in zip(names, there[vectors.numbers(digests_in(batch))].tolist(), strict=True):
            if name != self._last:
                self.all, self._last, self._last_changed = self.all + 1, name, False
            if not known and not self._last_changed:
                self.changed, self._last_changed = self.changed + 1, True
        if len(self.preview) < PREVIEW_ROWS:
            room = PREVIEW_ROWS - len(self.preview)
            self.preview += batch.select(["chunk_id", "document_id"]).slice(0, room).to_pylist()


def vectors_before(work: Work, partition: str, each: DeclaredEmbedding) -> Manifest | None:
    """The dataset that its vectors can be taken over from: the same maker made them, if of other texts."""
    previous = work.previous(each.asset, partition)
    if previous is None or previous.stats.get(MAKER, previous.code_version) != _maker(each):
        return None
    return previous


def _maker(each: DeclaredEmbedding) -> str:
    """As the code version of an embedding of all passages."""
    return digest(each.maker)[:16]


def _known(work: Work, partition: str, each: DeclaredEmbedding, passages: Passages, spool: Spool) -> TextVectors:
    """The texts of the partition, with the vectors that it has already and what they cost."""
    digests = bytearray()
    for batch in passages.batches(["text_digest"]):
        digests += digests_in(batch).tobytes()
    vectors = TextVectors(spool, digests_of(digests), each.embedding.dimensions)
    if (previous := vectors_before(work, partition, each)) is not None:
        for batch in work.stores.lake.batches(previous):
            usd = batch["cost_usd"].to_numpy(zero_copy_only=False) if "cost_usd" in batch.schema.names else None
            vectors.take_over(digests_in(batch), vectors_in(batch), usd)
    if each.settings.is_local:
        unfinished_vectors.take_over(work, each.asset, partition, _maker(each), vectors)
    return vectors


def _missing(passages: Passages, vectors: TextVectors) -> Iterator[tuple[int, Passage]]:
    """Each text without a vector, once, with the first document that has it."""
    for batch in passages.batches(["document_id", "text_digest", "text"]):
        columns = (batch[name].to_pylist() for name in ("document_id", "text"))
        for number, document, text in zip(vectors.numbers(digests_in(batch)), *columns, strict=True):
            if vectors.ask_for(number):
                yield number, Passage(document, text)


def _embed_in_hours(
    work: Work,
    partition: str,
    each: DeclaredEmbedding,
    passages: Passages,
    vectors: TextVectors,
    embedder: BuiltinEmbedder | OwnEmbedder | DeviceEmbedder,
) -> None:
    """Where the window of the device closes, what was computed until then is kept for the run that goes on."""
    if isinstance(embedder, DeviceEmbedder):
        embedder.hours = each.settings.hours
    before = len(vectors.there())
    try:
        _embed(work, passages, vectors, embedder)
    except DeviceClosed as closed:
        if len(vectors.there()) > before:
            unfinished_vectors.keep(work, each.asset, partition, _maker(each), vectors, embedder.dimensions)
        left = {
            name
            for batch in passages.batches(NAMES)
            for name, lacking in zip(
                batch["document_id"].to_pylist(), vectors.lacks(vectors.numbers(digests_in(batch))), strict=True
            )
            if lacking
        }
        raise WaitingForWindow(
            each.asset, partition, opens=closed.opens, moment=closed.moment, documents=len(left)
        ) from None


def _embed(
    work: Work, passages: Passages, vectors: TextVectors, embedder: BuiltinEmbedder | OwnEmbedder | DeviceEmbedder
) -> None:
    missing = _missing(passages, vectors)
    while block := list(islice(missing, work.at_once(embedder.texts_at_once))):
        texts = [passage.text for _, passage in block]
        if isinstance(embedder, BuiltinEmbedder):
            asked = work.texts.vectors(texts)
            with work.waiting():
                rows = asked.result()
        elif isinstance(embedder, DeviceEmbedder):
            rows = embedder.embed(texts, [passage.document for _, passage in block])
        else:
            rows = embedder.embed(texts)
        for (number, _), vector in zip(block, rows, strict=True):
            vectors.put(number, vector)


def _ask(
    work: Work,
    partition: str,
    asset: str,
    passages: Passages,
    vectors: TextVectors,
    embedder: RouteEmbedder,
    documents: _Documents,
) -> tuple[RouteEmbedder, _Documents]:
    """Of a text that the model does not embed, the reason is noted; what concerns other texts too is raised.

    The documents are counted again where vectors came from the ledger: nothing was paid for those.
    """

    def advance(done: int) -> None:
        made = documents.changed * done // max(1, len(vectors) - already)
        kept = documents.all - documents.changed
        work.advance(asset, partition, kept + made, documents.all, kept)

    already = int(vectors.known.sum())
    advance(0)

    asked: list[int] = []

    def missing() -> Iterator[Passage]:
        for number, passage in _missing(passages, vectors):
            asked.append(number)
            yield passage

    def take(place: int, vector: "np.ndarray | EmbeddingRefusal", paid_usd: float) -> None:
        if isinstance(vector, EmbeddingRefusal):
            vectors.refuse(asked[place], str(vector))
        else:
            vectors.put(asked[place], vector, paid_usd)

    asking = replace(embedder, advance=advance, has_vectors=bool(vectors.known.any()))
    asking.embed_each(missing(), take)
    if not asking.from_ledger:
        return asking, documents
    bought = ~vectors.known
    for place in asking.from_ledger:
        bought[asked[place]] = False
    counted = _Documents(bought)
    for batch in passages.batches(NAMES):
        counted.see(batch, vectors)
    return asking, counted


# Documents without vectors


def _without(work: Work, partition: str, asset: str, passages: Passages, vectors: TextVectors) -> dict[str, str]:
    """The documents that hold a text which the model does not embed, and why, in order.

    Where it refuses again what it refused before, the reason stays: some messages name the request, and nobody shall
    sign anew for that.
    """
    found: dict[str, str] = {}
    for batch in passages.batches(NAMES):
        names: list[str] = batch["document_id"].to_pylist()
        for name, number in zip(names, vectors.numbers(digests_in(batch)).tolist(), strict=True):
            if number in vectors.refused:
                found.setdefault(name, vectors.refused[number])
    previous = work.previous(asset, partition)
    before = reasons_of(work, previous) if previous is not None else {}
    return {
        name: before[name] if name in before and _kind(before[name]) == _kind(reason) else reason
        for name, reason in found.items()
    }


def _kind(reason: str) -> str:
    return reason.partition(":")[0]


def reasons_of(work: Work, manifest: Manifest) -> dict[str, str]:
    """By document without vectors, why. As many as are allowed at most."""
    if not without_vectors(manifest):
        return {}
    rows = work.rows(manifest, ["document_id", WITHOUT])
    return {row["document_id"]: row[WITHOUT] for row in rows if row[WITHOUT] is not None}


def _refuse_too_many(
    work: Work, partition: str, each: DeclaredEmbedding, without: Mapping[str, str], documents: int
) -> None:
    share = each.settings.without_vectors_at_most
    allowed = max(1, math.floor(share * documents)) if share else 0
    if len(without) > allowed:
        raise TooManyWithoutVectors(
            work.collection.name,
            partition,
            without,
            documents=documents,
            allowed=allowed,
            share=share,
            declared=f"{'.'.join(place_of(each.name))}.without_vectors_at_most",
        )


def _told(without: Mapping[str, str]) -> dict[str, Json]:
    if not without:
        return {}
    first = islice(without.items(), PREVIEW_ROWS)
    return {WITHOUT: len(without), "why_without": [{"document_id": name, "reason": why} for name, why in first]}


# Rows


def _schema(dimensions: int, *, paid: bool, holes: bool) -> "pa.Schema":
    import pyarrow as pa

    fields = [*((name, pa.string()) for name in NAMES), ("vector", pa.list_(pa.float32(), dimensions))]
    fields += [("cost_usd", pa.float64())] if paid else []
    return pa.schema([*fields, (WITHOUT, pa.string())] if holes else fields)


def _with_vectors(
    batch: "pa.RecordBatch", vectors: TextVectors, without: Mapping[str, str], schema: "pa.Schema"
) -> "pa.RecordBatch":
    import numpy as np
    import pyarrow as pa

    numbers = vectors.numbers(digests_in(batch))
    reasons = [without.get(name) for name in batch["document_id"].to_pylist()] if without else []
    left_out = np.array([reason is not None for reason in reasons] or [False] * len(numbers), dtype=bool)
    columns = [*(batch[name] for name in NAMES), vectors.column(numbers, left_out)]
    if "cost_usd" in schema.names:
        columns.append(vectors.usd(numbers))
    if WITHOUT in schema.names:
        columns.append(column(reasons, pa.string()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
