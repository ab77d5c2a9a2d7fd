"""`evaluation_scores`: what the golden data says of the collection as it would be, and of each partition's share.

What people corrected is golden too, and it is the model that is judged: by its own label, not by theirs.

Labels and search are judged over the whole corpus, because a partition alone holds too few golden items to say
anything. The verdict is remembered per partition and made again only when that partition changes, so an edit in one
partition never voids the sign-off of another.
"""

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

from ai_assets.base.yaml_settings import alike
from ai_assets.collection.embeddings import DeclaredEmbedding
from ai_assets.collection.loading import Collection
from ai_assets.collection.reranking import RERANKED
from ai_assets.documents.source_listing import Listing, path_of
from ai_assets.embedding.searched_by import SEARCHED_BY, as_recorded_search
from ai_assets.embedding.spec import FIRST, vector_column
from ai_assets.evaluation.floors import PairedLabels, PairedSearch, PairedSlices
from ai_assets.evaluation.gates import GateInputs, judge
from ai_assets.evaluation.golden import lines_of
from ai_assets.evaluation.judged import JudgedOutputs, details_of, scores_of
from ai_assets.evaluation.leaks import Leak
from ai_assets.evaluation.metrics import Evidence, LabelEvidence, Metric, QueryEvidence, evaluate
from ai_assets.evaluation.reliability import Reliability, reliability
from ai_assets.evaluation.scoring import (
    OF_JUDGES,
    OF_QUERIES,
    GoldenQuery,
    Score,
    confusion_markdown,
    errors_by_score,
)
from ai_assets.evaluation.slices import SliceScore, documents_by_slice, scored_slices
from ai_assets.evaluation.verdict import GateVerdict
from ai_assets.run.context import Outcome, Work
from ai_assets.run.datasets.evaluation_index import (
    SyncedIndex,
    comparable,
    evaluation_index,
    intact,
    lasting_search,
    rankings_of,
    sync_index,
)
from ai_assets.run.datasets.fitted_search import fit_where_free, fits_told
from ai_assets.run.datasets.golden_leaks import leaked_labels, leaked_queries
from ai_assets.run.datasets.golden_slices import slices_of
from ai_assets.run.datasets.live_search import DEPTH, paired_search
from ai_assets.run.datasets.rankings import Rankings
from ai_assets.run.reranking import reranked
from ai_assets.signoff import decisions, golden_labels, golden_sets, releases, requests
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.frozen_candidate import has_snapshot, snapshot_paths
from ai_assets.signoff.golden_labels import AgreedLabel
from ai_assets.signoff.golden_sets import RecordedSet
from ai_assets.signoff.judged_outputs import JudgedPartitions
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import CORRECTED
from ai_assets.storage.digest import digest
from ai_assets.storage.index import SearchIndex
from ai_assets.storage.lake import Manifest, parquet_columns, read_rows
from ai_assets.storage.leases import hold

MOST_AGREED = 50
"""Rightly labelled documents by label that are named; wrong ones are named all."""


@dataclass(frozen=True, kw_only=True)
class LabelledDocument:
    """What was said of one document."""

    partition: str
    predicted: str | None
    """The model's own label."""
    corrected: str | None
    """A person's."""
    by: str | None
    confidence: float | None


MOST_UNKNOWN = 20
"""Documents of golden files that are named; `absent` counts all."""
MOST_COMPARED = 20_000
"""Documents with whose names an unknown one is compared."""


@dataclass(frozen=True, kw_only=True)
class Disputed:
    """A golden document of which not all say the same."""

    document: str
    said: Sequence[str]

    def as_data(self) -> dict[str, Any]:
        return {"document": self.document, "said": list(self.said)}


