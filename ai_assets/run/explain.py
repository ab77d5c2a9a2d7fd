"""Questions to the live release: which documents answer a query, and where one document comes from."""

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from ai_assets.base.errors import DatasetDamaged
from ai_assets.collection.loading import Collection
from ai_assets.collection.reranking import RERANKED
from ai_assets.documents.passages import STRUCTURE
from ai_assets.documents.places import TextPlaces
from ai_assets.embedding.spec import FIRST, WITHOUT, vector_column
from ai_assets.inference.ways import way_of
from ai_assets.run.context import Work
from ai_assets.run.datasets.documents import PAGES, READ_BY, SHOWN
from ai_assets.run.errors import EmbeddingUnknown
from ai_assets.run.places import places_or_why, rows_of
from ai_assets.run.release_columns import places_of_hits
from ai_assets.run.reranking import reranked
from ai_assets.run.reranking_models import SEARCH
from ai_assets.signoff import releases, requests, served
from ai_assets.signoff.errors import DocumentUnknown, IndexLost
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.held_status import held_status
from ai_assets.signoff.holds import decisions_of
from ai_assets.signoff.releases import Release
from ai_assets.stages.base import StageSettings
from ai_assets.stages.evidence import found_evidence, parsed_json
from ai_assets.storage.index import IndexUnavailable, SearchIndex
from ai_assets.storage.lake import parquet_columns, read_batches, read_rows
from ai_assets.storage.ranking import Hit
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    import pyarrow as pa

_Answer = TypeVar("_Answer")


def search(
    collection: Collection, stores: Stores, text: str, k: int, embedding: str = FIRST
) -> tuple[Release, list[Hit]]:
    """The best documents of the live release, full text and vectors together; `embedding` names another than the first.

    Refused where the release or its index is not what was published. The text is embedded as the release was, whatever
    the collection declares by now. On a route that is a call, and for a text that was searched for before an answer
    from the ledger. Where another release becomes live meanwhile and retention removes this one's index, the other one
    answers.
    """

    def found(live: Release) -> tuple[Release, list[Hit]]:
        return live, placed(stores, live, _hits(collection, stores, live, text, k, embedding))

    return of_live(stores, collection.name, found)


def of_live(stores: Stores, collection: str, ask: Callable[[Release], _Answer]) -> _Answer:
    """What the live release answers, or the one that became live meanwhile where this one's index or files went."""
    while True:
        live = served.newest_live(stores, collection)
        try:
            return ask(live)
        except (IndexUnavailable, IndexLost, DatasetDamaged):
            if served.newest_live(stores, collection) == live:
                raise


def _hits(collection: Collection, stores: Stores, live: Release, text: str, k: int, embedding: str) -> list[Hit]:
    if not text.strip():
        return []
    known = live.embeddings
    if embedding not in (known or collection.spaces):
        raise EmbeddingUnknown(collection.name, live.number, embedding, [name for name in known if name != FIRST])
    index = served.require_index(stores, live)
    if not known:
        return []  # it has no passages
    made_by = known[embedding]
    with Work(collection, stores, run_id="") as work:
        vector = work.embedder(SEARCH, "", made_by).embed_queries([text])[0]
        return _found(work, index, live, (text, vector), k, embedding)


def _found(
    work: Work,
    index: SearchIndex,
    release: Release,
    question: tuple[str, Any],
    k: int,
    embedding: str,
    *,
    reranks: bool = True,
) -> list[Hit]:
    """The best documents, searched as the release was judged: by its rules and weights, and with its reranker."""
    (text, vector), by = question, release.searched_by
    reranker = by.reranker if reranks else None
    hits = index.search(
        release.index_version,
        vector,
        text,
        k if reranker is None else max(k, RERANKED),
        column=vector_column(embedding),
        of=release.embeddings[embedding].of,
        rules=by.rules(embedding),
    )
    return hits if reranker is None else reranked(work, SEARCH, [(text, hits)], reranker)[0][:k]


def placed(stores: Stores, release: Release, hits: Sequence[Hit]) -> list[Hit]:
    """With the page and the headings of each passage, where the release was frozen with them."""
    places = places_of_hits(stores, release, hits)
    return [replace(hit, **place) for hit, place in zip(hits, places, strict=True)]


@dataclass(frozen=True, kw_only=True)
class ReleaseHits:
    hits: Sequence[Hit]
    by_words: bool
    """Vectors were not compared: a model would have to be asked about the question, and paid."""
    reranker_left_out: bool = False
    """For the same reason."""


