"""Golden labels that people give: what is right, of one text of one document, with who said so and how it was chosen.

The newest answer of each author counts. They belong to the text that was read, like corrections; unlike those they
change no row: they judge the stage, beside the golden labels of the collection's file.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Literal

import sqlalchemy as sa

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, given_ratings
from ai_assets.signoff.errors import DecisionRefused, GoldenLabelRefused
from ai_assets.signoff.given_ratings import GivenRating
from ai_assets.signoff.people import Person
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import parquet_columns
from ai_assets.storage.state import now, storable

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

Answer = Literal["label", "unsure", "withdrawn", "retired"]
"""`retired`: the document judges nothing any more, whoever labelled it; the note says why."""
Stratum = Literal["random", "uncertain", "chosen"]
"""How its document was chosen: drawn by chance, for the model's low confidence, or by somebody."""
Origin = Literal["desk", "import"]
SCORED: tuple[Stratum, ...] = ("random", "chosen")
"""Uncertain documents are wrong more often than others: counted beside the rest they would make a model look worse than
it is. They are kept with their probabilities, for estimates that weigh."""
GOLDEN = "golden labels"
"""Among the inputs of `evaluation_scores`, where there are any."""


@dataclass(frozen=True, kw_only=True)
class GivenLabel:
    collection: str
    stage: str
    document_id: str
    author: str
    number: int
    """Counts the answers of this author about the document; the highest is in force."""
    partition: str
    document_digest: str
    """Of the text that was read."""
    answer: Answer
    label: str | None
    """None unless the answer is a label."""
    stratum: Stratum
    inclusion: float | None
    """The probability with which the draw took the document; None for one that nobody drew."""
    sample: int | None
    origin: Origin
    note: str
    recorded_by: str
    made_at: str


TABLE = sa.table("golden_labels", *(sa.column(each.name) for each in fields(GivenLabel)))


@dataclass(frozen=True, kw_only=True)
class LabelPlace:
    """A document as it is now, and how it came to be asked about."""

    document_id: str
    partition: str
    document_digest: str
    stratum: Stratum = "chosen"
    inclusion: float | None = None
    sample: int | None = None


@dataclass(frozen=True, kw_only=True)
class AgreedLabel:
    """What all who answered say of a document."""

    document_id: str
    partition: str
    document_digest: str
    label: str
    authors: tuple[str, ...]
    stratum: Stratum
    inclusion: float | None


@dataclass(frozen=True)
class GoldenInForce:
    """All that count of one stage at one moment."""

    given: Sequence[GivenLabel]
    """The newest answer of each author and document that is a label the stage has."""
    retired: Mapping[str, GivenLabel] = field(default_factory=dict)
    """Documents that judge nothing any more, and who said so."""
    ratings: Sequence[GivenRating] = ()
    """Of outputs that judges rate: they make scores due as labels do."""

    @cached_property
    def _by_document(self) -> Mapping[str, Sequence[GivenLabel]]:
        """Those of the text that was read last."""
        grouped: dict[str, list[GivenLabel]] = defaultdict(list)
        for item in self.given:
            if item.document_id not in self.retired:
                grouped[item.document_id].append(item)
        newest = {name: max(items, key=lambda item: item.made_at).document_digest for name, items in grouped.items()}
        return {
            name: [item for item in items if item.document_digest == newest[name]] for name, items in grouped.items()
        }

    @cached_property
    def agreed(self) -> Mapping[str, AgreedLabel]:
        found = {}
        for name, items in self._by_document.items():
            if len({item.label for item in items}) == 1:
                drawn = min(
                    items, key=lambda item: (("random", "uncertain", "chosen").index(item.stratum), item.author)
                )
                found[name] = AgreedLabel(
                    document_id=name,
                    partition=items[-1].partition,
                    document_digest=items[-1].document_digest,
                    label=str(items[0].label),
                    authors=tuple(sorted(item.author for item in items)),
                    stratum=drawn.stratum,
                    inclusion=drawn.inclusion,
                )
        return found

    @cached_property
    def scored(self) -> Mapping[str, AgreedLabel]:
        """Those that the metrics count."""
        return {name: item for name, item in self.agreed.items() if item.stratum in SCORED}

    @property
    def disagreed(self) -> Mapping[str, Sequence[GivenLabel]]:
        """Documents of which people say different things: they judge nothing until somebody changes their answer."""
        return {name: items for name, items in self._by_document.items() if name not in self.agreed}

    @property
    def scored_partitions(self) -> set[str]:
        found = {item.partition for items in (self.scored, self.retired) for item in items.values()}
        return found | {item.partition for item in self.ratings}

    def version(self, partition: str) -> str:
        """Of what is scored of the partition; empty where nothing is."""
        said = sorted(
            [item.document_id, item.label, item.document_digest]
            for item in self.scored.values()
            if item.partition == partition
        )
        said += sorted(["retired", name] for name, item in self.retired.items() if item.partition == partition)
        said += given_ratings.described(self.ratings, partition)
        return digest(said)[:32] if said else ""


