"""Claims about keys of persons: nobody signs for them. With ssh-keygen and minisign as they are."""

import base64
import hashlib
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from signing import PASSWORD, current, decide, known

from ai_assets.collection.loading import Collection
from ai_assets.signoff import (
    audit,
    authority,
    decisions,
    key_changes,
    personal_keys,
    requests,
    statements,
    verification,
)
from ai_assets.signoff.audit_errors import AuditBroken, SignatureInvalid
from ai_assets.signoff.errors import ApprovalInsufficient, DecisionRefused, OwnKeyRefused, PersonalKeyUnusable
from ai_assets.signoff.people import Person
from ai_assets.signoff.personal_keys import PersonalKey, read_public, sign_with, verify
from ai_assets.signoff.publication import publish
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

DAY = "2026-10-05"
DATA = b"what maria means\n"
SSH = ("ed25519", "ecdsa", "rsa")


def ssh_key(folder: Path, kind: str = "ed25519", name: str = "id") -> Path:
    path = folder / f"{name}_{kind}"
    command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path), "-C", "maria@office"]
    subprocess.run(command, check=True, capture_output=True)
    return path


def minisign_key(folder: Path) -> Path:
    if shutil.which("minisign") is None:
        pytest.skip("minisign is not installed")
    command = ["minisign", "-G", "-W", "-p", str(folder / "own.pub"), "-s", str(folder / "own.key")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "own.key"


def made(kind: str, folder: Path) -> tuple[Path, PersonalKey]:
    path = minisign_key(folder) if kind == "minisign" else ssh_key(folder, kind)
    return path, read_public(path.with_name("own.pub" if kind == "minisign" else f"{path.name}.pub").read_text())


@pytest.mark.parametrize("kind", [*SSH, "minisign"])
def test_what_a_persons_tool_signed_verifies_and_nothing_else(kind: str, tmp_path: Path) -> None:
    path, key = made(kind, tmp_path)
    signature = sign_with(path, DATA)
    verify(key, DATA, signature)
    other = read_public(ssh_key(tmp_path, name="other").with_suffix(".pub").read_text())
    for wrong_key, data, text in (
        (key, DATA + b" ", signature), (other, DATA, signature), (key, DATA, ""), (key, DATA, "-----\n-----"),
        (key, DATA, signature[:-60]), (key, DATA, "x" * 200), (key, DATA, signature.swapcase()),
    ):  # fmt: skip
        with pytest.raises(SignatureInvalid):
            verify(wrong_key, data, text)


@pytest.mark.parametrize("kind", ["ed25519", "minisign"])
def test_no_byte_of_a_signature_can_be_changed(kind: str, tmp_path: Path) -> None:
    path, key = made(kind, tmp_path)
    lines = sign_with(path, DATA).splitlines()
    place = 1
    blob = bytearray(base64.b64decode("".join(lines[1:-1]) if kind == "ed25519" else lines[place]))
    for number in range(len(blob)):
        changed = bytes(blob[:number]) + bytes([blob[number] ^ 1]) + bytes(blob[number + 1 :])
        text = base64.b64encode(changed).decode()
        forged = f"{lines[0]}\n{text}\n{lines[-1]}" if kind == "ed25519" else "\n".join([lines[0], text, *lines[2:]])
        with pytest.raises(SignatureInvalid):
            verify(key, DATA, forged)


def test_an_ssh_signature_for_another_purpose_is_none_of_ours(tmp_path: Path) -> None:
    path, key = made("ed25519", tmp_path)
    (tmp_path / "data").write_bytes(DATA)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(path), str(tmp_path / "data")]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(SignatureInvalid):
        verify(key, DATA, (tmp_path / "data.sig").read_text())


def _sk(touched: bool = True) -> tuple[PersonalKey, str]:
    """A security key, and its signature, as OpenSSH's PROTOCOL.u2f has them."""
    text = lambda data: struct.pack(">I", len(data)) + data  # noqa: E731
    private, application = Ed25519PrivateKey.generate(), b"ssh:"
    kind = b"sk-ssh-ed25519@openssh.com"
    blob = text(kind) + text(private.public_key().public_bytes_raw()) + text(application)
    namespace, algorithm = personal_keys.NAMESPACE.encode(), b"sha512"
    content = b"SSHSIG" + text(namespace) + text(b"") + text(algorithm) + text(hashlib.sha512(DATA).digest())
    rest = bytes([int(touched)]) + struct.pack(">I", 7)
    raw = private.sign(hashlib.sha256(application).digest() + rest + hashlib.sha256(content).digest())
    signed = text(kind) + text(raw) + rest
    whole = b"SSHSIG" + struct.pack(">I", 1) + b"".join(map(text, (blob, namespace, b"", algorithm, signed)))
    armoured = f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(whole).decode()}\n-----END SSH SIGNATURE-----\n"
    return read_public(f"{kind.decode()} {base64.b64encode(blob).decode()} maria@key"), armoured


