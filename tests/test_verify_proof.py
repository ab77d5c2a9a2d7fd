"""Claims about proofs: a bare Python verifies them with sixty lines, and no proof of which a byte is another."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from chains import record
from conftest import Project, project_at
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from signing import decide

from ai_assets.collection.loading import Collection
from ai_assets.signoff import audit, keys, proving
from ai_assets.signoff.audit_errors import NotProvable
from ai_assets.signoff.errors import DocumentUnknown, ReleaseUnknown
from ai_assets.signoff.publication import publish
from ai_assets.signoff.signed_note import SignedNote, verifier_key
from ai_assets.storage.digest import canonical_json, sha256_hex
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow

DOCUMENT = "2026-10-05/1.txt"
PARTITIONS = ["2026-10-05", "2026-10-06", "2026-10-07"]
Proof = dict[str, Any]


@dataclass(frozen=True)
class Published:
    project: Project
    collection: Collection
    stores: Stores
    proof: Proof

    @property
    def keys(self) -> list[str]:
        with self.stores.state.read() as connection:
            return proving.key_words(connection)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Three partitions, published in two releases, the second approved by two."""
    with pytest.MonkeyPatch.context() as patch:
        project = project_at(tmp_path_factory.mktemp("published"), patch)
        project.documents(per_day=3)
        collection = project.declare()
        project.refresh(collection)
        stores = project.stores()
        decide(stores.state, collection, PARTITIONS[:1])
        publish(collection, stores, by="test")
        two = project.declare(signoff={"approvals": 2})
        decide(stores.state, two, PARTITIONS[1:], by="ann")
        decide(stores.state, two, PARTITIONS[1:], by="bob")
        publish(two, stores, by="test")
        record(stores, 3)
        proof = proving.prove(stores, "notes", None, DOCUMENT)
        check(proof)  # else it would prove nothing that others are refused
        return Published(project, two, stores, proof)


def verified(proof: Proof, folder: Path, *trusted: str) -> "subprocess.CompletedProcess[str]":
    """In a Python without site packages, environment or current folder."""
    path = folder / "proof.json"
    path.write_text(proving.as_text(proof), encoding="ascii")
    arguments = [argument for key in trusted for argument in ("--key", key)]
    command = [sys.executable, "-I", "-S", str(proving.VERIFIER), str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env={})


class Refused(Exception):
    pass


def check(proof: Proof, *trusted: str) -> str:
    """The same file run in this process, for claims about thousands of proofs; what it says."""
    said: list[str] = []

    def leave(problem: object = "") -> None:
        raise Refused(problem)

    class Given:
        argv: ClassVar = ["verify_proof.py", "proof", *(word for key in trusted for word in ("--key", key))]
        exit = staticmethod(leave)
        stderr = None

    source = proving.VERIFIER.read_text(encoding="utf-8").replace("import base64, json, sys", "import base64, json")
    source = source.replace('json.load(open(sys.argv[1], encoding="utf-8"))', "json.loads(PROOF)")
    scope = {"sys": Given, "PROOF": json.dumps(proof), "print": lambda *words: said.append(" ".join(map(str, words)))}
    try:
        exec(compile(source, "verify_proof.py", "exec"), scope)  # noqa: S102
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise Refused(repr(error)) from error
    return "\n".join(said)


# What is proved


def test_it_has_sixty_lines_and_imports_only_the_standard_library() -> None:
    lines = proving.VERIFIER.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    assert imports == ["import base64, json, sys", "from hashlib import sha256, sha512"]


def test_a_bare_python_verifies_a_release_and_a_document(published: Published, tmp_path: Path) -> None:
    done = verified(published.proof, tmp_path, *published.keys)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    digests = json.loads(published.proof["release"])
    for partition, signers in zip(PARTITIONS, (["ann"], ["ann", "bob"], ["ann", "bob"]), strict=True):
        line = next(line for line in lines if line.startswith(f"'{partition}', {digests[partition][:12]}: approved by"))
        assert all(f"'{name}' (record " in line for name in signers)
    assert any(line.startswith(f"Document '{DOCUMENT}' is in it:") and "Note 1" in line for line in lines)
    assert lines[-2].startswith("PROVED: release 2 of 'notes' is what record ")
    assert lines[-1] == "By keys that you trust."


