"""`evaluation_scores`: what the golden data says of the collection as it would be, and of each partition's share.

Labels and search are judged over the whole corpus, because a partition alone holds too few golden items to say
anything. The verdict is remembered per partition and made again only when that partition changes, so an edit in one
partition never voids the sign-off of another.
"""

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.collection.reranking import RERANKED
from ai_assets.embedding.searched_by import SEARCHED_BY, as_recorded_search
from ai_assets.embedding.spec import FIRST, vector_column
from ai_assets.evaluation.floors import PairedLabels, PairedSearch, PairedSlices
from ai_assets.evaluation.judged import JudgedOutputs, details_of, scores_of
from ai_assets.evaluation.metrics import Evidence, LabelEvidence, Metric, QueryEvidence, evaluate
from ai_assets.evaluation.reliability import Reliability, reliability
from ai_assets.evaluation.scoring import GoldenQuery, Score, confusion_markdown
from ai_assets.evaluation.slices import SliceScore, documents_by_slice, scored_slices
from ai_assets.run.context import Outcome, Work
from ai_assets.run.datasets.evaluation_index import (
    SyncedIndex,
    evaluation_index,
    intact,
    lasting_search,
    rankings_of,
    sync_index,
)
from ai_assets.run.datasets.fitted_search import fit_where_free, fits_told
from ai_assets.run.datasets.golden_items import GoldenItems, partitions_of
from ai_assets.run.datasets.golden_slices import slices_of
from ai_assets.run.datasets.live_search import DEPTH, paired_search
from ai_assets.run.datasets.rankings import Rankings
from ai_assets.run.reranking import reranked
from ai_assets.signoff import golden_labels, releases
from ai_assets.signoff.frozen_candidate import has_snapshot, snapshot_paths
from ai_assets.signoff.judged_outputs import JudgedPartitions
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.lake import parquet_columns, read_rows

MOST_AGREED = 50
"""Rightly labelled documents by label that are named; wrong ones are named all."""


