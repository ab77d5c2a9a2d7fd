"""Deadlines of held documents: people are reminded that some wait, and it is escalated. Nothing is decided by waiting.

A step is a record in the audit chain and one message per stage, whatever the number of documents, in one transaction. A
message names no document: what is held is on the desk, for those who may see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, holds, outbox
from ai_assets.signoff.held_status import held_status
from ai_assets.signoff.outbox import HeldNews
from ai_assets.signoff.people import SYSTEM
from ai_assets.signoff.sla import in_words, opened_by
from ai_assets.stages.hold_settings import HoldSettings
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.state import StateStore


@dataclass(frozen=True, kw_only=True)
class _HeldStep:
    kind: Literal["hold reminded", "hold escalated"]
    number: int
    hours: float


def advance_held(state: StateStore, collections: Sequence[Collection], moment: str) -> int:
    """Take the steps that are due, each once; how many there were."""
    taken = 0
    for collection in collections:
        for stage in collection.holding:
            if stage.hold is not None and _any_due(state, collection, stage.name, stage.hold, moment):
                with state.write() as connection:
                    taken += _take(connection, collection, stage.name, stage.hold, moment)
    return taken


def _steps(hold: HoldSettings) -> list[_HeldStep]:
    """The last first: where both are due, only the last is taken."""
    found = []
    if hold.escalate_after_hours is not None:
        found.append(_HeldStep(kind="hold escalated", number=2, hours=hold.escalate_after_hours))
    if hold.remind_after_hours is not None:
        found.append(_HeldStep(kind="hold reminded", number=1, hours=hold.remind_after_hours))
    return found


def _due(collection: Collection, stage: str, step: _HeldStep, moment: str) -> list[sa.ColumnElement[bool]]:
    table = holds.HELD_TABLE.c
    cutoff = opened_by(moment, step.hours, collection.settings.signoff.sla)
    return [
        table.collection == collection.name, table.stage == stage, table.held_at <= cutoff,
        table.sla_step < step.number,
    ]  # fmt: skip


def _any_due(state: StateStore, collection: Collection, stage: str, hold: HoldSettings, moment: str) -> bool:
    with state.read() as connection:
        return any(
            connection.execute(
                sa.select(sa.literal(1)).where(*_due(collection, stage, step, moment)).limit(1)
            ).first()
            for step in _steps(hold)
        )  # fmt: skip


def _take(connection: sa.Connection, collection: Collection, stage: str, hold: HoldSettings, moment: str) -> int:
    rules, taken = collection.settings.signoff, 0
    for step in _steps(hold):
        due = _due(collection, stage, step, moment)
        query = sa.select(holds.HELD_TABLE.c.document_id).where(*due)
        names: set[str] = {*connection.execute(query).scalars()}
        connection.execute(sa.update(holds.HELD_TABLE).where(*due).values(sla_step=step.number))
        waiting = [
            item.held
            for item in held_status(connection, collection, stage=stage).items
            if item.held.document_id in names and item.ruling.decided is None
        ]
        if not waiting:
            continue
        channels = (rules.escalate_notify or rules.notify) if step.kind == "hold escalated" else rules.notify
        told: dict[str, Json] = {"collection": collection.name, "stage": stage, "documents": len(waiting),
                                 "channels": list(channels)}  # fmt: skip
        audit.append(connection, SYSTEM, step.kind, told)
        outbox.make(connection, [_news(collection, stage, step, waiting)], channels, moment)
        taken += 1
    return taken


def _news(collection: Collection, stage: str, step: _HeldStep, waiting: Sequence[holds.HeldDocument]) -> HeldNews:
    number = plural(len(waiting), "document waits", "documents wait")
    waited = in_words(step.hours, collection.settings.signoff.sla)
    subjects = sorted([*each.subject, each.held_at] for each in waiting)
    return HeldNews(
        about=digest([collection.name, stage, step.kind, subjects])[:32],
        collection=collection.name,
        title=f"{collection.name}: {number} for a person in {stage}, for {waited} or longer",
        body="The other documents go on without them. Nothing is accepted by waiting.",
        kind=step.kind,
    )  # fmt: skip
