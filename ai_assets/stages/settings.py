"""What a user may write under `stages:`, by kind. Part of `settings.py`; no I/O, no Dagster."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from ai_assets.base.yaml_settings import Strict, wrong
from ai_assets.stages.columns import BUILTIN_CLASSIFY, LLM, Columns
from ai_assets.stages.function import FunctionSpec, StageUnusable, resolve

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
STAGE_KINDS = ("classify", "extract", "summarise", "generate", "function")
MOST_TRIES = 5
"""Of a stage that declares nothing else, of documents that could not be read, and of partitions that failed."""
_SPAN = re.compile(r"([1-9][0-9]{0,6})([mhd])", re.ASCII)


PROMPTS_ONLY = frozenset({"prompt", "max_input_characters"})
"""Keys of stages that have a prompt."""


class LabelSettings(Strict):
    name: str = Field(min_length=1, max_length=80)
    description: str = Field(min_length=10)
    """What such a document is, in a sentence or three: the classifier reads this."""
    examples: tuple[str, ...] = ()
    """Short phrases typical of such documents; never taken from the golden set (the load refuses it)."""


class StageSettings(Strict):
    """What is made of each document beside its text: a column or some, in a dataset and an asset of its own."""

    name: Name
    when: dict[str, tuple[str, ...]] = Field(default={})
    """Only documents that an earlier stage gave one of these labels: `{stage: [label, ...]}`."""
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
    reuse_for: str | None = None
    """How old an answer may be and still be used: `30d`, `12h`, `90m`; without it, any age."""
    on_ambiguous: Literal["retry", "hold"] = "retry"
    """When a call may have been billed and its answer was lost: pay again, or wait for a person."""
    tries: int = Field(default=MOST_TRIES, ge=1, le=1000)
    """How many runs ask about a document whose error may pass (no part of the question), before it needs a person."""

    @field_validator("reuse_for")
    @classmethod
    def _is_span(cls, value: str | None) -> str | None:
        if value is not None and _SPAN.fullmatch(value) is None:
            raise ValueError(f"'{value}' is no span of time such as 30d, 12h or 90m")
        return value

    @property
    def reuse_for_s(self) -> float | None:
        match = _SPAN.fullmatch(self.reuse_for or "")
        return float(match[1]) * {"m": 60, "h": 3600, "d": 86400}[match[2]] if match else None

    @property
    def upstream(self) -> tuple[str, ...]:
        """The stages it comes after, each once."""
        return tuple(dict.fromkeys((*self.when, *self.after)))


class ClassifyStage(StageSettings):
    """Gives each document one label of a declared set, with confidence, runner-up and an evidence sentence."""

    kind: Literal["classify"]
    backend: Literal["builtin"] = "builtin"
    """Without a route."""
    labels: tuple[LabelSettings, ...] = Field(min_length=2)
    examples: tuple[str, ...] = ()
    """Documents with a golden label that the prompt shows as examples; the evaluation leaves them out."""
    learn: int = Field(default=0, ge=0, le=100)
    """How many of the newest corrections it is shown as examples; their documents judge nothing meanwhile."""
    logprobs: bool = True
    """Take the confidence from the probability of the label's tokens, where the endpoint gives it."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[LabelSettings, ...]) -> tuple[LabelSettings, ...]:
        names = [label.name for label in labels]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"label '{name}' is declared twice")
        return labels

    @model_validator(mode="after")
    def _one_backend(self) -> Self:
        if self.route is not None and "backend" in self.model_fields_set:
            raise wrong("a stage has a 'backend' or a 'route', not both", "backend")
        if self.route is None:
            for key in sorted(self.model_fields_set - {"name", "kind", "backend", "labels", "when", "route", "learn"}):
                raise wrong(f"'{key}' has no meaning without a 'route': the built-in classifier has no prompt", key)
        return self

    @property
    def columns(self) -> Columns:
        return LLM["classify"] if self.route else BUILTIN_CLASSIFY


class ExtractStage(StageSettings):
    """Fills in a JSON schema from each document."""

    kind: Literal["extract"]
    route: str = "default"
    output_schema: dict[str, Any] | str = Field(alias="schema")
    """A JSON schema with `type: object`, or the path of a .json file that holds one."""

    @property
    def columns(self) -> Columns:
        return LLM["extract"]


class SummariseStage(StageSettings):
    """Says in a few sentences what each document says."""

    kind: Literal["summarise"]
    route: str = "default"
    max_sentences: int | None = Field(default=None, ge=1, le=1000)
    max_words: int | None = Field(default=None, ge=1, le=100_000)

    @property
    def columns(self) -> Columns:
        return LLM["summarise"]


class GenerateStage(StageSettings):
    """Writes free text for each document, such as a draft of a reply."""

    kind: Literal["generate"]
    route: str = "default"

    @property
    def columns(self) -> Columns:
        return LLM["generate"]


class FunctionStage(StageSettings):
    """Runs a Python function on each document: `@ai_assets.stage` in a module of the project."""

    kind: Literal["function"]
    function: str
    """`package.module:name`, or `./file.py:name` beside this file."""
    models: str | None = None
    """Written as `route`: where `ctx.ask` asks. `route` itself is empty, as it means that the stage has a prompt."""

    @model_validator(mode="before")
    @classmethod
    def _asks_on(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "route" in data:
            given = dict(data)
            return {**given, "models": given.pop("route")} | {"route": None}
        return data

    @model_validator(mode="after")
    def _is_stage(self) -> Self:
        for key in sorted(self.model_fields_set & PROMPTS_ONLY):
            raise wrong(f"'{key}' has no meaning for a function: it puts its own questions", key)
        try:
            spec = self.spec
        except StageUnusable as error:
            raise wrong(str(error), "function") from error
        if spec.cpu and self.models is not None:
            raise wrong("a stage with cpu=True runs in another process, and cannot ask models", "route")
        return self

    @property
    def spec(self) -> FunctionSpec:
        return resolve(self.function)

    @property
    def columns(self) -> Columns:
        return self.spec.columns

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.when, *self.after, *self.spec.after)))


Stage = ClassifyStage | ExtractStage | SummariseStage | GenerateStage | FunctionStage


def _kind_of(stage: Any) -> str | None:
    kind = stage.get("kind") if isinstance(stage, Mapping) else getattr(stage, "kind", None)
    return f"[{kind}]"


# A tag is a part of the place pydantic names; in brackets it is one that `located` leaves out.
TaggedStage = Annotated[
    Annotated[ClassifyStage, Tag("[classify]")]
    | Annotated[ExtractStage, Tag("[extract]")]
    | Annotated[SummariseStage, Tag("[summarise]")]
    | Annotated[GenerateStage, Tag("[generate]")]
    | Annotated[FunctionStage, Tag("[function]")],
    Discriminator(_kind_of),
]