class CorpusEvaluation:
    """Everything measured once per run, after all its partitions are computed."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.collection = work.collection
        self.golden = GoldenItems(work)
        self.untold_usd = 0.0
        """What embedding the golden queries cost; the first dataset made after it tells of it."""
        self.asked = 0
        """Golden queries that the index was asked, not counting those whose answer was kept."""
        self._is_fitted = False
        self._vectors: dict[str, dict[str, Any]] = {}

    @property
    def queries(self) -> Sequence[GoldenQuery]:
        return self.golden.queries

    @cached_property
    def index(self) -> SearchIndex:
        return evaluation_index(self.work)

    @cached_property
    def _synced(self) -> SyncedIndex:
        """The evaluation index, brought up to the lake."""
        return sync_index(self.work)

    @property
    def index_version(self) -> int:
        return self._synced.version

    def fit_search(self) -> None:
        """Once per run, before anything is judged; where the collection fits it, and nothing is signed yet."""
        if not self._is_fitted:
            self._is_fitted = True
            fit_where_free(self.work, self)

    @cached_property
    def ranked(self) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """By name of the embedding, for each golden query the documents found, best first."""
        if not self.queries:
            return {each.name: {} for each in self.collection.embeddings}
        self.fit_search()
        version = self.index_version
        kept = rankings_of(self.work, version)
        found = {each.name: self._ranked(each, version, kept) for each in self.collection.embeddings}
        kept.keep([item.query for item in self.queries])
        self.asked = kept.asked
        if self.collection.embedding_models or self.collection.reranker:
            self.untold_usd = self.work.spent("evaluation_scores", "")["cost_usd"]
        return found

    def _ranked(self, each: DeclaredEmbedding, version: int, kept: Rankings) -> Mapping[str, Sequence[str]]:
        def ask(queries: Sequence[str]) -> Sequence[Sequence[str]]:
            questions = self.questions(each, queries)
            index, column, of = self.index, vector_column(each.name), each.embedding.of
            rules = self.work.searched_by.rules(each.name)
            if self.collection.reranker is None:
                lasting = lasting_search(self.work, column, self._synced.parts)
                return index.documents_found(
                    version, questions, DEPTH, column=column, of=of, rules=rules, lasting=lasting
                ).documents
            hits = index.search_many(version, questions, RERANKED, column=column, of=of, rules=rules)
            found = reranked(self.work, "evaluation_scores", list(zip(queries, hits, strict=True)))
            return [[hit.document_id for hit in answer[:DEPTH]] for answer in found]

        return kept.answers(each.name, [item.query for item in self.queries], ask)

    def questions(self, each: DeclaredEmbedding, queries: Sequence[str]) -> list[tuple[Any, str]]:
        """Their vectors, and what they say."""
        known = self._vectors.setdefault(each.name, {})
        if left := [query for query in queries if query not in known]:
            embedder = self.work.embedder("evaluation_scores", "", each.embedding)
            known |= zip(left, embedder.embed_queries(left), strict=True)
        return [(known[query], query) for query in queries]

    @cached_property
    def of_corpus(self) -> list[Score]:
        return self.scores(None)

    def scores(self, partition: str | None) -> list[Score]:
        """Over the corpus, or over the golden items and the rows of one partition."""
        queries = (self._of_queries(partition, each) for each in self.collection.embeddings)
        golden = {"labels": _there(self._of_labels(partition)), "queries": _there(*queries)}

        def evidence_of(metric: Metric) -> Sequence[Evidence]:
            return _there(self._of_rows(metric, partition)) if metric.of == "rows" else golden[metric.of]

        found = evaluate(self.collection.metrics, evidence_of)
        if partition is None:
            found += [score for each in self.judged for score in scores_of(each)]
        return found

    @cached_property
    def judged(self) -> Sequence[JudgedOutputs]:
        """What each judge and people said of the same outputs."""
        found = functools.partial(intact, self.work)
        partitions = sorted(self.work.listing.by_partition)
        return [
            JudgedPartitions(
                self.work.stores, self.collection, stage, partitions, found, self.work.golden_labels.ratings
            ).with_ratings(functools.partial(partitions_of, self.work.listing))
            for stage in self.collection.judges
        ]

    def _of_labels(self, partition: str | None) -> Evidence | None:
        if not self.collection.judges_labels:
            return None
        return Evidence(
            collection=self.collection.name,
            partition=partition,
            stage=self.golden.stage.name,
            label_names=tuple(label.name for label in self.golden.stage.labels),
            labels=tuple(
                self._of_label(name, label)
                for name, label in self.golden.truth.items()
                if partition is None or self.golden.is_in(partition, name)
            ),
        )

    def _of_label(self, name: str, label: str) -> LabelEvidence:
        said = self.golden.labelled.get(name)
        return LabelEvidence(
            document=name,
            golden=label,
            predicted=self.golden.predicted.get(name),
            confidence=None if said is None else said.confidence,
            is_drawn=self.golden.is_drawn(name),
        )

    @cached_property
    def reliability(self) -> Reliability | None:
        """Confidence against the share of right answers; None where nothing labels or has a confidence."""
        corpus = self._of_labels(None)
        return None if corpus is None else reliability(corpus)

    def _of_queries(self, partition: str | None, each: DeclaredEmbedding) -> Evidence | None:
        """What search by this embedding finds."""
        if not self.collection.golden_queries:
            return None
        return Evidence(
            collection=self.collection.name,
            partition=partition,
            stage=None if each.name == FIRST else each.asset,
            queries=tuple(
                QueryEvidence(
                    query=item.query,
                    relevant=tuple(name for name in item.documents if self.golden.is_searchable(name)),
                    found=tuple(self.ranked[each.name][item.query]),
                )
                for item in self.queries
                if partition is None or any(partition in self.golden.placed[name] for name in item.documents)
            ),
        )

    def _of_rows(self, metric: Metric, partition: str | None) -> Evidence | None:
        """Of one partition: rows of the whole corpus would be read again for each of its partitions."""
        if partition is None:
            return None
        manifest = self.work.input("evaluation_scores", partition, metric.stage or "documents")

        def rows(columns: Sequence[str] | None = None) -> Iterator[Mapping[str, Any]]:
            if metric.stage is not None:
                return self.work.rows(manifest, columns)
            wanted = None if columns is None else list(dict.fromkeys([*columns, "status"]))
            return (row for row in self.work.rows(manifest, wanted) if row["status"] != "deleted")

        stage = next((each for each in self.collection.stages if each.name == metric.stage), None)
        question = self.collection.questions.get(metric.stage or "")
        return Evidence(
            collection=self.collection.name,
            partition=partition,
            stage=metric.stage,
            rows=rows,
            documents=functools.partial(self._documents, partition),
            columns=() if stage is None else tuple(stage.columns.dataset),
            headline=None if stage is None else stage.columns.headline,
            schema=None if question is None else question.schema,
        )

    def _documents(self, partition: str, columns: Sequence[str] | None = None) -> Iterator[Mapping[str, Any]]:
        """Those with a text, in order."""
        manifest = self.work.input("evaluation_scores", partition, "documents")
        wanted = None if columns is None else list(dict.fromkeys([*columns, "status"]))
        return (row for row in self.work.rows(manifest, wanted) if row["status"] == "ok")

    @cached_property
    def slices(self) -> list[SliceScore]:
        """Of the golden documents that were judged, by what is declared; the worst first."""
        if not self.collection.judges_labels:
            return []
        right = {name: self.golden.is_right(name) for name in self._within}
        return scored_slices(self._within, right)

    @cached_property
    def _within(self) -> Mapping[str, Sequence[str]]:
        """By golden document, the slices that it is in."""
        return slices_of(self.work, self.collection.slices, self.golden.truth, self.golden.placed)

    @cached_property
    def paired(self) -> PairedLabels | None:
        """The golden documents as they are judged now and in the live release; None where nothing is live."""
        both = self._beside_live
        return None if both is None else PairedLabels.of(both[0], both[1].values())

    @cached_property
    def paired_slices(self) -> PairedSlices | None:
        """The same of each slice."""
        if self._beside_live is None:
            return None
        release, right = self._beside_live
        slices = documents_by_slice({name: self._within.get(name, ()) for name in right})
        return PairedSlices(
            release=release,
            of={each: PairedLabels.of(release, (right[name] for name in names)) for each, names in slices.items()},
        )

    @cached_property
    def _beside_live(self) -> tuple[int, Mapping[str, tuple[bool, bool]]] | None:
        """The number of the live release, and of each golden document in both whether it is judged rightly, now and
        there."""
        with self.work.stores.state.read() as connection:
            live = releases.live(connection, self.collection.name)
        if live is None or not self.collection.judges_labels:
            return None
        before = labels_of(self.work, live, self.golden.stage.name, self.golden.truth)
        both = {name: label for name, label in self.golden.truth.items() if name in before}
        right = {
            name: (self.golden.predicted.get(name) == label, before[name] == label) for name, label in both.items()
        }
        return live.number, right

    @property
    def _agreed(self) -> dict[str, list[str]]:
        """By label, the first golden documents that the model labelled so."""
        found: dict[str, list[str]] = {}
        for name, label in sorted(self.golden.truth.items()):
            if self.golden.is_right(name) and len(found.setdefault(label, [])) < MOST_AGREED:
                found[label].append(name)
        return found

    @cached_property
    def paired_search(self) -> PairedSearch | None:
        """The golden queries as they are answered now and by the live release; None where nothing is live."""
        with self.work.stores.state.read() as connection:
            live = releases.live(connection, self.collection.name)
        if live is None or not self.collection.golden_queries:
            return None
        return paired_search(self, live)

    @cached_property
    def details(self) -> dict[str, Any]:
        """What people want to see beside the numbers: the confusion table, and which golden items were missed."""
        golden, details = self.golden, dict[str, Any]()
        if self.collection.judges_labels:
            corpus = self._of_labels(None)
            assert corpus is not None
            confusion = corpus.label_scores.confusion
            details["confusion"] = confusion_markdown(confusion)
            details["confusion_counts"] = {"labels": confusion.labels, "counts": confusion.counts}
            details["agreed"] = self._agreed
            details["mislabelled"] = [
                {"document": name, "golden": label, "label": golden.predicted.get(name), **golden.said_by(name)}
                for name, label in sorted(golden.truth.items())
                if not golden.is_right(name)
            ]
        if self.collection.golden_queries:
            for each in self.collection.embeddings:
                found = self.ranked[each.name]
                details["not_found_in_5" if each.name == FIRST else f"not_found_in_5 {each.name}"] = [
                    item.query for item in self.queries if not set(item.documents) & set(found[item.query][:5])
                ]
        if self.judged:
            details["judges"] = [details_of(each) for each in self.judged]
        if golden.leaked:
            details["leaked"] = [each.as_data() for each in golden.leaked]
        if self.collection.judges_labels and golden.disputed:
            details["disputed"] = [each.as_data() for each in golden.disputed]
        if unknown := golden.unknown:
            details["unknown"] = unknown
        details["absent"] = golden.absent
        details["pending"] = golden.pending
        return details


def labels_of(work: Work, live: releases.Release, stage: str, wanted: Iterable[str]) -> dict[str, str | None]:
    """The model's own labels of documents in a release."""
    found: dict[str, str | None] = {}
    for partition, part in live.parts.items():
        if not has_snapshot(work.stores.lake, live.collection, partition, part):
            continue
        path, _ = snapshot_paths(work.stores.lake, live.collection, partition, part)
        there = set(parquet_columns(path))
        names = [name for name in (f"{stage}_model_label", f"{stage}_label") if name in there]
        for row in read_rows(path, ["document_id", names[0]], wanted) if names else ():
            found[row["document_id"]] = row[names[0]]
    return found


