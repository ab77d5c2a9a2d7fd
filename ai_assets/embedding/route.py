"""Embedding by a model on a route: each text is a call of its own in the ledger, and is paid for once."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ai_assets.base.windows import ALWAYS, INTERACTIVE, Opening, WeeklyHours, earliest
from ai_assets.embedding.errors import EmbeddingFailed, QueryNotEmbedded, VectorUnusable
from ai_assets.embedding.spec import Embedding, EmbeddingMaker
from ai_assets.inference.batch.errors import WaitingForBatch
from ai_assets.inference.batch.pending import AwaitedCalls, Pending
from ai_assets.inference.ledger_clock import store_moment
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.inference.records import Answer, Caller, ErrorClass, Request, Result, Unanswered
from ai_assets.stages.prompt import clean

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.inference.engine import Engine


@dataclass(frozen=True, slots=True)
class Passage:
    """A text, and whose it is, for budgets and errors; a query is nobody's."""

    document: str
    text: str


OF_THE_TEXT: frozenset[ErrorClass] = frozenset({"refused", "context_too_long", "unhashable", "budget", "held"})
"""Why a model gives one text no vector, and others of the same request theirs."""
OF_THE_TEXT_PERHAPS: frozenset[ErrorClass] = frozenset({"malformed", "invalid_output"})
"""The same, unless no text at all is embedded: then it is how the model is asked, or what is declared of it."""
REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class EmbeddingRefusal:
    """Why a text has no vector: an error class, and what was said."""

    error: ErrorClass
    said: str

    def __str__(self) -> str:
        found = " ".join(clean(f"{self.error}: {self.said}").split()).rstrip(".")
        return found if len(found) <= REASON_CHARACTERS else f"{found[:REASON_CHARACTERS]}…"


