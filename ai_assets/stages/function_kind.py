"""`function`: a Python function of the project, `@ai_assets.stage`. What it is given is in `function.py`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.yaml_settings import refuse, wrong
from ai_assets.stages.base import StageSettings
from ai_assets.stages.columns import Columns
from ai_assets.stages.function import FunctionSpec, StageUnusable, resolve

PROMPTS_ONLY = frozenset({"prompt", "max_input_characters"})
"""Keys of stages that have a prompt."""


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
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[PydanticCustomError]:
        for key in sorted(self.model_fields_set & PROMPTS_ONLY):
            yield wrong(f"'{key}' has no meaning for a function: it puts its own questions", key)
        if self.by_batch:
            yield wrong("the calls of a function cannot travel by batch: each may depend on the one before", "tier")
        try:
            spec = self.spec
        except StageUnusable as error:
            yield wrong(str(error), "function")
            return
        if spec.cpu and self.models is not None:
            yield wrong("a stage with cpu=True runs in another process, and cannot ask models", "route")

    def describe(self) -> str:
        said = (self.spec.function.__doc__ or "").strip().partition("\n")[0]
        return f"{said or 'A function of this project.'} ({self.function.rpartition('/')[2]})"

    @property
    def spec(self) -> FunctionSpec:
        return resolve(self.function)

    @property
    def columns(self) -> Columns:
        return self.spec.columns

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.when, *self.after, *self.spec.after)))
