"""Embeddings of chunks: one vector per distinct text, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np


class Embedder(Protocol):
    """What a backend must offer to embed chunks."""

    @property
    def name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def version(self) -> str:
        """Vectors of different versions are not comparable."""
        ...

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One float32 row of length one per text, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The vectors of the digests that were asked for, and how many of them cost work."""

    vectors: Mapping[str, np.ndarray]
    reused: int
    embedded: int


def embed_chunks(texts_by_digest: Mapping[str, str], known: Mapping[str, np.ndarray], embedder: Embedder) -> Embedded:
    """Vectors for every text, from `known` (of the same embedder version) where it has them."""
    missing = [digest for digest in texts_by_digest if digest not in known]
    rows = embedder.embed([texts_by_digest[digest] for digest in missing]) if missing else ()
    fresh = dict(zip(missing, rows, strict=True))
    vectors = {digest: fresh[digest] if digest in fresh else known[digest] for digest in texts_by_digest}
    return Embedded(vectors=vectors, reused=len(texts_by_digest) - len(missing), embedded=len(missing))
