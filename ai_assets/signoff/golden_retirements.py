"""Golden documents that judge nothing any more: who said so, and why. A retirement is an answer like a label, so it
stands in the audit chain and makes its partition due; taking it back gives its author their label again."""

from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.signoff import golden_labels
from ai_assets.signoff.errors import DecisionRefused, GoldenLabelRefused
from ai_assets.signoff.golden_labels import TABLE, GivenLabel
from ai_assets.signoff.people import Person
from ai_assets.storage.state import now, storable

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores


def retire(stores: "Stores", collection: Collection, document: str, *, reason: str, by: Person) -> GivenLabel:
    """From now on the document judges nothing, whoever labelled it, here or in the file."""
    stage = golden_labels.stage_of(collection)
    _require(collection, by)
    said = storable(reason.strip()) or ""
    if not said:
        raise GoldenLabelRefused(document, "a retirement needs a reason (--reason)")
    with stores.state.read() as connection:
        given = golden_labels.newest(connection, collection.name, stage.name)
    if any(item.document_id == document and item.answer == "retired" for item in given):
        raise GoldenLabelRefused(document, "it is retired already")
    known = {item.document_id for item in given if item.answer == "label"}
    known |= {item.document for item in collection.golden_labels}
    if document not in known:
        raise GoldenLabelRefused(document, f"it has no golden label to retire{nearest(document, sorted(known))}")
    partitions = golden_labels.partitions_of(stores, collection.name, "documents")
    place = golden_labels.present_texts(stores, collection.name, partitions, [document]).get(document)
    if place is None:
        raise GoldenLabelRefused(
            document, "no document of that name has a text, so it judges nothing; take it out of the golden file"
        )
    made = GivenLabel(
        collection=collection.name, stage=stage.name, document_id=document, author=by.name, number=0,
        partition=place.partition, document_digest=place.document_digest, answer="retired", label=None,
        stratum="chosen", inclusion=None, sample=None, origin="desk", note=said, recorded_by=by.name, made_at=now(),
    )  # fmt: skip
    with stores.state.write() as connection:
        return golden_labels.record(connection, made)


def take_back(stores: "Stores", collection: Collection, document: str, *, by: Person) -> list[GivenLabel]:
    """The document judges again. What its author had answered before counts again, if they had."""
    stage = golden_labels.stage_of(collection)
    _require(collection, by)
    with stores.state.write() as connection:
        given = golden_labels.newest(connection, collection.name, stage.name)
        retired = [item for item in given if item.document_id == document and item.answer == "retired"]
        if not retired:
            raise GoldenLabelRefused(document, "it is not retired")
        return [golden_labels.record(connection, _before(connection, item, by)) for item in retired]


def _before(connection: sa.Connection, retired: GivenLabel, by: Person) -> GivenLabel:
    keys = ("collection", "stage", "document_id", "author")
    query = sa.select(TABLE).where(
        *(getattr(TABLE.c, key) == getattr(retired, key) for key in keys), TABLE.c.answer != "retired"
    )
    row = connection.execute(query.order_by(TABLE.c.number.desc()).limit(1)).mappings().one_or_none()
    said = replace(retired, answer="withdrawn") if row is None else GivenLabel(**row)
    return replace(said, recorded_by=by.name, made_at=now(), note="the retirement was taken back")


def _require(collection: Collection, by: Person) -> None:
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"retiring golden labels takes the role reviewer in {collection.name}")
