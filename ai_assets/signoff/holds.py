"""Held documents: what waits for a person, what people say of it, and what that comes to.

A decision is about one text and one answer of one stage: while both stay as they are it holds, whatever else is
computed again. Of two reviewers who differ a third decides. A correction is recorded with the decision that
makes it final.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal

import sqlalchemy as sa

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, corrections, requests
from ai_assets.signoff.corrections import Correction
from ai_assets.signoff.errors import DecisionRefused, HeldDecisionRefused
from ai_assets.signoff.people import Person
from ai_assets.stages.base import StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.state import StateStore, now, storable

Verdict = Literal["accept", "correct", "reject"]
HELD = "held"
"""Among the code versions of a candidate: what it leaves out or marks, and why. Also the column of what is marked."""


@dataclass(frozen=True, kw_only=True)
class HeldDocument:
    """What a stage says of a document waits for a person."""

    collection: str
    partition: str
    stage: str
    document_id: str
    document_digest: str
    answer_digest: str
    """Of what the stage itself says, without its confidence and without corrections."""
    answer: str | None
    """In short, as people read it."""
    confidence: float | None
    kinds: tuple[str, ...]
    why: tuple[str, ...]
    value: float
    """The error to be expected times how much the document is used: what deciding it is worth."""
    held_at: str
    sla_step: int = 0

    @property
    def subject(self) -> tuple[str, str, str, str]:
        return self.stage, self.document_id, self.document_digest, self.answer_digest


@dataclass(frozen=True, kw_only=True)
class HoldDecision:
    collection: str
    stage: str
    document_id: str
    author: str
    number: int
    """Counts those of this author about the document; the highest is in force."""
    seq: int
    """Counts all of the collection."""
    partition: str
    document_digest: str
    answer_digest: str
    decision: Verdict
    label: str | None
    """What is right, where that is another label."""
    said: str | None
    """The label that was looked at. Of other stages nothing: the chain keeps no text of a document."""
    reason: str
    made_at: str

    @property
    def subject(self) -> tuple[str, str, str, str]:
        return self.stage, self.document_id, self.document_digest, self.answer_digest

    @property
    def word(self) -> tuple[str, str | None]:
        """What two people must have in common to agree."""
        return self.decision, self.label


HELD_TABLE = sa.table("held_documents", *(sa.column(field.name) for field in fields(HeldDocument)))
TABLE = sa.table("hold_decisions", *(sa.column(field.name) for field in fields(HoldDecision)))


@dataclass(frozen=True, kw_only=True)
class HoldRuling:
    """What the decisions about one text and answer come to."""

    decided: HoldDecision | None
    """None while more people are needed."""
    given: Sequence[HoldDecision]
    """The newest of each author, in the order in which they first spoke."""

    @property
    def disagreed(self) -> bool:
        return len({each.word for each in self.given}) > 1

    @property
    def authors(self) -> tuple[str, ...]:
        return tuple(each.author for each in self.given)


def ruling(decisions: Iterable[HoldDecision], reviewers: int) -> HoldRuling:
    """One reviewer: the newest word counts. Two: what the first two agree on, else what the third says."""
    first: dict[str, int] = {}
    last: dict[str, HoldDecision] = {}
    for each in sorted(decisions, key=lambda each: each.seq):
        first.setdefault(each.author, each.seq)
        last[each.author] = each
    given = sorted(last.values(), key=lambda each: first[each.author])
    if reviewers == 1:
        return HoldRuling(decided=max(given, key=lambda each: each.seq, default=None), given=given)
    if len(given) < reviewers:
        return HoldRuling(decided=None, given=given)
    agreed = len({each.word for each in given[:2]}) == 1
    return HoldRuling(decided=given[1] if agreed else given[2] if len(given) > 2 else None, given=given)


@dataclass(frozen=True)
class HoldDecisions:
    """All that count at one moment."""

    every: Sequence[HoldDecision] = ()

    @cached_property
    def _by_subject(self) -> Mapping[tuple[str, str, str, str], Sequence[HoldDecision]]:
        grouped: dict[tuple[str, str, str, str], list[HoldDecision]] = defaultdict(list)
        for each in self.every:
            grouped[each.subject].append(each)
        return grouped

    def about(self, subject: tuple[str, str, str, str], reviewers: int) -> HoldRuling:
        return ruling(self._by_subject.get(subject, ()), reviewers)

    def until(self, seq: int | None) -> "HoldDecisions":
        return self if seq is None else HoldDecisions([each for each in self.every if each.seq <= seq])

    def version(self, partition: str, until: int | None = None) -> str:
        """Of what was said in a partition; empty where nothing was."""
        said = [each.seq for each in self.until(until).every if each.partition == partition]
        return digest(said)[:32] if said else ""

    @property
    def partitions(self) -> set[str]:
        """Where something was said."""
        return {each.partition for each in self.every}

    @property
    def last(self) -> int:
        return max((each.seq for each in self.every), default=0)


# Looking


def decisions_of(connection: sa.Connection, collection: str) -> HoldDecisions:
    query = sa.select(TABLE).where(TABLE.c.collection == collection).order_by(TABLE.c.seq)
    return HoldDecisions([HoldDecision(**row) for row in connection.execute(query).mappings()])


def in_force(connection: sa.Connection, collection: Collection) -> HoldDecisions:
    """Of a collection that holds nothing, none."""
    return decisions_of(connection, collection.name) if collection.holding else HoldDecisions()


def known_until(request: requests.SignoffRequest | None) -> int | None:
    """Up to which decision the candidate that people are asked about knows them: what is decided meanwhile joins with
    a request of its own, once this one is closed. None where nobody is asked."""
    if request is None or request.status not in ("open", "approved"):
        return None
    found = json.loads(request.facts).get("hold_decisions")
    return int(found) if found is not None else None


def queue(
    connection: sa.Connection, collection: str, *, partition: str | None = None, stage: str | None = None
) -> list[HeldDocument]:
    """What waits, the most valuable first."""
    query = sa.select(HELD_TABLE).where(HELD_TABLE.c.collection == collection)
    if partition is not None:
        query = query.where(HELD_TABLE.c.partition == partition)
    if stage is not None:
        query = query.where(HELD_TABLE.c.stage == stage)
    query = query.order_by(HELD_TABLE.c.value.desc(), HELD_TABLE.c.document_id, HELD_TABLE.c.stage)
    return [_held(row) for row in connection.execute(query).mappings()]


def held_of(connection: sa.Connection, collection: str, document_id: str) -> list[HeldDocument]:
    query = sa.select(HELD_TABLE).where(HELD_TABLE.c.collection == collection, HELD_TABLE.c.document_id == document_id)
    return [_held(row) for row in connection.execute(query.order_by(HELD_TABLE.c.stage)).mappings()]


def count_documents(connection: sa.Connection, collection: str) -> int:
    query = sa.select(sa.func.count(HELD_TABLE.c.document_id.distinct())).where(HELD_TABLE.c.collection == collection)
    return int(connection.execute(query).scalar_one())


def _held(row: sa.RowMapping) -> HeldDocument:
    lists = {name: tuple(json.loads(row[name])) for name in ("kinds", "why")}
    return HeldDocument(**{**row, **lists})


# Written by a run


def keep(connection: sa.Connection, collection: str, partition: str, held: Sequence[HeldDocument]) -> None:
    """The queue of a partition, as its candidate leaves it. Who waits already goes on waiting since then."""
    query = sa.select(HELD_TABLE).where(HELD_TABLE.c.collection == collection, HELD_TABLE.c.partition == partition)
    before = {each.subject: each for each in map(_held, connection.execute(query).mappings())}
    wanted = [
        replace(each, held_at=old.held_at, sla_step=old.sla_step) if (old := before.get(each.subject)) else each
        for each in held
    ]
    if {each.subject: each for each in wanted} == before:
        return
    connection.execute(
        sa.delete(HELD_TABLE).where(HELD_TABLE.c.collection == collection, HELD_TABLE.c.partition == partition)
    )
    for each in wanted:  # a document that moved to this partition waits here only
        named = {"collection": collection, "stage": each.stage, "document_id": each.document_id}
        connection.execute(sa.delete(HELD_TABLE).where(*(HELD_TABLE.c[key] == value for key, value in named.items())))
        row = {**vars(each), "kinds": json.dumps(each.kinds), "why": json.dumps(each.why)}
        connection.execute(sa.insert(HELD_TABLE).values(row))


# Deciding


def decide(
    state: StateStore,
    collection: Collection,
    held: HeldDocument,
    verdict: Verdict,
    *,
    label: str | None = None,
    reason: str = "",
    by: Person,
) -> HoldRuling:
    """Record what a person says of a held document. The same word about the same text and answer is recorded once.

    What is looked up in the transaction decides: a document that does not wait any more, or waits with another text or
    answer than was shown, is not decided.
    """
    stage = _stage_of(collection, held)
    label = _require(collection, stage, held, verdict, label, reason, by)
    with state.write() as connection:
        waiting = {each.stage: each for each in held_of(connection, collection.name, held.document_id)}
        current = waiting.get(held.stage)
        if current is None:
            raise HeldDecisionRefused(held.document_id, f"it does not wait for anybody in '{held.stage}' any more")
        if current.subject != held.subject:
            raise HeldDecisionRefused(
                held.document_id, "its text or its answer has changed since it was shown; look again"
            )
        assert stage.hold is not None
        known = [each for each in decisions_of(connection, collection.name).every if each.subject == held.subject]
        shown = current if isinstance(stage, ClassifyStage) else replace(current, answer=None)
        made = _made(connection, known, shown, verdict, label, reason, by)
        if made is not None:
            known.append(made)
        found = ruling(known, stage.hold.reviewers)
        if made is not None and found.decided is not None:
            _correct(connection, stage, current, found.decided)
        return found


def _made(
    connection: sa.Connection,
    known: Sequence[HoldDecision],
    held: HeldDocument,
    verdict: Verdict,
    label: str | None,
    reason: str,
    by: Person,
) -> HoldDecision | None:
    """None where this person said just that already."""
    mine = [each for each in known if each.author == by.name]
    if mine and max(mine, key=lambda each: each.seq).word == (verdict, label):
        return None
    last = sa.select(sa.func.max(TABLE.c.seq)).where(TABLE.c.collection == held.collection)
    named = (TABLE.c.stage == held.stage, TABLE.c.document_id == held.document_id, TABLE.c.author == by.name)
    number = sa.select(sa.func.max(TABLE.c.number)).where(TABLE.c.collection == held.collection, *named)
    made = HoldDecision(
        collection=held.collection, stage=held.stage, document_id=held.document_id, author=by.name,
        number=(connection.execute(number).scalar_one() or 0) + 1,
        seq=(connection.execute(last).scalar_one() or 0) + 1,
        partition=held.partition, document_digest=held.document_digest, answer_digest=held.answer_digest,
        decision=verdict, label=label, said=held.answer, reason=storable(reason.strip()) or "", made_at=now(),
    )  # fmt: skip
    connection.execute(sa.insert(TABLE).values(vars(made)))
    audit.append(connection, made.author, "hold decided", subject_of(made))
    return made


def _correct(connection: sa.Connection, stage: StageSettings, held: HeldDocument, made: HoldDecision) -> None:
    """A label that people settled on is a correction; it takes the place of one that was there before."""
    if not isinstance(stage, ClassifyStage) or made.decision == "reject":
        return
    found = corrections.current(connection, held.collection, held.partition).get((held.stage, held.document_id))
    stands = found is not None and found.document_digest == held.document_digest
    label = made.label if made.decision == "correct" else held.answer if stands else None
    if label is not None:
        correction = Correction(
            collection=held.collection, stage=held.stage, document_id=held.document_id, number=0,
            partition=held.partition, document_digest=held.document_digest, label=label, was=held.answer,
            author=made.author, reason=made.reason, made_at=made.made_at,
        )  # fmt: skip
        corrections.record(connection, correction, None)


def subject_of(item: HoldDecision) -> dict[str, Json]:
    """What the chain says of a decision: all of it but its author and the time of the record, which are its own."""
    return {
        "collection": item.collection, "partition": item.partition, "document": item.document_id, "stage": item.stage,
        "number": item.number, "seq": item.seq, "decision": item.decision, "label": item.label, "said": item.said,
        "document_digest": item.document_digest, "answer_digest": item.answer_digest, "reason": item.reason,
    }  # fmt: skip


def _stage_of(collection: Collection, held: HeldDocument) -> StageSettings:
    stage = next((each for each in collection.holding if each.name == held.stage), None)
    if stage is None:
        raise HeldDecisionRefused(held.document_id, f"stage '{held.stage}' of {collection.name} holds nothing")
    return stage


def _require(
    collection: Collection,
    stage: StageSettings,
    held: HeldDocument,
    verdict: Verdict,
    label: str | None,
    reason: str,
    by: Person,
) -> str | None:
    """What is right, where that is another label than the one that stands."""
    if not by.may("reviewer", collection.name):
        raise DecisionRefused(by.name, f"deciding held documents takes the role reviewer in {collection.name}")
    if verdict != "correct":
        if label is not None:
            raise HeldDecisionRefused(held.document_id, f"a label belongs to 'correct', not to '{verdict}'")
        if verdict == "reject" and not reason.strip():
            raise HeldDecisionRefused(
                held.document_id, "rejecting takes a reason: it is what readers see of the document"
            )
        return None
    if not isinstance(stage, ClassifyStage):
        raise HeldDecisionRefused(
            held.document_id, f"stage '{held.stage}' gives no label to correct; accept or reject it"
        )
    names = stage.names
    if label not in names:
        raise HeldDecisionRefused(
            held.document_id, f"'{label}' is no label of '{held.stage}'{nearest(str(label), names)}"
        )
    return label
