"""Which golden documents and queries a stage is shown, and where: in its prompt, its examples, or what it learns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ai_assets.evaluation.leaks import Leak, ShownText, ShownTexts, leaks, prompt_text
from ai_assets.run.context import Work
from ai_assets.run.datasets.evaluation_index import intact, rankings_folder
from ai_assets.run.datasets.few_shot import lessons, read_documents
from ai_assets.run.datasets.rankings import keep_at, kept_at
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import Manifest


def leaked_labels(work: Work, stage: ClassifyStage, partitions: Mapping[str, Sequence[str]]) -> Sequence[Leak]:
    """Of golden documents, by the partitions they may be in; what is shown under its own name is left out already."""
    pieces = [*_prompts(work, [stage.name]), *_examples_of_labels([stage]), *_documents(work, stage)]
    shown = ShownTexts(pieces)
    if not shown:
        return ()
    kept = _LooksAtPartitions.opened(
        rankings_folder(work) / f"leaks {stage.name}.json", digest([[each.where, each.text] for each in pieces])
    )
    found: dict[str, Leak] = {}
    for partition, names in _by_partition(partitions).items():
        manifest = intact(work, "documents", partition)
        if manifest is not None:
            looked = partial(_leaks_in, work, manifest, names, shown)
            found |= {each.item: each for each in kept.leaks(partition, digest([manifest.version, names]), looked)}
    kept.keep()
    return [found[item] for item in sorted(found)]


@dataclass(kw_only=True)
class _LooksAtPartitions:
    """What was found in the golden texts of each partition: they are read again where the partition changed."""

    path: Path
    of: str
    """What is shown."""
    _before: dict[str, list[Any]]
    """By partition, what was looked at, and what was found there."""
    _now: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def opened(cls, path: Path, of: str) -> "_LooksAtPartitions":
        return cls(path=path, of=of, _before=kept_at(path, of).get("found", {}))

    def leaks(self, partition: str, key: str, look: Callable[[], Sequence[Leak]]) -> list[Leak]:
        before = self._before.get(partition)
        said = before[1] if before is not None and before[0] == key else [each.as_data() for each in look()]
        self._now[partition] = [key, said]
        return [Leak(**each) for each in said]

    def keep(self) -> None:
        if self._now != self._before:
            keep_at(self.path, self.of, {"found": self._now})


def _by_partition(places: Mapping[str, Sequence[str]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for document in sorted(places):
        for partition in places[document]:
            found.setdefault(partition, []).append(document)
    return dict(sorted(found.items()))


def _leaks_in(work: Work, manifest: Manifest, names: Sequence[str], shown: ShownTexts) -> Sequence[Leak]:
    rows = work.rows(manifest, ["document_id", "status", "text"], names)
    return leaks("label", {row["document_id"]: row["text"] for row in rows if row["status"] == "ok"}, shown)


def leaked_queries(work: Work, queries: Sequence[str]) -> Sequence[Leak]:
    """A query stands in the prompt of any stage."""
    shown = ShownTexts(
        [*_prompts(work, list(work.collection.questions)), *_examples_of_labels(work.collection.labelling)]
    )
    return leaks("query", {query: query for query in queries}, shown) if shown else ()


def _prompts(work: Work, stages: Sequence[str]) -> Iterator[ShownText]:
    for name in stages:
        if (question := work.collection.questions.get(name)) is not None:
            where = f"the prompt {question.prompt.path.name} of {name}"
            for template in (question.prompt.system, question.prompt.user):
                yield ShownText(where=where, text=prompt_text(template))


def _examples_of_labels(stages: Sequence[ClassifyStage]) -> Iterator[ShownText]:
    for stage in stages:
        for label in stage.labels:
            for text in (label.description, *label.examples):
                yield ShownText(where=f"the label '{label.name}' of {stage.name}", text=text)


def _documents(work: Work, stage: ClassifyStage) -> Iterator[ShownText]:
    question = work.collection.questions.get(stage.name)
    named = [item.document for item in question.examples] if question is not None else []
    for name, found in read_documents(work, named).items():
        if found.status == "ok":
            yield ShownText(where=f"the example {name} of {stage.name}", text=found.text)
    for learned in lessons(work, stage):
        yield ShownText(
            where=f"the corrected document {learned.document} that {stage.name} learns from", text=learned.text
        )
