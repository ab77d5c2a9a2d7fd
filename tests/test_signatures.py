# ruff: noqa: E501  an attack is a row, and a row is a line
"""Claims about signatures: what only knows the state store forges nothing; what is older than the keys still counts.

The attacker here may write every table, knows all code and computes hashes correctly; the keys are files.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from signing import PASSWORD, current, decide, known, somebody

from ai_assets.base.home import DECISION_KEY_VARIABLE, NO_KEY, RECORDER_KEY_VARIABLE, TRUST_VARIABLE
from ai_assets.collection.loading import Collection
from ai_assets.desk import sessions
from ai_assets.desk.settings import SessionSettings
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import audit, decisions, key_changes, keys, passwords, people, requests, verification
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import (
    AuditBroken,
    AuditKeyUnusable,
    KeyChangeRefused,
    KeyNotHeld,
    KeysMissing,
    KeyUnknown,
)
from ai_assets.signoff.errors import ApprovalInsufficient, DecisionRefused, NothingApproved
from ai_assets.signoff.publication import publish
from ai_assets.storage.digest import canonical_json
from ai_assets.storage.state import StateStore, now
from ai_assets.storage.stores import Stores

DAY = "2026-10-05"


@pytest.fixture
def notes(project: Project) -> Collection:
    """One day with two documents, computed: a request waits."""
    project.documents(per_day=2, days=1)
    collection = project.declare()
    project.refresh(collection)
    return collection


@pytest.fixture
def stores(project: Project, notes: Collection) -> Stores:
    return project.stores()


def last(connection: sa.Connection) -> Record:
    return audit.select(connection, limit=1)[0]


def forge(connection: sa.Connection, actor: str, action: Any, subject: Mapping[str, Any], **other: Any) -> Record:
    """A record as only the state store is needed for it: linked and hashed correctly, signed as `other` says."""
    before = last(connection)
    draft = Record(
        seq=before.seq + 1, recorded_at=now(), actor=actor, action=action, subject=dict(subject),
        previous_hash=other.pop("previous_hash", before.hash), hash="",
    )  # fmt: skip
    record = replace(draft, hash=draft.computed_hash())
    record = replace(record, **{name: made(record) if callable(made) else made for name, made in other.items()})
    found = {name: subject.get(name) for name in audit.FINDABLE}
    connection.execute(
        sa.insert(audit.TABLE).values({**vars(record), "subject": canonical_json(record.subject), **found})
    )
    return record


def mark_approved(connection: sa.Connection) -> None:
    statement = "UPDATE review_requests SET status = 'approved', closed_by = 'ann', closed_at = opened_at"
    connection.execute(sa.text(statement))


def told(stores: Stores, **more: Any) -> dict[str, Any]:
    request = current(stores.state, DAY)
    return {**requests.subject(request), "reason": None, "groups": [], "complete": True, **more}


OWN = Ed25519PrivateKey.generate()
OWN_ID = keys.key_id(OWN.public_key().public_bytes_raw())


def by_own_key(stores: Stores) -> dict[str, Any]:
    chain = keys.Trust.read(stores.state.keys / keys.TRUST).chain
    return {
        "key_id": OWN_ID,
        "signature": lambda record: keys.encoded(OWN.sign(audit.signed_bytes(chain, record.hash))),
    }


def by_copy(stores: Stores) -> dict[str, Any]:
    with stores.state.read() as connection:
        record = last(connection)
    return {"key_id": record.key_id, "signature": record.signature}


def by_recorder(stores: Stores) -> dict[str, Any]:
    """A run worker that was taken over has this key."""
    with stores.state.read() as connection:
        ring = keys.of(connection)
    sign = lambda record: ring.sign("recorder", audit.signed_bytes(ring.trust.chain, record.hash))  # noqa: E731
    return {"key_id": ring.key_id("recorder"), "signature": lambda record: sign(record).signature}


FORGED: dict[str, tuple[Callable[[Stores], dict[str, Any]], str]] = {
    "not signed": (lambda _stores: {}, "it is not signed"),
    "signed by a key of the attacker's own": (by_own_key, "which nobody vouches for"),
    "with a signature from elsewhere": (by_copy, "the signature is not of this content"),
    "signed by a run worker": (by_recorder, "takes the decision key"),
    "with a link that leads nowhere": (lambda _stores: {"previous_hash": "f" * 64}, "it does not follow"),
    "with a signature that is none": (lambda _stores: {"key_id": OWN_ID, "signature": "x"}, "which nobody vouches for"),
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_approval_publishes_nothing_and_is_named(how: str, stores: Stores, notes: Collection) -> None:
    made, says = FORGED[how]
    known(stores.state)
    signed = made(stores)
    with stores.state.write() as connection:
        number = forge(connection, "ann", "approved", told(stores), **signed).seq
        mark_approved(connection)
    for attempt in (lambda: publish(notes, stores, by="test"), lambda: verification.verify(stores.state)):
        with pytest.raises(AuditBroken, match=rf"number {number} \(approved by ann .*{says}"):
            attempt()
    with stores.state.read() as connection:
        standing = decisions.standings(connection, [current(stores.state, DAY)])
    assert [found.signers for found in standing.values()] == [[]]


def test_a_real_approval_publishes_nothing_behind_a_forged_record(stores: Stores, notes: Collection) -> None:
    with stores.state.write() as connection:
        forge(connection, "nobody", "viewed", told(stores))
    decide(stores.state, notes)
    with pytest.raises(AuditBroken, match="viewed by nobody"):
        publish(notes, stores, by="test")


def test_an_approval_by_somebody_who_was_no_approver_then_does_not_count(stores: Stores, notes: Collection) -> None:
    """Even with the right key: the chain says who they were."""
    known(stores.state, "eve", "reviewer")
    with stores.state.write() as connection:
        audit.append(connection, "eve", "approved", told(stores))
        mark_approved(connection)
    with pytest.raises(AuditBroken, match="eve did not have the role approver in notes then"):
        publish(notes, stores, by="test")


def test_what_somebody_signed_before_they_were_disabled_stays_signed(stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    with stores.state.write() as connection:
        people.disable(connection, "ann", by="test")
    assert publish(notes, stores, by="test").release.number == 1
    verification.verify(stores.state)


# What the tables say of people


TABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "role": (
        ("INSERT INTO grants VALUES ('ann', '*', 'admin') ON CONFLICT (holder, collection) DO UPDATE SET role = 'admin'",),
        "role of ann in *",
    ),
    "role of a group": (("INSERT INTO grants VALUES ('group:staff', '*', 'admin')",), "role of group:staff in *"),
    "group": (("INSERT INTO group_members VALUES ('legal', 'ann')",), "ann in group legal"),
    "group left": (("DELETE FROM group_members",), "ann in group staff"),
    "person": (
        (
            "INSERT INTO people (name, password_hash, created_at) "
            "SELECT 'eve', password_hash, created_at FROM people WHERE name = 'ann'",
            "INSERT INTO grants VALUES ('eve', '*', 'admin')",
        ),
        "person eve",
    ),
    "person removed": (("DELETE FROM people WHERE name = 'ann'",), "person ann"),
    "password": (("UPDATE people SET password_hash = 'other' WHERE name = 'ann'",), "password of ann"),
    "enabled again": (("UPDATE people SET disabled_at = NULL WHERE name = 'bob'",), "person bob"),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
def test_rights_that_somebody_wrote_into_the_tables_are_found(what: str, state: StateStore) -> None:
    known(state, "ann", groups=["staff"])
    known(state, "bob")
    with state.write() as connection:
        people.disable(connection, "bob", by="test")
    verification.verify(state)
    statements, names = TABLES[what]
    with state.write() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    with pytest.raises(AuditBroken) as found:
        verification.verify(state)
    assert f"First bad record: {names}" in str(found.value)


@pytest.mark.parametrize(("what", "name"), [("role", "ann"), ("role of a group", "ann"), ("group", "ann"), ("group left", "ann"), ("person", "eve"), ("enabled again", "bob")])  # fmt: skip
def test_rights_that_somebody_wrote_into_the_tables_are_nobodys(what: str, name: str, state: StateStore) -> None:
    known(state, "ann", groups=["staff"])
    known(state, "bob")
    with state.write() as connection:
        people.disable(connection, "bob", by="test")
        for statement in TABLES[what][0]:
            connection.execute(sa.text(statement))
        with pytest.raises(AuditBroken):
            people.find(connection, name)


def test_a_password_that_somebody_wrote_into_the_table_opens_nothing(state: StateStore) -> None:
    known(state)
    theirs = passwords.hashed("the attacker's own password")
    with state.write() as connection:
        connection.execute(sa.text("UPDATE people SET password_hash = :theirs"), {"theirs": theirs})
    with pytest.raises(AuditBroken, match="password of ann"):
        passwords.authenticate(state, "ann", "the attacker's own password", "here")


def test_a_session_that_somebody_wrote_into_the_table_is_none(state: StateStore) -> None:
    seal, rules = Seal(b"s" * 32), SessionSettings()
    known(state)
    known(state, "eve", "viewer")
    with state.write() as connection:
        token, _ = sessions.open_session(
            connection, "eve", via="password", seal=seal, rules=rules, address="here", agent=""
        )
        assert sessions.find(connection, token, rules, seal) is not None
        connection.execute(sa.text("UPDATE sessions SET person = 'ann'"))
        assert sessions.find(connection, token, rules, seal) is None


# The keys


def test_what_dagster_starts_publishes_and_cannot_approve(
    stores: Stores, notes: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(stores.state, notes)
    monkeypatch.setenv(DECISION_KEY_VARIABLE, NO_KEY)
    with pytest.raises(KeyNotHeld, match="this process must not have it"), stores.state.write() as connection:
        audit.append(connection, "ann", "approved", told(stores))
    assert publish(notes, stores, by="ai-assets").release.number == 1
    monkeypatch.delenv(DECISION_KEY_VARIABLE)
    verification.verify(stores.state)


def test_a_process_that_may_not_decide_makes_no_keys(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DECISION_KEY_VARIABLE, NO_KEY)
    with pytest.raises(KeysMissing, match="no keys were made yet, and this process must not"):
        known(state)
    assert not state.keys.exists()


def test_keys_are_closed_to_others_and_known_from_the_first_record_on(state: StateStore) -> None:
    known(state)
    modes = {path.name: path.stat().st_mode & 0o777 for path in state.keys.iterdir()}
    assert modes == {"recorder.pem": 0o600, "decision.pem": 0o600, "trust.json": 0o644}
    assert state.keys.stat().st_mode & 0o777 == 0o700
    with state.read() as connection:
        assert all(record.signature for record in audit.records(connection))
    (state.keys / "decision.pem").chmod(0o644)
    with pytest.raises(AuditKeyUnusable, match=r"its mode is 0644, so others can get at it; chmod 600"):
        known(state, "bob")


def test_keys_may_be_variables(state: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.write_new(tmp_path / "mounted")
    for variable, file in ((RECORDER_KEY_VARIABLE, "recorder.pem"), (DECISION_KEY_VARIABLE, "decision.pem")):
        monkeypatch.setenv(variable, (tmp_path / "mounted" / file).read_text())
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "mounted" / "trust.json"))
    known(state)
    assert not state.keys.exists()
    assert verification.verify(state).signed == 2


BROKEN: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no trust.json": (lambda folder: (folder / "trust.json").unlink(), KeysMissing, "nothing says which keys to believe"),
    "no keys at all": (shutil.rmtree, KeysMissing, "the chain was signed, and the keys that did it are gone"),
    "no decision key": (lambda folder: (folder / "decision.pem").unlink(), KeyNotHeld, "there is no .*decision.pem"),
    "another kind of key": (
        lambda folder: (folder / "decision.pem").write_text("-----BEGIN PRIVATE KEY-----\n!\n"), AuditKeyUnusable, "no private key in PEM",
    ),
    "trust that is none": (lambda folder: (folder / "trust.json").write_text("[]"), AuditKeyUnusable, "no list of public keys"),
    "trust of a later version": (
        lambda folder: (folder / "trust.json").write_text('{"format": 9}'), AuditKeyUnusable, "it is of format 9, and this version reads 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_keys_that_cannot_be_used_are_named_with_what_to_do(how: str, state: StateStore) -> None:
    known(state)
    breaks, error, says = BROKEN[how]
    breaks(state.keys)
    with pytest.raises(error, match=says):
        known(state, "bob")


# Checkpoints


def test_a_checkpoint_spares_old_signatures_but_not_those_of_rights_nor_a_link(stores: Stores) -> None:
    """It is signed with the recorder key, which a run worker holds."""
    known(stores.state)
    signed = by_recorder(stores)
    with stores.state.write() as connection:
        forge(connection, "eve", "viewed", told(stores), **signed)
        verification.require_sound(connection, last(connection))
        with pytest.raises(AuditBroken, match=r"viewed by eve .*takes the decision key"):
            verification.require_sound(connection)
        forge(connection, "eve", "role given", {"person": "eve", "role": "admin", "in": "*"}, **signed)
        with pytest.raises(AuditBroken, match=r"role given by eve .*takes the decision key"):
            verification.require_sound(connection, last(connection))
        connection.execute(sa.text("DELETE FROM audit WHERE action = 'role given' AND actor = 'eve'"))
        connection.execute(sa.text("UPDATE audit SET actor = 'eva' WHERE action = 'role given'"))
        with pytest.raises(AuditBroken, match="its content is not what was recorded"):
            verification.require_sound(connection, last(connection))


# Other keys


def test_a_key_is_replaced_and_what_the_old_one_signed_still_counts(stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    for kind in keys.KINDS:
        key_changes.rotate(stores.state, kind, by="test")
    assert publish(notes, stores, by="test").release.number == 1
    with stores.state.read() as connection:
        found = key_changes.listed(connection)
    assert [(key.kind, key.held, key.revoked_by) for key in found] == [
        ("decision", False, None), ("recorder", False, None), ("recorder", True, None), ("decision", True, None),
    ]  # fmt: skip
    verification.verify(stores.state)


def test_a_replacement_that_was_killed_in_the_middle_goes_on(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(state)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: os._exit(1))
        pid = os.fork()
        if not pid:
            key_changes.rotate(StateStore(state.url, keys=state.keys), "decision", by="test")
        assert os.waitpid(pid, 0)[1] != 0
    made = key_changes.rotate(state, "decision", by="test")
    with state.read() as connection:
        assert [key.key_id for key in key_changes.listed(connection) if key.held and key.kind == "decision"] == [made]
        assert len(key_changes.listed(connection)) == 3
    known(state, "bob")
    verification.verify(state)


def test_an_approval_by_a_key_that_was_revoked_since_is_not_published(stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    with stores.state.read() as connection:
        old = keys.of(connection).key_id("decision")
    with pytest.raises(KeyChangeRefused, match="in use here; first: ai-assets keys rotate decision"):
        key_changes.revoke(stores.state, old, by="test", reason="a laptop was lost")
    key_changes.rotate(stores.state, "decision", by="test")
    key_changes.revoke(stores.state, old, by="test", reason="a laptop was lost")
    with pytest.raises(ApprovalInsufficient, match=r"0 of 1 approval\."):
        publish(notes, stores, by="test")
    decide(stores.state, notes)
    assert publish(notes, stores, by="test").release.number == 1
    with pytest.raises(KeyChangeRefused, match="is revoked already"):
        key_changes.revoke(stores.state, old, by="test", reason="again")
    with pytest.raises(KeyUnknown, match="There is no key 'x'"):
        key_changes.revoke(stores.state, "x", by="test", reason="")
    verification.verify(stores.state)


def test_a_revoked_key_signs_nothing_more(stores: Stores, notes: Collection) -> None:
    known(stores.state)
    stolen = stores.home.root / "stolen.pem"
    shutil.copy(stores.state.keys / "decision.pem", stolen)
    key = keys.public_of(stolen)
    key_changes.rotate(stores.state, "decision", by="test")
    key_changes.revoke(stores.state, keys.key_id(key), by="test", reason="stolen")
    with stores.state.write() as connection:
        private = keys._private(stolen.read_bytes(), stolen)
        chain = keys.of(connection).trust.chain
        signature = lambda record: keys.encoded(private.sign(audit.signed_bytes(chain, record.hash)))  # noqa: E731
        forge(connection, "ann", "approved", told(stores), key_id=keys.key_id(key), signature=signature)
        mark_approved(connection)
    with pytest.raises(AuditBroken, match="did not count then"):
        publish(notes, stores, by="test")


def test_a_key_that_a_record_without_signature_vouches_for_counts_for_nothing(
    stores: Stores, notes: Collection
) -> None:
    known(stores.state)
    public = OWN.public_key().public_bytes_raw()
    with stores.state.write() as connection:
        subject = {"kind": "decision", "key_id": OWN_ID, "public": keys.encoded(public)}
        forge(connection, "ann", "key added", subject)
        forge(connection, "ann", "approved", told(stores), **by_own_key(stores))
        mark_approved(connection)
    with pytest.raises(AuditBroken, match=r"key added by ann .*it is not signed"):
        publish(notes, stores, by="test")


# Homes that are older than the keys


def aged(stores: Stores) -> Stores:
    """The same home as a version without signatures left it."""
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE audit SET key_id = NULL, signature = NULL"))
    shutil.rmtree(stores.state.keys)
    return stores


def test_an_older_home_goes_on_and_its_approvals_count(stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    before = verification.verify(aged(stores).state)
    assert (before.signed, before.records) == (0, 4)
    assert publish(notes, stores, by="test").release.number == 1
    after = verification.verify(stores.state)
    assert (after.signed, after.records) == (2, 6)
    with stores.state.read() as connection:
        began = audit.select(connection, actions=["signing began"])[0]
    assert (began.subject["records"], began.subject["head"]) == (before.records, before.head)
    assert passwords.authenticate(stores.state, "ann", PASSWORD, "here").name == "ann"


def test_in_an_older_home_nothing_is_forged_either(stores: Stores, notes: Collection) -> None:
    known(stores.state)
    publishable = aged(stores).state
    with publishable.write() as connection:
        audit.begin(connection)
    with publishable.write() as connection:
        connection.execute(sa.text("DELETE FROM audit WHERE action = 'signing began'"))
        forge(connection, "ann", "approved", told(stores))
        mark_approved(connection)
    with pytest.raises(AuditBroken, match=r"number 4 \(approved by ann .*it is not signed"):
        publish(notes, stores, by="test")
    with pytest.raises(AuditBroken, match="it is not signed"):
        verification.verify(publishable)


def test_older_records_cannot_be_rewritten_under_the_pinned_head(stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    state = aged(stores).state
    with state.write() as connection:
        audit.begin(connection)
        connection.execute(sa.text("UPDATE audit SET actor = 'eve' WHERE action = 'approved'"))
        altered = next(record for record in audit.records(connection) if record.action == "approved")
        statement = sa.text("UPDATE audit SET hash = :hash WHERE seq = :seq")
        connection.execute(statement, {"hash": altered.computed_hash(), "seq": altered.seq})
    with pytest.raises(AuditBroken):
        publish(notes, stores, by="test")


# By hand


@pytest.mark.slow
def test_the_command_shows_replaces_and_revokes(project: Project, stores: Stores, notes: Collection) -> None:
    known(stores.state)
    before = json.loads(project.cli("keys", "list", "--json").stdout)
    assert sorted((key["kind"], key["held"]) for key in before) == [("decision", True), ("recorder", True)]
    old = next(key["key_id"] for key in before if key["kind"] == "decision")
    assert "in use here" in project.cli("keys", "revoke", old, "--reason", "x").stderr
    assert project.cli("keys", "rotate", "decision").returncode == 0
    assert project.cli("keys", "revoke", old, "--reason", "a laptop was lost").returncode == 0
    shown = project.cli("keys", "list").stdout
    assert str(stores.state.keys) in shown
    assert project.cli("audit", "verify").returncode == 0
    assert "neither 'recorder' nor 'decision'" in project.cli("keys", "rotate", "house").stderr.replace("\n", " ")
    made = project.cli("keys", "new", str(project.root / "mounted"))
    assert made.returncode == 0
    assert (project.root / "mounted" / "decision.pem").stat().st_mode & 0o777 == 0o600


def test_an_export_is_held_to_the_keys_one_believes(project: Project, stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    assert project.cli("audit", "export", "chain.jsonl").returncode == 0
    said = project.cli("audit", "verify", "--file", "chain.jsonl").stdout
    assert "4 records, 4 signed" in said
    assert "keys that the file itself names" in said
    own = project.cli("audit", "verify", "--file", "chain.jsonl", "--trust", str(stores.state.keys / "trust.json"))
    assert own.returncode == 0
    keys.write_new(project.root / "others")
    other = project.cli("audit", "verify", "--file", "chain.jsonl", "--trust", "others/trust.json")
    assert (other.returncode, "which nobody vouches for" in other.stderr) == (2, True)


def test_a_file_that_cannot_be_written_is_named(project: Project, stores: Stores, notes: Collection) -> None:
    decide(stores.state, notes)
    publish(notes, stores, by="test")
    for command in (("audit", "export", "none/chain.jsonl"), ("audit", "prove", "notes", "-o", "none/proof.json")):
        done = project.cli(*command)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert "cannot be written (No such file or directory)" in done.stderr


def test_nothing_approved_is_still_said_so(stores: Stores, notes: Collection) -> None:
    with pytest.raises(NothingApproved):
        publish(notes, stores, by="test")


def test_who_the_chain_does_not_know_decides_nothing(stores: Stores, notes: Collection) -> None:
    with stores.state.read() as connection:
        choices = decisions.waiting(connection, "notes", None, notes.settings.signoff)
    with pytest.raises(DecisionRefused, match="by the audit chain nobody of the name zoe was known then"):
        decisions.decide(
            stores.state, "notes", choices, "approve", by=somebody("zoe"), reason=None, rules=notes.settings.signoff
        )
