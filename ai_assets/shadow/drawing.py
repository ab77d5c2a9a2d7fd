"""Which documents a shadow asks about: those of the lake that have a live answer, by a seed or by a slice."""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.documents.source_listing import source_of
from ai_assets.run.context import Work
from ai_assets.run.datasets.admitted import admitted
from ai_assets.shadow.errors import ShadowRefused
from ai_assets.signoff import releases
from ai_assets.signoff.frozen_candidate import CANDIDATE, current_candidate, has_snapshot, snapshot_paths
from ai_assets.signoff.golden_labels import partitions_of
from ai_assets.stages.base import PromptStage, Row, StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.columns import CORRECTED
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import parquet_columns, read_rows

OF_DOCUMENT = ("language", "source", "partition")
"""What every document can be divided by."""
MOST_VALUES = 8
MOST_GOLDEN = 200
"""So many documents with a golden label are asked about beside a smaller sample."""
LONG = frozenset({"text", "data", "rationale", "evidence", "reason", "rows"})


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    said: str | None
    """A label, or the digest of what is none; None where there is no answer."""
    call: str | None
    digest: str
    """Of the document's text."""
    row: Mapping[str, Any]
    """What the stage says of it that is short: for slices."""


@dataclass(frozen=True, kw_only=True)
class DrawnDocument:
    document_id: str
    partition: str
    facts: Mapping[str, str]
    """By what it can be divided."""
    live: LiveAnswer
    golden: str | None
    is_sampled: bool
    """False where it is asked about for its golden label alone."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    documents: Sequence[DrawnDocument]
    population: int
    left_out: int

    @property
    def by_partition(self) -> Mapping[str, Mapping[str, DrawnDocument]]:
        found: dict[str, dict[str, DrawnDocument]] = {}
        for each in self.documents:
            found.setdefault(each.partition, {})[each.document_id] = each
        return found


@dataclass(frozen=True, kw_only=True)
class LiveSide:
    """The files that hold what is live, or would be."""

    release: int | None
    files: Mapping[str, Path]
    """By partition."""


def live_side(work: Work) -> LiveSide:
    """Those of the live release, and where nothing is live, those of the newest candidates."""
    name, stores = work.collection.name, work.stores
    with stores.state.read() as connection:
        live = releases.live(connection, name)
    if live is not None:
        there = {key: part for key, part in live.parts.items() if has_snapshot(stores.lake, name, key, part)}
        files = {key: snapshot_paths(stores.lake, name, key, part)[0] for key, part in there.items()}
        return LiveSide(release=live.number, files=files)
    found = {key: current_candidate(stores.lake, name, key) for key in partitions_of(stores, name, CANDIDATE)}
    return LiveSide(
        release=None,
        files={
            key: each.paths(stores.lake)[0]
            for key, each in found.items()
            if each is not None and has_snapshot(stores.lake, name, key, each)
        },
    )


def said_of(stage: PromptStage, row: Row) -> str | None:
    """What a row says, without a person's correction: a label, or the digest of the kind's own columns."""
    if row.get("status") not in ("ok", None):
        return None
    if isinstance(stage, ClassifyStage):
        label: str | None = row.get("label")
        return label
    return digest([row.get(name) for name in stage.COLUMNS if name not in CORRECTED])[:32]


@dataclass(kw_only=True)
class Sampler:
    """Walks all documents of a stage once."""

    work: Work
    stage: PromptStage
    live: LiveSide
    slices: Mapping[str, str]
    size: int | None
    seed: int
    golden: Mapping[str, str]
    """Golden labels by document."""
    _population: int = 0
    _left_out: int = 0
    _values: dict[str, Counter[str]] = field(default_factory=dict)
    """Of what is divided by, which values there are."""

    def drawn(self) -> Drawn:
        kept: list[tuple[int, str, DrawnDocument]] = []
        judged: list[tuple[int, str, DrawnDocument]] = []
        most = None if self.size is None else max(self.size, MOST_GOLDEN)
        for rank, document in self._candidates():
            self._population += 1
            _keep(kept, (-rank, document.document_id, document), self.size)
            if document.golden is not None:
                _keep(judged, (-rank, document.document_id, document), most)
        sampled = {name for _, name, _ in kept}
        found = [each for _, _, each in kept]
        found += [replace(each, is_sampled=False) for _, name, each in judged if name not in sampled]
        if not found:
            raise ShadowRefused(self.work.collection.name, self.stage.name, self._nothing())
        found.sort(key=lambda each: (each.partition, each.document_id))
        return Drawn(documents=found, population=self._population, left_out=self._left_out)

    def _nothing(self) -> str:
        run = f"ai-assets run {self.work.collection.name}"
        if not self.live.files:
            return f"nothing is live and there is no candidate to compare with; run it first: {run}"
        if not self._values:
            return f"no document of the lake has an answer of this stage to its present text; run it first: {run}"
        asked = " and ".join(f"{key}={wanted}" for key, wanted in self.slices.items())
        said = [
            f"values of {key}: {', '.join(value for value, _ in there.most_common(MOST_VALUES))}"
            for key, there in self._values.items()
        ]
        return f"no document is in the slice {asked} ({'; '.join(said)})"

    def _candidates(self) -> Iterator[tuple[int, DrawnDocument]]:
        """Documents that can be compared, with the rank at which they are drawn."""
        for partition in partitions_of(self.work.stores, self.work.collection.name, "documents"):
            documents = self.work.manifest("documents", partition)
            earlier = {name: self.work.manifest(name, partition) for name in self.stage.upstream}
            made = {name: manifest for name, manifest in earlier.items() if manifest is not None}
            if documents is None or len(made) < len(earlier):
                continue
            answers = self._answers(partition)
            columns = ["document_id", "digest", "language", "path"]
            for row, found in admitted(self.work, self.stage, documents, made, columns):
                answer = answers.get(row["document_id"])
                if answer is None or answer.digest != row["digest"]:
                    self._left_out += 1
                    continue
                facts = self._facts(partition, row, found, answer)
                for key in self.slices:
                    self._values.setdefault(key, Counter())[facts.get(key, "")] += 1
                if all(facts.get(key) == wanted for key, wanted in self.slices.items()):
                    yield self._rank(row), DrawnDocument(
                        document_id=row["document_id"], partition=partition, facts=facts, live=answer,
                        golden=self.golden.get(row["document_id"]), is_sampled=True,
                    )  # fmt: skip

    def _rank(self, row: Row) -> int:
        """By the text, so that it is the same again next time, on any machine."""
        told = f"{self.seed}:{row['digest']}:{row['document_id']}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.sha256(told).digest()[:12])

    def _facts(
        self, partition: str, row: Row, earlier: Mapping[str, Row | None], answer: LiveAnswer
    ) -> dict[str, str]:  # fmt: skip
        facts = {
            "language": row["language"] or "unknown", "source": source_of(row["path"]), "partition": partition,
        }  # fmt: skip
        for key in self.slices:
            name, dot, column = key.partition(".")
            if dot:
                said = answer.row if name == self.stage.name else (earlier.get(name) or {})
                facts[key] = str(said.get(column, ""))
        return facts

    def _answers(self, partition: str) -> dict[str, LiveAnswer]:
        path, stage = self.live.files.get(partition), self.stage
        if path is None:
            return {}
        there, prefix = set(parquet_columns(path)), f"{self.stage.name}_"
        own = [name for name in stage.columns.published if f"{prefix}{name}" in there]
        if stage.columns.headline not in own:
            return {}  # it was made before there was such a stage
        found = {}
        for row in read_rows(path, ["document_id", "digest", "status", *(f"{prefix}{name}" for name in own)]):
            said = {name: row[f"{prefix}{name}"] for name in own}
            asked = said.get("status") is not None or said[stage.columns.headline] is not None
            if row["status"] != "ok" or not asked:
                continue
            if said.get("model_label") is not None:
                said["label"] = said["model_label"]
            short = {name: said.get(name) for name in short_columns(stage)}
            found[row["document_id"]] = LiveAnswer(
                said=said_of(stage, said), call=said.get("call"), digest=row["digest"] or "", row=short
            )
        return found


def short_columns(stage: StageSettings) -> list[str]:
    """Columns that a slice can be made by: not those that hold texts of their own."""
    offered = {name for name, kind in stage.columns.offered.items() if kind in ("text", "integer", "truth")}
    return sorted(offered - LONG)


def parsed_slices(collection: Collection, stage: PromptStage, given: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE`: a key of every document, or the column of this stage or one that it comes after."""
    stages = {each.name: each for each in collection.stages if each.name in (stage.name, *stage.upstream)}
    known = [
        *OF_DOCUMENT,
        *(f"{name}.{column}" for name, each in stages.items() for column in short_columns(each)),
    ]
    found: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not value:
            raise ShadowRefused(collection.name, stage.name, f"--slice {each} is no KEY=VALUE such as language=de")
        if key not in known:
            raise ShadowRefused(
                collection.name, stage.name, f"documents are not divided by '{key}'{nearest(key, known)}"
            )
        found[key] = value
    return found


def _keep(
    heap: list[tuple[int, str, DrawnDocument]], item: tuple[int, str, DrawnDocument], size: int | None
) -> None:  # fmt: skip
    """The lowest ranks; all of them without a size."""
    if size is None or len(heap) < size:
        heapq.heappush(heap, item)
    elif item[:2] > heap[0][:2]:
        heapq.heapreplace(heap, item)
