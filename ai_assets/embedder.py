"""Embedding by a model on a route: each text is a call of its own in the ledger, and is paid for once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai_assets.embedding import Embedding
from ai_assets.errors import EmbeddingFailed, QueryNotEmbedded, VectorUnusable
from ai_assets.stages.prompt import clean
from resources.inference.records import Answer, Caller, Request, Unanswered

if TYPE_CHECKING:
    import numpy as np

    from resources.inference.engine import Engine


@dataclass(kw_only=True)
class RouteEmbedder:
    """An `Embedder` for one caller; what it paid for is counted here."""

    engine: Engine
    caller: Caller
    route: str
    embedding: Embedding
    document_of: Callable[[str], str] = lambda _text: ""
    """Whose text it is, for budgets and errors; a query is nobody's."""
    advance: Callable[[int], None] = lambda _answered: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the wait for answers."""
    paid_usd: dict[str, float] = field(default_factory=dict)
    """By text, what its vector cost when it was paid for."""
    reused: int = 0
    """Texts whose vector came from the ledger."""

    @property
    def name(self) -> str:
        return self.embedding.model

    @property
    def dimensions(self) -> int:
        return self.embedding.dimensions

    @property
    def version(self) -> str:
        return str(self.embedding)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One float32 row of length one per text, in order; a blank text has the zero vector, and nobody is asked.

        Where a text cannot be embedded the others still are, so that the next run finds them in the ledger.
        """
        import numpy as np

        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        places = [place for place, text in enumerate(texts) if text.strip()]
        failed: list[tuple[str, str]] = []
        results = self.engine.map(self._requests(texts[place] for place in places), self.caller)
        with self.waiting():
            for answered, (place, result) in enumerate(zip(places, results, strict=True), start=1):
                if isinstance(result, Unanswered):
                    failed.append((texts[place], f"{result.error}: {result.message}"))
                    continue
                rows[place] = self._unit(result)
                if not np.isfinite(rows[place]).all():
                    failed.append((texts[place], "invalid_output: its vector has numbers that are not finite"))
                self.paid_usd[texts[place]] = result.cost_usd + result.saved_usd
                self.reused += result.reused
                self.advance(answered)
        if failed:
            raise self._failure(*failed[0], others=len(failed) - 1)
        return rows

    def _requests(self, texts: Iterator[str]) -> Iterator[Request]:
        dimensions = self.dimensions if self.embedding.shorten else None
        for text in texts:
            yield Request(
                text=clean(text),
                dimensions=dimensions,
                route=self.route,
                kind="embed",
                document=self.document_of(text),
            )

    def _unit(self, answer: Answer) -> np.ndarray:
        import numpy as np

        vector = np.array(answer.vector, dtype=np.float64)
        if len(vector) != self.dimensions:
            raise VectorUnusable(
                self.caller.collection, answer.endpoint, self.name, found=len(vector), declared=self.dimensions
            )
        length = float(np.sqrt(np.add.reduce(np.square(vector))))
        return vector / length if 0 < length < np.inf else vector

    def _failure(self, text: str, said: str, *, others: int) -> EmbeddingFailed | QueryNotEmbedded:
        if not (document := self.document_of(text)):
            return QueryNotEmbedded(self.caller.collection, clean(text), said)
        return EmbeddingFailed(self.caller.collection, self.caller.partition, document, said, others)
