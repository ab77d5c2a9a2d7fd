"""A release, opened: its documents, one of them, and its difference to another release, for one person."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen, collection_seen, known_view
from ai_assets.desk.answer_fields import MISSING, fields_of, parsed
from ai_assets.desk.context import Desk
from ai_assets.desk.evidence import MarkedText
from ai_assets.desk.release_query import release_row
from ai_assets.desk.views import ReleaseRow
from ai_assets.desk.views_of_releases import (
    DifferenceView,
    LabelMove,
    MovedDocument,
    ReleasedDocument,
    ReleasedDocuments,
    ReleasedRow,
    ReleasedStage,
    ReleasePart,
    ReleaseView,
)
from ai_assets.run import released
from ai_assets.run.explain import search_release
from ai_assets.run.frozen_lines import StageColumns, stages_in
from ai_assets.run.places import places_or_why
from ai_assets.run.released import DocumentMove, ReleasedFilter, ReleaseDifference, ReleasedLine
from ai_assets.signoff import releases
from ai_assets.signoff.errors import ReleaseFilesRemoved
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.people import Person
from ai_assets.signoff.release_cards import KeptCard, card_of
from ai_assets.signoff.releases import Part, Release
from ai_assets.storage.state import storable
from ai_assets.storage.stores import Stores

MOST_LABELS = 60
MOST_HITS = 20
CHANGES = ("all", *released.MOVES)


@dataclass(frozen=True, kw_only=True)
class OpenedRelease:
    """A release that somebody looks at, read once for all that a page shows of it."""

    stores: Stores
    collection: Collection
    release: Release
    row: ReleaseRow
    numbers: Sequence[int]
    """Of all releases of the collection, the newest first: what it can be compared with."""
    removed: ReleaseFilesRemoved | None
    """Why its documents cannot be shown."""

    @cached_property
    def partitions(self) -> Sequence[str]:
        return sorted(self.release.parts)

    @cached_property
    def stages(self) -> Sequence[str]:
        """That say something of its documents; none where its files are gone."""
        return () if self.removed else released.stages_of(self.stores, self.collection, self.release)

    def part(self, partition: str) -> ReleasePart:
        return _part(partition, self.release.parts[partition])

    def require_files(self) -> None:
        if self.removed:
            raise self.removed


def opened_release(desk: Desk, person: Person, name: str, number: int) -> OpenedRelease:
    """Refused where its row is not what was published."""
    collection = collection_seen(desk, person, name)
    with desk.stores.state.read() as connection:
        release = releases.get(connection, collection.name, number)
        return OpenedRelease(
            stores=desk.stores,
            collection=collection,
            release=release,
            row=release_row(desk, connection, release),
            numbers=releases.numbers(connection, collection.name)[::-1],
            removed=released.removed_files(connection, release),
        )


def release_view(opened: OpenedRelease) -> ReleaseView:
    return ReleaseView(
        row=opened.row,
        created_by=opened.release.created_by,
        parts=[opened.part(partition) for partition in opened.partitions],
        stages=opened.stages,
        numbers=opened.numbers,
        missing=str(opened.removed) if opened.removed else None,
    )


def release_card(desk: Desk, person: Person, name: str, number: int) -> KeptCard:
    return card_of(desk.stores, collection_seen(desk, person, name).name, number)


def _part(partition: str, part: Part) -> ReleasePart:
    return ReleasePart(
        partition=partition,
        documents=part.released,
        chunks=part.chunks,
        digest=part.digest,
        request_id=part.request_id,
        approved_by=part.approved_by,
        run_id=part.run_id,
    )


# Documents


def released_documents(
    opened: OpenedRelease, *, only: ReleasedFilter, search: str = "", page: int = 1, per_page: int = 50
) -> ReleasedDocuments:
    opened.require_files()
    if search.strip():
        return _found(opened, search)
    stores, collection, release = opened.stores, opened.collection, opened.release
    found = released.page_of(stores, collection, release, first=(page - 1) * per_page, most=per_page, only=only)
    pages = max(1, math.ceil(found.total / per_page))
    if page > pages:
        return released_documents(opened, only=only, page=pages, per_page=per_page)
    labels = released.labels_of(stores, collection, release, only.stage, MOST_LABELS) if only.stage else {}
    rows = [_row(line) for line in found.lines]
    return ReleasedDocuments(rows=rows, total=found.total, page=page, pages=pages, labels=labels, found_by=None)


def _found(opened: OpenedRelease, search: str) -> ReleasedDocuments:
    stores, collection, release = opened.stores, opened.collection, opened.release
    found = search_release(collection, stores, release, search, MOST_HITS)
    wanted = {(hit.partition, hit.document_id) for hit in found.hits}
    lines = {
        (line.partition, line.document_id): line
        for partition in {partition for partition, _ in wanted}
        for line in released.lines_of(stores, collection, release, partition)
        if (line.partition, line.document_id) in wanted
    }
    rows = [
        _row(lines[place], hit.text) for hit in found.hits if (place := (hit.partition, hit.document_id)) in lines
    ]  # fmt: skip
    words = "by its words alone: a model would have to be asked to compare vectors, which the command search does"
    said = f"The index was searched {words if found.by_words else 'by words and vectors'}; the best come first"
    said += ", before a reranker looks at them, which the command search has it do." if found.reranker_left_out else "."
    return ReleasedDocuments(rows=rows, total=len(rows), page=1, pages=1, labels={}, found_by=said)


def _row(line: ReleasedLine, passage: str | None = None) -> ReleasedRow:
    return ReleasedRow(
        document_id=line.document_id,
        partition=line.partition,
        title=line.title,
        status=line.status,
        headlines=line.headlines,
        confidence=line.confidence,
        passage=passage,
    )


def released_document(
    opened: OpenedRelease, document_id: str, partition: str = "", *, at: int = 0
) -> ReleasedDocument:  # fmt: skip
    """`at`: a place in the text; of a long text the part is shown that has it."""
    opened.require_files()
    stores, collection, release = opened.stores, opened.collection, opened.release
    found = storable(document_id) or ""
    line, row = released.document_of(stores, collection, release, found, partition)
    part = release.parts[line.partition]
    _, chunks = snapshot_paths(stores.lake, release.collection, line.partition, part)
    places, unplaced = places_or_why(stores.lake, release.collection, line.partition, row, chunks)
    marked = MarkedText(row.get("text") or "", places, at=at)
    stages = [_stage(stage, row, part, marked) for stage in stages_in(list(row), collection)]
    shown = marked.part()
    return ReleasedDocument(
        row=_row(line),
        path=row.get("path") or document_id,
        language=row.get("language"),
        source_digest=row.get("source_digest") or "",
        digest=row.get("digest") or "",
        leaf=line.leaf,
        reason=row.get("reason"),
        text=marked.shown,
        cut=shown.end - shown.start < shown.length,
        spans=marked.spans(),
        part_of_text=shown,
        stages=stages,
        part=_part(line.partition, part),
        live=opened.row.live,
        unplaced=unplaced,
    )


def _stage(stage: StageColumns, row: Mapping[str, Any], part: Part, marked: MarkedText) -> ReleasedStage:
    said = row.get(stage.headline)
    headline = None if said is None else str(said)
    data = parsed(headline)
    evidence = marked.evidence(row, stage.name, data)
    own = {column: row.get(f"{stage.name}_{column}") for column in (
        "confidence", "rationale", "evidence", "status", "reason", "model", "call", "corrected_by")}  # fmt: skip
    return ReleasedStage(
        stage=stage.name,
        headline=headline,
        fields=() if data is MISSING else fields_of(data, find=partial(marked.value, stage.name)),
        evidence_at=evidence,
        prompt=row.get(f"{stage.name}_prompt_version"),
        code_version=part.code_versions.get(stage.name),
        **own,
    )


# The difference


def difference_view(
    opened: OpenedRelease, base: int, *, change: str = "all", page: int = 1, per_page: int = 50
) -> DifferenceView:
    """What readers of `base` would see otherwise if the opened one were live."""
    known_view("change", change, CHANGES)
    stores, collection = opened.stores, opened.collection
    with stores.state.read() as connection:
        before = releases.get(connection, collection.name, base)
    found = released.difference(stores, collection, before, opened.release)
    moves = [move for move in found.moves if change in ("all", move.move)]
    pages = max(1, math.ceil(len(moves) / per_page))
    page = min(max(1, page), pages)
    return DifferenceView(
        collection=found.collection,
        base=found.base,
        other=found.other,
        counts=_counts(found),
        partitions=found.partitions,
        base_documents=found.base_documents,
        other_documents=found.other_documents,
        rows=_moved(moves[(page - 1) * per_page : page * per_page]),
        total=len(moves),
        page=page,
        pages=pages,
    )


def _counts(found: ReleaseDifference) -> dict[str, int]:
    return {"all": len(found.moves), **{str(name): number for name, number in found.counts.items()}}


def _moved(moves: Sequence[DocumentMove]) -> list[MovedDocument]:
    return [
        MovedDocument(
            document_id=move.document_id,
            title=move.title,
            partition=move.partition,
            change=move.move,
            labels=[LabelMove(stage=stage, before=was, after=now) for stage, (was, now) in move.labels.items()],
        )
        for move in moves
    ]


def number_of(text: str) -> int:
    """As an address has it."""
    if not text.isdecimal() or len(text) > 9:
        raise NotSeen(f"release '{text[:20]}'")
    return int(text)
