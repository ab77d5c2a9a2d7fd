"""What a user may write in a collection's `defs.yaml`: every key, its meaning, its bounds. No I/O, no Dagster.

Errors are given a place in the file by `collection.load_collection`; here they only say what is wrong.
"""

import datetime
import difflib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.checks.expectations import Expectation
from ai_assets.stages.evaluate import Gate

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
QUALITY_CHECK = "quality"
GATES_CHECK = "gates"
FIXED_ASSETS = (
    "source_files", "documents", "chunks", "embeddings", "evaluation_scores", "release_candidate", "sign_off",
    "published",
)  # fmt: skip


class Strict(BaseModel):
    """Refuses a key it does not know and names the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in known and key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key", "unknown key '{key}'{hint}", {"key": str(key), "hint": nearest(str(key), known)}
                    )
        return data


def nearest(found: str, known: list[str]) -> str:
    """'; did you mean ...' or the whole list of what is known."""
    match = difflib.get_close_matches(found, known, n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else f"; known here: {', '.join(sorted(known))}"


class TableColumns(Strict):
    """How rows of a csv, jsonl or parquet file become documents."""

    key: str | None = None
    """The column that identifies a row for good; without it a row is known by its content."""
    text: tuple[str, ...] = ()
    """The columns that make up the text; without it all text columns."""
    title: str | None = None


class SourceSettings(Strict):
    """Where the documents are."""

    path: str
    """A folder, relative to this file, or an S3-style URL such as `s3://bucket/prefix`."""
    include: tuple[str, ...] = ("**/*",)
    exclude: tuple[str, ...] = ()
    tables: dict[Literal["csv", "jsonl", "parquet"], TableColumns] = {}
    max_bytes: int = Field(default=50_000_000, ge=1)
    """A larger file is quarantined unread (table files are streamed, and limited by the row)."""
    parse_timeout_s: float = Field(default=60.0, gt=0, le=3600)


class PartitionSettings(Strict):
    """How documents are divided. A partition is the unit of a run, of a backfill and of a sign-off."""

    by: Literal["day", "week", "month", "folder", "shards"]
    column: str | None = None
    """For day, week and month: the column of table rows that holds the date; without it the date in the path."""
    start: datetime.date | None = None
    """For day, week and month: the first date (needed)."""
    end: datetime.date | None = None
    """For day, week and month: the last date, that date included; without it the partitions go on to today."""
    count: int | None = Field(default=None, ge=1, le=10_000)
    """For shards: how many (needed). Changing it moves documents between shards."""
    per_run: int = Field(default=25, ge=1, le=10_000)
    """How many partitions one run of a backfill takes. A run costs seconds, a document milliseconds."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        timed = self.by in ("day", "week", "month")
        if timed and self.start is None:
            raise ValueError(f"partitions by {self.by} need a 'start' date")
        if timed and self.start and self.end and self.end < self.start:
            raise ValueError(f"'end' ({self.end}) is before 'start' ({self.start})")
        if self.by == "shards" and self.count is None:
            raise ValueError("partitions by shards need a 'count'")
        misplaced = [
            key
            for key, used in (("start", timed), ("end", timed), ("column", timed), ("count", self.by == "shards"))
            if not used and getattr(self, key) is not None
        ]
        if misplaced:
            raise ValueError(f"'{misplaced[0]}' has no meaning for partitions by {self.by}")
        return self


class ChunkingSettings(Strict):
    max_characters: int = Field(default=800, ge=50, le=20_000)
    overlap: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap >= self.max_characters:
            raise ValueError(
                f"'overlap' ({self.overlap}) must be smaller than 'max_characters' ({self.max_characters})"
            )
        return self


class EmbeddingSettings(Strict):
    backend: Literal["builtin"] = "builtin"


class LabelSettings(Strict):
    name: str = Field(min_length=1, max_length=80)
    description: str = Field(min_length=10)
    """What such a document is, in a sentence or three: the classifier reads this."""
    examples: tuple[str, ...] = ()
    """Short phrases typical of such documents; never taken from the golden set (the load refuses it)."""


class ClassifyStage(Strict):
    """Gives each document one label of a declared set, with confidence, runner-up and an evidence sentence."""

    name: Name
    kind: Literal["classify"]
    backend: Literal["builtin"] = "builtin"
    labels: tuple[LabelSettings, ...] = Field(min_length=2)
    when: dict[str, tuple[str, ...]] = {}
    """Only documents that an earlier stage gave one of these labels: `{stage: [label, ...]}`."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[LabelSettings, ...]) -> tuple[LabelSettings, ...]:
        names = [label.name for label in labels]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"label '{name}' is declared twice")
        return labels


class GoldenSettings(Strict):
    """The questions with known answers that every refresh is measured on; paths relative to this file."""

    labels: str | None = None
    labels_stage: str | None = None
    """The stage the golden labels judge; needed only where there are several."""
    queries: str | None = None


class SignoffSettings(Strict):
    approvals: int = Field(default=1, ge=1, le=20)
    """How many different people must approve."""
    approvers: tuple[str, ...] = ()
    """Who may; empty means anyone who can run the command."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.approvers and len(set(self.approvers)) < self.approvals:
            raise ValueError(f"{self.approvals} approvals are asked of only {len(set(self.approvers))} approvers")
        return self


