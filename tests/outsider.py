"""Reading the index as somebody does who has LanceDB, the public key and nothing of ours, by the way the docs name."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lancedb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Options = Mapping[str, str]


def plain(place: str | Path, options: Options | None = None) -> Any:
    """The table, opened without naming a version."""
    return lancedb.connect(str(place), storage_options=dict(options) if options else None).open_table("live")


def by_tag(place: str | Path, options: Options | None = None) -> dict[str, str]:
    """Text by document, of the tag."""
    table = plain(place, options)
    table.checkout("live")
    return texts(table)


def by_file(place: str | Path, live: bytes, public_key: bytes, options: Options | None = None) -> dict[str, str]:
    """Text by document, of what `live.json` names."""
    said = statement(live, public_key)
    database = lancedb.connect(str(place), storage_options=dict(options) if options else None)
    table = database.open_table(said["table"], branch=said["branch"], version=said["version"])
    return texts(table)


def statement(live: bytes, public_key: bytes) -> dict[str, Any]:
    """What a `live.json` says; raises `InvalidSignature` unless the owner of the key signed it."""
    found = json.loads(live)
    said: dict[str, Any] = found["statement"]
    data = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(found["signature"]), data)
    return said


def texts(table: Any) -> dict[str, str]:
    rows = table.to_arrow().select(["document_id", "text"]).to_pylist()
    return {row["document_id"]: row["text"] for row in rows}


def public_key(keys: Path) -> bytes:
    """Of the recorder, as whoever runs the home gives it to readers."""
    return base64.b64decode(json.loads((keys / "trust.json").read_text())["recorder"][0])
