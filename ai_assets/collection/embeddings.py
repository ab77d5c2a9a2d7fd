"""The embeddings of a collection as declared: the first, which search uses, and further ones by name."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ai_assets.collection.settings import CollectionSettings, EmbeddingSettings
from ai_assets.embedding.spec import Embedding, builtin_embedding, vectors_asset

Models = tuple[tuple[str, str], ...]
"""Address and model of each endpoint of a route, in order."""


@dataclass(frozen=True, kw_only=True)
class DeclaredEmbedding:
    """One of them: an asset of vectors of all passages, or of those of some texts."""

    name: str
    settings: EmbeddingSettings
    models: Models
    """None for an embedder here."""
    embedding: Embedding

    @property
    def asset(self) -> str:
        return vectors_asset(self.name)

    @property
    def maker(self) -> list[Any]:
        """What decides a vector. Not: keys, prices, limits. A model may answer differently at another address."""
        found = self.embedding
        if found.use is not None:
            return ["own-1", *found.space]
        if found.version is not None:
            return [{"backend": "builtin"}, found.version]
        return ["route-1", [list(model) for model in self.models], found.dimensions, found.shorten]

    @property
    def described(self) -> list[Any]:
        """What decides the rows of its asset."""
        return [*self.maker, ["of", *self.embedding.of]] if self.embedding.of else self.maker


def embedded_texts(settings: CollectionSettings) -> tuple[str, ...]:
    """The texts that some embedding is made of, in order."""
    return tuple(dict.fromkeys(text for each in settings.every_embedding.values() for text in each.of))


def declared_embeddings(
    settings: CollectionSettings, models: Mapping[str, Models], own: Mapping[str, Embedding]
) -> tuple[DeclaredEmbedding, ...]:
    """`models` and `own` by name of the embedding, of those on a route and those with an embedder of one's own."""
    texts = set(embedded_texts(settings))
    found = []
    for name, each in settings.every_embedding.items():
        asked = models.get(name, ())
        if name in own:
            embedding = own[name]
        elif each.dimensions is None:
            embedding = builtin_embedding()
        else:
            embedding = Embedding(model=asked[0][1], dimensions=each.dimensions, shorten=each.shorten)
        of = each.of if set(each.of) != texts else ()
        found.append(DeclaredEmbedding(name=name, settings=each, models=asked, embedding=replace(embedding, of=of)))
    return tuple(found)
