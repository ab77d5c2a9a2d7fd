"""Held documents as the desk shows them: the queue over all collections a person may see, and one with its text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen, collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.held_views import (
    AgreementView,
    HeldDecisionView,
    HeldPage,
    HeldView,
    PairView,
    ThresholdView,
)
from ai_assets.signoff import holds
from ai_assets.signoff.golden_labels import in_force
from ai_assets.signoff.held_status import HeldItem, HeldStatus, held_status
from ai_assets.signoff.hold_certificates import HoldCertificate
from ai_assets.signoff.hold_labels import judged_labels
from ai_assets.signoff.people import Person
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.statistics.selective import CoveragePoint, coverage_curve
from ai_assets.storage.lake import place_in_parquet, read_parquet_row

LONGEST_TEXT = 50_000
"""Characters that are shown: what a document is shows early."""


@dataclass(frozen=True, kw_only=True)
class HeldTask:
    """One held document, with what a person needs to decide it."""

    item: HeldView
    title: str
    path: str
    text: str
    cut: bool
    choices: Sequence[str]
    """Labels that it may be corrected to."""
    blind: bool
    """Others have decided, and what they said is not shown until two have."""
    following: HeldView | None
    """The next one that waits for this person."""


def held_page(
    desk: Desk, person: Person, *, collection: str | None = None, stage: str | None = None, page: int = 1,
    per_page: int = 50,
) -> HeldPage:  # fmt: skip
    """What waits, the most valuable first."""
    seen = desk.seen_by(person)
    names = sorted(seen) if collection is None else [collection_seen(desk, person, collection).name]
    with desk.stores.state.read() as connection:
        found = {name: held_status(connection, seen[name], stage=stage) for name in names if seen[name].holding}
    items = [(seen[name], item) for name, status in found.items() for item in status.items]
    items.sort(key=lambda each: -each[1].held.value)
    pages = max(1, math.ceil(len(items) / per_page))
    page = min(max(1, page), pages)
    return HeldPage(
        rows=[_view(person, *each) for each in items[(page - 1) * per_page : page * per_page]],
        total=len(items),
        page=page,
        pages=pages,
        collections=sorted(name for name in seen if seen[name].holding),
        agreement=[_agreement(name, status) for name, status in found.items() if status.agreement.documents],
        thresholds=[_threshold(each) for status in found.values() for each in status.certificates],
    )


def held_counts(connection: sa.Connection, seen: Mapping[str, Collection]) -> dict[str, int]:
    """Documents that wait, by collection that has any."""
    counted = {name: holds.count_documents(connection, name) for name, each in seen.items() if each.holding}
    return {name: number for name, number in counted.items() if number}


def held_task(desk: Desk, person: Person, name: str, document: str, stage: str) -> HeldTask | None:
    """The document of that name, else the most valuable that waits for this person; None where none does."""
    collection = collection_seen(desk, person, name)
    with desk.stores.state.read() as connection:
        items = held_status(connection, collection).items
    wanted = [each for each in items if (each.held.document_id, each.held.stage) == (document, stage)]
    mine = [each for each in items if each.waits_for(person.name)]
    chosen = next(iter([*wanted, *mine]), None)
    if chosen is None:
        return None
    others = [each for each in mine if each is not chosen]
    title, path, text = _text(desk, chosen.held)
    declared = next(each for each in collection.holding if each.name == chosen.held.stage)
    return HeldTask(
        item=_view(person, collection, chosen),
        title=title,
        path=path,
        text=text[:LONGEST_TEXT],
        cut=len(text) > LONGEST_TEXT,
        choices=declared.names if isinstance(declared, ClassifyStage) else (),
        blind=is_blind(chosen, person),
        following=_view(person, collection, others[0]) if others else None,
    )


def is_blind(item: HeldItem, person: Person) -> bool:
    """Of two reviewers the second judges the document, and not what the first one said of it."""
    given = item.ruling.given
    return item.reviewers > 1 and len(given) == 1 and person.name not in item.ruling.authors


def held_named(desk: Desk, person: Person, name: str, document: str, stage: str) -> tuple[Collection, HeldItem]:
    """Raises NotSeen."""
    collection = collection_seen(desk, person, name)
    with desk.stores.state.read() as connection:
        items = held_status(connection, collection).items
    for item in items:
        if item.held.document_id == document and stage in ("", item.held.stage):
            return collection, item
    raise NotSeen(f"held document '{document}'")


def curve_of(desk: Desk, person: Person, name: str, stage: str) -> Sequence[CoveragePoint]:
    """How the error of a certified stage grows with what is accepted, as its labels show it now."""
    collection = collection_seen(desk, person, name)
    declared = next((each for each in collection.holding if each.name == stage), None)
    if declared is None or declared.hold is None or declared.hold.certified is None:
        return ()
    with desk.stores.state.read() as connection:
        golden = in_force(connection, collection)
    given = judged_labels(desk.stores, collection, declared, golden)
    return coverage_curve(given.labels, declared.hold.certified.confidence)


def _text(desk: Desk, held: holds.HeldDocument) -> tuple[str, str, str]:
    """Title, path and text; of a text that has changed since, nothing: the next run holds the new one."""
    lake = desk.stores.lake
    manifest = lake.manifest(held.collection, "documents", held.partition)
    path = lake.path(manifest) if manifest is not None else None
    if path is not None and (place := place_in_parquet(path, "document_id", held.document_id)) is not None:
        whole = read_parquet_row(path, place)
        if whole["digest"] == held.document_digest:
            return whole["title"] or held.document_id, whole["path"], whole["text"] or ""
    return held.document_id, "", ""


def _view(person: Person, collection: Collection, item: HeldItem) -> HeldView:
    held = item.held
    blind = is_blind(item, person)
    return HeldView(
        collection=held.collection, partition=held.partition, stage=held.stage, document_id=held.document_id,
        document_digest=held.document_digest, answer_digest=held.answer_digest, answer=held.answer,
        confidence=held.confidence, kinds=list(held.kinds), why=list(held.why), value=held.value,
        held_at=held.held_at, state=item.state, reviewers=item.reviewers,
        decisions=[] if blind else [
            HeldDecisionView(author=each.author, decision=each.decision, label=each.label, reason=each.reason,
                             made_at=each.made_at) for each in item.ruling.given
        ],
        waits_for_me=item.waits_for(person.name), may_decide=person.may("reviewer", collection.name),
    )  # fmt: skip


def _agreement(name: str, status: HeldStatus) -> AgreementView:
    found = status.agreement
    pairs = [PairView(one=each.one, other=each.other, n=each.n, kappa=each.kappa) for each in found.pairs]
    return AgreementView(collection=name, documents=found.documents, alpha=found.alpha, pairs=pairs)


def _threshold(found: HoldCertificate) -> ThresholdView:
    names = ("collection", "stage", "threshold", "error", "confidence", "labels", "labels_digest", "said", "made_at")
    return ThresholdView(**{name: getattr(found, name) for name in names})
