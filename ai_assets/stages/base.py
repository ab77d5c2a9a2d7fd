"""The seam: what a kind of stage is. Settings that every stage has, and what a kind that asks models says of itself.

A kind is one class in one file, registered by one line in `base/kinds.py`; a collection names one of its own by
`kind: module:name`. Built-in kinds have nothing that such a one has not.
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.compute import ComputeSettings
from ai_assets.base.due import WithDeadline, span_seconds
from ai_assets.base.window_settings import Windows, hours_of
from ai_assets.base.windows import WeeklyHours
from ai_assets.base.yaml_settings import refuse, wrong
from ai_assets.stages.columns import Columns, ColumnType, columns_of_calls
from ai_assets.stages.conditions import When, described
from ai_assets.stages.hold_settings import HoldSettings
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
MOST_TRIES = 5
"""Of a stage that declares nothing else, of documents that could not be read, and of partitions that failed."""
BATCH = "batch"
"""The tier whose calls travel by the provider's Batch API."""
_SPAN = re.compile(r"([1-9][0-9]{0,6})([mhd])", re.ASCII)
_NOT_DECISIVE = frozenset({
    "name", "kind", "when", "after", "route", "prompt", "timeout_s", "reuse_for", "on_ambiguous", "tries",
    "tier", "priority", "due", "within", "timezone", "windows", "compute", "hold",
})  # fmt: skip
"""Settings that change no answer, or that count elsewhere: a prompt by its text, a route by its models."""
Row = dict[str, Any]


class StageSettings(WithDeadline):
    """What is made of each document beside its text: a column or some, in a dataset and an asset of its own."""

    name: Name
    kind: str
    when: dict[str, When] = Field(default={})
    """Only documents of which an earlier stage said this: `{stage: [label, ...]}`, or by column; see conditions.py."""
    after: tuple[str, ...] = ()
    """Earlier stages whose answers the prompt uses."""
    route: str | None = None
    """A route or an endpoint of inference.yaml."""
    prompt: str | None = None
    """A file, relative to this one; without it the kind's own prompt."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int | None = None
    max_output_tokens: int = Field(default=1024, ge=1, le=1_000_000)
    max_input_characters: int = Field(default=100_000, ge=1, le=100_000_000)
    """A longer document is cut, and its row says so."""
    timeout_s: float | None = Field(default=None, gt=0, le=3600)
    """For one call, instead of the endpoint's."""
    tier: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)] | None = None
    """The provider's tier of service, such as `flex`, instead of the endpoint's; `default` for none. `batch`: its calls
    travel by the provider's Batch API, and the run does not wait for them."""
    priority: Literal["interactive", "normal", "batch"] | None = None
    """At a server that orders its requests; without it `normal`, and `batch` in a backfill."""
    windows: Windows = ()
    """When its calls may leave; outside of it a run ends without its rows, and another one goes on."""
    reuse_for: str | None = None
    """How old an answer may be and still be used: `30d`, `12h`, `90m`; without it, any age."""
    on_ambiguous: Literal["retry", "hold"] = "retry"
    """When a call may have been billed and its answer was lost: pay again, or wait for a person."""
    compute: ComputeSettings | None = None
    """A pod of its own, where runs are in a cluster."""
    hold: HoldSettings | None = None
    """Which of its documents wait for a person, while the others go on."""
    tries: int = Field(default=MOST_TRIES, ge=1, le=1000)
    """How many runs ask about a document whose error may pass (no part of the question), before it needs a person."""

    @field_validator("reuse_for")
    @classmethod
    def _is_span(cls, value: str | None) -> str | None:
        if value is not None and _SPAN.fullmatch(value) is None:
            raise ValueError(f"'{value}' is no span of time such as 30d, 12h or 90m")
        return value

    @model_validator(mode="after")
    def _may_be_due(self) -> Self:
        refuse([*self.wrong_deadline(), *self._undue()])
        return self

    def _undue(self) -> Iterator[PydanticCustomError]:
        """Why it cannot have a deadline of its own."""
        key = "due" if self.due is not None else "within"
        if self.deadline is None:
            return
        if self.tier is not None:
            yield wrong(f"a deadline chooses the tier, and 'tier: {self.tier}' fixes it; keep one of them", key)
        if self.kind == "function":
            said = (
                "the calls of a function are made as it goes, so only its 'tier' can be chosen; take the deadline out"
            )
            yield wrong(said, key)
        elif self.route is None:
            yield wrong("it asks no model (it has no 'route'), so there is nothing to be in time with", key)

    @property
    def hours(self) -> WeeklyHours:
        return hours_of(self.windows)

    @property
    def by_batch(self) -> bool:
        return self.tier == BATCH

    @property
    def served_at(self) -> str | None:
        """The tier that is asked for with each call."""
        return None if self.by_batch else self.tier

    @property
    def reuse_for_s(self) -> float | None:
        return float(span_seconds(self.reuse_for)) if self.reuse_for is not None else None

    @property
    def columns(self) -> Columns:
        raise NotImplementedError

    def describe(self) -> str:
        """Of its asset: what a row is, and what makes it stale."""
        raise NotImplementedError

    @property
    def kind_name(self) -> str:
        """What its calls are called in the ledger and in plans."""
        return self.kind.rpartition(":")[2]

    @property
    def judges(self) -> str | None:
        """The stage whose outputs it rates: it comes only to documents of which that one made a row."""
        return None

    @property
    def chooses(self) -> list[Json]:
        """What decides which of its documents it takes; empty where it takes all."""
        return []

    @property
    def share_taken(self) -> float:
        """Of the documents that come to it."""
        return 1.0

    def draws(self, document_id: str) -> bool:
        """Whether it takes this document."""
        return True

    @property
    def described_when(self) -> dict[str, Json]:
        """As its conditions count for code versions."""
        return {name: described(condition) for name, condition in self.when.items()}

    @property
    def upstream(self) -> tuple[str, ...]:
        """The stages it comes after, each once."""
        return tuple(dict.fromkeys((*self.when, *self.after)))


