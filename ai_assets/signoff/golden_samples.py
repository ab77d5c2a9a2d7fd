"""Which documents are worth a golden label: a draw of a random part and of those that the model is least sure of.

The random part is a simple random sample of the documents that have no golden label yet, so what is measured on it is
true of them; the rest is where labels teach most. Every document keeps the probability with which it was drawn.
"""

import hashlib
import heapq
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, cast

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.signoff import golden_labels
from ai_assets.signoff.errors import DecisionRefused, GoldenLabelRefused
from ai_assets.signoff.golden_labels import GivenLabel, LabelPlace, Stratum
from ai_assets.signoff.people import Person
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.lake import Manifest
from ai_assets.storage.state import now

if TYPE_CHECKING:
    from ai_assets.storage.stores import Stores

SIZE = 50
RANDOM_SHARE = 0.6
"""Of a draw, by default. Only these documents, and those of the golden file, are counted by the metrics."""
MOST = 5_000
MOST_OPINIONS = 5


@dataclass(frozen=True, kw_only=True)
class GoldenSample:
    """One draw."""

    collection: str
    stage: str
    number: int
    drawn_at: str
    drawn_by: str
    population: int
    """Documents that could have been drawn."""
    random_size: int
    uncertain_size: int
    opinions: int
    """How many people are asked about each document."""

    @property
    def size(self) -> int:
        return self.random_size + self.uncertain_size


