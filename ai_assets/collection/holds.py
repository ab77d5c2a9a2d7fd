"""What a collection's holds must fit: the columns of their stages, golden labels, gates."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from ai_assets.base.yaml_settings import nearest, wrong
from ai_assets.evaluation.drift import NAME as DRIFT
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.registry import unmet

if TYPE_CHECKING:
    from ai_assets.collection.settings import CollectionSettings
    from ai_assets.stages.base import StageSettings
    from ai_assets.stages.hold_settings import CertifiedSettings


def wrong_holds(settings: "CollectionSettings") -> Iterator[PydanticCustomError]:
    single = {stage.name: stage.columns.headline for stage in settings.stages if not _makes_several(stage)}
    for number, stage in enumerate(settings.stages):
        hold, at = stage.hold, ("stages", number, "hold")
        if hold is None:
            continue
        if _makes_several(stage):
            yield wrong(f"stage '{stage.name}' makes several rows of a document, and none of them decides", *at)
            continue
        for found in hold.misfits_of(stage.columns, single, stage.name):
            yield _below(found, *at)
        if hold.fields is not None and (problem := unmet(hold.fields, stage)) is not None:
            yield wrong(f"stage '{stage.name}': {problem[0]}", *at, "fields", problem[1])
        if hold.certified is not None:
            yield from _wrong_certified(settings, stage, hold.certified, *at)


def _makes_several(stage: "StageSettings") -> bool:
    return isinstance(stage, FunctionStage) and stage.spec.rows == "many"


def _below(found: PydanticCustomError, *at: str | int) -> PydanticCustomError:
    """The same mistake, placed below another key."""
    context = found.context or {}
    return wrong(found.message(), *at, *context.get("at", ()))


def _wrong_certified(
    settings: "CollectionSettings", stage: "StageSettings", certified: "CertifiedSettings", *at: str | int
) -> Iterator[PydanticCustomError]:
    judged = [each for each in settings.stages if isinstance(each, ClassifyStage)]
    named = settings.golden.labels_stage or (judged[0].name if len(judged) == 1 else None)
    if not settings.golden.has_labels:
        problem = "a certified threshold is chosen from golden labels; declare golden: {review: true}"
        yield wrong(problem, *at, "certified")
    elif stage.name != named:
        yield wrong(f"golden labels judge stage '{named}', so '{stage.name}' cannot be certified", *at, "certified")
    gates = [*(gate.name for gate in settings.judged_by), *([DRIFT] if settings.drift is not None else [])]
    for place, name in enumerate(certified.suspended_by):
        if name not in gates:
            hint = nearest(name, gates) if gates else "; no gate is declared"
            hint = "; 'drift:' is not declared" if name == DRIFT else hint
            yield wrong(f"there is no gate '{name}'{hint}", *at, "certified", "suspended_by", place)
