"""One golden document as people may act on it: who said what of it, whether it is retired, and what may be said now."""

from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.collection.loading import Collection
from ai_assets.desk.access import NotSeen, collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.golden_query import asked_place
from ai_assets.signoff import golden_labels, golden_retirements
from ai_assets.signoff.errors import GoldenLabelRefused
from ai_assets.signoff.golden_labels import GivenLabel
from ai_assets.signoff.people import Person

ACTS = ("retire", "back", "dispute")


@dataclass(frozen=True, kw_only=True)
class GoldenItem:
    collection: str
    document: str
    digest: str
    """Of its text as it is shown; empty where there is none."""
    golden: str | None
    """In the golden file."""
    said: Sequence[GivenLabel]
    """The labels of people, in force."""
    retired: GivenLabel | None
    labels: Sequence[str]
    may: bool


def golden_item(desk: Desk, person: Person, name: str, document: str, digest: str) -> GoldenItem | None:
    """None where no stage of the collection has golden labels."""
    collection = collection_seen(desk, person, name)
    if collection.judged_stage is None or not collection.judges_labels:
        return None
    with desk.stores.state.read() as connection:
        given = golden_labels.newest(connection, name, collection.judged_stage.name)
    mine = [item for item in given if item.document_id == document]
    return GoldenItem(
        collection=name,
        document=document,
        digest=digest,
        golden=next((item.label for item in collection.golden_labels if item.document == document), None),
        said=[item for item in mine if item.answer == "label"],
        retired=next((item for item in mine if item.answer == "retired"), None),
        labels=[label.name for label in collection.judged_stage.labels],
        may=person.may("reviewer", name),
    )


def golden_document(desk: Desk, person: Person, name: str, document: str) -> GoldenItem:
    """The same with the text as it is now. Raises `NotSeen` of a document without a golden label."""
    partitions = golden_labels.partitions_of(desk.stores, name, "documents")
    place = golden_labels.present_texts(desk.stores, name, partitions, [document]).get(document)
    found = golden_item(desk, person, name, document, place.document_digest if place is not None else "")
    if found is None or not (found.golden or found.said or found.retired):
        raise NotSeen(f"golden document '{document[:200]}'")
    return found


def act(
    desk: Desk, person: Person, name: str, document: str, *, what: str, digest: str, label: str, reason: str
) -> str:
    """What was recorded, in a sentence. Raises `GoldenLabelRefused` or `DecisionRefused`."""
    collection = collection_seen(desk, person, name)
    if what == "retire":
        golden_retirements.retire(desk.stores, collection, document, reason=reason, by=person)
        return f"{document} is retired: it judges nothing from the next run on."
    if what == "back":
        golden_retirements.take_back(desk.stores, collection, document, by=person)
        return f"{document} judges again from the next run on."
    if what != "dispute":
        raise GoldenLabelRefused(document, f"it is unknown what to do; one of {', '.join(ACTS)}")
    _dispute(desk, person, collection, document, digest=digest, label=label, reason=reason)
    return f"Your label of {document} is {label}; where people disagree it judges nothing until they agree."


def _dispute(
    desk: Desk, person: Person, collection: Collection, document: str, *, digest: str, label: str, reason: str
) -> None:
    """As an answer to a sample where the document is in one, so that its probability is kept; else a chosen one."""
    asked = asked_place(desk, person, collection.name, document)
    place = asked[1] if asked else None
    if place is None or place.document_digest != digest:
        partitions = golden_labels.partitions_of(desk.stores, collection.name, "documents")
        place = golden_labels.present_texts(desk.stores, collection.name, partitions, [document]).get(document)
    if place is None or place.document_digest != digest:
        raise GoldenLabelRefused(document, "its text has changed since it was shown")
    if not reason.strip():
        raise GoldenLabelRefused(document, "a label that disputes another one needs a reason")
    golden_labels.give(desk.stores, collection, place, "label", label, note=reason, by=person)