def test_without_a_key_to_trust_it_warns(published: Published, tmp_path: Path) -> None:
    done = verified(published.proof, tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("WARNING: by keys that only the file itself names")


def test_a_key_that_is_not_trusted_is_refused(published: Published, tmp_path: Path) -> None:
    done = verified(published.proof, tmp_path, published.keys[0])
    assert (done.returncode, "is not a key you trust" in done.stderr) == (1, True)


def test_an_earlier_release_and_one_without_a_document_are_proved_too(published: Published) -> None:
    first = proving.prove(published.stores, "notes", 1, None)
    assert set(json.loads(str(first["release"]))) == {PARTITIONS[0]}
    assert "PROVED: release 1 of 'notes'" in check(first, *published.keys)


@pytest.mark.parametrize("document", [f"{day}/{number}.txt" for day, number in zip(
    (PARTITIONS[0], PARTITIONS[1], PARTITIONS[2]), (0, 4, 8), strict=True)])  # fmt: skip
def test_every_place_in_a_partition_is_proved(published: Published, document: str) -> None:
    proof = proving.prove(published.stores, "notes", None, document)
    assert f"Document '{document}' is in it" in check(proof, *published.keys)


def test_the_proof_of_a_record_is_of_a_few_hashes(published: Published) -> None:
    size = int(published.proof["checkpoint"].split("\n")[1])
    for leaf, path in published.proof["records"]:
        assert json.loads(leaf)["seq"] <= size
        assert len(path) <= size.bit_length()


def test_what_is_not_there_is_not_proved(published: Published) -> None:
    with pytest.raises(ReleaseUnknown):
        proving.prove(published.stores, "notes", 7, None)
    with pytest.raises(DocumentUnknown, match="in release 2"):
        proving.prove(published.stores, "notes", None, "nowhere.txt")


# What is refused


def texts(proof: Any, at: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], str]]:
    """Every text in a proof, with the way to it; names of fields too, as the way to them."""
    if isinstance(proof, str):
        return [(at, proof)]
    parts = proof.items() if isinstance(proof, dict) else enumerate(proof)
    return [found for name, part in parts for found in texts(part, (*at, name))]


def replaced(proof: Proof, at: tuple[Any, ...], text: str) -> Proof:
    changed = deepcopy(proof)
    part: Any = changed
    for name in at[:-1]:
        part = part[name]
    part[at[-1]] = text
    return changed


def test_a_proof_with_any_one_character_changed_is_refused(published: Published) -> None:
    """In every field, the first, the last and one in between; each becomes another case, and its neighbour."""
    chosen = random.Random(12)
    for at, text in texts(published.proof):
        for place in {0, len(text) - 1, chosen.randrange(len(text))}:
            for other in {text[place].swapcase(), chr(ord(text[place]) ^ 1)} - {text[place]}:
                with pytest.raises(Refused):
                    check(replaced(published.proof, at, text[:place] + other + text[place + 1 :]))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_proof_with_a_field_cut_lengthened_or_given_to_another_is_refused(
    published: Published, data: st.DataObject
) -> None:
    found = texts(published.proof)
    at, text = data.draw(st.sampled_from(found))
    cut = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.one_of(
        st.just(text[:cut]), st.just(text[cut + 1 :]), st.just(text + "0"), st.just(" " + text),
        st.sampled_from([another for _, another in found]), st.text(),
    ))  # fmt: skip
    if other != text:
        with pytest.raises(Refused):
            check(replaced(published.proof, at, other))


def other_release(proof: Proof) -> None:
    digests = json.loads(proof["release"])
    digests[PARTITIONS[0]] = "0" * 64
    proof["release"] = canonical_json(digests)


CHANGES: list[tuple[str, Callable[[Proof], None]]] = [
    ("another digest in the release", other_release),
    ("a partition less in the release", lambda proof: proof.update(
        release=canonical_json(dict(list(json.loads(proof["release"]).items())[1:])))),
    ("no approvals", lambda proof: proof.update(records=proof["records"][:1])),
    ("one approval less than it takes", lambda proof: proof["records"].pop()),
    ("no publication", lambda proof: proof["records"].pop(0)),
    ("no records", lambda proof: proof.update(records=[])),
    ("a record twice with the way of another", lambda proof: proof["records"][1].__setitem__(
        1, proof["records"][2][1])),
    ("a step less on the way", lambda proof: proof["records"][0][1].pop()),
    ("a step more on the way", lambda proof: proof["document"]["path"].append("<" + "0" * 64)),
    ("a path on the other side", lambda proof: proof["document"]["path"].__setitem__(
        0, {"<": ">", ">": "<"}[proof["document"]["path"][0][0]] + proof["document"]["path"][0][1:])),
    ("a field more", lambda proof: proof.update(more="")),
    ("a field less", lambda proof: proof.pop("keys")),
    ("no key", lambda proof: proof.update(keys=[])),
    ("no decision key", lambda proof: proof.update(keys=proof["keys"][:1])),
    ("a note without a signature", lambda proof: proof.update(
        checkpoint=proof["checkpoint"].partition("\n\n")[0] + "\n\n")),
    ("numbers for texts", lambda proof: proof.update(release=7)),
    ("null", lambda proof: proof.update(records=None)),
]  # fmt: skip


