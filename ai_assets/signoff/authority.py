"""Who may sign what, as the audit chain tells of it: the tables of people, roles and groups only mirror it.

Records about people and keys are few, and are found by an index. Each is checked before it counts: its hash, its
signature, and that the key was valid then. So a row that somebody wrote into a table gives nobody a right.
"""

import threading
from collections.abc import Container, Iterable, Mapping, Set
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import sqlalchemy as sa

from ai_assets.base.tenants import PLACE
from ai_assets.collection.settings import GROUP
from ai_assets.signoff import audit, keys, personal_keys
from ai_assets.signoff.audit import GENESIS, RECORDED, Action, Record, signed_bytes
from ai_assets.signoff.audit_errors import AuditBroken, SignatureInvalid
from ai_assets.signoff.errors import DecisionRefused
from ai_assets.signoff.personal_keys import PersonalKey
from ai_assets.storage.digest import Json, digest

if TYPE_CHECKING:
    from ai_assets.signoff.people import Person

Role = Literal["viewer", "reviewer", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may all that those before it may: see; comment and correct; decide, waive and roll back; see to people."""
EVERYWHERE = "*"
TOLD_OF: tuple[Action, ...] = (
    "signing began", "key added", "key revoked", "person added", "person disabled", "password set", "role given",
    "role taken", "group joined", "group left",
)  # fmt: skip
"""What changes who may do what."""
VERDICT_OF: Mapping[str, Action] = {"approve": "approved", "reject": "rejected", "send back": "sent back"}
OF_APPROVERS: frozenset[Action] = frozenset(("approved", "rejected", "sent back", "waived", "rolled back"))


@dataclass(kw_only=True)
class RecordedPerson:
    """A person, as the chain tells of them."""

    enabled: bool = True
    password: str | None = None
    """Digest of what is kept of it; None where they have none, or none is recorded."""
    groups: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Key:
    kind: str
    public: bytes
    since: int
    """The first record that it may sign."""
    until: int | None = None
    """The record that revoked it."""


@dataclass(kw_only=True)
class EnrolledKey:
    """A person's own key."""

    person: str
    key: PersonalKey
    since: int
    until: int | None = None


@dataclass
class Authority:
    """Up to some record. Records are given in order; each is checked before it changes anything."""

    trust: keys.Trust | None
    people: dict[str, RecordedPerson] = field(default_factory=dict)
    grants: dict[tuple[str, str], Role] = field(default_factory=dict)
    """By holder and collection."""
    keys: dict[str, Key] = field(default_factory=dict)
    personal: dict[str, EnrolledKey] = field(default_factory=dict)
    """Keys of persons, by id."""
    statements: dict[int, Record] = field(default_factory=dict)
    """What persons signed with them, by the record's number; only in a walk of the whole chain."""
    last: tuple[int, str] = (0, GENESIS)
    """Number and hash of the last record that was taken in."""
    older: list[str] = field(default_factory=list)
    """Hashes of the records that are older than the keys, in order, once they were walked."""
    signed: int = 0
    """Records that were walked and are signed."""
    vouched: int = 0
    """So many records stand by a signed checkpoint. Their signatures are not checked again, but for those that say who
    may decide: a checkpoint takes only the recorder key."""

    def __post_init__(self) -> None:
        for kind, publics in (self.trust.keys if self.trust else {}).items():
            self.keys |= {keys.key_id(public): Key(kind=kind, public=public, since=0) for public in publics}

    def require_signed(self, record: Record) -> None:
        """Raises `AuditBroken` unless the record is as it was written, by who had the key for that."""
        if record.computed_hash() != record.hash:
            raise AuditBroken(record.name, "its content is not what was recorded")
        self.require_signature(record)

    def stands(self, record: Record) -> bool:
        try:
            self.require_signed(record)
        except AuditBroken:
            return False
        return True

    def revoked(self, record: Record) -> bool:
        """Whether the key that signed it was revoked since."""
        key = self.keys.get(record.key_id or "")
        return key is not None and key.until is not None

    def require_signature(self, record: Record) -> None:
        if record.signature is None or record.key_id is None:
            if self.older[record.seq - 1 : record.seq] != [record.hash]:
                raise AuditBroken(record.name, "it is not signed")
            return
        if self.trust is None:
            raise AuditBroken(record.name, "it is signed, and there is no trust.json that says by whom")
        kinds = ("recorder", "decision") if record.action in RECORDED else ("decision",)
        try:
            self.check(kinds, record.key_id, record.seq, signed_bytes(self.trust.chain, record.hash), record.signature)
        except SignatureInvalid as error:
            raise AuditBroken(record.name, error.problem) from error

    def check(self, kinds: Iterable[str], key_id: str, at: int, data: bytes, signature: str) -> None:
        """Raises `SignatureInvalid` unless a key of these kinds that counted at that record signed the data."""
        key = self.keys.get(key_id)
        if key is None:
            raise SignatureInvalid(f"it is signed by the key {key_id}, which nobody vouches for")
        if key.kind not in kinds:
            raise SignatureInvalid(
                f"it is signed by the {key.kind} key {key_id}, and takes the {' or '.join(kinds)} key"
            )
        if at < key.since or (key.until is not None and at > key.until):
            raise SignatureInvalid(f"the key {key_id} did not count then")
        keys.check(key.public, data, signature)

    def pass_by(self, record: Record) -> None:
        """The next record of a chain that is walked from its start; its hash was checked."""
        older = self.trust is None or record.seq <= self.trust.unsigned
        if record.signature is None and older and not self.signed:
            self.older.append(record.hash)
        else:
            self.require_older()
            if record.seq > self.vouched or record.action in TOLD_OF:
                self.require_signature(record)
            self.signed += 1
        self.take(record)

    def require_older(self) -> None:
        """Raises unless the records without signature are exactly those that were there when the keys were made."""
        pinned = (self.trust.unsigned, self.trust.unsigned_head) if self.trust else None
        found = (len(self.older), self.older[-1] if self.older else "")
        if self.older and pinned is not None and found != pinned:
            raise AuditBroken(
                f"number {found[0]}", f"the records up to number {pinned[0]} that are older than the keys are not these"
            )

    def take(self, record: Record) -> None:
        """A record whose hash and signature were checked."""
        try:
            self._take(record)
        except (KeyError, TypeError, ValueError) as error:
            raise AuditBroken(record.name, f"what it tells of is not in the records before it ({error})") from error
        self.last = (record.seq, record.hash)

    def _take(self, record: Record) -> None:
        subject: Mapping[str, Any] = record.subject
        match record.action:
            case "signing began":
                for name, password in subject["passwords"].items():
                    self._person(name).password = password
            case "key added" if subject["kind"] in keys.KINDS:
                public = keys.decoded(subject["public"])
                self.keys[keys.key_id(public)] = Key(kind=subject["kind"], public=public, since=record.seq + 1)
            case "key added":
                self._take_personal(record)
            case "key revoked" if subject["key_id"] in self.keys:
                self.keys[subject["key_id"]].until = record.seq
            case "key revoked":
                self.personal[subject["key_id"]].until = record.seq
            case "statement signed":
                if record.seq > self.vouched:
                    self.require_statement(record)
                self.statements[record.seq] = record
            case "person added":
                known = self.people.setdefault(subject["person"], RecordedPerson())
                known.enabled = True
                known.password = subject.get("password_digest") or known.password
            case "person disabled":
                self._person(subject["person"]).enabled = False
            case "password set":
                self._person(subject["person"]).password = subject.get("password_digest")
            case "role given":
                self.grants[subject["person"], subject["in"]] = subject["role"]
            case "role taken":
                self.grants.pop((subject["person"], subject["in"]), None)
            case "group joined":
                self._person(subject["person"]).groups.add(subject["group"])
            case "group left":
                self._person(subject["person"]).groups.discard(subject["group"])
            case "forgotten" if record.signature is not None:
                self.require_approver(record, "admin")
            case action if action in OF_APPROVERS and record.signature is not None:
                self.require_approver(record)
                if (number := subject.get("statement")) is not None:
                    require_stated(record, self.statements[number])

    def require_approver(self, record: Record, role: Role = "approver") -> None:
        """Raises unless who decided was known then, not disabled, and an approver (or more) there."""
        collection, groups = str(record.subject["collection"]), record.subject.get("groups")
        problem = self.why_no_approver(record.actor, collection, groups, role, record.subject.get("tenant"))
        if problem is not None:
            raise AuditBroken(record.name, problem)

    def why_no_approver(
        self, name: str, collection: str, groups: Any, role: Role = "approver", tenant: Any = None
    ) -> str | None:
        """`tenant`: of the collection then, where a role in all of it is what counts."""
        known = self.people.get(name)
        if known is None:
            return f"nobody of the name {name} was known then"
        if not known.enabled:
            return f"{name} was disabled then"
        holders = [name, *(f"{GROUP}{group}" for group in groups or ())]
        places = (collection, EVERYWHERE, *([f"{PLACE}{tenant}"] if tenant else []))
        found = [self.grants.get((holder, place)) for holder in holders for place in places]
        if max((ROLES.index(given) for given in found if given), default=-1) < ROLES.index(role):
            return f"{name} did not have the role {role} in {collection} then"
        return None

    def why_not(self, by: "Person", collection: str) -> str | None:
        """Of somebody who is about to decide."""
        rights = by.recorded_rights(collection)
        return self.why_no_approver(by.name, collection, rights["groups"], tenant=rights.get("tenant"))

    def require_roles(self, given: Mapping[tuple[str, str], str], holders: Container[str]) -> None:
        """Raises `AuditBroken` unless these holders have the roles that the chain tells of."""
        told = {place: role for place, role in self.grants.items() if place[0] in holders}
        for place in sorted({*given, *told}):
            if (here := given.get(place)) != (there := told.get(place)):
                holder, collection = place
                found = f"the table says {here or 'none'}, the chain {there or 'none'}"
                raise AuditBroken(f"role of {holder} in {collection}", found)

    def require_groups(self, members: Set[tuple[str, str]], names: Container[str]) -> None:
        """Raises `AuditBroken` unless these people are in the groups, by person and group, that the chain tells of."""
        told = {(name, group) for name, known in self.people.items() if name in names for group in known.groups}
        for name, group in sorted(members ^ told):
            raise one_sided(f"{name} in group {group}", in_table=(name, group) in members)

    def own_keys(self, name: str) -> dict[str, EnrolledKey]:
        """Those of a person that count."""
        return {
            key_id: own for key_id, own in self.personal.items() if own.person == name and own.until is None
        }  # fmt: skip

    def _take_personal(self, record: Record) -> None:
        """A person's first key takes their password at the time; each further one the signature of one they have."""
        subject: Mapping[str, Any] = record.subject
        key = PersonalKey(type=subject["type"], public=subject["public"])
        person, mine = subject["person"], self.own_keys(subject["person"])
        self._person(person)
        said = personal_keys.statement(self.enrolment(person, key, subject["at"]))
        try:
            if key.type != "webauthn":
                personal_keys.verify(key, said, subject["proof"])
            if mine:
                personal_keys.verify(mine[subject["vouched_by"]].key, said, subject["vouched"])
        except SignatureInvalid as error:
            raise AuditBroken(record.name, error.problem) from error
        self.personal[key.key_id] = EnrolledKey(person=person, key=key, since=record.seq + 1)

    def enrolment(self, person: str, key: PersonalKey, at: str) -> dict[str, Json]:
        """What is signed about a further key."""
        chain = self.trust.chain if self.trust else ""
        return {"ai-assets": "key", "chain": chain, "person": person, "type": key.type, "public": key.public, "at": at}

    def require_statement(self, record: Record) -> None:
        """Raises `AuditBroken` unless the person signed that with a key of theirs that counted then."""
        subject: Mapping[str, Any] = record.subject
        own = self.personal.get(subject["key_id"])
        if own is None or own.person != record.actor:
            raise AuditBroken(record.name, f"{subject['key_id']} is no key of {record.actor}")
        if record.seq < own.since or (own.until is not None and record.seq > own.until):
            raise AuditBroken(record.name, f"the key {subject['key_id']} did not count then")
        try:
            personal_keys.verify(own.key, personal_keys.statement(subject["statement"]), subject["signature"])
        except SignatureInvalid as error:
            raise AuditBroken(record.name, error.problem) from error

    def _person(self, name: str) -> RecordedPerson:
        return self.people[name]  # a KeyError says of a record that what it tells of is not in those before it


def one_sided(name: str, *, in_table: bool, what: str = "it") -> AuditBroken:
    """Of what only one of table and chain has."""
    has, lacks = ("table", "chain") if in_table else ("chain", "table")
    return AuditBroken(name, f"the {has} has {what}, the {lacks} does not")


def require_stated(decision: Record, stated: Record) -> None:
    """Raises `AuditBroken` unless the decision is what its person signed."""
    subject: Mapping[str, Any] = decision.subject
    said: Any = stated.subject["statement"]
    meant = "approved" if decision.action == "waived" else decision.action  # a waiver is part of an approval
    wanted = [subject["request_id"], subject["digest"]]
    if (stated.actor, VERDICT_OF.get(said["verdict"])) != (decision.actor, meant) or wanted not in said["requests"]:
        raise AuditBroken(decision.name, f"it is not what {decision.actor} signed in record number {stated.seq}")


_guard = threading.Lock()
_remembered: dict[tuple[str, str], Authority] = {}


def require_approver(connection: sa.Connection, by: "Person", collection: str, what: str) -> None:
    """Raises `DecisionRefused` unless the person may do it, by their roles and by the chain."""
    if not by.may("approver", collection):
        raise DecisionRefused(by.name, f"{what} takes the role approver in {collection}")
    if problem := of(connection).why_not(by, collection):
        raise DecisionRefused(by.name, f"by the audit chain {problem}")


def of(connection: sa.Connection) -> Authority:
    """As the chain is now, read by this transaction; to be read only.

    Remembered between calls: only what is new is read and checked.
    """
    trust = keys.trust_of(connection)
    place = (str(connection.engine.url), str(trust))
    with _guard:
        remembered = _remembered.get(place)
    if remembered is not None and (not remembered.last[0] or _has(connection, *remembered.last)):
        new = _told_of(connection, since=remembered.last[0])
        if not new:
            return remembered
        found = deepcopy(remembered)
    else:
        found = Authority(trust)
        if trust is None:
            _take_older(connection, found, None)
        elif trust.unsigned and _has(connection, trust.unsigned, trust.unsigned_head):
            _take_older(connection, found, trust.unsigned)
        new = _told_of(connection, since=found.last[0])
    for record in new:
        found.require_signed(record)
        found.take(record)
    with _guard:
        _remembered[place] = found
    return found


def require_signed(connection: sa.Connection, record: Record) -> None:
    """Raises `AuditBroken` unless this one record is as it was written, by who had the key for that."""
    of(connection).require_signed(record)


def _take_older(connection: sa.Connection, found: Authority, until: int | None) -> None:
    """What is older than the keys: the hash of its last record stands for all, so each link is looked at."""
    previous = GENESIS
    for record in audit.records(connection, until=until):
        if (record.seq, record.previous_hash) != (len(found.older) + 1, previous):
            raise AuditBroken(record.name, "it does not follow from the record before it")
        if record.computed_hash() != record.hash:
            raise AuditBroken(record.name, "its content is not what was recorded")
        found.older.append(record.hash)
        previous = record.hash
        if record.action in TOLD_OF:
            found.take(record)
    found.last = (len(found.older), previous)


def _told_of(connection: sa.Connection, since: int) -> list[Record]:
    query = sa.select(*audit.TABLE.c).where(audit.TABLE.c.action.in_(TOLD_OF), audit.TABLE.c.seq > since)
    return [audit.read(row) for row in connection.execute(query.order_by(audit.TABLE.c.seq)).mappings()]


def _has(connection: sa.Connection, seq: int, record_hash: str) -> bool:
    query = sa.text("SELECT hash FROM audit WHERE seq = :seq")
    return connection.execute(query, {"seq": seq}).scalar_one_or_none() == record_hash


def password_digest(password_hash: str | None) -> str | None:
    """What a record says of a password: not what is kept of it, but its digest."""
    return None if password_hash is None else digest(password_hash)
