"""An embedder of a user's own: found by its name, held to what it declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import ExtensionUnusable, OwnCodeFailed, said_of
from ai_assets.base.extras import ExtraMissing
from ai_assets.embedding.embed import Embedder, unit_rows
from ai_assets.embedding.local import LocalEmbedder
from ai_assets.embedding.spec import Embedding, EmbeddingMaker
from ai_assets.extensions import load_class
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.source_digest import source_digest
from ai_assets.storage.digest import digest
from ai_assets.storage.index import MOST_DIMENSIONS

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class OwnEmbedder(EmbeddingMaker):
    """What makes vectors with it here: an own one as any other."""

    inner: Embedder
    embedding: Embedding

    @property
    def is_local(self) -> bool:
        """Its model is loaded here, on a device."""
        return isinstance(self.inner, LocalEmbedder)

    @property
    def texts_at_once(self) -> int:
        return self.inner.texts_at_once

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        try:
            return unit_rows(self.inner.embed(list(texts)), len(texts), self.dimensions)
        except Exception as error:
            raise OwnCodeFailed("embedder", str(self.embedding.use), said_of(error)) from error

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        try:
            return unit_rows(self.inner.embed_queries(list(texts)), len(texts), self.dimensions)
        except Exception as error:
            raise OwnCodeFailed("embedder", str(self.embedding.use), said_of(error)) from error

    def close(self) -> None:
        self.inner.close()


def own_embedder(use: str, options: Mapping[str, Any], near: Path | None = None) -> OwnEmbedder:
    """Raises ExtensionUnusable for what cannot be loaded or does not say what it makes, and a model that runs here its
    own errors."""
    kind: type[Embedder] = load_class("embedder", use, Embedder, near)
    beside = {"near": near} if issubclass(kind, LocalEmbedder) else {}
    try:
        inner = kind(**options, **beside)
        said = (inner.name, inner.dimensions, inner.version)
    except (ModelUnusable, ExtraMissing):
        raise
    except Exception as error:
        problem = f"making it with its options failed: {type(error).__name__}: {error}"
        raise ExtensionUnusable("embedder", use, problem) from error
    name, dimensions, version = said
    if not isinstance(name, str) or not name:
        raise ExtensionUnusable("embedder", use, f"its 'name' is {name!r}, and should be that of its model")
    if not isinstance(dimensions, int) or not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ExtensionUnusable(
            "embedder", use, f"its 'dimensions' are {dimensions!r}, and should be a number from 1 to {MOST_DIMENSIONS}"
        )
    made_by = source_digest(kind) if version is None else str(version)
    embedding = Embedding(
        model=name, dimensions=dimensions, version=digest([made_by, dict(options)])[:16], use=use, options=dict(options)
    )
    return OwnEmbedder(inner=inner, embedding=embedding)
