"""The seam: what makes vectors of texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from ai_assets.base.plural import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np


class Embedder(ABC):
    """Makes the vectors of passages and of queries. Your own is named under `embedding: {use: module:name}`.

    It is made from its `options` when the definitions load, so what is heavy (a model, a GPU) belongs into `embed`.
    """

    name: str
    """Of the model, such as `intfloat/e5-small`."""
    dimensions: int
    """How long its vectors are."""
    version: str | None = None
    """Vectors of different versions are never compared. Without one an edit of the class is a new version."""
    texts_at_once: ClassVar[int] = 500

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> np.ndarray | Sequence[Sequence[float]]:
        """One row per text, in order; a row of zeros where a text has nothing to embed. Rows are made of length one."""

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray | Sequence[Sequence[float]]:
        """The same for questions; some models want to be told which of both a text is."""
        return self.embed(texts)

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Give memory and connections back."""


def unit_rows(found: Any, texts: int, dimensions: int) -> np.ndarray:
    """The vectors as they are kept: finite, float32, of length one. ValueError where they are not what was declared."""
    import numpy as np

    rows = np.asarray(found, dtype=np.float64)
    if rows.shape != (texts, dimensions):
        shape = " x ".join(map(str, rows.shape))
        raise ValueError(
            f"for {plural(texts, 'text')} it gave numbers in the shape {shape}, and not {texts} x {dimensions}"
        )
    if not np.isfinite(rows).all():
        raise ValueError("one of its vectors has a number that is not finite")
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    units: np.ndarray = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0).astype(np.float32)
    return units
