"""Audit chains with checkpoints, and what somebody does to them who may write everything in the state store."""

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ai_assets.signoff import audit, checkpoints
from ai_assets.signoff.signed_note import SignedNote
from ai_assets.storage.stores import Stores


def record(stores: Stores, number: int = 1, subject: str = "x") -> None:
    """Records that only fill the chain."""
    with stores.state.write() as connection:
        for each in range(number):
            audit.append(connection, "ann", "noted", {"collection": "notes", "text": f"{subject} {each}"})


def execute(stores: Stores, *statements: str) -> None:
    """What somebody does who may write everything in the state store."""
    with stores.state.write() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def a_note(size: int = 3, name: str = "ai-assets/test", key: Ed25519PrivateKey | None = None) -> SignedNote:
    signer = key or Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
    return SignedNote.make(name, size, b"\1" * 32, signer.public_key().public_bytes_raw(), signer.sign)


def with_checkpoints(stores: Stores) -> Stores:
    """Of 4, 7 and 9 records."""
    for number in (4, 3, 2):
        record(stores, number)
        checkpoints.make(stores)
    return stores


def forged(stores: Stores, seq: int, **changed: object) -> None:
    """One record rewritten, and all that follow chained again with right hashes; the signatures cannot be."""
    with stores.state.write() as connection:
        found = list(audit.records(connection))
        previous = found[seq - 2].hash if seq > 1 else audit.GENESIS
        for one in found[seq - 1 :]:
            draft = {**vars(one), "previous_hash": previous, **(changed if one.seq == seq else {})}
            again = audit.Record(**draft)
            previous = again.computed_hash()
            connection.execute(
                sa.text("UPDATE audit SET actor = :actor, previous_hash = :before, hash = :hash WHERE seq = :seq"),
                {"actor": again.actor, "before": again.previous_hash, "hash": previous, "seq": again.seq},
            )
