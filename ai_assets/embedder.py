"""Embedding by a model on a route: each text is a call of its own in the ledger, and is paid for once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.embedding import Embedding
from ai_assets.errors import EmbeddingFailed, QueryNotEmbedded, VectorUnusable
from ai_assets.stages.prompt import clean
from resources.inference.records import Answer, Caller, Request, Unanswered

if TYPE_CHECKING:
    import numpy as np

    from resources.inference.engine import Engine


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, and whose it is, for budgets and errors; a query is nobody's."""

    document: str
    text: str


@dataclass(kw_only=True)
class RouteEmbedder:
    """An `Embedder` for one caller; what it took from the ledger is counted here."""

    engine: Engine
    caller: Caller
    route: str
    embedding: Embedding
    advance: Callable[[int], None] = lambda _answered: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the wait for answers."""
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
        """One float32 row of length one per text, in order; a blank text has the zero vector, and nobody is asked."""
        import numpy as np

        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)

        def take(place: int, vector: np.ndarray, _paid_usd: float) -> None:
            rows[place] = vector

        self.embed_each((Passage("", text) for text in texts), take)
        return rows

    def embed_each(self, passages: Iterable[Passage], take: Callable[[int, np.ndarray, float], None]) -> None:
        """Give each passage's place, its vector and what that cost when it was paid for to `take`, in no order.

        Where a text cannot be embedded the others still are, so that the next run finds them in the ledger.
        """
        import numpy as np

        asked: deque[tuple[int, Passage]] = deque()
        failed: list[tuple[Passage, str]] = []

        def requests() -> Iterator[Request]:
            for place, passage in enumerate(passages):
                if passage.text.strip():
                    asked.append((place, passage))
                    yield self._request(passage)
                else:
                    take(place, np.zeros(self.dimensions, dtype=np.float32), 0.0)

        with self.waiting():
            for answered, result in enumerate(self.engine.map(requests(), self.caller), start=1):
                place, passage = asked.popleft()
                if isinstance(result, Unanswered):
                    failed.append((passage, f"{result.error}: {result.message}"))
                    continue
                vector = self._unit(result)
                if not np.isfinite(vector).all():
                    failed.append((passage, "invalid_output: its vector has numbers that are not finite"))
                take(place, vector, result.cost_usd + result.saved_usd)
                self.reused += result.reused
                self.advance(answered)
        if failed:
            raise self._failure(*failed[0], others=len(failed) - 1)

    def _request(self, passage: Passage) -> Request:
        return Request(
            text=clean(passage.text),
            dimensions=self.dimensions if self.embedding.shorten else None,
            route=self.route,
            kind="embed",
            document=passage.document,
        )

    def _unit(self, answer: Answer) -> np.ndarray:
        import numpy as np

        vector = np.array(answer.vector, dtype=np.float64)
        if len(vector) != self.dimensions:
            raise VectorUnusable(
                self.caller.collection, answer.endpoint, self.name, found=len(vector), declared=self.dimensions
            )
        length = float(np.sqrt(np.add.reduce(np.square(vector))))
        return (vector / length if 0 < length < np.inf else vector).astype(np.float32)

    def _failure(self, passage: Passage, said: str, *, others: int) -> EmbeddingFailed | QueryNotEmbedded:
        if not passage.document:
            return QueryNotEmbedded(self.caller.collection, clean(passage.text), said)
        return EmbeddingFailed(self.caller.collection, self.caller.partition, passage.document, said, others)
