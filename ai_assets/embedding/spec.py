"""Which vectors a collection has: the built-in ones, or a model's. As declared and as recorded; nothing is embedded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ai_assets.base.plural import plural
from ai_assets.storage.digest import digest
from ai_assets.storage.index_writing import VECTOR

WITHOUT = "without_vectors"
"""The column, and the number among statistics: of documents that are found by their words alone."""
FIRST = ""
"""Among the embeddings of a collection, the one that has no name: what is searched unless another one is named."""
VECTORS = "embeddings"
"""Its asset."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What vectors are made by. A release remembers it, for a question must be embedded as its passages were."""

    model: str
    dimensions: int
    version: str | None = None
    """Of an embedder here; None for a model on a route, of which only its name is known."""
    shorten: bool = False
    """The model is asked for that length."""
    use: str | None = None
    """The embedder of one's own, as `module:name` or by its entry point."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the embedder of one's own."""
    of: tuple[str, ...] = ()
    """The texts whose passages have such a vector; empty where all passages have one."""

    @property
    def is_builtin(self) -> bool:
        return self.version is not None and self.use is None

    @property
    def space(self) -> tuple[str, int, str | None]:
        """Vectors can be compared where this is equal, and nowhere else."""
        return self.model, self.dimensions, self.version

    @property
    def space_key(self) -> str:
        return digest(list(self.space))[:12]

    def recorded(self) -> dict[str, Any]:
        """As manifests and releases have it."""
        found = {**asdict(self), "of": list(self.of)}
        left_out = (*(_OF_OWN if self.use is None else ()), *(() if self.of else ("of",)))
        return {name: found[name] for name in found if name not in left_out}

    def __str__(self) -> str:
        return f"{self.model} ({plural(self.dimensions, 'dimension')})"


class EmbeddingMaker:
    """What makes the vectors of an embedding: its model and their length are as that says."""

    embedding: Embedding

    @property
    def name(self) -> str:
        return self.embedding.model

    @property
    def dimensions(self) -> int:
        return self.embedding.dimensions


_OF_OWN = ("use", "options")


def builtin_embedding() -> Embedding:
    from ai_assets.embedding.builtin import BuiltinEmbedder

    embedder = BuiltinEmbedder()
    return Embedding(model=embedder.name, dimensions=embedder.dimensions, version=embedder.version)


def recorded_embedding(said: Mapping[str, Any]) -> Embedding:
    """What made the vectors that a manifest or a release tells of; where it does not say, there was only one way."""
    found = said.get("embedding")
    return _read(found) if found else builtin_embedding()


def recorded_embeddings(said: Mapping[str, Any]) -> dict[str, Embedding]:
    """By name, all that a candidate or a release tells of; the first one among them."""
    more: Mapping[str, Mapping[str, Any]] = said.get("embeddings", {})
    return {FIRST: recorded_embedding(said), **{name: _read(found) for name, found in more.items()}}


def as_recorded(embeddings: Mapping[str, Embedding]) -> dict[str, Any]:
    """What `recorded_embeddings` reads. A collection of one embedding is recorded as it always was."""
    more = {name: each.recorded() for name, each in embeddings.items() if name != FIRST}
    return {"embedding": embeddings[FIRST].recorded(), **({"embeddings": more} if more else {})}


def _read(found: Mapping[str, Any]) -> Embedding:
    return Embedding(**{**found, "of": tuple(found.get("of", ()))})


def spaces_key(embeddings: Mapping[str, Embedding]) -> str:
    """Passages with equal ones can be in one index."""
    if len(embeddings) == 1:
        return embeddings[FIRST].space_key
    return digest([[name, *each.space, list(each.of)] for name, each in sorted(embeddings.items())])[:12]


def further_columns(embeddings: Mapping[str, Embedding]) -> dict[str, int]:
    """Of all but the first, the column of the vectors, and how long they are."""
    return {vector_column(name): each.dimensions for name, each in embeddings.items() if name != FIRST}


def in_words(embeddings: Mapping[str, Embedding]) -> str:
    return ", ".join(str(each) if name == FIRST else f"{name}: {each}" for name, each in embeddings.items())


def vectors_asset(name: str) -> str:
    """The asset of the embedding of that name."""
    return VECTORS if name == FIRST else f"{VECTORS}_{name}"


def vector_column(name: str) -> str:
    """Of the embedding of that name, where a passage has the vectors of several."""
    return VECTOR if name == FIRST else f"{VECTOR}_{name}"
