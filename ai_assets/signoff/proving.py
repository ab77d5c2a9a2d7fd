"""A proof of one release, and of one document in it, that `verify_proof.py` checks without us, the store or the lake.

Every hash in it is over text that is there as it was hashed, so nothing can be another and still fit.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import sqlalchemy as sa

from ai_assets.base.errors import FileUnwritable, StateUnavailable
from ai_assets.base.plural import plural
from ai_assets.signoff import audit, authority, checkpoints, forgotten, keys, releases, requests
from ai_assets.signoff.audit import Record
from ai_assets.signoff.audit_errors import NotProvable
from ai_assets.signoff.authority import Authority
from ai_assets.signoff.candidate import chunk_digests, described, leaves_of_files, signed_chunks, signed_row
from ai_assets.signoff.errors import DocumentUnknown
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.merkle import Side, Tree
from ai_assets.signoff.releases import Part, Release
from ai_assets.signoff.signed_note import SignedNote, verifier_key
from ai_assets.storage.digest import Json, canonical_json, content_leaf, content_pair, digest
from ai_assets.storage.lake import read_rows
from ai_assets.storage.stores import Stores

FORMAT = "ai-assets proof 1"
VERIFIER = Path(__file__).with_name("verify_proof.py")
"""Goes with each proof."""
DECISION = "/decision"
"""After the name of the chain: the name of keys that decisions are signed with."""


def prove(stores: Stores, collection: str, number: int | None, document: str | None) -> dict[str, Json]:
    """Of a release (the live one, where none is named), and of a document in it. Makes a checkpoint for it; in a home
    that cannot be written the newest is taken."""
    with stores.state.read() as connection:
        release = (
            releases.require_live(connection, collection)
            if number is None
            else releases.get(connection, collection, number)
        )
    note = _checkpoint(stores)
    with stores.state.read() as connection:
        known = authority.of(connection)
        told = [_published(connection, known, release), *_approvals(connection, known, release)]
        if max(record.seq for record in told) > note.size:
            raise NotProvable(
                _name(release), f"the newest checkpoint is of {plural(note.size, 'record')}, which it is not among"
            )
        tree = checkpoints.tree(connection, note.size)
        if tree.root() != note.root:
            raise NotProvable(_name(release), "the audit chain changed while the proof was made; try again")
        proof: dict[str, Json] = {
            "format": FORMAT,
            "keys": _keys(connection, known, note, told),
            "checkpoint": note.text,
            "release": canonical_json(releases.signed_parts(release.parts)),
            "records": [[_text(record), _steps(tree.path(record.seq - 1))] for record in told],
        }
        if document is not None:
            proof["document"] = _document(stores, connection, release, document)
    return proof


def _checkpoint(stores: Stores) -> SignedNote:
    try:
        return checkpoints.make(stores).note
    except StateUnavailable:
        with stores.state.read() as connection:
            row = checkpoints.newest(connection)
        if row is None:
            raise
        return SignedNote.read(row.note)


def write(proof: Mapping[str, Json], path: Path) -> Path:
    """The proof as a file, and what verifies it beside it."""
    beside = path.with_name(VERIFIER.name)
    try:
        path.write_text(as_text(proof), encoding="ascii")
        beside.write_bytes(VERIFIER.read_bytes())
    except OSError as error:
        raise FileUnwritable(path, error) from error
    return beside


def as_text(proof: Mapping[str, Json]) -> str:
    return json.dumps(proof, indent=1) + "\n"


def _published(connection: sa.Connection, known: Authority, release: Release) -> Record:
    for record in audit.select(connection, collections=[release.collection], actions=["published"]):
        if record.subject.get("release") == release.number:
            known.require_signed(record)
            return record
    raise NotProvable(_name(release), "the audit chain has no record of its publication (ai-assets audit verify)")


def _approvals(connection: sa.Connection, known: Authority, release: Release) -> list[Record]:
    """Of every partition, by who signed what is in this release."""
    digests = {part.request_id: part.digest for part in release.parts.values()}
    found = [
        record
        for record in audit.records(connection, request_ids=list(digests))
        if record.action == "approved" and record.subject["digest"] == digests[str(record.subject["request_id"])]
        and known.stands(record)
    ]  # fmt: skip
    given = {record.subject["request_id"] for record in found if record.subject["complete"]}
    for name, part in release.parts.items():
        if part.request_id not in given:
            raise NotProvable(f"{_name(release)}, {name}", "the audit chain holds no approval of it that stands")
    return found


def _keys(connection: sa.Connection, known: Authority, note: SignedNote, told: Sequence[Record]) -> list[str]:
    """The public keys that the proof takes, as tools for signed notes write them."""
    signed_by = note.require_signed(checkpoints.trusted_keys(connection, note.size))
    deciding = dict.fromkeys(record.key_id for record in told if record.action == "approved" and record.key_id)
    found = [verifier_key(note.origin, signed_by)]
    return found + [verifier_key(note.origin + DECISION, known.keys[key_id].public) for key_id in deciding]


def key_words(connection: sa.Connection) -> list[str]:
    """All public keys of this chain, as proofs name them."""
    trust = keys.trust_of(connection)
    if trust is None:
        return []
    names = {"recorder": checkpoints.origin(trust.chain), "decision": checkpoints.origin(trust.chain) + DECISION}
    known = authority.of(connection).keys.values()
    return [verifier_key(names[key.kind], key.public) for key in known if key.kind in names]


def _document(stores: Stores, connection: sa.Connection, release: Release, document: str) -> dict[str, Json]:
    partition, part = _part_of(stores, release, document)
    documents, chunks = snapshot_paths(stores.lake, release.collection, partition, part)
    leaves: list[bytes] = []
    found, row = None, {}
    gone = forgotten.of(connection, release.collection)
    for name, rows in groupby(leaves_of_files(documents, chunks, gone), key=lambda item: item[0]["document_id"]):
        *_, (last, leaf) = rows
        if name == document and gone.leaf(last) is not None:
            raise NotProvable(f"{document} in {_name(release)}", gone.documents[document].reason)
        if name == document:
            found, row = len(leaves), signed_row(last)
        leaves.append(content_leaf(f"{name}\n{leaf}"))
    passages: list[Json] = [
        passage["digests"] for passage in chunk_digests(signed_chunks(chunks))
        if passage["document_id"] == document
    ]  # fmt: skip
    candidate = _described(connection, release, partition, part)
    tree = Tree(leaves, content_pair)
    if found is None or tree.root().hex() != part.content:
        raise NotProvable(f"{_name(release)}, {partition}", "its files are not what was published (ai-assets verify)")
    return {
        "content": canonical_json([row, passages]),
        "path": _steps(tree.path(found)),
        "candidate": canonical_json(candidate),
    }


def _part_of(stores: Stores, release: Release, document: str) -> tuple[str, Part]:
    for partition, part in release.parts.items():
        documents, _ = snapshot_paths(stores.lake, release.collection, partition, part)
        if any(row["document_id"] == document for row in read_rows(documents, ["document_id"])):
            return partition, part
    raise DocumentUnknown(release.collection, document, f" in release {release.number}")


def _described(connection: sa.Connection, release: Release, partition: str, part: Part) -> dict[str, Json]:
    """What the approved digest is of; its evaluation and cost are what people were shown with the request."""
    request = requests.get(connection, part.request_id)
    shown = request.changes if request is not None else {}
    candidate = described(release.collection, partition, part.content, part.code_versions, shown.get("scores", []),
                          shown.get("cost_usd"))  # fmt: skip
    if digest(candidate) != part.digest:
        raise NotProvable(f"{_name(release)}, {partition}", "its request does not say any more what was approved")
    return candidate


def _text(record: Record) -> str:
    return audit.leaf_bytes(record).decode("utf-8", "surrogatepass")


def _steps(path: Sequence[tuple[Side, bytes]]) -> list[Json]:
    return [side + beside.hex() for side, beside in path]


def _name(release: Release) -> str:
    return f"Release {release.number} of {release.collection}"
