"""What makes vectors of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

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