class CorpusEvaluation:
    """Everything measured once per run, after all its partitions are computed."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.collection = work.collection
        self.untold_usd = 0.0
        """What embedding the golden queries cost; the first dataset made after it tells of it."""
        self._is_computed = functools.cache(lambda asset, partition: intact(work, asset, partition) is not None)
        self._is_searchable = functools.cache(lambda partition: bool(comparable(work, partition)))
        self.asked = 0
        """Golden queries that the index was asked, not counting those whose answer was kept."""
        self._is_fitted = False
        self._vectors: dict[str, dict[str, Any]] = {}

    @cached_property
    def golden(self) -> Mapping[str, str]:
        """Golden labels by document: those of the file, and those that people gave to the texts as they are."""
        said = {name: item.label for name, item in self._given.items() if name not in self.collection.shown}
        return {**self._of_file, **said}

    @cached_property
    def _of_file(self) -> Mapping[str, str]:
        retired = self.work.golden_labels.retired
        return {item.document: item.label for item in self.collection.golden_labels if item.document not in retired}

    @cached_property
    def _given(self) -> Mapping[str, AgreedLabel]:
        """What people say of the texts as they are, and agree on."""
        name, golden = self.collection.name, self.work.golden_labels
        return {
            item.document_id: item
            for item in golden_labels.of_present_texts(self.work.stores, name, golden.scored.values())
        }

    @cached_property
    def placed(self) -> Mapping[str, Sequence[str]]:
        """Golden documents and the partitions they may be in; empty where the source has no such file."""
        wanted = set(self.golden)
        wanted |= {name for item in self.collection.golden_queries for name in item.documents}
        return {name: _partitions_of(self.work.listing, name) for name in wanted}

    @cached_property
    def stage(self) -> ClassifyStage:
        wanted = self.collection.settings.golden.labels_stage
        return next(stage for stage in self.collection.labelling if wanted in (None, stage.name))

    @cached_property
    def labelled(self) -> Mapping[str, LabelledDocument]:
        """What was said of every golden or corrected document."""
        golden = self.golden
        partitions = {partition for name in golden for partition in self.placed[name]}
        known = {label.name for label in self.stage.labels}
        found: dict[str, LabelledDocument] = {}
        for partition in sorted(partitions | self.work.corrections.partitions(self.stage.name)):
            manifest = intact(self.work, self.stage.name, partition)
            if manifest is None:
                continue
            correctable = "corrected" in manifest.stats  # datasets of earlier versions are not
            columns = ["document_id", "label", "confidence", *(CORRECTED if correctable else ())]
            for row in self.work.rows(manifest, columns):
                name, by = row["document_id"], row.get("corrected_by")
                if name in self.work.golden_labels.retired:
                    continue
                if name in golden or (by is not None and row["label"] in known and name not in self.teaching):
                    found[name] = LabelledDocument(
                        partition=partition,
                        predicted=row["model_label"] if correctable else row["label"],
                        corrected=row["label"] if by is not None and row["label"] in known else None,
                        by=by,
                        confidence=row["confidence"],
                    )
        return found

    @cached_property
    def predicted(self) -> Mapping[str, str | None]:
        """The model's own label of every golden document that it judged."""
        return {name: item.predicted for name, item in self.labelled.items()}

    def _is_in(self, partition: str, name: str) -> bool:
        return partition in self.placed.get(name, ()) or (
            name in self.labelled and self.labelled[name].partition == partition
        )

    def _computed(self, asset: str, name: str) -> bool:
        return any(self._is_computed(asset, partition) for partition in self.placed[name])

    def is_searchable(self, name: str) -> bool:
        return any(self._is_searchable(partition) for partition in self.placed[name])

    @cached_property
    def truth(self) -> Mapping[str, str]:
        """Golden labels of documents whose partition is computed; a correction is one, and stands before the others."""
        declared = {name: label for name, label in self.golden.items() if self._computed(self.stage.name, name)}
        said = {name: item.corrected for name, item in self.labelled.items() if item.corrected is not None}
        out = self.teaching if self._counts_leaked else self.teaching | {each.item for each in self.leaked_labels}
        return {name: label for name, label in (declared | said).items() if name not in out}

    @property
    def _counts_leaked(self) -> bool:
        return self.collection.settings.golden.leaked == "count"

    @cached_property
    def leaked_labels(self) -> Sequence[Leak]:
        """Golden documents whose text the stage is shown, under whatever name."""
        if not self.collection.judges_labels:
            return ()
        wanted = {name: self.placed[name] for name in self.golden if name not in self.teaching}
        wanted |= {
            name: [item.partition] for name, item in self.labelled.items()
            if name not in wanted and name not in self.teaching
        }  # fmt: skip
        return leaked_labels(self.work, self.stage, wanted)

    @cached_property
    def leaked_queries(self) -> Sequence[Leak]:
        return leaked_queries(self.work, [item.query for item in self.collection.golden_queries])

    @property
    def leaked(self) -> Sequence[Leak]:
        return [*self.leaked_labels, *self.leaked_queries]

    @cached_property
    def golden_queries(self) -> Sequence[GoldenQuery]:
        """Those that count."""
        out = set() if self._counts_leaked else {each.item for each in self.leaked_queries}
        return [item for item in self.collection.golden_queries if item.query not in out]

    @cached_property
    def golden_set(self) -> RecordedSet:
        """All golden items that count, computed yet or not; recorded where it is not the last one."""
        labels: dict[str, str] = {}
        if self.collection.judges_labels:
            out = self.teaching if self._counts_leaked else self.teaching | {each.item for each in self.leaked_labels}
            corrected = {name: item.corrected for name, item in self.labelled.items() if item.corrected is not None}
            labels = {name: label for name, label in {**self.golden, **corrected}.items() if name not in out}
        items = golden_sets.items_of(labels, ((item.query, item.documents) for item in self.golden_queries))
        return self._recorded(items)

    def _recorded(self, items: golden_sets.Items) -> RecordedSet:
        retired = {*self.work.golden_labels.retired, *self.collection.retired_in_files}
        gone: dict[str, golden_sets.Change] = {name: "retired" for each in retired for name in _names_of(each)}
        gone |= {name: "leaked" for each in self.leaked for name in _names_of(each.item)}
        name, state = self.collection.name, self.work.stores.state
        with hold(state, f"golden:{name}", say=self.work.say_waiting) as lease, lease.fenced() as connection:
            return golden_sets.keep(connection, name, items, gone, self.work.run_id)

    @cached_property
    def disputed(self) -> Sequence[Disputed]:
        """Documents of which a golden label, a correction or people say different things, all counted or not."""
        golden = self.work.golden_labels
        found = [
            Disputed(document=name, said=sorted({f"{item.author}: {item.label}" for item in items}))
            for name, items in golden.disagreed.items()
        ]
        for name, item in self._given.items():
            if (label := self._of_file.get(name, item.label)) != item.label:
                people = ", ".join(item.authors)
                found.append(Disputed(document=name, said=[f"the golden file: {label}", f"{people}: {item.label}"]))
        for name, said in self.labelled.items():
            golden_label = self.golden.get(name)
            if said.corrected is not None and golden_label is not None and said.corrected != golden_label:
                found.append(
                    Disputed(
                        document=name, said=[f"golden: {golden_label}", f"corrected by {said.by}: {said.corrected}"]
                    )
                )
        return sorted(found, key=lambda each: each.document)

    @cached_property
    def teaching(self) -> frozenset[str]:
        """Documents that the stage is shown with their label: none judges what it taught."""
        learned = self.work.corrections.taught.get(self.stage.name, ())
        return self.collection.shown | {item.document_id for item in learned}

    @cached_property
    def queries(self) -> Sequence[GoldenQuery]:
        """Golden queries with at least one relevant document in the corpus as it is."""
        return [q for q in self.golden_queries if any(self.is_searchable(name) for name in q.documents)]

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
            ).with_ratings(functools.partial(_partitions_of, self.work.listing))
            for stage in self.collection.judges
        ]

    def _of_labels(self, partition: str | None) -> Evidence | None:
        if not self.collection.judges_labels:
            return None
        return Evidence(
            collection=self.collection.name,
            partition=partition,
            stage=self.stage.name,
            label_names=tuple(label.name for label in self.stage.labels),
            labels=tuple(
                self._of_label(name, label)
                for name, label in self.truth.items()
                if partition is None or self._is_in(partition, name)
            ),
        )

    def _of_label(self, name: str, label: str) -> LabelEvidence:
        said, given = self.labelled.get(name), self._given.get(name)
        return LabelEvidence(
            document=name,
            golden=label,
            predicted=self.predicted.get(name),
            confidence=None if said is None else said.confidence,
            is_drawn=name in self._of_file or (given is not None and given.stratum == "random"),
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
                    relevant=tuple(name for name in item.documents if self.is_searchable(name)),
                    found=tuple(self.ranked[each.name][item.query]),
                )
                for item in self.queries
                if partition is None or any(partition in self.placed[name] for name in item.documents)
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
        right = {name: self.predicted.get(name) == self.truth[name] for name in self._within}
        return scored_slices(self._within, right)

    @cached_property
    def _within(self) -> Mapping[str, Sequence[str]]:
        """By golden document, the slices that it is in."""
        return slices_of(self.work, self.collection.slices, self.truth, self.placed)

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
        before = labels_of(self.work, live, self.stage.name, self.truth)
        both = {name: label for name, label in self.truth.items() if name in before}
        right = {name: (self.predicted.get(name) == label, before[name] == label) for name, label in both.items()}
        return live.number, right

    @property
    def _agreed(self) -> dict[str, list[str]]:
        """By label, the first golden documents that the model labelled so."""
        found: dict[str, list[str]] = {}
        for name, label in sorted(self.truth.items()):
            if self.predicted.get(name) == label and len(found.setdefault(label, [])) < MOST_AGREED:
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

    @property
    def _unknown(self) -> Iterator[str]:
        """Documents of the golden files that the source does not have, with their lines."""
        settings, folder = self.collection.settings.golden, self.collection.folder
        of_labels = [(item.document, [item.document]) for item in self.collection.golden_labels]
        of_queries = [(item.query, item.documents) for item in self.collection.golden_queries]
        paths = self.work.listing.partitions_of_path
        known = list(paths) if len(paths) <= MOST_COMPARED else []
        for file, key, items in ((settings.labels, "document", of_labels), (settings.queries, "query", of_queries)):
            missing = [
                (item, name) for item, names in items for name in names if not _partitions_of(self.work.listing, name)
            ]
            lines = lines_of(folder / file, key) if file is not None and missing else {}
            for item, name in missing:
                line = f", line {lines[item]}" if item in lines else ""
                match = alike(name, known)
                yield f"{file}{line}: the source has no '{name}'{f'; did you mean {match[0]!r}?' if match else ''}"

    def _said_by(self, name: str) -> dict[str, str]:
        """Who corrected it."""
        found = self.labelled.get(name)
        return {"by": found.by} if found is not None and found.corrected is not None and found.by is not None else {}

    @cached_property
    def details(self) -> dict[str, Any]:
        """What people want to see beside the numbers: the confusion table, and which golden items were missed."""
        details: dict[str, Any] = {}
        if self.collection.judges_labels:
            corpus = self._of_labels(None)
            assert corpus is not None
            confusion = corpus.label_scores.confusion
            details["confusion"] = confusion_markdown(confusion)
            details["confusion_counts"] = {"labels": confusion.labels, "counts": confusion.counts}
            details["agreed"] = self._agreed
            details["mislabelled"] = [
                {"document": name, "golden": label, "label": self.predicted.get(name), **self._said_by(name)}
                for name, label in sorted(self.truth.items())
                if self.predicted.get(name) != label
            ]
        if self.collection.golden_queries:
            for each in self.collection.embeddings:
                found = self.ranked[each.name]
                details["not_found_in_5" if each.name == FIRST else f"not_found_in_5 {each.name}"] = [
                    item.query for item in self.queries if not set(item.documents) & set(found[item.query][:5])
                ]
        if self.judged:
            details["judges"] = [details_of(each) for each in self.judged]
        if self.leaked:
            details["leaked"] = [each.as_data() for each in self.leaked]
        if self.collection.judges_labels and self.disputed:
            details["disputed"] = [each.as_data() for each in self.disputed]
        if unknown := list(islice(self._unknown, MOST_UNKNOWN)):
            details["unknown"] = unknown
        names = self.placed.values()
        details["absent"] = sum(not partitions for partitions in names)
        details["pending"] = (
            len(self.placed) - details["absent"] - sum(self._computed("documents", n) for n in self.placed)
        )
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


