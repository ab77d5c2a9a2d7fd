"""What the judges of a collection must fit: the stages that they judge, and gates on what they say."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from ai_assets.base.yaml_settings import nearest, wrong
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.judge import JUDGED, JudgeStage

if TYPE_CHECKING:
    from ai_assets.collection.settings import CollectionSettings
    from ai_assets.stages.base import StageSettings


def judges_beside(stages: "tuple[StageSettings, ...]") -> "tuple[StageSettings, ...]":
    """The same, each judge with the column that it judges."""
    if not any(isinstance(stage, JudgeStage) for stage in stages):
        return stages
    headlines = {stage.name: stage.columns.headline for stage in stages if not _makes_several(stage)}
    return tuple(stage.beside(headlines) if isinstance(stage, JudgeStage) else stage for stage in stages)


def wrong_judges(settings: "CollectionSettings") -> Iterator[PydanticCustomError]:
    stages = {stage.name: stage for stage in settings.stages}
    for number, stage in enumerate(settings.stages):
        if not isinstance(stage, JudgeStage):
            continue
        if (problem := _unjudgeable(stage, stages)) is not None:
            yield wrong(f"stage '{stage.name}' judges '{stage.judges}': {problem}", "stages", number, "of")
        if JUDGED in stage.upstream:
            problem = f"a judge's prompt calls what it judges '{JUDGED}'; give the stage of that name another one"
            yield wrong(problem, "stages", number, "of")


def _unjudgeable(stage: JudgeStage, stages: "Mapping[str, StageSettings]") -> str | None:
    """Why a judge cannot judge what it names."""
    judged = stages.get(stage.judges)
    if judged is None:
        return f"there is no such stage{nearest(stage.judges, [name for name in stages if name != stage.name])}"
    if isinstance(judged, JudgeStage):
        return "it is a judge itself"
    if _makes_several(judged):
        return "it makes several rows of a document; a stage of one row can be judged"
    columns = judged.columns.offered
    if columns.get(stage.column) != "text":
        texts = [name for name, kind in columns.items() if kind == "text"]
        return f"it has no column '{stage.column}' of text{nearest(stage.column, texts)}"
    return None


def _makes_several(stage: "StageSettings") -> bool:
    return isinstance(stage, FunctionStage) and stage.spec.rows == "many"
