"""The best documents of an answer, looked at again by a model: loaded here, or on a route.

Its scores are taken by their place between the worst and the best of the answer, and added to what search found; what
it said of a text is kept by the text's digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from ai_assets.base.plural import plural
from ai_assets.base.windows import INTERACTIVE
from ai_assets.collection.reranking import RERANKED
from ai_assets.run.errors import RerankerLost
from ai_assets.run.rerank_scores import FOLDER, RerankScores, key_of
from ai_assets.run.reranking_models import SEARCH, embedder_of, route_of, scorer_of
from ai_assets.storage.ranking import best_first

if TYPE_CHECKING:
    import numpy as np

    from ai_assets.embedding.searched_by import Reranker
    from ai_assets.run.context import Work
    from ai_assets.storage.ranking import Hit

Answers: TypeAlias = Sequence[tuple[str, Sequence["Hit"]]]
"""Queries, each with what search found for it, best first."""
_CHARACTERS = 4_000
"""Of a query or a passage that a model reads."""
_PAIRS_AT_ONCE = 500
"""After so many scores they are kept: a run that is killed computes no others again."""


def reranked(work: Work, asset: str, answers: Answers, reranker: Reranker | None = None) -> list[list[Hit]]:
    """Each answer with its best documents in a new order. `reranker`: of a release; else that of the collection."""
    model = reranker or work.collection.reranker
    assert model is not None
    pairs = list(dict.fromkeys((query, _read(hit)) for query, hits in answers for hit in hits[:RERANKED]))
    said = dict(zip(pairs, _scores(work, asset, model, pairs), strict=True)) if pairs else {}
    return [_mixed(hits, [said[query, _read(hit)] for hit in hits[:RERANKED]], model.weight) for query, hits in answers]


def _read(hit: Hit) -> str:
    """What the model reads of a passage: with the title, which says what it is part of."""
    text = hit.text if not hit.title or hit.text.startswith(hit.title) else f"{hit.title}\n{hit.text}"
    return text[:_CHARACTERS]


def _mixed(hits: Sequence[Hit], scores: Sequence[float], weight: float) -> list[Hit]:
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    spread = max(high - low, 1e-9)
    moved = [
        replace(hit, score=hit.score + weight * (score - low) / spread)
        for hit, score in zip(hits[: len(scores)], scores, strict=True)
    ]
    return [*sorted(moved, key=best_first), *hits[len(scores) :]]


def _scores(work: Work, asset: str, model: Reranker, pairs: Sequence[tuple[str, str]]) -> list[float]:
    kept = RerankScores(work.stores.home.index / work.collection.name / FOLDER / "scores.sqlite")
    if model.is_embedder:
        return _by_vectors(work, asset, model, pairs, kept)
    score = _on_route if model.backend == "route" else _loaded_here

    def said(done: int, total: int) -> None:
        work.say(f"reranking: {done:,} of {plural(total, 'passage')} compared with their queries")

    return scores_of(model, pairs, kept, lambda left: score(work, asset, model, left), said)


def _by_vectors(
    work: Work, asset: str, model: Reranker, pairs: Sequence[tuple[str, str]], kept: RerankScores
) -> list[float]:
    """Products of the vectors of both."""
    import numpy as np

    embedder = embedder_of(work, model, asset)

    def vectors(texts: Sequence[str], what: str, embed: Callable[[list[str]], np.ndarray]) -> dict[str, np.ndarray]:
        keys = {text: key_of(*model.decides, what, text) for text in dict.fromkeys(texts)}
        found = dict(kept.known(list(keys.values())))
        left = [text for text, key in keys.items() if key not in found]
        for start in range(0, len(left), embedder.texts_at_once):
            some = left[start : start + embedder.texts_at_once]
            rows = np.asarray(embed(some), dtype=np.float32)
            made = {keys[text]: row.tobytes() for text, row in zip(some, rows, strict=True)}
            kept.keep(made)
            found |= made
            if len(left) > embedder.texts_at_once:
                work.say(f"reranking: {min(start + len(some), len(left)):,} of {len(left):,} {what}s embedded")
        return {text: np.frombuffer(found[key], dtype=np.float32) for text, key in keys.items()}

    asked = vectors([query for query, _ in pairs], "query", embedder.embed_queries)
    read = vectors([text for _, text in pairs], "passage", embedder.embed)
    return [float(asked[query] @ read[text]) for query, text in pairs]


def scores_of(
    model: Reranker,
    pairs: Sequence[tuple[str, str]],
    kept: RerankScores,
    ask: Callable[[Sequence[tuple[str, str]]], list[float]],
    said: Callable[[int, int], None],
) -> list[float]:
    """As the model says them, in order; `ask` gets the pairs of query and text that are not kept."""
    import struct

    keys = [key_of(*model.decides, query, text) for query, text in pairs]
    found = {key: struct.unpack("<d", value)[0] for key, value in kept.known(keys).items()}
    left = [place for place, key in enumerate(keys) if key not in found]
    is_ledgered = model.backend == "route"
    at_once = max(1, len(left)) if is_ledgered else _PAIRS_AT_ONCE
    for start in range(0, len(left), at_once):
        some = left[start : start + at_once]
        made = dict(zip((keys[place] for place in some), ask([pairs[place] for place in some]), strict=True))
        if not is_ledgered:
            kept.keep({key: struct.pack("<d", score) for key, score in made.items()})
        found |= made
        if len(some) < len(left):
            said(start + len(some), len(left))
    return [found[key] for key in keys]


def _loaded_here(work: Work, asset: str, model: Reranker, pairs: Sequence[tuple[str, str]]) -> list[float]:
    by_query: dict[str, list[str]] = {}
    for query, text in pairs:
        by_query.setdefault(query, []).append(text)
    scorer = scorer_of(work, model, asset) if pairs else None
    found: dict[tuple[str, str], float] = {}
    for query, texts in by_query.items():
        assert scorer is not None
        found |= {(query, text): score for text, score in zip(texts, scorer.scores(query, texts), strict=True)}
    return [found[pair] for pair in pairs]


def _on_route(work: Work, asset: str, model: Reranker, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Each pair is a call of its own in the ledger, and is paid for once."""
    from ai_assets.inference.records import Request, Unanswered
    from ai_assets.stages.prompt import clean

    if not pairs:
        return []
    route, priority = route_of(work, model), INTERACTIVE if asset == SEARCH else None
    requests = (
        Request(text=clean(text), query=clean(query), route=route, kind="rerank", priority=priority)
        for query, text in pairs
    )
    found: list[float] = []
    with work.waiting():
        for result, (query, _) in zip(work.engine.map(requests, work.caller(asset, "")), pairs, strict=True):
            if isinstance(result, Unanswered):
                said = f"for the query '{query[:60]}' it said {result.error}: {result.message}"
                raise RerankerLost(work.collection.name, model.model, said)
            if result.score is None:
                raise RerankerLost(work.collection.name, model.model, "its answer has no score")
            found.append(result.score)
    return found
