"""Other keys in place of those there are. Each change is a record, so the chain tells which key counted when."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ai_assets.errors import KeyChangeRefused, KeyUnknown
from ai_assets.signoff import audit, authority, keys
from ai_assets.signoff.keys import KINDS, Kind
from resources.settings import variable
from resources.state import StateStore


@dataclass(frozen=True, kw_only=True)
class Listed:
    key_id: str
    kind: str
    public: str
    """Base64."""
    since: int
    """The first record that it may have signed."""
    revoked_by: int | None
    """The record that took its power."""
    held: bool
    """Whether this process could sign with it."""


def listed(connection: sa.Connection) -> list[Listed]:
    """In the order in which they came; nothing before the first record."""
    if keys.trust_of(connection) is None:
        return []
    ring, known = keys.of(connection), authority.of(connection)
    mine = {ring.key_id(kind) for kind in KINDS if ring.holds(kind)}
    found = [
        Listed(
            key_id=key_id,
            kind=key.kind,
            public=keys.encoded(key.public),
            since=key.since,
            revoked_by=key.until,
            held=key_id in mine,
        )
        for key_id, key in known.keys.items()
    ]
    return sorted(found, key=lambda key: (key.since, key.kind))


def rotate(state: StateStore, kind: Kind, *, by: str) -> str:
    """A new key from now on; its id. The old one counts for what it signed, and further until it is revoked.

    The new key is on the disk before the record that vouches for it, and takes the old one's place after it: killed
    in between, the same command goes on.
    """
    folder = state.keys
    path, following = keys.file_of(folder, kind), keys.file_of(folder, kind).with_suffix(".next")
    if variable(keys.VARIABLES[kind]) is not None:
        raise KeyChangeRefused(kind, f"it is in {keys.VARIABLES[kind]}, which this command cannot replace")
    with state.write() as connection:
        audit.begin(connection)
        if not following.exists():
            _make(following, kind)
        public = keys.public_of(following)
        if keys.key_id(public) not in authority.of(connection).keys:
            _vouch(connection, kind, public, by)
    following.replace(path)
    return keys.key_id(public)


def _make(path: Path, kind: Kind) -> None:
    try:
        keys.new_private(path)
    except OSError as error:
        elsewhere = (
            "make it elsewhere (ai-assets keys new FOLDER) and have the chain vouch for it (ai-assets keys vouch)"
        )
        raise KeyChangeRefused(kind, f"{path} cannot be written ({error.strerror}); {elsewhere}") from error


def vouch(state: StateStore, kind: Kind, public: str, *, by: str) -> str:
    """Have the chain vouch for a key that is held elsewhere, by its public half (base64); its id."""
    try:
        raw = keys.decoded(public)
    except ValueError as error:
        raise KeyChangeRefused(kind, f"'{public[:60]}' is no public key: 32 bytes in base64") from error
    with state.write() as connection:
        audit.begin(connection)
        if keys.key_id(raw) in authority.of(connection).keys:
            raise KeyChangeRefused(kind, f"the key {keys.key_id(raw)} is known already")
        _vouch(connection, kind, raw, by)
    return keys.key_id(raw)


def _vouch(connection: sa.Connection, kind: Kind, public: bytes, by: str) -> None:
    subject = {"kind": kind, "key_id": keys.key_id(public), "public": keys.encoded(public)}
    audit.append(connection, by, "key added", subject)


def revoke(state: StateStore, key_id: str, *, by: str, reason: str) -> None:
    """Nothing that it signs after this counts, nor an approval of before that is not published yet."""
    with state.write() as connection:
        ring = audit.begin(connection)
        known: Mapping[str, authority.Key] = authority.of(connection).keys
        key = known.get(key_id)
        if key is None:
            raise KeyUnknown(key_id, sorted(known))
        if key.until is not None:
            raise KeyChangeRefused(key.kind, f"the key {key_id} is revoked already, by record number {key.until}")
        for kind in KINDS:
            if ring.holds(kind) and ring.key_id(kind) == key_id:
                raise KeyChangeRefused(kind, f"{key_id} is in use here; first: ai-assets keys rotate {kind}")
        audit.append(connection, by, "key revoked", {"kind": key.kind, "key_id": key_id, "reason": reason})