class ScheduleSettings(Strict):
    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    enabled: bool = True

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if not re.fullmatch(r"\S+( \S+){4}", value):
            raise ValueError(f"'{value}' is not a cron expression of five fields, such as '0 2 * * *'")
        return value


class FreshnessSettings(Strict):
    """When the collection counts as out of date: no refresh within so many hours."""

    warn_after_hours: float | None = Field(default=None, gt=0.02)
    fail_after_hours: float = Field(gt=0.02)


class CollectionSettings(Strict):
    """One collection: its documents, what is made of them, what must hold, who signs."""

    description: str = ""
    owners: tuple[str, ...] = ()
    """As Dagster wants them: `team:name` or an e-mail address."""
    tenant: str = "default"
    source: SourceSettings
    partitions: PartitionSettings
    chunking: ChunkingSettings = ChunkingSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    stages: tuple[ClassifyStage, ...] = ()
    golden: GoldenSettings = GoldenSettings()
    gates: tuple[Gate, ...] = ()
    quality: dict[str, tuple[Expectation, ...]] = {}
    """Great Expectations suites by asset: `documents` or a stage's name."""
    signoff: SignoffSettings = SignoffSettings()
    schedule: ScheduleSettings | None = ScheduleSettings()
    watch: bool = False
    """Start a run within a minute of a change in the source, beside the nightly schedule."""
    freshness: FreshnessSettings | None = None

    @field_validator("owners")
    @classmethod
    def _dagster_owner(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not re.fullmatch(r"team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
                raise ValueError(f"owner '{owner}' is neither 'team:<name>' nor an e-mail address")
        return owners

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [stage.name for stage in self.stages]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"stage '{name}' is declared twice")
            if name in FIXED_ASSETS:
                raise ValueError(f"stage '{name}' takes the name of a built-in asset; choose another")
        self._check_conditions(names)
        for asset in self.quality:
            if asset not in ("documents", *names):
                raise ValueError(f"quality suite for unknown asset '{asset}'{nearest(asset, ['documents', *names])}")
        if self.golden.labels and not self.stages:
            raise ValueError("golden labels are declared, but no stage that assigns labels")
        if self.golden.labels and self.golden.labels_stage is None and len(names) > 1:
            raise ValueError(f"golden labels need 'labels_stage' where there are several stages ({', '.join(names)})")
        if self.golden.labels_stage is not None and self.golden.labels_stage not in names:
            raise ValueError(
                f"unknown 'labels_stage' '{self.golden.labels_stage}'{nearest(self.golden.labels_stage, names)}"
            )
        for gate in self.gates:
            needed = "labels" if gate.metric in ("accuracy", "macro_f1") else "queries"
            if getattr(self.golden, needed) is None:
                raise ValueError(f"the gate on {gate.metric} needs golden {needed}, and none are declared")
        return self

    def _check_conditions(self, names: list[str]) -> None:
        stages = {stage.name: stage for stage in self.stages}
        for stage in self.stages:
            for earlier, labels in stage.when.items():
                if earlier not in stages:
                    raise ValueError(
                        f"stage '{stage.name}' depends on unknown stage '{earlier}'{nearest(earlier, names)}"
                    )
                known = [label.name for label in stages[earlier].labels]
                for label in labels:
                    if label not in known:
                        raise ValueError(
                            f"stage '{stage.name}' waits for unknown label '{label}'{nearest(label, known)}"
                        )
        self.ordered_stages()

    def ordered_stages(self) -> tuple[ClassifyStage, ...]:
        """The stages, each after those it depends on; a cycle is refused by name."""
        ordered: list[ClassifyStage] = []
        stages = {stage.name: stage for stage in self.stages}

        def visit(stage: ClassifyStage, path: tuple[str, ...]) -> None:
            if stage.name in path:
                cycle = " -> ".join((*path[path.index(stage.name) :], stage.name))
                raise ValueError(f"the stages depend on each other in a circle: {cycle}")
            if stage not in ordered:
                for earlier in stage.when:
                    visit(stages[earlier], (*path, stage.name))
                ordered.append(stage)

        for stage in self.stages:
            visit(stage, ())
        return tuple(ordered)