def search_release(
    collection: Collection, stores: Stores, release: Release, text: str, k: int, among: "pa.Array | None" = None
) -> ReleaseHits:
    """The best documents of any release whose index is kept, at no cost: by words alone where a question costs a call.

    `among`: only these documents, in the order in which all are ranked without a reranker. Raises `IndexLost` or
    `IndexAltered` where its index is not there any more as it was published.
    """
    index, made_by = served.require_index(stores, release), release.embeddings.get(FIRST)
    if not text.strip() or made_by is None:
        return ReleaseHits(hits=[], by_words=False)
    if made_by.version is None:
        if among is not None:
            hits = index.search_among(release.index_version, None, text, k, among, of=made_by.of)
        else:
            hits = index.search(release.index_version, None, text, k, mode="text", of=made_by.of)
        return ReleaseHits(hits=hits, by_words=True)
    reranker = release.searched_by.reranker
    calls = reranker is not None and reranker.backend == "route"
    with Work(collection, stores, run_id="") as work:
        vector = work.embedder(SEARCH, "", made_by).embed_queries([text])[0]
        if among is not None:
            rules, version = release.searched_by.rules(FIRST), release.index_version
            hits = index.search_among(version, vector, text, k, among, of=made_by.of, rules=rules)
        else:
            hits = _found(work, index, release, (text, vector), k, FIRST, reranks=not calls)
    return ReleaseHits(hits=hits, by_words=False, reranker_left_out=calls)


def without_vectors(stores: Stores, release: Release, hits: Sequence[Hit]) -> dict[str, str]:
    """Of the documents found, those that only their words can find, and why."""
    found: dict[str, str] = {}
    for partition in {hit.partition for hit in hits}:
        path, _ = snapshot_paths(stores.lake, release.collection, partition, release.parts[partition])
        if WITHOUT in parquet_columns(path):
            names = {hit.document_id for hit in hits if hit.partition == partition}
            rows = read_rows(path, ["document_id", WITHOUT])
            found |= {row["document_id"]: row[WITHOUT] for row in rows if row["document_id"] in names and row[WITHOUT]}
    return found


def explain(collection: Collection, stores: Stores, document: str) -> dict[str, Any]:
    """Bytes, versions, labels, release and signature of one document, and its history."""
    with stores.state.read() as connection:
        history = [
            dict(row)
            for row in connection.execute(
                sa.text(
                    "SELECT happened_at, event, digest, reason, partition, run_id FROM document_history "
                    "WHERE collection = :c AND document_id = :d ORDER BY happened_at"
                ),
                {"c": collection.name, "d": document},
            ).mappings()
        ]
        if not history:
            raise DocumentUnknown(collection.name, document, hint(connection, collection.name, document))
        live = releases.live(connection, collection.name)
        partition = _partition_of(history)
        request = requests.latest_of(connection, collection.name, partition)
        waiting = held_status(connection, collection, partition=partition).items
        held = [item.plain for item in waiting if item.held.document_id == document]
        decided = [vars(each) for each in decisions_of(connection, collection.name).every
                   if each.document_id == document]  # fmt: skip
    found: dict[str, Any] = {"collection": collection.name, "document": document, "partition": partition}
    found["current"] = _current(collection, stores, partition, document)
    found |= {"held": held} if held else {}
    found |= {"hold_decisions": decided} if decided else {}
    found["request"] = {"status": request.status, "digest": request.digest} if request else None
    found["live"] = _live(collection, stores, live, partition, document)
    found["history"] = history
    return found


def _partition_of(history: list[dict[str, Any]]) -> str:
    """Where the document is now: a row that moved may be added to one partition before the other deletes it."""
    last = {event["partition"]: event["event"] for event in history}
    present = [event["partition"] for event in history if last[event["partition"]] != "deleted"]
    found: str = (present or [history[-1]["partition"]])[-1]
    return found