def _there(*found: Evidence | None) -> Sequence[Evidence]:
    return [each for each in found if each is not None]


def build(work: Work, partition: str, corpus: CorpusEvaluation) -> Outcome:
    started = time.perf_counter()
    needed = {
        name: work.input("evaluation_scores", partition, name)
        for name in work.collection.inputs_of("evaluation_scores")
    }
    inputs = {name: manifest.version for name, manifest in needed.items()}
    if given := work.golden_labels.version(partition):
        inputs[golden_labels.GOLDEN] = given
    corpus.fit_search()
    inputs |= {SEARCHED_BY: work.searched_by.key} if work.searched_by.key else {}
    if same := work.unchanged("evaluation_scores", partition, inputs):
        return same
    scores = [*corpus.of_corpus, *corpus.scores(partition)]
    documents = max(needed[each.asset].stats["documents_in"] for each in work.collection.embeddings)
    outcome = work.commit(
        "evaluation_scores",
        partition,
        _table(scores),
        inputs,
        started=started,
        documents_in=documents,
        documents_out=documents,
        reused=0,
        preview=[score.as_row() for score in scores],
        scores=[score.as_row() for score in scores],
        details=corpus.details,
        errors=[[*score.key, score.error, score.clusters] for score in scores if score.error is not None],
        slices=[each.as_data() for each in corpus.slices] if work.collection.slices else [],
        queries_asked=corpus.asked,
        **_golden_facts(corpus),
        **as_recorded_search(work.searched_by),
        **fits_told(work),
    )
    cost_usd, corpus.untold_usd, corpus.asked = corpus.untold_usd, 0.0, 0
    return replace(outcome, cost_usd=cost_usd)


