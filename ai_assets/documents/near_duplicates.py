"""Documents that say nearly the same: MinHash over runs of three words, by the order of names and not of files.

Within one partition. The first document by name of those that are alike stands for the others; who stands for others is
never itself linked, so a link never leads on to another.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PERMUTATIONS = 128
"""Their share that agrees is how alike two documents are, give or take 0.04."""
_BANDS = 32
"""Of four each: of documents as alike as 0.7, it looks at 999 in 1,000 pairs."""
_WORDS_RUN, _CHARACTERS_RUN = 3, 5
_FEWEST_WORDS = 8
"""Shorter texts are alike by chance."""
_AT_ONCE = 1 << 13
_LONG_WORD = 15
"""Characters on average: a script without spaces, of which runs of characters are compared."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicate:
    of: str
    similarity: float


class NearDuplicates:
    """Sees the documents of a partition in order of their names, and says of each which one before it stands for it."""

    def __init__(self, at_least: float) -> None:
        self._at_least = at_least
        self._names: list[str] = []
        self._signatures: list[npt.NDArray[np.uint32]] = []
        self._buckets: dict[int, list[int]] = {}

    def link(self, name: str, text: str) -> NearDuplicate | None:
        made = signature(text)
        if made is None:
            return None
        keys = [_key(band, part.tobytes()) for band, part in enumerate(made.reshape(_BANDS, -1))]
        found = {at for key in keys for at in self._buckets.get(key, ())}
        alike = [(similarity(made, self._signatures[at]), -at) for at in found]
        best, before = max(alike, default=(0.0, 0))
        if best >= self._at_least:
            return NearDuplicate(of=self._names[-before], similarity=round(best, 2))
        for key in keys:
            self._buckets.setdefault(key, []).append(len(self._names))
        self._names.append(name)
        self._signatures.append(made)
        return None


def _key(band: int, part: bytes) -> int:
    """The same in every process, as Python's own hash is not."""
    return zlib.crc32(part, band) << 32 | zlib.adler32(part)


def similarity(one: "npt.NDArray[np.uint32]", other: "npt.NDArray[np.uint32]") -> float:
    return float((one == other).mean())


def signature(text: str) -> "npt.NDArray[np.uint32] | None":
    """None for a text that is too short to be compared."""
    import numpy as np

    shingles = np.fromiter(set(_shingles(text)), np.uint64)
    if len(shingles) < _FEWEST_WORDS - _WORDS_RUN + 1:
        return None
    factors, offsets = _permutations()
    found = np.full(PERMUTATIONS, 0xFFFFFFFF, np.uint32)
    for start in range(0, len(shingles), _AT_ONCE):
        mixed = shingles[start : start + _AT_ONCE, None] * factors + offsets
        found = np.minimum(found, (mixed >> np.uint64(32)).astype(np.uint32).min(axis=0))
    return found


def shingles(text: str) -> frozenset[int]:
    """Digests of its runs of words; empty for a text that is too short to be compared."""
    found = frozenset(_shingles(text))
    return found if len(found) >= _FEWEST_WORDS - _WORDS_RUN + 1 else frozenset()


def _shingles(text: str) -> Iterator[int]:
    words = _WORD.findall(text.casefold())
    if len(words) * _LONG_WORD < sum(map(len, words)):
        joined = "".join(words)
        runs = (joined[at : at + _CHARACTERS_RUN] for at in range(len(joined) - _CHARACTERS_RUN + 1))
    else:
        runs = (" ".join(words[at : at + _WORDS_RUN]) for at in range(len(words) - _WORDS_RUN + 1))
    for run in runs:
        data = run.encode("utf-8", "surrogatepass")
        yield zlib.crc32(data) << 32 | zlib.adler32(data)


@cache
def _permutations() -> "tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]":
    """The same on every machine, for good: another seed would change the rows."""
    import numpy as np

    random = np.random.Generator(np.random.PCG64(20261127))
    factors, offsets = random.integers(1, 1 << 63, (2, PERMUTATIONS), np.uint64)
    return factors * np.uint64(2) + np.uint64(1), offsets
