"""The audit chain: each record holds the hash of the one before, so that a change anywhere shows.

A record is written in the same transaction as what it tells of. Nothing else is an authority on who decided what.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from ai_assets.errors import AuditBroken
from resources.digest import Json, canonical_json, digest
from resources.state import StateStore, now

Action = Literal["requested", "voided", "approved", "rejected", "published", "rolled back"]
GENESIS = "0" * 64


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
    last = connection.execute(sa.text("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")).one_or_none()
    draft = Record(
        seq=last.seq + 1 if last else 1,
        recorded_at=now(),
        actor=actor,
        action=action,
        subject=dict(subject),
        previous_hash=last.hash if last else GENESIS,
        hash="",
    )
    record = Record(**{**vars(draft), "hash": draft.computed_hash()})
    connection.execute(
        sa.text("INSERT INTO audit VALUES (:seq, :recorded_at, :actor, :action, :subject, :previous_hash, :hash)"),
        {**vars(record), "subject": canonical_json(record.subject)},
    )
    return record


def records(connection: sa.Connection, collection: str | None = None) -> Iterator[Record]:
    for row in connection.execute(sa.text("SELECT * FROM audit ORDER BY seq")).mappings():
        try:
            subject = json.loads(row["subject"])
        except ValueError as error:
            raise AuditBroken(f"number {row['seq']}", "its subject is not JSON") from error
        if collection is None or subject.get("collection") == collection:
            yield Record(**{**row, "subject": subject})


@dataclass(frozen=True)
class Verified:
    records: int
    head: str
    """Hash of the last record; note it elsewhere to prove later that nothing was cut off the end."""


def verify(state: StateStore) -> Verified:
    """Walk the chain, then hold requests, releases and the live pointer against it. Raises on the first mismatch."""
    with state.read() as connection:
        previous, count = GENESIS, 0
        closed: dict[str, tuple[str, str]] = {}
        published: dict[tuple[str, int], str] = {}
        live: dict[str, int] = {}
        for record in records(connection):
            name = f"number {record.seq} ({record.action} by {record.actor} at {record.recorded_at})"
            if record.seq != count + 1:
                raise AuditBroken(name, f"number {count + 1} is missing before it")
            if record.previous_hash != previous:
                raise AuditBroken(name, "it does not follow from the record before it")
            if record.computed_hash() != record.hash:
                raise AuditBroken(name, "its content is not what was recorded")
            previous, count = record.hash, record.seq
            _replay(record, closed, published, live)
        _hold_tables(connection, closed, published, live)
    return Verified(count, previous)


def _replay(
    record: Record,
    requests: dict[str, tuple[str, str]],
    published: dict[tuple[str, int], str],
    live: dict[str, int],
) -> None:
    subject = record.subject
    status = {"requested": "open", "voided": "void", "rejected": "rejected"}.get(record.action)
    if record.action == "approved":
        status = "approved" if subject["complete"] else "open"
    if status:
        requests[str(subject["request_id"])] = (str(subject["digest"]), status)
    if record.action in ("published", "rolled back"):
        collection, number = str(subject["collection"]), int(str(subject["release"]))
        live[collection] = number
        if record.action == "published":
            published[collection, number] = str(subject["digest"])
            for request in subject["requests"]:  # type: ignore[union-attr]
                requests[str(request)] = (requests[str(request)][0], "published")


def _hold_tables(
    connection: sa.Connection,
    requests: Mapping[str, tuple[str, str]],
    published: Mapping[tuple[str, int], str],
    live: Mapping[str, int],
) -> None:
    found = connection.execute(sa.text("SELECT request_id, digest, status FROM review_requests")).all()
    for row in found:
        if requests.get(row.request_id) != (row.digest, row.status):
            recorded = requests.get(row.request_id, ("nothing", "unknown"))
            raise AuditBroken(f"request {row.request_id}", f"the table says '{row.status}', the chain '{recorded[1]}'")
    if missing := set(requests) - {row.request_id for row in found}:
        raise AuditBroken(f"request {min(missing)}", "the chain has it, the table does not")
    releases = connection.execute(sa.text("SELECT collection, number, digest, manifest FROM releases")).all()
    for row in releases:
        parts = {name: part["digest"] for name, part in json.loads(row.manifest)["parts"].items()}
        if published.get((row.collection, row.number)) != row.digest or digest(parts) != row.digest:
            raise AuditBroken(f"release {row.number} of {row.collection}", "its content is not what was published")
    if gone := set(published) - {(row.collection, row.number) for row in releases}:
        raise AuditBroken(f"release {min(gone)[1]} of {min(gone)[0]}", "the chain has it, the table does not")
    for row in connection.execute(sa.text("SELECT collection, number FROM live_releases")):
        if live.get(row.collection) != row.number:
            raise AuditBroken(
                f"live pointer of {row.collection}",
                f"it says release {row.number}, the chain {live.get(row.collection)}",
            )
