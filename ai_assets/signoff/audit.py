"""The audit chain: each record holds the hash of the one before, and is signed, so that a change anywhere shows.

A record is written in the same transaction as what it tells of. Nothing else is an authority on who decided what.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import sqlalchemy as sa

from ai_assets.signoff import keys
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.storage.digest import Json, canonical_json, digest
from ai_assets.storage.state import now

Action = Literal[
    "requested", "viewed", "approved", "rejected", "sent back", "waived", "voided", "expired", "asked again",
    "reminded", "escalated", "noted", "corrected", "labelled", "published", "rolled back", "resolved", "reconciled",
    "hold decided", "hold reminded", "hold escalated",
    "person added", "person disabled", "password set", "role given", "role taken", "group joined", "group left",
    "session ended", "budget set", "retry asked", "signing began", "key added", "key revoked", "statement signed",
    "token made", "token revoked",
    "restored",
    "hold placed", "hold released", "release pruned", "forgotten",
    "assigned", "unassigned",
    "canary accepted", "rated", "stopped", "target rebuilt",
]  # fmt: skip
RECORDED: frozenset[Action] = frozenset(
    (
        "requested",
        "voided",
        "expired",
        "reminded",
        "escalated",
        "published",
        "release pruned",
        "hold reminded",
        "hold escalated",
        "stopped",
    )
)
"""What runs and sensors record: the recorder key will do. All the rest takes the decision key."""
GENESIS = "0" * 64
SYSTEM = "ai-assets"
"""The actor of what nobody decided: requests, expiry, publication."""
HASHED_COLUMNS = ("seq", "recorded_at", "actor", "action", "subject", "previous_hash")
RECORD_COLUMNS = (*HASHED_COLUMNS, "hash", "key_id", "signature")
FINDABLE = ("collection", "request_id")
"""Keys of the subject that have a column, so that a question over a long chain reads few records."""
LARGE = 100_000
"""Characters of a subject: the publication of thousands of partitions is asked for at each question about what is live,
and is parsed and hashed once while the row stays the same to the letter."""
_LAST = sa.text("SELECT seq, recorded_at, hash FROM audit ORDER BY seq DESC LIMIT 1")
_INSERT = sa.text(
    f"INSERT INTO audit ({', '.join((*RECORD_COLUMNS, *FINDABLE))}) "  # noqa: S608
    f"VALUES ({', '.join(f':{name}' for name in (*RECORD_COLUMNS, *FINDABLE))})"
)
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
    key_id: str | None = None
    """Of the key that signed it; None in records that are older than the keys."""
    signature: str | None = None

    @property
    def name(self) -> str:
        """As errors name it."""
        return f"number {self.seq} ({self.action} by {self.actor} at {self.recorded_at})"

    def computed_hash(self) -> str:
        return self._computed_hash

    @cached_property
    def _computed_hash(self) -> str:
        return digest([getattr(self, name) for name in HASHED_COLUMNS])


def leaf_bytes(record: Record) -> bytes:
    """All of a record, as it counts in checkpoints and proofs."""
    return canonical_json({name: getattr(record, name) for name in RECORD_COLUMNS}).encode("utf-8", "surrogatepass")


def signed_bytes(chain: str, record_hash: str) -> bytes:
    """What the signature of a record is of: its hash, which holds the hash of the one before."""
    return f"ai-assets audit record\n{chain}\n{record_hash}".encode()


def append(connection: sa.Connection, actor: str, action: Action, subject: Mapping[str, Json]) -> Record:
    """Add a record inside the caller's write transaction; writers take turns, so there is one chain.

    It is signed by this process's key for such an action; a process without that key records nothing.
    """
    ring, last = _begun(connection)
    return _add(connection, ring, last, actor, action, subject)


def begin(connection: sa.Connection) -> keys.Keyring:
    """The keys, made where there are none. In a chain that is older than they are, the first signed record vouches for
    what came before, and for the passwords that there are."""
    return _begun(connection)[0]


def _begun(connection: sa.Connection) -> tuple[keys.Keyring, Any]:
    """The keys, and the last record."""
    ring = keys.of(connection)
    last: Any = connection.execute(_LAST).one_or_none()
    if last is not None and (last.seq, last.hash) == (ring.trust.unsigned, ring.trust.unsigned_head):
        rows = connection.execute(sa.text("SELECT name, password_hash FROM people WHERE password_hash IS NOT NULL"))
        passwords: dict[str, Json] = {row.name: digest(row.password_hash) for row in rows}
        subject: dict[str, Json] = {"records": last.seq, "head": last.hash, "passwords": passwords}
        last = _add(connection, ring, last, SYSTEM, "signing began", subject)
    return ring, last


def _add(
    connection: sa.Connection, ring: keys.Keyring, last: Any, actor: str, action: Action, subject: Mapping[str, Json]
) -> Record:
    draft = Record(
        seq=last.seq + 1 if last else 1,
        recorded_at=max(now(), last.recorded_at) if last else now(),  # the clock may be moved back, the chain not
        actor=actor,
        action=action,
        subject=dict(subject),
        previous_hash=last.hash if last else GENESIS,
        hash="",
    )
    unsigned = replace(draft, hash=draft.computed_hash())
    kind: keys.Kind = "recorder" if action in RECORDED and ring.holds("recorder") else "decision"
    signed = ring.sign(kind, signed_bytes(ring.trust.chain, unsigned.hash))
    record = replace(unsigned, key_id=signed.key_id, signature=signed.signature)
    found = {name: subject.get(name) for name in FINDABLE}
    connection.execute(_INSERT, {**vars(record), "subject": canonical_json(record.subject), **found})
    return record


def records(
    connection: sa.Connection,
    *,
    collection: str | None = None,
    request_ids: Sequence[str] | None = None,
    after: int = 0,
    until: int | None = None,
) -> Iterator[Record]:
    """All, or those about a collection or about requests, in order; after a number, up to a number."""
    query = sa.select(*TABLE.c).order_by(TABLE.c.seq)
    if collection is not None:
        query = query.where(TABLE.c.collection == collection)
    if request_ids is not None:
        query = query.where(TABLE.c.request_id.in_(request_ids))
    if after:
        query = query.where(TABLE.c.seq > after)
    if until is not None:
        query = query.where(TABLE.c.seq <= until)
    for row in connection.execute(query).mappings():
        yield read(row)


def get(connection: sa.Connection, seq: int) -> Record | None:
    row = connection.execute(sa.select(*TABLE.c).where(TABLE.c.seq == seq)).mappings().one_or_none()
    return None if row is None else read(row)


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
    read_ = _read_once if len(row["subject"]) > LARGE else _read
    return read_(*(row[name] for name in (*RECORD_COLUMNS, *FINDABLE)))


def _read(*values: Any) -> Record:
    row = dict(zip((*RECORD_COLUMNS, *FINDABLE), values, strict=True))
    found = {name: row.pop(name) for name in FINDABLE}
    try:
        subject = row["subject"] = json.loads(row["subject"])
    except ValueError as error:
        raise AuditBroken(f"number {row['seq']}", "its subject is not JSON") from error
    for name, value in found.items():
        if isinstance(subject, dict) and value != subject.get(name):
            raise AuditBroken(f"number {row['seq']}", f"the table says {name} '{value}', its subject does not")
    return Record(**row)


_read_once = lru_cache(maxsize=4)(_read)


def release_record(manifest: str, index: tuple[str, int], created_at: str, created_by: str) -> str:
    """Digest of all that a stored release says; the chain has it from the moment of publication."""
    return digest([manifest, list(index), created_at, created_by])