def test_a_security_key_counts_where_it_was_touched() -> None:
    key, touched = _sk()
    verify(key, DATA, touched)
    key, untouched = _sk(touched=False)
    with pytest.raises(SignatureInvalid):
        verify(key, DATA, untouched)


NO_KEYS = {
    "": "it begins with nothing",
    "hello": "neither an SSH key nor base64",
    "aGVsbG8=": "no public key of minisign",
    "ssh-ed25519 AAAA": "it is no SSH key",
    "ssh-dss AAAA": "it begins with 'ssh-dss'",
}


@pytest.mark.parametrize("text", NO_KEYS)
def test_what_is_no_key_is_said_so(text: str) -> None:
    with pytest.raises(PersonalKeyUnusable, match=NO_KEYS[text]):
        read_public(text)


# Decisions


@pytest.fixture
def strict(project: Project) -> Collection:
    project.documents(per_day=2, days=1)
    collection = project.declare(signoff={"personal_keys": "required"})
    project.refresh(collection)
    return collection


@pytest.fixture
def stores(project: Project, strict: Collection) -> Stores:
    return project.stores()


def enrol(state: StateStore, person: Person, path: Path, *, by: Path | None = None) -> str:
    key = read_public(path.with_suffix(".pub").read_text())
    with state.write() as connection:
        said = key_changes.enrolment(connection, person.name, key)
    data = personal_keys.statement(said)
    vouched = sign_with(by, data) if by else None
    key_changes.add_own(state, person, key, said, proof=sign_with(path, data), vouched=vouched)
    return key.key_id


def approve(
    stores: Stores, collection: Collection, person: Person, path: Path, alter: Callable[[dict[str, Any]], object] = id
) -> str:
    with stores.state.read() as connection:
        choices = decisions.waiting(connection, "notes", None, collection.settings.signoff)
        said = statements.values(connection, "notes", choices, "approve", by=person.name, reason="looked")
    alter(said)
    signature = sign_with(path, personal_keys.statement(said))
    with stores.state.read() as connection:
        signed = statements.signed_by(connection, person.name, said, signature)
    (decided,) = decisions.decide(
        stores.state, "notes", choices, "approve", by=person, reason="looked", rules=collection.settings.signoff,
        signed=signed,
    )  # fmt: skip
    return decided.status


def test_where_it_is_demanded_only_a_persons_own_key_approves(
    stores: Stores, strict: Collection, tmp_path: Path
) -> None:
    maria, path = known(stores.state, "maria"), ssh_key(tmp_path)
    with pytest.raises(DecisionRefused, match="signed with a key of one's own"):
        decide(stores.state, strict, by="maria")
    enrol(stores.state, maria, path)
    assert approve(stores, strict, maria, path) == "approved"
    assert publish(strict, stores, by="test").release.number == 1
    verification.verify(stores.state)


def test_who_holds_the_servers_keys_cannot_approve_for_a_person(
    stores: Stores, strict: Collection, tmp_path: Path
) -> None:
    """An administrator of the server writes whatever the desk could have written."""
    enrol(stores.state, known(stores.state, "maria"), ssh_key(tmp_path))
    told = {**requests.subject(current(stores.state, DAY)), "reason": None, "groups": [], "complete": True}
    with stores.state.write() as connection:
        audit.append(connection, "maria", "approved", told)
        connection.execute(sa.text("UPDATE review_requests SET status = 'approved', closed_by = 'maria'"))
    with pytest.raises(ApprovalInsufficient, match="0 of 1 approval signed with a key of their own"):
        publish(strict, stores, by="test")


def test_nor_can_they_have_a_statement_say_more_than_was_signed(
    stores: Stores, strict: Collection, tmp_path: Path
) -> None:
    maria, path = known(stores.state, "maria"), ssh_key(tmp_path)
    key_id = enrol(stores.state, maria, path)
    request = current(stores.state, DAY)
    with stores.state.write() as connection:
        said = statements.values(connection, "notes", [], "approve", by="maria", reason=None)
        signature = sign_with(path, personal_keys.statement(said))
        said["requests"] = [[request.request_id, request.digest]]
        subject = {"key_id": key_id, "statement": said, "signature": signature}
        seq = audit.append(connection, "maria", "statement signed", subject).seq
        told = {**requests.subject(request), "reason": None, "groups": [], "complete": True, "statement": seq}
        audit.append(connection, "maria", "approved", told)
        connection.execute(sa.text("UPDATE review_requests SET status = 'approved', closed_by = 'maria'"))
    with pytest.raises(AuditBroken, match=r"statement signed by maria .*is not of this"):
        publish(strict, stores, by="test")


ALTERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "another digest": lambda said: said.update(requests=[[said["requests"][0][0], "0" * 64]]),
    "another reason": lambda said: said.update(reason="not looked"),
    "a waiver": lambda said: said.update(waivers={"gate": "why"}),
    "another verdict": lambda said: said.update(verdict="reject"),
    "another collection": lambda said: said.update(collections=["other"]),
    "another chain": lambda said: said.update(chain="other"),
    "somebody else": lambda said: said.update(person="bob"),
    "long ago": lambda said: said.update(at="2026-01-01T00:00:00+00:00"),
    "no time": lambda said: said.update(at="soon"),
}


