"""Which kinds of stages there are: the built-in ones by name, others by `module:name` or by their entry point."""

from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import PlainValidator

from ai_assets.base.errors import ExtensionUnusable
from ai_assets.base.kinds import STAGE_KINDS
from ai_assets.base.yaml_settings import wrong
from ai_assets.extensions import builtin, installed, load_class
from ai_assets.source_digest import source_digest
from ai_assets.stages.base import PromptStage, StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.conditions import Condition, problem
from ai_assets.stages.extract import ExtractStage
from ai_assets.stages.function_kind import FunctionStage


def kind_of(name: str) -> type[StageSettings]:
    """Raises ExtensionUnusable. A module of the project is found once its folder is on the path (`look_in`)."""
    if name in STAGE_KINDS:
        ours: type[StageSettings] = builtin(STAGE_KINDS[name])
        return ours
    if ":" not in name:
        others = [point.name for point in installed("stage")]
        if name not in others:
            known = [*STAGE_KINDS, *others]
            listed = ", ".join(f"'{kind}'" for kind in known[:-1])
            said = f"should be {listed} or '{known[-1]}', or module:name of your own (found '{name}')"
            raise ExtensionUnusable("stage", name, said)
    return load_class("stage", name, PromptStage, needs=("DESCRIPTION", "COLUMNS", "HEADLINE", "PROMPT"))


def stage_of(value: Any) -> StageSettings:
    """A stage as it is declared."""
    if isinstance(value, StageSettings):
        return value
    if not isinstance(value, Mapping):
        return StageSettings.model_validate(value)  # which says what it should be
    if "kind" not in value:
        raise wrong("is missing", "kind")
    return _kind_at(value["kind"]).model_validate(value)


def _kind_at(name: Any) -> type[StageSettings]:
    try:
        return kind_of(str(name))
    except ExtensionUnusable as error:
        raise wrong(error.found, "kind") from error


def source_of(stage: StageSettings) -> str | None:
    """Of a kind of one's own, the digest of its class: an edit makes its rows stale."""
    return None if stage.kind in STAGE_KINDS else source_digest(type(stage))


def unmet(condition: Condition, awaited: StageSettings) -> tuple[str, str] | None:
    """Why a condition cannot be met by what that stage makes, and at which of its columns."""
    if isinstance(awaited, FunctionStage) and awaited.spec.rows == "many":
        return "it makes several rows of a document, and none of them decides; use 'after'", next(iter(condition))
    labels = [label.name for label in awaited.labels] if isinstance(awaited, ClassifyStage) else []
    if not labels and list(condition) == ["label"]:
        return f"it gives no labels ({awaited.kind}); name one of its columns, or use 'after'", "label"
    schema = awaited.output_schema if isinstance(awaited, ExtractStage) else None
    fields = list(schema.get("properties", {})) if isinstance(schema, Mapping) else None
    return problem(condition, awaited.columns, labels, fields)


_BUILTIN = tuple(kind_of(name) for name in STAGE_KINDS)
AnyStage = Annotated[StageSettings, PlainValidator(stage_of, json_schema_input_type=Union[_BUILTIN])]  # noqa: UP007
