"""Corrections: a person's label in place of the model's, for one text of one document.

The newest of a document and stage counts. It belongs to the partition it was made in and to the text that was read:
when the document changes, or moves to another partition, the model's label stands again until somebody looks.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.errors import CorrectionRefused, DecisionRefused
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import parquet_columns, read_parquet
from ai_assets.storage.state import now, storable

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

Row = dict[str, Any]
CORRECTIONS = "corrections"
"""The asset, and the name of this input in the manifest of a stage."""
NONE = "none"
"""The version of a partition's corrections where none is in force."""


@dataclass(frozen=True, kw_only=True)
class Correction:
    collection: str
    stage: str
    document_id: str
    number: int
    """Counts those of the document and stage; the highest is in force."""
    partition: str
    document_digest: str
    """Of the text that was read."""
    label: str | None
    """None takes back the one before."""
    was: str | None
    """The label in the candidate that was looked at."""
    author: str
    reason: str
    made_at: str


TABLE = sa.table("corrections", *(sa.column(field.name) for field in fields(Correction)))


@dataclass(frozen=True)
class Corrections:
    """All that are in force in a collection at one moment, by stage and document."""

    found: Mapping[tuple[str, str], Correction]
    places: Sequence[str]
    """Partitions that have a correction, or had one."""
    stages: Sequence[ClassifyStage]
    """As they are declared."""

    @cached_property
    def _by_partition(self) -> Mapping[str, Sequence[Correction]]:
        grouped: dict[str, list[Correction]] = defaultdict(list)
        for correction in self.found.values():
            grouped[correction.partition].append(correction)
        return grouped

    def of(self, partition: str, stage: ClassifyStage) -> dict[str, Correction]:
        """By document; without those to a label that the stage has no more."""
        labels = {label.name for label in stage.labels}
        given = self._by_partition.get(partition, ())
        return {item.document_id: item for item in given if item.stage == stage.name and item.label in labels}

    @property
    def own_partitions(self) -> set[str]:
        """Those that have a correction in force."""
        return {*self._by_partition}

    def partitions(self, stage: str) -> set[str]:
        return {item.partition for item in self.found.values() if item.stage == stage}

    @cached_property
    def taught(self) -> Mapping[str, Sequence[Correction]]:
        """By stage that learns, the newest of the whole collection, as many as it declares; the newest last."""
        found = {}
        for stage in self.stages:
            labels = {label.name for label in stage.labels}
            given = [item for item in self.found.values() if item.stage == stage.name and item.label in labels]
            newest = sorted(given, key=lambda item: (item.made_at, item.document_id))[-stage.learn :]
            if stage.learn and newest:
                found[stage.name] = newest
        return found

    @cached_property
    def _taught_digests(self) -> Mapping[str | None, str]:
        every = [item for given in self.taught.values() for item in given]
        return {None: _digest(every), **{stage: _digest(given) for stage, given in self.taught.items()}}

    def version(self, partition: str, stage: str | None = None) -> str:
        """Of all that decides the labels of a partition, of one stage or of all: its own, and those that are taught."""
        own = _digest([item for item in self._by_partition.get(partition, ()) if stage in (None, item.stage)])
        taught = self._taught_digests.get(stage, "")
        return digest([own, taught])[:32] if taught else own

    def concern(self, partition: str) -> bool:
        """Whether there is, or was, something to tell of the partition."""
        return bool(self.taught) or partition in self.places


def _digest(given: Iterable[Correction]) -> str:
    said = sorted([item.stage, item.document_id, item.label or "", item.document_digest, item.author] for item in given)
    return digest(said)[:32] if said else ""


# Looking


def current(
    connection: sa.Connection, collection: str, partition: str | None = None
) -> dict[tuple[str, str], Correction]:
    """Those in force, by stage and document: the newest of each, unless it takes back."""
    later = TABLE.alias("later")
    newest = sa.select(sa.func.max(later.c.number)).where(
        later.c.collection == TABLE.c.collection,
        later.c.stage == TABLE.c.stage,
        later.c.document_id == TABLE.c.document_id,
    )
    query = sa.select(TABLE).where(
        TABLE.c.collection == collection, TABLE.c.label.is_not(None), TABLE.c.number == newest.scalar_subquery()
    )
    if partition is not None:
        query = query.where(TABLE.c.partition == partition)
    rows = connection.execute(query.order_by(TABLE.c.stage, TABLE.c.document_id)).mappings()
    return {(row["stage"], row["document_id"]): Correction(**row) for row in rows}


def in_force(connection: sa.Connection, collection: Collection) -> Corrections:
    query = sa.text("SELECT DISTINCT partition FROM corrections WHERE collection = :c ORDER BY partition")
    places: list[str] = list(connection.execute(query, {"c": collection.name}).scalars())
    return Corrections(current(connection, collection.name) if places else {}, places, collection.labelling)


def history(connection: sa.Connection, collection: str, document_id: str) -> list[Correction]:
    """All there ever were of a document, over all stages, oldest first."""
    query = sa.select(TABLE).where(TABLE.c.collection == collection, TABLE.c.document_id == document_id)
    rows = connection.execute(query.order_by(TABLE.c.made_at, TABLE.c.stage, TABLE.c.number)).mappings()
    return [Correction(**row) for row in rows]


def digest_of(connection: sa.Connection, collection: str, partition: str) -> str:
    """Of those made in the partition and in force; empty where there are none."""
    return _digest(current(connection, collection, partition).values())


