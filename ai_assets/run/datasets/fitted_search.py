"""Fitting the weight of vectors in a search to the golden queries of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ai_assets.embedding.spec import vector_column
from ai_assets.evaluation.fusion_fit import LEAST_QUERIES, FusionFit, JudgedQuery, fit_weight, sampled
from ai_assets.signoff import fitted_searches
from ai_assets.signoff.fitted_searches import queries_digest, record_fit

if TYPE_CHECKING:
    from ai_assets.collection.embeddings import DeclaredEmbedding
    from ai_assets.evaluation.golden import GoldenQuery
    from ai_assets.run.context import Work
    from ai_assets.storage.index import SearchIndex

LEAST_SHARE = 0.5
"""Of the golden queries must have a document that is computed: the first partitions of many say little."""


class JudgedCorpus(Protocol):
    """What a fit needs of the evaluation of a run."""

    @property
    def queries(self) -> Sequence[GoldenQuery]: ...

    @property
    def index(self) -> SearchIndex: ...

    @property
    def index_version(self) -> int: ...

    def questions(self, each: DeclaredEmbedding, queries: Sequence[str]) -> list[tuple[Any, str]]: ...


def fit_where_free(work: Work, corpus: JudgedCorpus) -> None:
    """Where nothing is signed yet that was judged, and the golden queries are others than those of the last fit."""
    if not work.collection.fits_search:
        return
    wanted = queries_digest(work.collection)
    left = [
        each
        for each in work.collection.embeddings
        if (found := work.fitted_weights.get(each.name)) is None or found.queries != wanted
    ]
    if not left or len(corpus.queries) < max(LEAST_QUERIES, LEAST_SHARE * len(work.collection.golden_queries)):
        return
    with work.stores.state.read() as connection:
        if fitted_searches.is_signed(connection, work.stores, work.collection):
            return
    record(work, {each.name: fit(each, work, corpus) for each in left}, first=True)


def fit(each: DeclaredEmbedding, work: Work, corpus: JudgedCorpus) -> FusionFit:
    """Of one embedding, to the golden queries of which a document is computed."""
    relevant = {item.query: frozenset(item.documents) for item in corpus.queries}
    queries, version = sampled(list(relevant)), work.collection.settings.builtins.search
    rules = work.searched_by.rules(each.name)
    found = corpus.index.found_apart(
        corpus.index_version,
        corpus.questions(each, queries),
        column=vector_column(each.name),
        of=each.embedding.of,
        rules=rules,
    )
    judged = [
        JudgedQuery(query=query, relevant=relevant[query], by_vector=by_vector, by_text=by_text)
        for query, (by_vector, by_text) in zip(queries, found, strict=True)
    ]
    return fit_weight(judged, version)


def record(work: Work, fits: Mapping[str, FusionFit], *, first: bool = False) -> None:
    """What this run makes from here on is judged with it. `first`: unless another run has fitted the same meanwhile."""
    with work.stores.state.write() as connection:
        there = fitted_searches.fitted(connection, work.collection) if first else {}
        wanted = queries_digest(work.collection)
        for name, found in fits.items():
            if name not in there or there[name].queries != wanted:
                record_fit(connection, work.collection, name, found.weight, found.recorded(), work.run_id)
    for name, found in fits.items():
        work.say(f"search{f' by {name}' if name else ''}: {found.in_words}")
    work.__dict__.pop("fitted_weights", None)


def fits_told(work: Work) -> dict[str, Any]:
    """What is said of the fits beside the scores, by name of the embedding; nothing where there are none."""
    found = {name: {"weight": each.weight, **each.report} for name, each in work.fitted_weights.items()}
    return {"search_fits": found} if found else {}