class PromptStage(StageSettings):
    """A kind that asks a model one question about each document, and makes a row of its answer.

    What is in capitals a kind says once, its fields are what a user may write. How it is asked, paid for, kept, planned
    and shown is the same for all of them.
    """

    route: str | None = "default"
    DESCRIPTION: ClassVar[str]
    COLUMNS: ClassVar[Mapping[str, ColumnType]]
    """Those beside what every call has, in the order in which people read them."""
    HEADLINE: ClassVar[str]
    """The one column that a person reads first."""
    PROMPT: ClassVar[Path]
    """The file that is used where a stage names none."""
    VERSION: ClassVar[str] = "1"
    """Another one makes every row again: for a change of `read` that changes rows."""
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (15, 150)
    """Of an answer, at least and likely: what a plan goes by before there is one."""
    AROUND_BYTES: ClassVar[int] = 800
    """Of a question around its document: what a plan goes by before one was put together."""
    NOT_DECISIVE: ClassVar[frozenset[str]] = frozenset()
    """Settings of the kind that change no answer."""

    def answer_schema(self, folder: Path) -> Mapping[str, Json] | None:
        """The JSON schema of an answer; None for text. `folder` is that of the collection. Raises SchemaWrong."""
        return None

    @property
    def own_prompt(self) -> Path:
        """The file that is used where it names none."""
        return self.PROMPT

    def demonstrations(self) -> Sequence[tuple[str, str]]:
        """Texts and the answers to them, which the model is shown as turns of the conversation, before the document."""
        return ()

    @property
    def choices(self) -> tuple[str, ...]:
        """The only answers there are, where an answer is plain text."""
        return ()

    @property
    def reads_cut_off(self) -> bool:
        """Whether an answer that reached the limit of its tokens can still be read."""
        return False

    def prompt_values(self) -> Mapping[str, Any]:
        """What its prompt may name beside the document: plain values, lists and mappings. All of it is trusted."""
        return {"labels": [], "limits": {"sentences": None, "words": None}}

    def offers(self, offered: Mapping[str, Mapping[str, ColumnType]]) -> Mapping[str, Mapping[str, ColumnType]]:
        """What its prompt may name of earlier stages; `offered` has their columns."""
        return offered

    def shows(self, upstream: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Mapping[str, Any] | None]:
        """The same of one document."""
        return upstream

    def problem_with(self, upstream: Mapping[str, Mapping[str, Any] | None]) -> str | None:
        """Why nothing is asked about a document of which earlier stages say this."""
        return None

    @property
    def asks_logprobs(self) -> bool:
        return False

    @property
    def asks_labels(self) -> bool:
        """A classification model is given the document alone, and says its labels: `Answer.labels`."""
        return False

    def complaint(self, answer: "Answer", text: str) -> str | None:
        """What is wrong with an answer, in words for the model, which is asked once more for a better one."""
        return None

    @abstractmethod
    def read(self, answer: "Answer", text: str) -> Row | str:
        """The kind's own columns; or why this is no answer. `text` is what the model could read of the document."""

    def describe(self) -> str:
        return self.DESCRIPTION

    @property
    def columns(self) -> Columns:
        return columns_of_calls(self.HEADLINE, self.COLUMNS)

    @property
    def decisive(self) -> Json:
        """Of its settings, all that can change a row."""
        return [self.VERSION, self.model_dump(mode="json", exclude={*_NOT_DECISIVE, *self.NOT_DECISIVE})]