SAMPLES = sa.table("golden_samples", *(sa.column(field.name) for field in fields(GoldenSample)))
DOCUMENTS = sa.table(
    "golden_sample_documents",
    *(
        sa.column(name)
        for name in (
            "collection", "stage", "number", "place", "document_id", "partition", "document_digest", "stratum",
            "inclusion",
        )
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Drawable:
    document_id: str
    partition: str
    document_digest: str
    confidence: float
    """Of the model; below all others where it has no answer."""


@dataclass(frozen=True, kw_only=True)
class SampledDocument:
    """A document of a sample, and how far along it stands."""

    place: LabelPlace
    opinions: int
    answers: Sequence[GivenLabel]
    """About this text, the newest of each author."""

    @property
    def is_retired(self) -> bool:
        return any(answer.answer == "retired" for answer in self.answers)


def draw(
    stores: "Stores",
    collection: Collection,
    *,
    by: Person,
    size: int = SIZE,
    random_share: float = RANDOM_SHARE,
    opinions: int = 1,
    seed: str | None = None,
) -> GoldenSample:
    """Draw documents that have no golden label and are in no sample yet, and keep the draw."""
    stage = golden_labels.stage_of(collection)
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"drawing a sample takes the role reviewer in {collection.name}")
    for problem in _problems(size, random_share, opinions):
        raise GoldenLabelRefused(collection.name, problem)
    seed = seed or secrets.token_hex(8)
    with stores.state.read() as connection:
        taken = _taken(connection, collection, stage)
    random, uncertain, population = _chosen(_drawable(stores, collection, stage, taken), size, random_share, seed)
    if not population:
        raise GoldenLabelRefused(
            collection.name, f"no document that '{stage.name}' has computed is left without a golden label or a sample"
        )
    drawn: list[tuple[_Drawable, Stratum, float]] = [(item, "random", len(random) / population) for item in random]
    drawn += [(item, "uncertain", 1.0) for item in uncertain]
    drawn.sort(key=lambda each: _chance(f"order {seed}", each[0].document_id))
    with stores.state.write() as connection:
        query = sa.select(sa.func.max(SAMPLES.c.number)).where(*_of(SAMPLES, collection.name, stage.name))
        last = connection.execute(query).scalar_one_or_none() or 0
        made = GoldenSample(
            collection=collection.name, stage=stage.name, number=last + 1, drawn_at=now(), drawn_by=by.name,
            population=population, random_size=len(random), uncertain_size=len(uncertain), opinions=opinions,
        )  # fmt: skip
        connection.execute(sa.insert(SAMPLES).values(vars(made)))
        rows = [
            {
                "collection": made.collection, "stage": made.stage, "number": made.number, "place": place,
                "document_id": item.document_id, "partition": item.partition, "document_digest": item.document_digest,
                "stratum": stratum, "inclusion": inclusion,
            }
            for place, (item, stratum, inclusion) in enumerate(drawn)
        ]  # fmt: skip
        connection.execute(sa.insert(DOCUMENTS), rows)
    return made


def _problems(size: int, random_share: float, opinions: int) -> Iterator[str]:
    if not 1 <= size <= MOST:
        yield f"a sample has 1 to {MOST:,} documents, not {size}"
    if not (math.isfinite(random_share) and 0 <= random_share <= 1):
        yield f"the random part is a share from 0 to 1, not {random_share:g}"
    if not 1 <= opinions <= MOST_OPINIONS:
        yield f"1 to {MOST_OPINIONS} people are asked about a document, not {opinions}"


def _of(table: sa.TableClause, collection: str, stage: str) -> list[sa.ColumnElement[bool]]:
    return [table.c.collection == collection, table.c.stage == stage]


def _taken(connection: sa.Connection, collection: Collection, stage: ClassifyStage) -> set[str]:
    """Documents that need no draw: golden already, in a sample, or shown to the model with their label."""
    query = sa.select(DOCUMENTS.c.document_id).where(*_of(DOCUMENTS, collection.name, stage.name))
    sampled: set[str] = set(connection.execute(query).scalars())
    given = {item.document_id for item in golden_labels.newest(connection, collection.name, stage.name)}
    return sampled | given | {item.document for item in collection.golden_labels} | collection.shown


def _drawable(stores: "Stores", collection: Collection, stage: ClassifyStage, taken: set[str]) -> Iterator[_Drawable]:
    """Documents with a text that the stage has judged as it is, over all partitions."""
    for partition in golden_labels.partitions_of(stores, collection.name, stage.name):
        documents = stores.lake.manifest(collection.name, "documents", partition)
        judged = stores.lake.manifest(collection.name, stage.name, partition)
        if documents is None or judged is None:
            continue
        digests = {
            row["document_id"]: row["digest"]
            for row in stores.lake.rows(documents, ["document_id", "digest", "status"])
            if row["status"] == "ok" and row["document_id"] not in taken
        }
        for name, confidence in _confidences(stores, judged):
            if name in digests:
                yield _Drawable(
                    document_id=name, partition=partition, document_digest=digests[name], confidence=confidence
                )


def _confidences(stores: "Stores", judged: Manifest) -> Iterator[tuple[str, float]]:
    for row in stores.lake.rows(judged, ["document_id", "confidence"]):
        confidence = row["confidence"]
        yield row["document_id"], -1.0 if confidence is None else float(confidence)


def _chosen(
    drawable: Iterator[_Drawable], size: int, random_share: float, seed: str
) -> tuple[list[_Drawable], list[_Drawable], int]:
    """The random part, the least sure of the others, and how many documents there were; a sample's size in memory."""
    random_size = round(size * random_share)
    by_chance: list[tuple[float, str, _Drawable]] = []
    least_sure: list[tuple[float, str, _Drawable]] = []
    number = 0
    for item in drawable:
        number += 1
        _keep(by_chance, (-_chance(seed, item.document_id), item.document_id, item), random_size)
        _keep(least_sure, (-item.confidence, item.document_id, item), size)
    random = [item for _, _, item in by_chance]
    names = {item.document_id for item in random}
    others = [item for _, _, item in sorted(least_sure, reverse=True) if item.document_id not in names]
    return random, others[: size - random_size], number


def _keep(heap: list[tuple[float, str, _Drawable]], entry: tuple[float, str, _Drawable], most: int) -> None:
    """The largest entries, at most so many of them."""
    if len(heap) < most:
        heapq.heappush(heap, entry)
    elif heap and entry[:2] > heap[0][:2]:
        heapq.heapreplace(heap, entry)


def _chance(seed: str, document_id: str) -> float:
    """A number from 0 to 1 that the name alone does not tell."""
    found = hashlib.sha256(f"{seed}\0{document_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(found[:8]) / 2**64


# Asking


def samples(connection: sa.Connection, collection: str, stage: str) -> list[GoldenSample]:
    query = sa.select(SAMPLES).where(*_of(SAMPLES, collection, stage)).order_by(SAMPLES.c.number)
    return [GoldenSample(**row) for row in connection.execute(query).mappings()]


def asked(connection: sa.Connection, collection: Collection, stage: ClassifyStage) -> list[SampledDocument]:
    """All documents of all samples, in the order in which they are asked about."""
    opinions = {sample.number: sample.opinions for sample in samples(connection, collection.name, stage.name)}
    answers: dict[str, list[GivenLabel]] = {}
    for item in golden_labels.newest(connection, collection.name, stage.name):
        answers.setdefault(item.document_id, []).append(item)
    query = sa.select(DOCUMENTS).where(*_of(DOCUMENTS, collection.name, stage.name))
    rows = connection.execute(query.order_by(DOCUMENTS.c.number, DOCUMENTS.c.place)).mappings()
    return [_asked(dict(row), opinions[row["number"]], answers.get(row["document_id"], ())) for row in rows]


def _asked(row: Mapping[str, object], opinions: int, answers: Sequence[GivenLabel]) -> SampledDocument:
    place = LabelPlace(
        document_id=str(row["document_id"]),
        partition=str(row["partition"]),
        document_digest=str(row["document_digest"]),
        stratum=cast(Stratum, row["stratum"]),
        inclusion=cast(float, row["inclusion"]),
        sample=cast(int, row["number"]),
    )
    about = [item for item in answers if item.document_digest == place.document_digest or item.answer == "retired"]
    return SampledDocument(place=place, opinions=opinions, answers=about)


def waits_for(item: SampledDocument, person: str) -> bool:
    """Whether this person is asked: they have not answered, and fewer labels are there than are wanted."""
    if item.is_retired:
        return False
    labels = sum(answer.answer == "label" for answer in item.answers)
    mine = any(answer.author == person and answer.answer != "withdrawn" for answer in item.answers)
    return not mine and labels < item.opinions
