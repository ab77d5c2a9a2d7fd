"""Ratings that people give on the desk: of one text that a stage made, on the scale of its judge.

The newest of each author counts, unless they took it back, and stands before one of theirs in the collection's file.
They change no row: they say how far the judge is right, so they make the scores of their partition due.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.evaluation.ratings import Rating
from ai_assets.signoff import audit
from ai_assets.signoff.errors import DecisionRefused, RatingRefused
from ai_assets.signoff.people import Person
from ai_assets.stages.judge import JudgeStage
from ai_assets.storage.digest import Json
from ai_assets.storage.state import now

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.storage.stores import Stores


@dataclass(frozen=True, kw_only=True)
class GivenRating:
    collection: str
    stage: str
    """The judge."""
    document_id: str
    output: str
    """The digest of the text that was read."""
    author: str
    number: int
    partition: str
    rating: str
    """As JSON: a number of the scale, or a word; null where its author took it back."""
    made_at: str

    @property
    def said(self) -> int | str | None:
        found: int | str | None = json.loads(self.rating)
        return found


TABLE = sa.table("judge_ratings", *(sa.column(each.name) for each in fields(GivenRating)))


def in_force(connection: sa.Connection, collection: str) -> list[GivenRating]:
    """The newest of each author and output, of all judges; in order."""
    query = sa.select(TABLE).where(TABLE.c.collection == collection)
    order = (TABLE.c.stage, TABLE.c.document_id, TABLE.c.output, TABLE.c.author, TABLE.c.number)
    found = [GivenRating(**row) for row in connection.execute(query.order_by(*order)).mappings()]
    return list({(each.stage, each.document_id, each.output, each.author): each for each in found}.values())


def beside(file: Iterable[Rating], given: Iterable[GivenRating], stage: str) -> list[Rating]:
    """Those of the file and of the desk, each output once by each author; none of whoever took theirs back."""
    found = {(item.document, item.output, item.author): item for item in file}
    for each in given:
        key = (each.document_id, each.output, each.author)
        if each.stage == stage and each.said is None:
            found.pop(key, None)
        elif each.stage == stage and each.said is not None:
            found[key] = Rating(document=each.document_id, output=each.output, rating=each.said, author=each.author)
    return list(found.values())


def described(given: Sequence[GivenRating], partition: str) -> list[list[str]]:
    """What of them counts for the scores of a partition."""
    return sorted(
        ["rated", each.stage, each.document_id, each.output, each.author, each.rating]
        for each in given
        if each.partition == partition
    )


def rate(
    stores: "Stores", collection: "Collection", stage: JudgeStage, document: str, output: str, word: str, *, by: Person
) -> GivenRating:
    """Record a person's own rating; the same one of the same text is not recorded again."""
    from ai_assets.signoff.judged_outputs import as_computed

    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"rating outputs takes the role reviewer in {collection.name}")
    said = next((each for each in stage.words if str(each) == word), None)
    if said is None:
        listed = ", ".join(map(str, stage.words))
        raise RatingRefused(document, f"the rating '{word[:60]}' is not on the scale of {stage.name}: {listed}")
    there = as_computed(stores, collection, stage)
    places = [
        partition
        for partition in there.there
        if any(each.digest == output for each in there.outputs(partition, {document}))
    ]
    if not places:
        raise RatingRefused(document, f"what {stage.judges} made of it has changed since it was shown")
    made = GivenRating(
        collection=collection.name, stage=stage.name, document_id=document, output=output, author=by.name, number=1,
        partition=places[0], rating=json.dumps(said), made_at=now(),
    )  # fmt: skip
    with stores.state.write() as connection:
        return _record(connection, made)


def withdraw(
    stores: "Stores", collection: "Collection", stage: JudgeStage, document: str, output: str, *, by: Person
) -> GivenRating:
    """A person's own rating counts no more, also after what was rated has changed. It stays on record."""
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"rating outputs takes the role reviewer in {collection.name}")
    with stores.state.write() as connection:
        mine = [
            each
            for each in in_force(connection, collection.name)
            if (each.stage, each.document_id, each.output, each.author) == (stage.name, document, output, by.name)
        ]
        if not mine or mine[0].said is None:
            raise RatingRefused(document, f"{by.name} has no rating of this text to take back")
        return _record(connection, replace(mine[0], rating=json.dumps(None), made_at=now()))


def _record(connection: sa.Connection, made: GivenRating) -> GivenRating:
    named = ("collection", "stage", "document_id", "output", "author")
    query = sa.select(TABLE).where(*(getattr(TABLE.c, name) == getattr(made, name) for name in named))
    row = connection.execute(query.order_by(TABLE.c.number.desc()).limit(1)).mappings().one_or_none()
    if row is not None and row["rating"] == made.rating:
        return GivenRating(**row)
    numbered = GivenRating(**{**vars(made), "number": row["number"] + 1 if row is not None else 1})
    connection.execute(sa.insert(TABLE).values(vars(numbered)))
    subject: dict[str, Json] = {
        "collection": numbered.collection, "partition": numbered.partition, "document": numbered.document_id,
        "stage": numbered.stage, "output": numbered.output, "number": numbered.number, "rating": numbered.rating,
    }  # fmt: skip
    audit.append(connection, numbered.author, "rated", subject)
    return numbered
