"""The golden items of a collection: which count, where their documents are, and what was said of them.

What people corrected is golden too, and it is the model that is judged: by its own label, not by theirs.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from ai_assets.base.yaml_settings import alike
from ai_assets.documents.source_listing import Listing, path_of
from ai_assets.evaluation.golden import lines_of
from ai_assets.evaluation.leaks import Leak
from ai_assets.evaluation.scoring import GoldenQuery
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_index import comparable, intact
from ai_assets.run.datasets.golden_leaks import leaked_labels, leaked_queries
from ai_assets.signoff import golden_labels, golden_sets
from ai_assets.signoff.golden_labels import AgreedLabel
from ai_assets.signoff.golden_sets import RecordedSet
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import CORRECTED
from ai_assets.storage.leases import hold


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


class GoldenItems:
    """What the model is judged by in one run."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.collection = work.collection
        self._is_computed = functools.cache(lambda asset, partition: intact(work, asset, partition) is not None)
        self._is_searchable = functools.cache(lambda partition: bool(comparable(work, partition)))

    @cached_property
    def labels(self) -> Mapping[str, str]:
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
        wanted = set(self.labels)
        wanted |= {name for item in self.collection.golden_queries for name in item.documents}
        return {name: partitions_of(self.work.listing, name) for name in wanted}

    @cached_property
    def stage(self) -> ClassifyStage:
        wanted = self.collection.settings.golden.labels_stage
        return next(stage for stage in self.collection.labelling if wanted in (None, stage.name))

    @cached_property
    def labelled(self) -> Mapping[str, LabelledDocument]:
        """What was said of every golden or corrected document."""
        golden = self.labels
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

    def is_right(self, name: str) -> bool:
        """The model's own label is the golden one."""
        return self.predicted.get(name) == self.truth[name]

    def is_in(self, partition: str, name: str) -> bool:
        return partition in self.placed.get(name, ()) or (
            name in self.labelled and self.labelled[name].partition == partition
        )

    def _is_in_dataset(self, asset: str, name: str) -> bool:
        return any(self._is_computed(asset, partition) for partition in self.placed[name])

    def is_searchable(self, name: str) -> bool:
        return any(self._is_searchable(partition) for partition in self.placed[name])

    @cached_property
    def truth(self) -> Mapping[str, str]:
        """Golden labels of documents whose partition is computed; a correction is one, and stands before the others."""
        declared = {name: label for name, label in self.labels.items() if self._is_in_dataset(self.stage.name, name)}
        said = {name: item.corrected for name, item in self.labelled.items() if item.corrected is not None}
        return {name: label for name, label in (declared | said).items() if name not in self._left_out}

    @property
    def _counts_leaked(self) -> bool:
        return self.collection.settings.golden.leaked == "count"

    @cached_property
    def _left_out(self) -> Set[str]:
        """Golden documents that judge nothing."""
        return self.teaching if self._counts_leaked else self.teaching | {each.item for each in self.leaked_labels}

    @cached_property
    def leaked_labels(self) -> Sequence[Leak]:
        """Golden documents whose text the stage is shown, under whatever name."""
        if not self.collection.judges_labels:
            return ()
        wanted = {name: self.placed[name] for name in self.labels if name not in self.teaching}
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
    def counted_queries(self) -> Sequence[GoldenQuery]:
        """Golden queries that count, whatever is computed."""
        out = set() if self._counts_leaked else {each.item for each in self.leaked_queries}
        return [item for item in self.collection.golden_queries if item.query not in out]

    @cached_property
    def recorded_set(self) -> RecordedSet:
        """All golden items that count, computed yet or not; recorded where it is not the last one."""
        labels: dict[str, str] = {}
        if self.collection.judges_labels:
            corrected = {name: item.corrected for name, item in self.labelled.items() if item.corrected is not None}
            labels = {name: label for name, label in {**self.labels, **corrected}.items() if name not in self._left_out}
        items = golden_sets.items_of(labels, ((item.query, item.documents) for item in self.counted_queries))
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
            golden_label = self.labels.get(name)
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
        return [q for q in self.counted_queries if any(self.is_searchable(name) for name in q.documents)]

    def is_drawn(self, name: str) -> bool:
        """Its label tells of documents in general; one that was picked for the desk tells of what is uncertain."""
        given = self._given.get(name)
        return name in self._of_file or (given is not None and given.stratum == "random")

    @property
    def unknown(self) -> Sequence[str]:
        """The first documents of the golden files that the source does not have, with their lines."""
        return list(islice(self._unknown(), MOST_UNKNOWN))

    def _unknown(self) -> Iterator[str]:
        settings, folder = self.collection.settings.golden, self.collection.folder
        of_labels = [(item.document, [item.document]) for item in self.collection.golden_labels]
        of_queries = [(item.query, item.documents) for item in self.collection.golden_queries]
        paths = self.work.listing.partitions_of_path
        known = list(paths) if len(paths) <= MOST_COMPARED else []
        for file, key, items in ((settings.labels, "document", of_labels), (settings.queries, "query", of_queries)):
            missing = [
                (item, name) for item, names in items for name in names if not partitions_of(self.work.listing, name)
            ]
            lines = lines_of(folder / file, key) if file is not None and missing else {}
            for item, name in missing:
                line = f", line {lines[item]}" if item in lines else ""
                match = alike(name, known)
                yield f"{file}{line}: the source has no '{name}'{f'; did you mean {match[0]!r}?' if match else ''}"

    @cached_property
    def absent(self) -> int:
        """How many golden documents the source does not have."""
        return sum(not partitions for partitions in self.placed.values())

    @cached_property
    def pending(self) -> int:
        """How many it has that are not computed yet."""
        return len(self.placed) - self.absent - sum(self._is_in_dataset("documents", name) for name in self.placed)

    def said_by(self, name: str) -> dict[str, str]:
        """Who corrected it."""
        found = self.labelled.get(name)
        return {"by": found.by} if found is not None and found.corrected is not None and found.by is not None else {}


def partitions_of(listing: Listing, name: str) -> Sequence[str]:
    return listing.partitions_of_path.get(path_of(name, listing.partitions_of_path), ())


def _names_of(item: str) -> tuple[str, str]:
    """As a document, and as a query."""
    return item, golden_sets.query_item(item)
