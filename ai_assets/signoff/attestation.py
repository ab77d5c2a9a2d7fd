"""The provenance of a published row as an in-toto statement in a signed DSSE envelope, with its proof in it.

`verify_statement.py` checks it with Python alone: the envelope's signature, then by `verify_proof.py` the proof.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ai_assets.base.errors import FileUnwritable
from ai_assets.signoff import checkpoints, keys, proving
from ai_assets.signoff.audit_errors import NotProvable, StatementRefused
from ai_assets.signoff.checkpoints import LocatedNote
from ai_assets.signoff.signed_note import SignedNote, verifier_key
from ai_assets.storage.digest import Json, canonical_json, sha256_hex
from ai_assets.storage.stores import Stores

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://ai-assets.dev/provenance/v1"
VERIFIER = Path(__file__).with_name("verify_statement.py")
"""Goes with each statement, beside the verifier of proofs."""


def attest(
    stores: Stores, collection: str, number: int, document: str, provenance: Mapping[str, Any]
) -> dict[str, Json]:
    """The subject is the signed row; its digest is a leaf below the digest that people approved.

    Raises `NotProvable` where the row cannot be proved, such as of a forgotten document.
    """
    proof: dict[str, Any] = proving.prove(stores, collection, number, document)
    told: Any = proof["document"]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": f"{collection}/{document}", "digest": {"sha256": _sha256(told["content"])}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"provenance": json.loads(canonical_json(dict(provenance))), "proof": proof},
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("ascii")
    with stores.state.read() as connection:
        ring = keys.of(connection)
    signature = ring.sign("recorder", pre_authentication(payload))
    key = verifier_key(checkpoints.origin(ring.trust.chain), ring.public("recorder"))
    if key not in proof["keys"]:
        raise NotProvable(
            f"{document} in release {number} of {collection}",
            "the recorder key is another than the one that signed the newest checkpoint (ai-assets audit checkpoint)",
        )
    return {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signatures": [{"keyid": key, "sig": signature.signature}],
    }


def pre_authentication(payload: bytes) -> bytes:
    """What DSSE signs: the type too, so that nothing that was signed as something else counts."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def statement_in(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """What is signed, not checked."""
    found: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"]))
    return found


@dataclass(frozen=True, kw_only=True)
class StatementVerified:
    """A statement that holds: what it is about."""

    collection: str
    release: int
    document: str
    row: str
    """SHA-256 of the row."""
    steps: int
    records: int
    """Of the audit chain, below the checkpoint of its proof; this home's chain begins with the same."""


def verify(stores: Stores, path: Path) -> StatementVerified:
    """By the script that auditors have, with this home's keys; and the checkpoint in it is one of this home's chain."""
    with stores.state.read() as connection:
        words = proving.key_words(connection)
        if not words:
            raise StatementRefused(path, "this home has no keys, so nothing was signed here")
        given = [part for word in words for part in ("--key", word)]
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(VERIFIER), str(path), *given], capture_output=True, text=True, check=False
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"its verifier ended with {done.returncode}"]
            raise StatementRefused(path, said[-1].removeprefix("NOT PROVED: ").rstrip("."))
        predicate = statement_in(json.loads(path.read_text(encoding="utf-8")))["predicate"]
        told, note = predicate["provenance"], SignedNote.read(predicate["proof"]["checkpoint"])
        checkpoints.require_extends(connection, [LocatedNote(note, path)])
    return StatementVerified(
        collection=told["collection"],
        release=told["release"],
        document=told["document"],
        row=told["row"],
        steps=len(told["steps"]),
        records=note.size,
    )


def as_text(envelope: Mapping[str, Json]) -> str:
    return canonical_json(dict(envelope)) + "\n"


def write(envelope: Mapping[str, Json], path: Path) -> Path:
    """The statement as a file, and what verifies it beside it."""
    beside = path.with_name(VERIFIER.name)
    try:
        path.write_text(as_text(envelope), encoding="ascii")
        for verifier in (VERIFIER, proving.VERIFIER):
            path.with_name(verifier.name).write_bytes(verifier.read_bytes())
    except OSError as error:
        raise FileUnwritable(path, error) from error
    return beside


def _sha256(text: str) -> str:
    return sha256_hex(text.encode("utf-8", "surrogatepass"))
