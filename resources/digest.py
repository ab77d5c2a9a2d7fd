"""Canonical digests: the one way this project turns values into identities."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical_json(value: Json) -> str:
    """Equal values give equal text: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Json) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return sha256_hex(canonical_json(value).encode("utf-8", "surrogatepass"))


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def merkle_root(leaves: Iterable[str]) -> str:
    """Root over hex leaves in the order given; an odd leaf is paired with nothing, never with itself.

    Leaves and inner nodes are hashed under different prefixes, so no inner node can pose as a leaf.
    """
    level = [hashlib.sha256(b"leaf:" + leaf.encode()).digest() for leaf in leaves]
    if not level:
        return sha256_hex(b"empty")
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [hashlib.sha256(b"node:" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0].hex()
