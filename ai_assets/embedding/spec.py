"""Which vectors a collection has: the built-in ones, or a model's. As declared and as recorded; nothing is embedded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ai_assets.storage.digest import digest

WITHOUT = "without_vectors"
"""The column, and the number among statistics: of documents that are found by their words alone."""


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
        found = asdict(self)
        return found if self.use is not None else {name: found[name] for name in found if name not in _OF_OWN}

    def __str__(self) -> str:
        return f"{self.model} ({self.dimensions} dimensions)"


_OF_OWN = ("use", "options")


def builtin_embedding() -> Embedding:
    from ai_assets.embedding.builtin import BuiltinEmbedder

    embedder = BuiltinEmbedder()
    return Embedding(model=embedder.name, dimensions=embedder.dimensions, version=embedder.version)


def recorded_embedding(said: Mapping[str, Any]) -> Embedding:
    """What made the vectors that a manifest or a release tells of; where it does not say, there was only one way."""
    found = said.get("embedding")
    return Embedding(**found) if found else builtin_embedding()
