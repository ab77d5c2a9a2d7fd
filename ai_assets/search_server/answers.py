"""What is asked of the live release, and what the answer says of each document: the same over HTTP and over MCP."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Self

from pydantic import BaseModel, Field

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.provenance_query import provenance_seen
from ai_assets.run import explain, release_columns, released
from ai_assets.search_server.errors import FilterUnknown
from ai_assets.signoff import releases, served
from ai_assets.signoff.candidate import HIDDEN
from ai_assets.signoff.errors import DocumentUnknown
from ai_assets.signoff.people import Person
from ai_assets.signoff.releases import Release
from ai_assets.storage.ranking import Hit

MOST = 100
_FIRST = 50
"""So many of the best are held against a filter before those that pass it are ranked by themselves."""


class SearchHit(BaseModel):
    document_id: str
    partition: str
    title: str
    text: str = Field(description="The passage that matched best.")
    chunk_id: str
    score: float = Field(description="Higher is better; comparable within one answer only.")
    page: int | None = None
    headings: str | None = None
    labels: dict[str, str | None] = Field(description="By stage, what it says of the document, in short.")
    signed_by: list[str] = Field(description="Who approved it.")


class SearchAnswer(BaseModel):
    collection: str
    release: int
    digest: str = Field(description="Of the release: what its approvals add up to.")
    by_words: bool = Field(description="Vectors were not compared: the question would have been a paid call.")
    hits: list[SearchHit]


class LiveDocument(BaseModel):
    collection: str
    release: int
    partition: str
    signed_by: list[str]
    request: str
    document: dict[str, Any] = Field(description="Its row, with what each stage made of it and by which call.")


class SearchedCollection(BaseModel):
    name: str
    release: int
    documents: int
    published_at: str
    stages: list[str]


class SearchRequest(BaseModel):
    text: str
    k: int = Field(5, ge=1, le=MOST)
    labels: dict[str, str] = Field(default_factory=dict, description="By stage, what it must say.")
    partitions: list[str] = Field(default_factory=list, description="Only of these; of all if empty.")

    @classmethod
    def of(cls, text: str, k: int, labels: Sequence[str], partitions: Sequence[str]) -> Self:
        """As an address writes it: `kind:invoice`."""
        pairs = {stage: value for stage, _, value in (each.partition(":") for each in labels)}
        return cls(text=text, k=k, labels=pairs, partitions=list(partitions))


def collections_of(desk: Desk, person: Person) -> list[SearchedCollection]:
    """Those that the person may see and that have a release."""
    found = []
    for name, collection in sorted(desk.seen_by(person).items()):
        with desk.stores.state.read() as connection:
            live = releases.live(connection, name)
        if live is not None:
            found.append(
                SearchedCollection(
                    name=name, release=live.number, documents=live.documents, published_at=live.created_at,
                    stages=released.stages_of(desk.stores, collection, live),
                )
            )  # fmt: skip
    return found


def search(desk: Desk, person: Person, name: str, question: SearchRequest) -> SearchAnswer:
    """The best documents of the live release."""
    collection = collection_seen(desk, person, name)
    return explain.of_live(desk.stores, name, lambda live: _answer(desk, collection, live, question))


def _answer(desk: Desk, collection: Collection, live: Release, question: SearchRequest) -> SearchAnswer:
    if question.labels:
        known = released.stages_of(desk.stores, collection, live)
        if unknown := [stage for stage in question.labels if stage not in known]:
            raise FilterUnknown(collection.name, unknown[0], known)
    hits, by_words = _filtered(desk, collection, live, question)
    hits = explain.placed(desk.stores, live, hits)
    labels = release_columns.labels_of_hits(desk.stores, collection, live, hits)
    return SearchAnswer(
        collection=collection.name,
        release=live.number,
        digest=live.digest,
        by_words=by_words,
        hits=[
            SearchHit(**vars(hit), labels=dict(said), signed_by=list(live.parts[hit.partition].approved_by))
            for hit, said in zip(hits, labels, strict=True)
        ],
    )


def _filtered(
    desk: Desk, collection: Collection, live: Release, question: SearchRequest
) -> tuple[list[Hit], bool]:  # fmt: skip
    """The best that pass, and whether words alone decided.

    First those among the best of all, in their order; where they are too few, the others that pass follow in theirs.
    Where so few documents pass that this is to be expected, both are searched side by side.
    """
    labels, partitions, stores = question.labels, question.partitions, desk.stores
    if not (labels or partitions):
        found = explain.search_release(collection, stores, live, question.text, question.k)
        return list(found.hits), found.by_words
    among = release_columns.documents_with(stores, collection, live, labels, partitions)

    def by_themselves() -> Sequence[Hit]:
        return explain.search_release(collection, stores, live, question.text, 2 * question.k, among).hits

    with ThreadPoolExecutor(1) as pool:
        few = len(among) * _FIRST < question.k * live.documents
        begun = pool.submit(by_themselves) if few else None  # they will be asked for
        found = explain.search_release(collection, stores, live, question.text, max(_FIRST, question.k))
        hits = [hit for hit in found.hits if not partitions or hit.partition in partitions]
        said = release_columns.labels_of_hits(stores, collection, live, hits) if labels else [{}] * len(hits)
        passing = [hit for hit, each in zip(hits, said, strict=True) if labels.items() <= each.items()]
        if len(passing) < question.k and found.hits:
            passing = _behind(passing, begun.result() if begun else by_themselves())
    return passing[: question.k], found.by_words


def _behind(first: Sequence[Hit], more: Sequence[Hit]) -> list[Hit]:
    """Those of `more` that are not there yet, after the others, with scores that say so."""
    names = {hit.document_id for hit in first}
    rest = [hit for hit in more if hit.document_id not in names]
    above = max(0.0, rest[0].score - first[-1].score) if first and rest else 0.0
    return [*first, *(replace(hit, score=hit.score - above) for hit in rest)]


def document(desk: Desk, person: Person, name: str, document_id: str) -> LiveDocument:
    """A document as it is live, whole."""
    collection = collection_seen(desk, person, name)
    live = served.newest_live(desk.stores, name)
    line, row = released.document_of(desk.stores, collection, live, document_id)
    if not line.is_read:
        raise DocumentUnknown(name, document_id, f" in release {live.number} that readers get.")
    part = live.parts[line.partition]
    return LiveDocument(
        collection=name,
        release=live.number,
        partition=line.partition,
        signed_by=list(part.approved_by),
        request=part.request_id,
        document={column: value for column, value in row.items() if column not in HIDDEN},
    )


def explained(
    desk: Desk, person: Person, name: str, asked: str, release: int | None = None
) -> dict[str, Any]:  # fmt: skip
    """Where a document or a passage comes from, step by step, what was made of it, and who signed."""
    found = provenance_seen(desk, person, name, asked, release)
    about = explain.explain(collection_seen(desk, person, name), desk.stores, found.document)
    return {**about, "provenance": found.plain}
