"""Golden queries asked of a published index, as readers would ask it: with its embedders, weights and reranker.

It is the index itself that is asked, a version of which stays as it was published; each query is embedded for the live
release's own embedder, which a ledger answers where that is the same as now. A release does not change, so what it
answered is kept, by release and query: a run after an edit asks it nothing.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ai_assets.base.errors import AiAssetsError
from ai_assets.collection.reranking import RERANKED
from ai_assets.embedding.spec import FIRST, Embedding, vector_column
from ai_assets.evaluation.floors import PairedQueries, PairedSearch
from ai_assets.evaluation.metrics import Evidence, QueryEvidence
from ai_assets.evaluation.scoring import NDCG_DEPTH, RetrievalScores
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_index import lasting_search, rankings_folder
from ai_assets.run.datasets.rankings import Rankings
from ai_assets.run.reranking import reranked
from ai_assets.signoff import served
from ai_assets.signoff.releases import Part, Release, searched_by_of
from ai_assets.storage.digest import Json, digest
from ai_assets.storage.index import SearchIndex

if TYPE_CHECKING:
    from ai_assets.run.datasets.evaluation_scores import CorpusEvaluation

DEPTH = 10


def found_in(
    work: Work,
    index: SearchIndex,
    version: int,
    parts: Mapping[str, Part],
    embedded: tuple[str, Embedding],
    texts: Sequence[str],
    *,
    asset: str,
) -> Sequence[Sequence[str]]:
    """For each query the documents that readers would get; `asset` pays."""
    (name, embedding), by = embedded, searched_by_of(parts)
    vectors = work.embedder(asset, "", embedding).embed_queries(list(texts))
    questions: list[tuple[Any, str]] = list(zip(vectors, texts, strict=True))
    column, rules = vector_column(name), by.rules(name)
    if by.reranker is None:
        lasting = lasting_search(work, column, None)  # most passages are those of the evaluation index
        return index.documents_found(
            version, questions, DEPTH, column=column, of=embedding.of, rules=rules, lasting=lasting
        ).documents
    hits = index.search_many(version, questions, RERANKED, column=column, of=embedding.of, rules=rules)
    found = reranked(work, asset, list(zip(texts, hits, strict=True)), by.reranker)
    return [[hit.document_id for hit in answer[:DEPTH]] for answer in found]


def paired_search(corpus: "CorpusEvaluation", live: Release) -> PairedSearch:
    """Only queries and documents that both have: what is new is no fault of what is live."""
    try:
        index = served.require_index(corpus.work.stores, live)
        wanted = {name for item in corpus.queries for name in item.documents}
        kept = _answers_of(corpus.work, live)
        there = kept.there(wanted, partial(index.documents_there, live.index_version))
        relevant = {
            item.query: tuple(name for name in item.documents if name in there and corpus.golden.is_searchable(name))
            for item in corpus.queries
        }
        texts = [query for query, names in relevant.items() if names]
        of: dict[str | None, PairedQueries] = {}
        for each in corpus.collection.embeddings:
            embedding = live.embeddings.get(each.name)
            if embedding is None or not texts:
                continue
            embedded = each.name, embedding
            ask = partial(
                found_in, corpus.work, index, live.index_version, live.parts, embedded, asset="evaluation_scores"
            )
            then = _evidence(corpus, relevant, kept.answers(each.name, texts, ask))
            now = _evidence(corpus, relevant, {query: corpus.ranked[each.name][query] for query in texts})
            of[None if each.name == FIRST else each.asset] = PairedQueries(
                clusters=now.clusters, now=_by_metric(now.retrieval_scores), live=_by_metric(then.retrieval_scores)
            )
        kept.keep([item.query for item in corpus.queries])
    except AiAssetsError as error:  # its index or its embedder is not there: the gate says so, and holds
        return PairedSearch(release=live.number, of={}, why_not=str(error))
    return PairedSearch(release=live.number, of=of)


def _answers_of(work: Work, live: Release) -> Rankings:
    """What is known of queries to this release."""
    told: list[Json] = [
        DEPTH, live.number, live.digest, live.created_at, live.index_name, live.index_branch, live.index_version,
        live.searched_by.key, sorted([name, *each.space, *each.of] for name, each in live.embeddings.items()),
    ]  # fmt: skip
    return Rankings.opened(rankings_folder(work) / "live" / "answers.json", digest(told))


def _evidence(
    corpus: "CorpusEvaluation", relevant: Mapping[str, tuple[str, ...]], found: Mapping[str, Sequence[str]]
) -> Evidence:
    queries = tuple(
        QueryEvidence(query=query, relevant=relevant[query], found=tuple(names)) for query, names in found.items()
    )
    return Evidence(collection=corpus.collection.name, partition=None, queries=queries)


def _by_metric(scores: RetrievalScores) -> Mapping[str, Sequence[float]]:
    found = dict(scores.by_query)
    return {**found, f"ndcg@{NDCG_DEPTH}": found.pop("ndcg")}
