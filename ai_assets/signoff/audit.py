"""The audit chain: each record holds the hash of the one before, so that a change anywhere shows.

A record is written in the same transaction as what it tells of. Nothing else is an authority on who decided what.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.errors import AuditBroken
from resources.digest import Json, canonical_json, digest
from resources.state import StateStore, now

Action = Literal["requested", "voided", "approved", "rejected", "published", "rolled back", "resolved"]
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
        if collection is None or (isinstance(subject, dict) and subject.get("collection") == collection):
            yield Record(**{**row, "subject": subject})


def release_record(manifest: str, index: tuple[str, int], created_at: str, created_by: str) -> str:
    """Digest of all that a stored release says; the chain has it from the moment of publication."""
    return digest([manifest, list(index), created_at, created_by])


@dataclass(frozen=True, kw_only=True)
class _Request:
    """A request as the chain tells of it; the names are those of the table's columns."""

    collection: str
    partition: str
    number: int
    digest: str
    summary: str
    """Its digest: people decide by it."""
    status: str = "open"
    closed_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Verified:
    records: int
    head: str
    """Hash of the last record; note it elsewhere to prove later that nothing was cut off the end."""


def verify(state: StateStore) -> Verified:
    """Walk the chain, then hold requests, releases and the live pointer against it. Raises on the first mismatch."""
    with state.read() as connection:
        previous, count = GENESIS, 0
        requests: dict[str, _Request] = {}
        published: dict[tuple[str, int], tuple[str, str]] = {}
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
            try:
                _replay(record, requests, published, live)
            except (KeyError, TypeError, ValueError) as error:
                raise AuditBroken(name, f"what it tells of is not in the records before it ({error})") from error
        _hold_tables(connection, requests, published, live)
    return Verified(count, previous)


def _replay(
    record: Record,
    requests: dict[str, _Request],
    published: dict[tuple[str, int], tuple[str, str]],
    live: dict[str, int],
) -> None:
    subject: Mapping[str, Any] = record.subject
    collection = subject["collection"]
    match record.action:
        case "requested":
            requests[subject["request_id"]] = _Request(
                collection=collection,
                partition=subject["partition"],
                number=subject["number"],
                digest=subject["digest"],
                summary=subject["summary"],
            )
        case "approved" if not subject["complete"]:
            pass
        case "approved" | "rejected" | "voided":
            status = "void" if record.action == "voided" else record.action
            closed = replace(requests[subject["request_id"]], status=status, closed_by=record.actor)
            requests[subject["request_id"]] = replace(closed, reason=subject["reason"])
        case "published":
            live[collection] = subject["release"]
            published[collection, subject["release"]] = (subject["digest"], subject["record"])
            for request in subject["requests"]:
                requests[request] = replace(requests[request], status="published")
        case "rolled back":
            live[collection] = subject["release"]


def _hold_tables(
    connection: sa.Connection,
    requests: Mapping[str, _Request],
    published: Mapping[tuple[str, int], tuple[str, str]],
    live: Mapping[str, int],
) -> None:
    found = connection.execute(
        sa.text("SELECT * FROM review_requests ORDER BY collection, partition, number")
    ).mappings()
    seen = set()
    for row in found:
        name = f"request {row['request_id']} ({row['collection']} {row['partition']})"
        recorded = requests.get(row["request_id"])
        if recorded is None:
            raise AuditBroken(name, "the table has it, the chain does not")
        for column, value in vars(recorded).items():
            stored = digest(row[column]) if column == "summary" else row[column]
            if stored != value:
                raise AuditBroken(name, f"the table says {column} '{stored}', the chain '{value}'")
        seen.add(row["request_id"])
    if missing := set(requests) - seen:
        raise AuditBroken(f"request {min(missing)}", "the chain has it, the table does not")
    releases = connection.execute(sa.text("SELECT * FROM releases ORDER BY collection, number")).all()
    for release in releases:
        index = (release.index_name, release.index_version)
        stored = release_record(release.manifest, index, release.created_at, release.created_by)
        if published.get((release.collection, release.number)) != (release.digest, stored):
            name = f"release {release.number} of {release.collection}"
            raise AuditBroken(name, "its content is not what was published")
    if gone := set(published) - {(release.collection, release.number) for release in releases}:
        raise AuditBroken(f"release {min(gone)[1]} of {min(gone)[0]}", "the chain has it, the table does not")
    pointers = {r.collection: r.number for r in connection.execute(sa.text("SELECT * FROM live_releases"))}
    for collection in sorted({*pointers, *live}):
        if pointers.get(collection) != live.get(collection):
            said = f"it says release {pointers.get(collection)}, the chain {live.get(collection)}"
            raise AuditBroken(f"live pointer of {collection}", said)