@pytest.mark.parametrize("change", [change[1] for change in CHANGES], ids=[change[0] for change in CHANGES])
def test_a_proof_that_was_put_together_otherwise_is_refused(
    published: Published, tmp_path: Path, change: Callable[[Proof], None]
) -> None:
    changed = deepcopy(published.proof)
    change(changed)
    done = verified(changed, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("NOT PROVED"), done.stderr
    assert "PROVED:" not in done.stdout


def test_the_recorder_key_alone_makes_no_approval(published: Published) -> None:
    """Runs hold it, and could make a tree and a note of their own; a decision in it is still signed by nobody."""
    recorder = Ed25519PrivateKey.generate()
    public = recorder.public_key().public_bytes_raw()
    found = [json.loads(leaf) for leaf, _ in published.proof["records"]]
    origin = published.proof["checkpoint"].split("\n")[0]
    for one in found[1:]:
        one["actor"] = "eve"
        said = [one[name] for name in audit.HASHED_COLUMNS]
        one["hash"] = sha256_hex(canonical_json(said).encode())
        signed = recorder.sign(audit.signed_bytes(origin.removeprefix("ai-assets/"), one["hash"]))
        one["signature"] = keys.encoded(signed)
    from ai_assets.signoff.merkle import Tree, leaf_hash

    leaves = [canonical_json(one) for one in found]
    tree = Tree(leaf_hash(leaf.encode()) for leaf in leaves)
    note = SignedNote.make(origin, len(leaves), tree.root(), public, recorder.sign)
    proof = {
        **published.proof,
        "checkpoint": note.text,
        "keys": [verifier_key(origin, public), *published.proof["keys"][1:]],
        "records": [[leaf, [side + beside.hex() for side, beside in tree.path(number)]]
                    for number, leaf in enumerate(leaves)],
    }  # fmt: skip
    with pytest.raises(Refused, match="a decision is forged"):
        check(proof)


VECTORS = [  # RFC 8032, 7.1
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe246"
     "55141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb"
     "00d291612bb0c00"),
]  # fmt: skip


def signed() -> Callable[[bytes, str, bytes], bool]:
    """The function of the script alone."""
    source = proving.VERIFIER.read_text(encoding="utf-8").partition("proof, keys, trusted")[0]
    scope: dict[str, Any] = {}
    hook = sys.excepthook
    exec(compile(source, "verify_proof.py", "exec"), scope)  # noqa: S102
    sys.excepthook = hook
    found: Callable[[bytes, str, bytes], bool] = scope["signed"]
    return found


def test_its_signatures_are_those_of_the_rfc() -> None:
    for public, message, signature in VECTORS:
        raw = bytes.fromhex(signature)
        assert signed()(bytes.fromhex(public), bytes.fromhex(message).decode(), raw)
        assert not signed()(bytes.fromhex(public), bytes.fromhex(message).decode() + "!", raw)


@settings(max_examples=25, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), text=st.text(), bit=st.integers(0, 511))
def test_its_signatures_are_those_of_another_implementation(seed: bytes, text: str, bit: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(text.encode())
    check_signature = signed()
    assert check_signature(public, text, signature)
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8
    assert not check_signature(public, text, bytes(changed))
    order = 2**252 + 27742317777372353535851937790883648493
    second = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not check_signature(public, text, signature[:32] + second)  # the same point, another text


# Through the command


def test_the_command_writes_the_proof_and_what_verifies_it(published: Published, tmp_path: Path) -> None:
    out = tmp_path / "given" / "release.json"
    out.parent.mkdir()
    home = {"AI_ASSETS_HOME": str(published.project.home.root)}
    done = published.project.cli("audit", "prove", "notes", "--document", DOCUMENT, "-o", str(out), **home)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == ["release.json", "verify_proof.py"]
    command = next(line.split() for line in done.stdout.splitlines() if line.strip().startswith("python3 "))
    shown = subprocess.run([sys.executable, "-I", "-S", *command[1:]], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "By keys that you trust."
    printed = published.project.cli("audit", "prove", "notes", "--release", "1", **home)
    assert "PROVED: release 1" in check(json.loads(printed.stdout))


def test_a_release_whose_approval_does_not_stand_is_not_proved(published: Published) -> None:
    with published.stores.state.write() as connection:
        kept = connection.execute(sa.text("SELECT seq, signature FROM audit WHERE action = 'approved'")).all()
        connection.execute(sa.text("UPDATE audit SET signature = 'AAAA' WHERE action = 'approved'"))
    try:
        with pytest.raises(NotProvable, match="holds no approval of it that stands"):
            proving.prove(published.stores, "notes", None, None)
    finally:
        with published.stores.state.write() as connection:
            for row in kept:
                connection.execute(sa.text("UPDATE audit SET signature = :s WHERE seq = :n"),
                                   {"s": row.signature, "n": row.seq})  # fmt: skip
