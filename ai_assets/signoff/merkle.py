"""The Merkle tree of RFC 6962 and RFC 9162 (Certificate Transparency), so that other tools verify what is made here.

Pure: hashes in, hashes out. A leaf is hashed behind a zero byte, a pair behind a one, so no pair passes for a leaf.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ai_assets.base.plural import plural

Side = Literal["<", ">"]
EMPTY = hashlib.sha256().digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """A tree that only grows: of it there are only the roots of its full parts, one per binary digit of its size."""

    size: int = 0
    parts: tuple[bytes, ...] = ()
    """The largest first."""

    def __post_init__(self) -> None:
        if self.size.bit_count() != len(self.parts):
            raise ValueError(f"a tree of {self.size} leaves has {plural(self.size.bit_count(), 'full part')}")

    def add(self, leaf: bytes) -> "Frontier":
        """With one more leaf, which is given hashed."""
        parts, node, size = list(self.parts), leaf, self.size
        while size & 1:
            node, size = node_hash(parts.pop(), node), size >> 1
        return Frontier(self.size + 1, (*parts, node))

    def root(self) -> bytes:
        return _folded(self.parts)


def _folded(parts: Sequence[bytes], pair: Callable[[bytes, bytes], bytes] = node_hash) -> bytes:
    if not parts:
        return EMPTY
    node = parts[-1]
    for part in reversed(parts[:-1]):
        node = pair(part, node)
    return node


class Tree:
    """Of leaves that are given hashed; holds the roots of all full parts, so that a proof takes few hashes."""

    def __init__(self, leaves: Iterable[bytes], pair: Callable[[bytes, bytes], bytes] = node_hash) -> None:
        """`pair` for a tree of the same shape whose pairs are hashed otherwise."""
        self._pair = pair
        self._levels = [list(leaves)]
        while len(below := self._levels[-1]) > 1:
            self._levels.append([pair(*two) for two in zip(below[::2], below[1::2], strict=False)])

    def __len__(self) -> int:
        return len(self._levels[0])

    def root(self, size: int | None = None) -> bytes:
        """Of the first leaves; of all, where nothing is said."""
        return self._part(0, self._of(size))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof that the leaf with this index (from 0) is in the tree of so many leaves: the nearest hash first."""
        return [beside for _, beside in self.path(index, size)]

    def path(self, index: int, size: int | None = None) -> list[tuple[Side, bytes]]:
        """The same, and on which side of the way to the root each hash is."""
        start, end, path = 0, self._of(size), list[tuple[Side, bytes]]()
        if not 0 <= index < end:
            raise ValueError(f"a tree of {end} leaves has none with the index {index}")
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append((">", self._part(middle, end)))
                end = middle
            else:
                path.append(("<", self._part(start, middle)))
                start = middle
        return path[::-1]

    def consistency(self, first: int, second: int | None = None) -> list[bytes]:
        """The proof that the tree of `second` leaves begins with the tree of `first`."""
        start, end, path, whole = 0, self._of(second), [], True
        if not 0 < first <= end:
            raise ValueError(f"a tree of {end} leaves does not begin with one of {first}")
        while first < end:
            middle = start + _split(end - start)
            if first <= middle:
                path.append(self._part(middle, end))
                end = middle
            else:
                path.append(self._part(start, middle))
                start, whole = middle, False
        return ([] if whole else [self._part(start, end)]) + path[::-1]

    def _of(self, size: int | None) -> int:
        found = len(self) if size is None else size
        if not 0 <= found <= len(self):
            raise ValueError(f"there are {len(self)} leaves, not {found}")
        return found

    def _part(self, start: int, end: int) -> bytes:
        """The root of the leaves from `start` on, where a full part of their number begins."""
        parts = []
        while start < end:
            height = (end - start).bit_length() - 1
            parts.append(self._levels[height][start >> height])
            start += 1 << height
        return _folded(parts, self._pair)


def _split(size: int) -> int:
    """The largest power of two below the size: so many leaves are to the left."""
    return 1 << ((size - 1).bit_length() - 1)


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path proves that the hashed leaf is in the tree with this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    here, last, node = index, size - 1, leaf
    for beside in path:
        if last == 0:
            return False
        if here & 1 or here == last:
            node = node_hash(beside, node)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            node = node_hash(node, beside)
        here, last = here >> 1, last >> 1
    return last == 0 and node == root


def consistent(first: int, first_root: bytes, second: int, second_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the path proves that the second tree begins with the first (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    hashes = [first_root, *path] if first.bit_count() == 1 else list(path)
    if not hashes:
        return False
    here, last = first - 1, second - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = hashes[0]
    for beside in hashes[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        here, last = here >> 1, last >> 1
    return last == 0 and (old, new) == (first_root, second_root)
