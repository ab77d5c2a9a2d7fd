"""Other keys in place of those there are. Each change is a record, so the chain tells which key counted when."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.home import variable
from ai_assets.signoff import audit, authority, keys, statements
from ai_assets.signoff.audit_errors import KeyChangeRefused, KeyUnknown
from ai_assets.signoff.errors import OwnKeyRefused
from ai_assets.signoff.keys import KINDS, Kind
from ai_assets.signoff.people import Person
from ai_assets.signoff.personal_keys import PersonalKey
from ai_assets.storage.digest import Json
from ai_assets.storage.state import StateStore, now


@dataclass(frozen=True, kw_only=True)
class ListedKey:
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


def listed(connection: sa.Connection) -> list[ListedKey]:
    """In the order in which they came; nothing before the first record."""
    if keys.trust_of(connection) is None:
        return []
    ring, known = keys.of(connection), authority.of(connection)
    mine = {ring.key_id(kind) for kind in KINDS if ring.holds(kind)}
    found = [
        ListedKey(
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


def enrolment(connection: sa.Connection, person: str, key: PersonalKey) -> dict[str, Json]:
    """What is signed about a person's further key, now."""
    audit.begin(connection)
    return authority.of(connection).enrolment(person, key, now())


def add_own(
    state: StateStore,
    person: Person,
    key: PersonalKey,
    said: Mapping[str, Json],
    *,
    proof: str | None,
    vouched: str | None,
) -> None:
    """A key of somebody's own. `proof` is its signature of what was said, `vouched` that of one they have already."""
    with state.write() as connection:
        known = authority.of(connection)
        if key.key_id in known.personal:
            raise OwnKeyRefused(person.name, f"the key {key.key_id} was added before")
        expected = known.enrolment(person.name, key, str(said["at"]))
        if dict(said) != expected:
            raise OwnKeyRefused(person.name, "what was signed is not about this key; sign it again")
        mine = known.own_keys(person.name)
        if mine and vouched is None:
            raise OwnKeyRefused(
                person.name, f"they have a key already ({', '.join(sorted(mine))}), and a further one is signed with it"
            )
        by = statements.signed_by(connection, person.name, said, vouched).key_id if mine and vouched else None
        subject = {
            "kind": "person", "person": person.name, "type": key.type, "public": key.public, "key_id": key.key_id,
            "at": said["at"], "proof": proof, "vouched_by": by, "vouched": vouched if by else None,
        }  # fmt: skip
        record = audit.append(connection, person.name, "key added", subject)
        deepcopy(known).take(record)  # raises where the new key did not sign


def revoke_own(state: StateStore, key_id: str, *, by: str, reason: str) -> str:
    """Nothing that is signed with it from now on counts, nor an approval of before that is not published yet; whose."""
    with state.write() as connection:
        audit.begin(connection)
        known = authority.of(connection).personal
        if key_id not in known:
            raise KeyUnknown(key_id, sorted(known))
        if known[key_id].until is not None:
            raise KeyChangeRefused("personal", f"{key_id} is revoked already, by record number {known[key_id].until}")
        subject = {"kind": "person", "person": known[key_id].person, "key_id": key_id, "reason": reason}
        audit.append(connection, by, "key revoked", subject)
    return known[key_id].person