NOTHING = GoldenInForce(())


def with_golden(corrections: str, golden: str, *fitted: str) -> str:
    """One version of all that people said of a partition's labels; without golden labels that of the corrections.
    `fitted`: of what is fitted to golden data in the whole collection, each empty where nothing is."""
    said = digest([corrections, golden])[:32] if golden else corrections
    for each in filter(None, fitted):
        said = digest([said, each])[:32]
    return said


# Looking


def newest(connection: sa.Connection, collection: str, stage: str) -> list[GivenLabel]:
    """The newest answer of each author and document, whatever it says; in order of documents."""
    later = TABLE.alias("later")
    last = sa.select(sa.func.max(later.c.number)).where(
        later.c.collection == TABLE.c.collection,
        later.c.stage == TABLE.c.stage,
        later.c.document_id == TABLE.c.document_id,
        later.c.author == TABLE.c.author,
    )
    query = sa.select(TABLE).where(
        TABLE.c.collection == collection, TABLE.c.stage == stage, TABLE.c.number == last.scalar_subquery()
    )
    rows = connection.execute(query.order_by(TABLE.c.document_id, TABLE.c.author)).mappings()
    return [GivenLabel(**row) for row in rows]


def in_force(connection: sa.Connection, collection: Collection) -> GoldenInForce:
    """Of the stage that golden labels judge, and of judges; of a collection without them, nothing."""
    stage = collection.judged_stage
    ratings = given_ratings.in_force(connection, collection.name) if collection.judges else ()
    if stage is None or not collection.judges_labels:
        return GoldenInForce((), ratings=ratings) if ratings else NOTHING
    known = {label.name for label in stage.labels}
    found = newest(connection, collection.name, stage.name)
    given = [item for item in found if item.answer == "label" and item.label in known]
    return GoldenInForce(given, {item.document_id: item for item in found if item.answer == "retired"}, ratings)


def present_texts(
    stores: "Stores", collection: str, partitions: Iterable[str], wanted: Iterable[str]
) -> dict[str, LabelPlace]:
    """The documents of those names as last computed, where they have a text."""
    names = set(wanted)
    return {place.document_id: place for place in _texts(stores, collection, partitions) if place.document_id in names}


def documents_of(stores: "Stores", collection: str, partitions: Iterable[str], most: int = 20_000) -> list[str]:
    """Names of documents with a text, for people to compare with."""
    return [place.document_id for place in islice(_texts(stores, collection, partitions), most)]


def _texts(stores: "Stores", collection: str, partitions: Iterable[str]) -> Iterator[LabelPlace]:
    for partition in sorted(set(partitions)):
        manifest = stores.lake.manifest(collection, "documents", partition)
        for row in stores.lake.rows(manifest, ["document_id", "digest", "status"]) if manifest else ():
            if row["status"] == "ok":
                yield LabelPlace(document_id=row["document_id"], partition=partition, document_digest=row["digest"])


def of_present_texts(stores: "Stores", collection: str, items: Iterable[AgreedLabel]) -> list[AgreedLabel]:
    """Without those whose document changed since, or is no longer there, as last computed."""
    kept = list(items)
    texts = present_texts(stores, collection, (item.partition for item in kept), (item.document_id for item in kept))
    return [
        item
        for item in kept
        if item.document_id in texts and texts[item.document_id].document_digest == item.document_digest
    ]


def partitions_of(stores: "Stores", collection: str, asset: str) -> list[str]:
    """Those of which the asset was computed."""
    with stores.state.read() as connection:
        return computed_partitions(connection, collection, asset)


def computed_partitions(connection: sa.Connection, collection: str, asset: str) -> list[str]:
    """The same, for who reads already."""
    query = sa.text("SELECT partition FROM datasets WHERE collection = :c AND asset = :a ORDER BY partition")
    return list(connection.execute(query, {"c": collection, "a": asset}).scalars())


