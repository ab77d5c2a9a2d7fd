"""An embedder of one's own: words hashed into a fixed number of places, in any language and without a model.

In `defs.yaml`: `embedding: {use: "examples.own_embedder:HashedWords", options: {dimensions: 512}}`.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ai_assets.embedding import Embedder

if TYPE_CHECKING:
    import numpy as np


class HashedWords(Embedder):
    name = "hashed-words"
    version = "1"  # another one embeds everything anew; an edit that changes no vector needs none

    def __init__(self, dimensions: int = 256) -> None:
        self.dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        import numpy as np

        rows = np.zeros((len(texts), self.dimensions))
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                place = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
                row[place % self.dimensions] += 1 if place >> 63 else -1
        return rows
