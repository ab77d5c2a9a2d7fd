"""Thresholds that were certified: what a refresh found, when, and from which labels. A row where something changed."""

from dataclasses import dataclass, fields, replace

import sqlalchemy as sa

from ai_assets.storage.state import now


@dataclass(frozen=True, kw_only=True)
class HoldCertificate:
    collection: str
    stage: str
    number: int
    threshold: float | None
    """None: nothing is accepted without a person."""
    error: float
    confidence: float
    labels: int
    labels_digest: str
    """Of the labels that counted, with what the model said of each, and how sure it was."""
    said: str
    """The guarantee, or why there is none, in a sentence."""
    run_id: str
    made_at: str


TABLE = sa.table("hold_certificates", *(sa.column(field.name) for field in fields(HoldCertificate)))


def record(connection: sa.Connection, found: HoldCertificate) -> HoldCertificate:
    """Its number is given here; one that says the same as the newest is that one."""
    last = newest(connection, found.collection, found.stage)
    if last is not None and _same(last, found):
        return last
    made = replace(found, number=last.number + 1 if last else 1, made_at=now())
    connection.execute(sa.insert(TABLE).values(vars(made)))
    return made


def _same(one: HoldCertificate, other: HoldCertificate) -> bool:
    return replace(one, number=0, run_id="", made_at="") == replace(other, number=0, run_id="", made_at="")


def newest(connection: sa.Connection, collection: str, stage: str) -> HoldCertificate | None:
    found = every(connection, collection, stage)
    return found[-1] if found else None


def every(connection: sa.Connection, collection: str, stage: str | None = None) -> list[HoldCertificate]:
    """The oldest first."""
    query = sa.select(TABLE).where(TABLE.c.collection == collection)
    if stage is not None:
        query = query.where(TABLE.c.stage == stage)
    rows = connection.execute(query.order_by(TABLE.c.stage, TABLE.c.number)).mappings()
    return [HoldCertificate(**row) for row in rows]