def _current(collection: Collection, stores: Stores, partition: str, document: str) -> dict[str, Any] | None:
    """The document as last computed, published or not."""
    manifest = stores.lake.manifest(collection.name, "documents", partition)
    row = _row(stores.lake.batches(manifest), document) if manifest else None
    if row is None or manifest is None:
        return None
    names = ("status", "reason", "duplicate_of", "source_digest", "digest", "title", "language")
    found: dict[str, Any] = {name: row[name] for name in names}
    found |= {name: row[name] for name in SHOWN if row.get(name) is not None}
    found[READ_BY] = row.get(READ_BY)
    found[PAGES] = len(json.loads(row[PAGES])) if row.get(PAGES) else None
    found["passages"] = _passages(collection, stores, partition, document)
    chunks = stores.lake.manifest(collection.name, "chunks", partition)
    there = stores.lake.path(chunks) if chunks is not None else None
    places, _ = places_or_why(stores.lake, collection.name, partition, row, there)
    found["parsed_by"] = manifest.code_version
    found["run"] = manifest.run_id
    for each in collection.embeddings:
        vectors = stores.lake.manifest(collection.name, each.asset, partition)
        if vectors is not None and WITHOUT in vectors.stats:
            embedded = _row(stores.lake.batches(vectors, ["document_id", WITHOUT]), document)
            name = WITHOUT if each.name == FIRST else f"{WITHOUT} {each.name}"
            found[name] = embedded[WITHOUT] if embedded else None
    for stage in collection.stages:
        made = stores.lake.manifest(collection.name, stage.name, partition)
        answer = _row(stores.lake.batches(made), document) if made else None
        if answer and made:
            for name in stage.columns.explained:
                found[f"{stage.name}.{name}"] = answer.get(name)
            columns = {f"{stage.name}_{name}": value for name, value in answer.items()}
            if evidence := _evidence(stage, row["text"], columns, places):
                found[f"{stage.name}.evidence_at"] = evidence
            found[f"{stage.name}.code_version"] = made.code_version
            if chosen := _way(stores, answer.get("call")):
                found[f"{stage.name}.asked"] = chosen
    return found


def _way(stores: Stores, call: str | None) -> str | None:
    """How its call was asked and why, where the stage has a deadline."""
    if call is None:
        return None
    with stores.state.read() as connection:
        chosen = way_of(connection, call)
    return None if chosen is None else f"by {chosen.said}"


def _evidence(
    stage: StageSettings, text: str | None, row: Mapping[str, Any], places: TextPlaces
) -> list[dict[str, Any]]:
    """Its evidence with where each quote stands, as the desk shows it; `row` has the columns of a frozen document."""
    headline = row.get(f"{stage.name}_{stage.columns.headline}")
    quotes = found_evidence(text or "", row, stage.name, parsed_json(headline))
    return [{"text": quote.text, **vars(places.of(quote.start, quote.end))} for quote in quotes]


def _passages(collection: Collection, stores: Stores, partition: str, document: str) -> list[dict[str, Any]] | None:
    """Where each passage stands: in the text, and where that is known on which page and under which headings."""
    manifest = stores.lake.manifest(collection.name, "chunks", partition)
    if manifest is None:
        return None
    there = set(parquet_columns(stores.lake.path(manifest)))
    names = ["document_id", "chunk_id", "start", "end", *(name for name in STRUCTURE if name in there)]
    found: list[dict[str, Any]] = []
    for batch in stores.lake.batches(manifest, names):
        found += [{name: row[name] for name in names[1:]} for row in rows_of(batch, document)]
    return found


def _live(
    collection: Collection, stores: Stores, live: Release | None, partition: str, document: str
) -> dict[str, Any] | None:
    """The document as readers see it."""
    part = live.parts.get(partition) if live else None
    if live is None or part is None:
        return None
    documents, chunks = snapshot_paths(stores.lake, collection.name, partition, part)
    row = _row(read_batches(documents), document)
    if row is None:
        return None
    places, _ = places_or_why(stores.lake, collection.name, partition, row, chunks)
    evidence = {stage.name: _evidence(stage, row["text"], row, places) for stage in collection.stages}
    return {
        "release": live.number,
        "candidate": part.digest,
        "approved_by": ", ".join(part.approved_by),
        "request": part.request_id,
        "run": part.run_id,
        "source_digest": row["source_digest"],
        **({WITHOUT: row[WITHOUT]} if row.get(WITHOUT) else {}),
        **{stage.name: row.get(f"{stage.name}_{stage.columns.headline}") for stage in collection.stages},
        **{f"{name}.evidence_at": found for name, found in evidence.items() if found},
    }


def _row(batches: Iterable[Any], document: str) -> dict[str, Any] | None:
    for batch in batches:
        if rows := rows_of(batch, document):
            return rows[0]
    return None


def hint(connection: sa.Connection, collection: str, document: str) -> str:
    """The end of the sentence that there is no such document."""
    query = sa.text("SELECT DISTINCT document_id FROM document_history WHERE collection = :c LIMIT 100000")
    known: list[str] = list(connection.execute(query, {"c": collection}).scalars())
    if not known:
        return "; nothing has been computed yet (ai-assets run)."
    ending = [name for name in known if name.rsplit("/", 1)[-1] == document]
    close = ending[:1] or difflib.get_close_matches(document, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else "."
