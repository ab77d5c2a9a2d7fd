"""Canonical digests: the one way this project turns values into identities."""

import hashlib
import json
from collections.abc import Mapping, Sequence

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""Made once: `json.dumps` makes an encoder for every call."""


def canonical_json(value: Json) -> str:
    """Equal values give equal text: keys sorted, no spaces, no NaN."""
    return _encode(value)


def digest(value: Json) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return sha256_hex(canonical_json(value).encode("utf-8", "surrogatepass"))


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class MerkleRoot:
    """Root over hex leaves in the order given; an odd leaf is paired with nothing, never with itself.

    Leaves and inner nodes are hashed under different prefixes, so no inner node can pose as a leaf. Of the tree only
    the roots of its full parts are in memory: one per binary digit of the number of leaves.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[int, bytes]] = []
        """Height and root of each full part, the largest first."""

    def add(self, leaf: str) -> None:
        height, node = 0, content_leaf(leaf)
        while self._parts and self._parts[-1][0] == height:
            node = content_pair(self._parts.pop()[1], node)
            height += 1
        self._parts.append((height, node))

    def hex(self) -> str:
        if not self._parts:
            return sha256_hex(b"empty")
        *others, (_, node) = self._parts
        for _, part in reversed(others):
            node = content_pair(part, node)
        return node.hex()


def content_leaf(leaf: str) -> bytes:
    return hashlib.sha256(b"leaf:" + leaf.encode()).digest()


def content_pair(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"node:" + left + right).digest()
