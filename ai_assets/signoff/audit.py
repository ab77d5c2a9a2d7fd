"""The audit chain: each record holds the hash of the one before, so that a change anywhere shows.

A record is written in the same transaction as what it tells of. Nothing else is an authority on who decided what.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.errors import AuditBroken
from resources.digest import Json, canonical_json, digest
from resources.state import now

Action = Literal[
    "requested", "viewed", "approved", "rejected", "sent back", "waived", "voided", "expired", "asked again",
    "reminded", "escalated", "noted", "corrected", "published", "rolled back", "resolved", "reconciled",
    "person added", "person disabled", "password set", "role given", "role taken", "group joined", "group left",
    "session ended", "budget set", "retry asked", "token made", "token revoked",
]  # fmt: skip
GENESIS = "0" * 64
RECORD_COLUMNS = ("seq", "recorded_at", "actor", "action", "subject", "previous_hash", "hash")
FINDABLE = ("collection", "request_id")
"""Keys of the subject that have a column, so that a question over a long chain reads few records."""
TABLE = sa.table("audit", *(sa.column(name) for name in (*RECORD_COLUMNS, *FINDABLE)))


@dataclass(frozen=True, kw_only=True)
class Record:
    seq: int
    recorded_at: str
    actor: str
    action: str
    subject: Mapping[str, Json]
    previous_hash: str
    hash: str

    def computed_hash(self) -> str:
        return digest(
            [self.seq, self.recorded_at, self.actor, self.action, self.subject, self.previous_hash],
        )


def append(connection: sa.Connection, actor: str, action: Action, subject: Mapping[str, Json]) -> Record:
    """Add a record inside the caller's write transaction; writers take turns, so there is one chain."""
    last = connection.execute(
        sa.text("SELECT seq, recorded_at, hash FROM audit ORDER BY seq DESC LIMIT 1")
    ).one_or_none()
    draft = Record(
        seq=last.seq + 1 if last else 1,
        recorded_at=max(now(), last.recorded_at) if last else now(),  # the clock may be moved back, the chain not
        actor=actor,
        action=action,
        subject=dict(subject),
        previous_hash=last.hash if last else GENESIS,
        hash="",
    )
    record = Record(**{**vars(draft), "hash": draft.computed_hash()})
    connection.execute(
        sa.text(
            "INSERT INTO audit (seq, recorded_at, actor, action, subject, previous_hash, hash, collection, request_id) "
            "VALUES (:seq, :recorded_at, :actor, :action, :subject, :previous_hash, :hash, :collection, :request_id)"
        ),
        {**vars(record), "subject": canonical_json(record.subject), **{name: subject.get(name) for name in FINDABLE}},
    )
    return record


def records(
    connection: sa.Connection, *, collection: str | None = None, request_ids: Sequence[str] | None = None
) -> Iterator[Record]:
    """All, or those about a collection or about requests, in order."""
    query = sa.select(*TABLE.c).order_by(TABLE.c.seq)
    if collection is not None:
        query = query.where(TABLE.c.collection == collection)
    if request_ids is not None:
        query = query.where(TABLE.c.request_id.in_(request_ids))
    for row in connection.execute(query).mappings():
        yield read(row)


def select(
    connection: sa.Connection,
    *,
    collections: Sequence[str] | None = None,
    actor: str | None = None,
    actions: Sequence[Action] | None = None,
    since: str | None = None,
    until: str | None = None,
    before: int | None = None,
    limit: int | None = None,
) -> list[Record]:
    """The newest records that match, newest first. With `collections`, records about no collection are left out."""
    query = sa.select(*TABLE.c).order_by(TABLE.c.seq.desc())
    for condition in (
        None if collections is None else TABLE.c.collection.in_(collections),
        None if actor is None else TABLE.c.actor == actor,
        None if actions is None else TABLE.c.action.in_(actions),
        None if since is None else TABLE.c.recorded_at >= since,
        None if until is None else TABLE.c.recorded_at <= until,
        None if before is None else TABLE.c.seq < before,
    ):
        if condition is not None:
            query = query.where(condition)
    return [read(row) for row in connection.execute(query.limit(limit)).mappings()]


def read(row: Mapping[Any, Any]) -> Record:
    """A row of the table as the record it holds; what only helps to find it must say the same."""
    try:
        subject = json.loads(row["subject"])
    except ValueError as error:
        raise AuditBroken(f"number {row['seq']}", "its subject is not JSON") from error
    for name in FINDABLE:
        if isinstance(subject, dict) and row[name] != subject.get(name):
            raise AuditBroken(f"number {row['seq']}", f"the table says {name} '{row[name]}', its subject does not")
    return Record(**{name: row[name] for name in RECORD_COLUMNS if name != "subject"}, subject=subject)


def release_record(manifest: str, index: tuple[str, int], created_at: str, created_by: str) -> str:
    """Digest of all that a stored release says; the chain has it from the moment of publication."""
    return digest([manifest, list(index), created_at, created_by])