def model_labels(stores: "Stores", collection: str, stage: str) -> dict[str, str | None]:
    """The model's own label of every document that it judged, as last computed."""
    found = {}
    for partition in partitions_of(stores, collection, stage):
        manifest = stores.lake.manifest(collection, stage, partition)
        if manifest is None:
            continue
        own = "model_label" if "model_label" in parquet_columns(stores.lake.path(manifest)) else "label"
        for row in stores.lake.rows(manifest, ["document_id", own]):
            found[row["document_id"]] = row[own]
    return found


# Giving


def give(
    stores: "Stores",
    collection: Collection,
    place: LabelPlace,
    answer: Answer,
    label: str | None,
    *,
    note: str,
    by: Person,
) -> GivenLabel:
    """Record a person's own answer. The same answer about the same text is not recorded again."""
    stage = stage_of(collection)
    _require(collection, stage, place.document_id, answer, label, by)
    made = GivenLabel(
        collection=collection.name, stage=stage.name, document_id=place.document_id, author=by.name, number=0,
        partition=place.partition, document_digest=place.document_digest, answer=answer, label=label,
        stratum=place.stratum, inclusion=place.inclusion, sample=place.sample, origin="desk",
        note=storable(note.strip()) or "", recorded_by=by.name, made_at=now(),
    )  # fmt: skip
    with stores.state.write() as connection:
        return record(connection, made)


def record(connection: sa.Connection, made: GivenLabel) -> GivenLabel:
    """In the caller's transaction, with its record in the audit chain; the number is given here."""
    query = sa.select(TABLE).where(
        *(getattr(TABLE.c, key) == getattr(made, key) for key in ("collection", "stage", "document_id", "author"))
    )
    row = connection.execute(query.order_by(TABLE.c.number.desc()).limit(1)).mappings().one_or_none()
    last = None if row is None else GivenLabel(**row)
    if last is not None and _says_the_same(last, made):
        return last
    if last is None and made.answer == "withdrawn":
        raise GoldenLabelRefused(made.document_id, f"{made.author} gave it no label that could be withdrawn")
    numbered = replace(made, number=last.number + 1 if last else 1)
    connection.execute(sa.insert(TABLE).values(vars(numbered)))
    audit.append(connection, numbered.recorded_by, "labelled", subject_of(numbered))
    return numbered


def subject_of(item: GivenLabel) -> dict[str, str | float | None]:
    """What the chain says of an answer: all of it but the time of the record, which is the chain's own."""
    return {
        "collection": item.collection, "partition": item.partition, "document": item.document_id, "stage": item.stage,
        "author": item.author, "number": item.number, "answer": item.answer, "label": item.label,
        "document_digest": item.document_digest, "stratum": item.stratum,
        "inclusion": None if item.inclusion is None else repr(item.inclusion), "sample": item.sample,
        "origin": item.origin, "note": item.note,
    }  # fmt: skip


def _says_the_same(last: GivenLabel, made: GivenLabel) -> bool:
    return (last.answer, last.label, last.document_digest) == (made.answer, made.label, made.document_digest)


def stage_of(collection: Collection) -> ClassifyStage:
    """The stage that golden labels judge."""
    stage = collection.judged_stage
    if stage is None:
        names = [item.name for item in collection.labelling]
        found = f"several stages that label ({', '.join(names)}); 'golden.labels_stage' in its defs.yaml names one"
        raise GoldenLabelRefused(collection.name, f"it has {found if names else 'no classify stage'}")
    if not collection.judges_labels:
        file = collection.settings.golden.labels
        found = "declares no golden labels" if file is None else f"names {file}, which has none that counts"
        raise GoldenLabelRefused(collection.name, f"its defs.yaml {found}; write golden: {{review: true}} there")
    return stage


def _require(
    collection: Collection, stage: ClassifyStage, document_id: str, answer: Answer, label: str | None, by: Person
) -> None:
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"giving golden labels takes the role reviewer in {collection.name}")
    names = [item.name for item in stage.labels]
    if answer == "label" and label not in names:
        raise GoldenLabelRefused(document_id, f"'{label}' is no label of '{stage.name}'{nearest(str(label), names)}")
    if answer != "label" and label is not None:
        raise GoldenLabelRefused(document_id, f"the answer '{answer}' has no label")