def of_the_present_text(stores: "Stores", found: Iterable[Correction]) -> list[Correction]:
    """Without those whose document changed since, or is no longer there, as last computed."""
    texts: dict[tuple[str, str], dict[str, str]] = {}
    kept = []
    for item in found:
        place = (item.collection, item.partition)
        if place not in texts:
            manifest = stores.lake.manifest(item.collection, "documents", item.partition)
            rows = stores.lake.rows(manifest, ["document_id", "digest", "status"]) if manifest else ()
            texts[place] = {row["document_id"]: row["digest"] for row in rows if row["status"] == "ok"}
        if texts[place].get(item.document_id) == item.document_digest:
            kept.append(item)
    return kept


# Correcting


def correct(
    stores: "Stores",
    *,
    collection: Collection,
    request: SignoffRequest,
    document_id: str,
    stage: str,
    label: str | None,
    reason: str | None,
    by: Person,
) -> Correction:
    """Record a person's label for a document of the candidate they look at; `label=None` takes it back.

    What says the same as the correction in force is not recorded again. The model's own label may be confirmed: that
    is a golden label too.
    """
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"correcting a label takes the role reviewer in {collection.name}")
    _require_label(collection, document_id, stage, label)
    row = _row_of(stores, collection, request, document_id, stage)
    made = Correction(
        collection=collection.name,
        stage=stage,
        document_id=document_id,
        number=0,
        partition=request.partition,
        document_digest=row["digest"],
        label=label,
        was=row.get(f"{stage}_label"),
        author=by.name,
        reason=storable((reason or "").strip()) or "",
        made_at=now(),
    )
    with stores.state.write() as connection:
        return record(connection, made, request.request_id)


def record(connection: sa.Connection, made: Correction, request_id: str | None) -> Correction:
    """In the caller's transaction, with its record in the audit chain; the number is given here."""
    query = sa.select(TABLE).where(
        TABLE.c.collection == made.collection, TABLE.c.stage == made.stage, TABLE.c.document_id == made.document_id
    )
    found = connection.execute(query.order_by(TABLE.c.number.desc()).limit(1)).mappings().one_or_none()
    last = None if found is None else Correction(**found)
    if made.label is None and last is None:
        raise CorrectionRefused(made.document_id, f"it has no correction of '{made.stage}' to take back")
    if last is not None and _says_the_same(last, made):
        return last
    numbered = replace(made, number=last.number + 1 if last else 1)
    connection.execute(sa.insert(TABLE).values(vars(numbered)))
    audit.append(
        connection,
        numbered.author,
        "corrected",
        {
            "collection": numbered.collection, "partition": numbered.partition,
            **({"request_id": request_id} if request_id else {}),
            "document": numbered.document_id, "stage": numbered.stage, "number": numbered.number,
            "label": numbered.label, "was": numbered.was, "document_digest": numbered.document_digest,
            "reason": numbered.reason,
        },
    )  # fmt: skip
    return numbered


def _says_the_same(last: Correction, made: Correction) -> bool:
    if last.label is None or made.label is None:
        return last.label is made.label
    return (last.label, last.partition, last.document_digest) == (made.label, made.partition, made.document_digest)


def _require_label(collection: Collection, document_id: str, stage: str, label: str | None) -> None:
    stages = {item.name: item for item in collection.labelling}
    if stage not in stages:
        hint = nearest(stage, list(stages)) if stages else "; no stage of it gives labels"
        raise CorrectionRefused(document_id, f"{collection.name} has no classify stage '{stage}'{hint}")
    names = [item.name for item in stages[stage].labels]
    if label is not None and label not in names:
        raise CorrectionRefused(document_id, f"'{label}' is no label of '{stage}'{nearest(label, names)}")


def _row_of(stores: "Stores", collection: Collection, request: SignoffRequest, document_id: str, stage: str) -> Row:
    """The document in the candidate that was looked at."""
    import pyarrow.compute as pc

    files = request.changes.get("files") if request.collection == collection.name else None
    if files is None:
        raise CorrectionRefused(document_id, f"request {request.request_id} has no candidate of {collection.name}")
    folder = snapshot_folder(stores.lake.root, collection.name, request.partition)
    path = stores.lake.bring(folder / files["documents_file"])
    if not path.is_file():
        raise CorrectionRefused(
            document_id, f"the files of candidate {request.digest[:12]} are gone; look at a newer one"
        )
    wanted = {"document_id", "digest", f"{stage}_label", f"{stage}_status"}
    table = read_parquet(path, sorted(wanted & set(parquet_columns(path))))
    rows: list[Row] = table.filter(pc.equal(table["document_id"], document_id)).to_pylist()
    if not rows:
        hint = nearest(document_id, table["document_id"].to_pylist(), "see the pages of the request")
        raise CorrectionRefused(document_id, f"it is not in the candidate of {request.partition}{hint}")
    if rows[0].get(f"{stage}_label") is None and rows[0].get(f"{stage}_status") is None:
        raise CorrectionRefused(
            document_id, f"stage '{stage}' says nothing of it in the candidate of {request.partition}"
        )
    return rows[0]


# In a stage's rows


def applied(rows: Iterable[Row], given: Mapping[str, Correction], texts: Mapping[str, str]) -> list[Row]:
    """Rows as their model made them, with the labels that people gave instead; `texts` holds digests by document."""
    found = []
    for row in rows:
        correction = given.get(row["document_id"])
        row = {**row, "model_label": row["label"], "corrected_by": None}
        if correction is not None and correction.document_digest == texts.get(row["document_id"]):
            row |= {"label": correction.label, "corrected_by": correction.author}
            if "status" in row:
                row["status"] = "ok"  # it has a label now; `reason` still says why the model had none
        found.append(row)
    return found


def uncorrected(row: Row) -> Row:
    """A stored row as its model made it."""
    if row["corrected_by"] is None:
        return row
    status = {"status": "ok" if row["model_label"] is not None else "quarantined"} if "status" in row else {}
    return {**row, **status, "label": row["model_label"], "corrected_by": None}