def _golden_facts(corpus: CorpusEvaluation) -> dict[str, Any]:
    """Which golden items judged, and how well confidence holds; beside the rows, so that no digest depends on them."""
    if not (corpus.collection.judges_labels or corpus.collection.golden_queries):
        return {}
    judged, found = corpus.golden.recorded_set, corpus.reliability
    retired = len({*corpus.work.golden_labels.retired, *corpus.collection.retired_in_files})
    leaked = "counted" if corpus.collection.settings.golden.leaked == "count" else "left out"
    return {
        "golden": {
            "set": judged.number, "digest": judged.digest, "labels": judged.labels, "queries": judged.queries,
            "retired": retired, "leaked": len(corpus.golden.leaked), "leaked are": leaked,
            "disputed": len(corpus.golden.disputed) if corpus.collection.judges_labels else 0,
        },
        **({} if found is None else {"reliability": found.as_data()}),
    }  # fmt: skip


def _table(scores: Sequence[Score]) -> Any:
    import pyarrow as pa

    fields = [
        ("metric", pa.string()), ("scope", pa.string()), ("stage", pa.string()), ("value", pa.float64()),
        ("n", pa.int64()),
    ]  # fmt: skip
    if any(score.interval for score in scores):
        fields += [("low", pa.float64()), ("high", pa.float64()), ("level", pa.float64()), ("unit", pa.string())]
    if any(score.judge for score in scores):
        fields.append(("judge", pa.string()))
    return pa.Table.from_pylist([score.as_row() for score in scores], schema=pa.schema(fields))