def _partitions_of(listing: Listing, name: str) -> Sequence[str]:
    return listing.partitions_of_path.get(path_of(name, listing.partitions_of_path), ())


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
    judged, found = corpus.golden_set, corpus.reliability
    retired = len({*corpus.work.golden_labels.retired, *corpus.collection.retired_in_files})
    leaked = "counted" if corpus.collection.settings.golden.leaked == "count" else "left out"
    return {
        "golden": {
            "set": judged.number, "digest": judged.digest, "labels": judged.labels, "queries": judged.queries,
            "retired": retired, "leaked": len(corpus.leaked), "leaked are": leaked,
            "disputed": len(corpus.disputed) if corpus.collection.judges_labels else 0,
        },
        **({} if found is None else {"reliability": found.as_data()}),
    }  # fmt: skip


def _names_of(item: str) -> tuple[str, str]:
    """As a document, and as a query."""
    return item, golden_sets.query_item(item)


def gate_verdicts(work: Work, manifest: Manifest) -> list[GateVerdict]:
    """The declared gates held against stored scores."""
    gates, own = work.collection.settings.score_gates, work.collection.own
    compares = any(gate.no_worse_by is not None and gate.metric in OF_JUDGES for gate in gates)
    release, live = _live_scores(work, manifest.partition) if own.gates or compares else (None, ())
    asks_live = [gate for gate in gates if gate.no_worse_by is not None and gate.metric not in OF_JUDGES]
    bench = replace(
        _inputs_of(work.collection, manifest, work.read(manifest).to_pylist()),
        paired=work.corpus.paired if any(gate.metric not in OF_QUERIES for gate in asks_live) else None,
        paired_slices=work.corpus.paired_slices if any(gate.slices for gate in asks_live) else None,
        paired_search=work.corpus.paired_search if any(gate.metric in OF_QUERIES for gate in asks_live) else None,
        live=live,
        live_release=release,
    )
    return judge(gates, bench, own.gates)