@pytest.mark.parametrize("what", ALTERED)
def test_what_was_signed_is_exactly_what_is_recorded(
    what: str, stores: Stores, strict: Collection, tmp_path: Path
) -> None:
    maria, path = known(stores.state, "maria"), ssh_key(tmp_path)
    enrol(stores.state, maria, path)
    with pytest.raises(DecisionRefused, match="what was signed is not this decision, or was signed too long ago"):
        approve(stores, strict, maria, path, ALTERED[what])
    assert current(stores.state, DAY).status == "open"


def test_a_further_key_takes_one_that_is_there(stores: Stores, strict: Collection, tmp_path: Path) -> None:
    maria, first, second = known(stores.state, "maria"), ssh_key(tmp_path), ssh_key(tmp_path, name="second")
    enrol(stores.state, maria, first)
    with pytest.raises(OwnKeyRefused, match="they have a key already"):
        enrol(stores.state, maria, second)
    with pytest.raises(DecisionRefused, match="not signed with a key of theirs"):
        enrol(stores.state, maria, second, by=second)
    enrol(stores.state, maria, second, by=first)
    with pytest.raises(OwnKeyRefused, match="was added before"):
        enrol(stores.state, known(stores.state, "bob"), second)
    assert approve(stores, strict, maria, second) == "approved"
    verification.verify(stores.state)


def test_a_key_that_was_revoked_takes_back_what_is_not_published(
    stores: Stores, strict: Collection, tmp_path: Path
) -> None:
    maria, path = known(stores.state, "maria"), ssh_key(tmp_path)
    key_id = enrol(stores.state, maria, path)
    approve(stores, strict, maria, path)
    assert key_changes.revoke_own(stores.state, key_id, by="test", reason="lost") == "maria"
    with pytest.raises(ApprovalInsufficient, match="0 of 1 approval signed"):
        publish(strict, stores, by="test")
    with pytest.raises(DecisionRefused, match="they have none"):
        approve(stores, strict, maria, path)
    with stores.state.read() as connection:
        assert authority.of(connection).own_keys("maria") == {}


def test_a_collection_may_name_the_only_keys_that_count(project: Project, tmp_path: Path) -> None:
    """So that an administrator who replaces a person's key gains nothing: the declaration is under review in git."""
    declared, other = ssh_key(tmp_path), ssh_key(tmp_path, name="other")
    project.documents(per_day=2, days=1)
    line = declared.with_suffix(".pub").read_text().strip()
    collection = project.declare(signoff={"personal_keys": "required", "keys": {"maria": [line]}})
    project.refresh(collection)
    stores = project.stores()
    maria = known(stores.state, "maria")
    enrol(stores.state, maria, other)
    with pytest.raises(DecisionRefused, match=r"is not among those that the collection declares for maria"):
        approve(stores, collection, maria, other)
    enrol(stores.state, maria, declared, by=other)
    assert approve(stores, collection, maria, declared) == "approved"


@pytest.mark.slow
def test_the_commands_sign_with_ssh_and_minisign(
    project: Project, stores: Stores, strict: Collection, tmp_path: Path
) -> None:
    known(stores.state, "maria")
    path = ssh_key(tmp_path)
    password = {"AI_ASSETS_PASSWORD": PASSWORD}
    cli = project.cli
    refused = cli("signoff", "approve", "notes", "--all", "--by", "maria", **password)
    assert "signed with a key of one's own (--key, or a passkey at the desk)" in " ".join(refused.stderr.split())
    unknown = cli("signoff", "approve", "notes", "--all", "--by", "maria", "--key", str(path))
    assert "they have none" in unknown.stderr
    added = cli("reviewers", "key", "add", f"{path}.pub", "--key", str(path), "--by", "maria", **password)
    assert added.returncode == 0, added.stderr
    own = minisign_key(tmp_path)
    more = cli("reviewers", "key", "add", str(own.with_suffix(".pub")), "--key", str(own), "--with", str(path), "--by",
               "maria", **password)  # fmt: skip
    assert more.returncode == 0, more.stderr
    listed = json.loads(cli("reviewers", "key", "list", "maria", "--json").stdout)
    assert [(key["type"], key["revoked_by"]) for key in listed] == [("ssh", None), ("minisign", None)]
    done = cli("signoff", "approve", "notes", "--all", "--by", "maria", "--key", str(own))
    assert done.returncode == 0, done.stderr
    assert cli("publish", "notes").returncode == 0
    assert cli("audit", "verify").returncode == 0
    gone = cli("reviewers", "key", "revoke", listed[0]["key_id"], "--reason", "an old laptop")
    assert gone.returncode == 0, gone.stderr