@dataclass(kw_only=True)
class RouteEmbedder(EmbeddingMaker):
    """An `Embedder` for one caller; what it took from the ledger is counted here."""

    engine: Engine
    caller: Caller
    route: str
    embedding: Embedding
    advance: Callable[[int], None] = lambda _answered: None
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the wait for answers."""
    asking: Callable[[Iterable[Request], Caller], Iterator[Result | Pending]] | None = None
    """Takes the texts that have no vector yet, for who does not wait or has a deadline; else the engine does."""
    hours: WeeklyHours = ALWAYS
    """When texts may be sent, beside the windows of the endpoints."""
    has_vectors: bool = False
    """Some text of the same kind has one: then a text without is the exception."""
    from_ledger: array[int] = field(default_factory=lambda: array("q"))
    """Places of the texts whose vector came from the ledger."""

    @property
    def version(self) -> str:
        return str(self.embedding)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """One float32 row of length one per text, in order; a blank text has the zero vector, and nobody is asked."""
        import numpy as np

        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        refused: list[tuple[int, EmbeddingRefusal]] = []

        def take(place: int, vector: np.ndarray | EmbeddingRefusal, _paid_usd: float) -> None:
            if isinstance(vector, EmbeddingRefusal):
                refused.append((place, vector))
            else:
                rows[place] = vector

        self.embed_each((Passage("", text) for text in texts), take)
        for place, why in refused:
            raise QueryNotEmbedded(self.caller.collection, clean(texts[place]), str(why))
        return rows

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.embed(texts)

    def embed_each(
        self, passages: Iterable[Passage], take: Callable[[int, np.ndarray | EmbeddingRefusal, float], None]
    ) -> None:
        """Give each passage's place to `take`, in no order, with its vector and what that cost when it was paid for, or
        with the reason why the model does not embed this text.

        Where a text cannot be embedded the others still are, so that the next run finds them in the ledger.
        """
        import numpy as np

        asked: deque[tuple[int, Passage]] = deque()
        failed: list[tuple[Passage, str]] = []
        misfits: list[tuple[int, Passage, EmbeddingRefusal, tuple[str, int] | None]] = []
        embedded = 0

        def requests() -> Iterator[Request]:
            for place, passage in enumerate(passages):
                if passage.text.strip():
                    asked.append((place, passage))
                    yield self._request(passage)
                else:
                    take(place, np.zeros(self.dimensions, dtype=np.float32), 0.0)

        in_batch, calls = AwaitedCalls(), 0
        outside: dict[str, Opening | None] = {}
        asking = self.engine.map if self.asking is None else self.asking
        with self.waiting():
            for answered, result in enumerate(asking(requests(), self.caller), start=1):
                place, passage = asked.popleft()
                calls += 1
                if isinstance(result, Pending):
                    in_batch.add(result)
                    continue
                self.advance(answered)
                if isinstance(result, Unanswered) and result.error == "outside_window":
                    outside[passage.document] = result.opens
                    continue
                if isinstance(result, Unanswered):
                    refused = EmbeddingRefusal(result.error, result.message)
                    if result.error in OF_THE_TEXT:
                        take(place, refused, 0.0)
                    elif result.error in OF_THE_TEXT_PERHAPS:
                        length = result.vector_length
                        given = None if length is None else (result.endpoint, length)
                        misfits.append((place, passage, refused, given))
                    else:
                        failed.append((passage, str(refused)))
                    continue
                vector = self._unit(result)
                if isinstance(vector, EmbeddingRefusal):
                    misfits.append((place, passage, vector, None))
                    continue
                embedded += 1
                if result.reused:
                    self.from_ledger.append(place)
                take(place, vector, result.cost_usd + result.saved_usd)
        if waiting := in_batch.number:
            asset, partition, budgets = self.caller.asset, self.caller.partition, in_batch.budgets
            raise WaitingForBatch(asset, partition, calls=calls, waiting=waiting, budgets=budgets)
        if outside:
            raise self._outside(outside)
        if failed:
            raise self._failure(*failed[0], others=len(failed) - 1)
        if misfits and not (embedded or self.has_vectors):
            _, passage, refused, given = misfits[0]
            if given is not None and given[1] != self.dimensions:
                endpoint, found = given
                raise VectorUnusable(self.caller.collection, endpoint, self.name, found=found, declared=self.dimensions)
            raise self._failure(passage, str(refused), others=len(misfits) - 1)
        for place, _, refused, _ in misfits:
            take(place, refused, 0.0)

    def _outside(self, documents: Mapping[str, Opening | None]) -> WaitingForWindow:
        opens, moment = earliest(documents.values()), store_moment(self.engine.state)
        asset, partition = self.caller.asset, self.caller.partition
        return WaitingForWindow(asset, partition, opens=opens, moment=moment, documents=len(documents))

    def _request(self, passage: Passage) -> Request:
        return Request(
            text=clean(passage.text),
            dimensions=self.dimensions if self.embedding.shorten else None,
            vector_length=self.dimensions,
            route=self.route,
            kind="embed",
            document=passage.document,
            # Outside a run somebody waits for it: a question to a release.
            priority=None if self.caller.run_id else INTERACTIVE,
            hours=self.hours,
        )

    def _unit(self, answer: Answer) -> np.ndarray | EmbeddingRefusal:
        """Of an answer, whose vector has the length that the request expects (`text_problem`)."""
        import numpy as np

        vector = np.array(answer.vector, dtype=np.float64)
        if not vector.any():  # a blank text is asked of nobody
            return EmbeddingRefusal("invalid_output", "all numbers of its vector are 0, which says nothing of the text")
        length = float(np.sqrt(np.add.reduce(np.square(vector))))
        unit = (vector / length if 0 < length < np.inf else vector).astype(np.float32)
        if np.isfinite(unit).all():
            return unit
        return EmbeddingRefusal("invalid_output", "its vector has numbers that are not finite")

    def _failure(self, passage: Passage, said: str, *, others: int) -> EmbeddingFailed | QueryNotEmbedded:
        if not passage.document:
            return QueryNotEmbedded(self.caller.collection, clean(passage.text), said)
        return EmbeddingFailed(self.caller.collection, self.caller.partition, passage.document, said, others)