def verdicts_by_scores(collection: Collection, manifest: Manifest) -> list[GateVerdict]:
    """The same of gates that need nothing beside: no live release to compare with, and no code of the user's own."""
    gates = [gate for gate in collection.settings.score_gates if gate.no_worse_by is None and gate.use is None]
    return judge(gates, _inputs_of(collection, manifest, manifest.stats["scores"]))


def _inputs_of(collection: Collection, manifest: Manifest, rows: Iterable[Mapping[str, Any]]) -> GateInputs:
    """What stored scores say; nothing that they are compared with."""
    details = manifest.stats["details"]
    return GateInputs(
        scores=_with_errors(rows, manifest),
        slices=[SliceScore.of(said) for said in manifest.stats.get("slices", ())],
        pending=details["pending"],
        absent=details["absent"],
        of_rows=frozenset((*OF_JUDGES, *(metric.name for metric in collection.own.metrics if metric.of == "rows"))),
        labels_to_come=collection.settings.golden.review,
    )


def _with_errors(rows: Iterable[Mapping[str, Any]], manifest: Manifest) -> list[Score]:
    """Scores with their standard errors, which are kept beside the rows."""
    errors = errors_by_score(manifest.stats.get("errors", ()))
    found = []
    for score in map(Score.of, rows):
        error, clusters = errors.get(tuple(score.key), (None, None))
        found.append(replace(score, error=error, clusters=clusters))
    return found


def _live_scores(work: Work, partition: str) -> tuple[int | None, Sequence[Score]]:
    """What was measured of the candidate of this partition that is live, and the number of its release."""
    with work.stores.state.read() as connection:
        live = releases.live(connection, work.collection.name)
        part = live.parts.get(partition) if live else None
        asked = requests.get(connection, part.request_id) if part else None
        recorded = decisions.standings(connection, [asked])[asked.request_id].summary if asked else None
    if live is None or asked is None:
        return None, ()
    if recorded != digest(asked.summary):  # a gate would let pass what is worse than these scores only seem to be
        raise AuditBroken(f"request {asked.request_id}", "its scores are not those that people were shown")
    return live.number, [Score.of(row) for row in asked.changes["scores"]]


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
