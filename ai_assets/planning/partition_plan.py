"""One partition of a plan, stage by stage: which datasets stay, which rows are known, and which are open."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ai_assets.planning.findings import PlanContext, StageFindings
from ai_assets.planning.preview import Texts, UnreadFiles, current_documents, documents_of
from ai_assets.planning.records import CERTAIN, NEVER, Chance
from ai_assets.planning.stage_plan import StagePlanner
from ai_assets.run.datasets.documents import versions_of
from ai_assets.run.datasets.labelling import input_digest
from ai_assets.run.datasets.llm_stage import inputs_of
from ai_assets.run.datasets.tries import settled
from ai_assets.stages.base import PromptStage, Row, StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.conditions import Bounds, Condition, columns_in, holds
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.llm import Question
from ai_assets.storage.lake import Manifest

KEEPS = Chance(0.6, 0.92, 1.0)
"""That a document gets the label again that it has, when it is asked about with another prompt."""
CHANGES = Chance(0.0, 0.08, 0.35)
"""That it then gets one which it does not have."""


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row of which it is not known whether there will be one, or what it will say."""

    chance: Chance
    before: Row | None
    """What stood there so far."""
    row: Row | None
    """What it will be if there is one."""


class PartitionPlanner:
    """One partition. Rows of earlier stages are known, or open, by document."""

    def __init__(self, around: PlanContext, partition: str) -> None:
        self.around = around
        self._work = around.work
        self.partition = partition
        self.documents = current_documents(self._work, partition)
        self._texts: Texts | None = None
        self._settled: dict[str, Manifest] = {}
        self._rows: dict[str, dict[str, Row]] = {}
        self._open: dict[str, dict[str, OpenRow]] = {}
        self.here: dict[str, StageFindings] = {}
        """By stage without a route, what is to be labelled."""
        self._unread: dict[str, Chance] = {}
        """By stage, the chance that a document not read yet comes to it."""

    @property
    def texts(self) -> Texts:
        if self._texts is None:
            if self.documents is None:
                self._texts = self.around.read_ahead.texts(self.partition)
            else:
                found = documents_of(self._work, self.documents)
                self._texts = Texts(documents=found, statuses=self.documents.stats["statuses"], unread=UnreadFiles())
        return self._texts

    @property
    def statuses(self) -> Mapping[str, int]:
        return self.documents.stats["statuses"] if self.documents is not None else self.texts.statuses

    def stages(self) -> Iterator[StageFindings]:
        for stage in self._work.collection.stages:
            if isinstance(stage, FunctionStage):
                self._function(stage)
            elif stage.route is None:
                assert isinstance(stage, ClassifyStage)
                self._labelled_here(stage)
            else:
                yield self._stage(stage)

    def _stage(self, stage: StageSettings) -> StageFindings:
        found = StageFindings(stage=stage.name, partition=self.partition)
        question = self._work.collection.questions[stage.name]
        if (manifest := self._unchanged(question)) is not None:
            self._settled[stage.name] = manifest
            found.documents = found.kept = manifest.stats["documents_in"]
            return found
        StagePlanner(self, question, found).run()
        return found

    def _unchanged(self, question: Question) -> Manifest | None:
        stage = question.stage
        earlier = self.earlier(stage.upstream)
        if self.documents is None or earlier is None:
            return None
        inputs = inputs_of(self._work, self.partition, question, self.documents, earlier)
        same = settled(self._work, self.partition, stage, inputs)
        return same.manifest if same else None

    def _function(self, stage: FunctionStage) -> None:
        """What it will say is not known before it runs; later stages go by what it said last."""
        self.unread_chance(stage)
        earlier = self.earlier(stage.upstream)
        if self.documents is not None and earlier is not None:
            inputs = versions_of(self.documents, earlier)
            if (same := settled(self._work, self.partition, stage, inputs)) is not None:
                self._settled[stage.name] = same.manifest
                return
        names = [document.document_id for document in self.texts.documents] if self._is_awaited(stage) else []
        chances = {name: chance for name in names if (chance := self.chance(stage, name)) is not None}
        self.leave_open(stage, {}, {name: (chance, None) for name, chance in chances.items()})

    def _is_awaited(self, stage: StageSettings) -> bool:
        collection = self._work.collection
        waits = (stage.name in each.when or stage.name == each.judges for each in collection.stages)
        return stage.name in collection.embedded_stages or any(waits)

    def _labelled_here(self, stage: ClassifyStage) -> None:
        """The built-in classifier costs nothing, and what a device takes is in no budget; where the dataset will
        change, its labels are open."""
        found = self.here[stage.name] = StageFindings(stage=stage.name, partition=self.partition)
        manifest = self._work.previous(stage.name, self.partition)
        if manifest is not None and manifest.code_version != self._work.collection.code_versions[stage.name]:
            manifest = None
        version = self.documents.version if self.documents is not None else None
        if manifest is not None and manifest.inputs.get("documents") == version:
            self._settled[stage.name] = manifest
            found.documents = found.kept = manifest.rows
            return
        known: dict[str, Row] = {}
        if manifest is not None:
            known = {row["document_id"]: row for row in self._work.read(manifest).to_pylist()}
        rows, open_ = {}, {}
        for document in self.texts.documents:
            row, chance = known.get(document.document_id), self.chance(stage, document.document_id)
            found.documents += chance is not None
            if row is not None and row["input_digest"] == input_digest(stage, document.title, document.digest):
                rows[document.document_id] = row
                found.kept += 1
            elif chance is not None:
                open_[document.document_id] = (chance, None)
                if stage.is_builtin:
                    continue
                size = len(document.text[: stage.max_input_characters].encode("utf-8", "replace"))
                found.unread.append((chance, UnreadFiles(files=1, documents=1, text_bytes=size)))
        unread, chance = self.texts.unread, self.unread_chance(stage)
        if unread.files:
            found.unread.append((chance, unread))
            found.unknown += round(unread.documents)
        self.leave_open(stage, rows, open_)

    def rows(self, stage: str) -> Mapping[str, Row]:
        """Those that are known."""
        if stage not in self._rows:
            manifest = self._settled.get(stage)
            table = self._work.read(manifest).to_pylist() if manifest is not None else []
            self._rows[stage] = {row["document_id"]: row for row in table}
        return self._rows[stage]

    def row(self, stage: str, document: str) -> Row | None:
        """What the stage says of a document, as far as it is known."""
        found = self.open(stage).get(document)
        return self.rows(stage).get(document) if found is None else found.row

    def earlier(self, stages: Collection[str]) -> Mapping[str, Manifest] | None:
        """Their datasets, where a run would leave all of them as they are."""
        return {name: self._settled[name] for name in stages} if self._settled.keys() >= set(stages) else None

    def open(self, stage: str) -> Mapping[str, OpenRow]:
        return self._open.get(stage, {})

    def leave_open(
        self, stage: StageSettings, rows: Mapping[str, Row], chances: Mapping[str, tuple[Chance, Row | None]]
    ) -> None:
        """What is known of a stage's rows from here on, and with which chance there will be others."""
        before: Mapping[str, Row] = {}
        awaiting = [each.when[stage.name] for each in self._work.collection.stages if stage.name in each.when]
        if awaiting and chances and (old := self._work.previous(stage.name, self.partition)):
            looked_at = [columns_in(condition, stage.columns) for condition in awaiting]
            columns = ["document_id", *sorted(set().union(*looked_at))]
            before = {row["document_id"]: row for row in self._work.read(old, columns).to_pylist()}
        self._rows[stage.name] = dict(rows)
        self._open[stage.name] = {
            name: OpenRow(chance, before.get(name), row) for name, (chance, row) in chances.items()
        }

    def chance(self, stage: StageSettings, document: str) -> Chance | None:
        """That the document comes to the stage; None where it certainly does not."""
        chance = CERTAIN
        if not stage.draws(document):
            return None
        if stage.judges is not None:
            made = self.open(stage.judges).get(document)
            if made is None and self.row(stage.judges, document) is None:
                return None
            chance = CERTAIN if made is None else made.chance
        for name, wanted in stage.when.items():
            found = self.open(name).get(document)
            if found is None or found.row is not None:
                chance = chance if holds(wanted, self.row(name, document)) else NEVER
                chance = chance if found is None else chance.and_(found.chance)
            elif found.before is not None:
                again = KEEPS if holds(wanted, found.before) else CHANGES
                chance = chance.and_(found.chance).and_(again)
            else:
                chance = chance.and_(found.chance).and_(self.mix(name, wanted))
        return chance if chance.high > 0 else None

    def unread_chance(self, stage: StageSettings) -> Chance:
        chance = CERTAIN if stage.judges is None else self._unread.get(stage.judges, CERTAIN)
        chance = chance.and_(Chance(stage.share_taken, stage.share_taken, stage.share_taken))
        for name, wanted in stage.when.items():
            chance = chance.and_(self._unread.get(name, CERTAIN)).and_(self.mix(name, wanted))
        self._unread[stage.name] = chance
        return chance

    def mix(self, stage: str, condition: Condition) -> Chance:
        """The share of labels so far; before there are any, all labels are alike and nothing is sure. Nothing is known
        of other columns: they may let all of these through, or none."""
        wanted = condition.get("label", ())
        if isinstance(wanted, Bounds) or not wanted:
            return Chance(0.0, 0.5, 1.0)
        found = self._mix_of_labels(stage, [str(label) for label in wanted])
        return found if len(condition) == 1 else Chance(0.0, found.likely / 2, found.high)

    def _mix_of_labels(self, stage: str, wanted: Sequence[str]) -> Chance:
        counts = self.around.labels.get(stage, {})
        total, hits = sum(counts.values()), sum(counts.get(label, 0) for label in wanted)
        if not total:
            of = next(each for each in self._work.collection.stages if each.name == stage)
            known = len(of.labels) if isinstance(of, ClassifyStage) else len(wanted)
            return Chance(0.0, len(wanted) / max(known, 1), 1.0)
        share = hits / total
        room = 2 * ((hits + 1) * (total - hits + 1) / (total + 2) ** 2 / (total + 3)) ** 0.5 + 0.05
        return Chance(max(0.0, share - room), share, min(1.0, share + room))


class ChosenPlanner(PartitionPlanner):
    """Some documents of the lake as they are there, for one stage: whatever the source has by now."""

    def __init__(self, around: PlanContext, stage: PromptStage, partition: str, chosen: Collection[str]) -> None:
        super().__init__(around, partition)
        self._chosen_stage = stage
        manifest = self._work.input(stage.name, partition, "documents")
        found = [each for each in documents_of(self._work, manifest) if each.document_id in chosen]
        self._texts = Texts(documents=found, statuses=manifest.stats["statuses"], unread=UnreadFiles())
        self._settled = {name: self._work.input(stage.name, partition, name) for name in stage.upstream}

    def found(self) -> StageFindings:
        found = StageFindings(stage=self._chosen_stage.name, partition=self.partition)
        StagePlanner(self, self._work.collection.questions[self._chosen_stage.name], found).run()
        return found
