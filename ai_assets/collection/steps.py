"""Into which steps of a run the assets of a collection are cut: what declares `compute:` is one of its own."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ai_assets.base.cluster import ClusterSettings, cluster_in
from ai_assets.base.compute import ComputeSettings
from ai_assets.base.errors import Gathered
from ai_assets.base.home import Home, project_directory
from ai_assets.base.yaml_settings import line_of, nearest
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.embedding.spec import vectors_asset

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.collection.settings import CollectionSettings

SHARED = "rest"
"""Begins the names of steps that several assets share; no stage has two underscores in its name."""


@dataclass(frozen=True, kw_only=True)
class SegmentStep:
    """Assets that are computed in one process, each after what it is made from."""

    name: str
    assets: tuple[str, ...]
    compute: ComputeSettings | None = None
    priority: str | None = None
    """Of the stage that it is, where that says one."""


def computes_of(settings: "CollectionSettings") -> Mapping[str, ComputeSettings]:
    """By asset, of those that declare one."""
    stages = {stage.name: stage.compute for stage in settings.stages}
    vectors = {vectors_asset(name): each.compute for name, each in settings.every_embedding.items()}
    return {asset: found for asset, found in {**stages, **vectors}.items() if found is not None}


def steps_of(collection: "Collection") -> tuple[SegmentStep, ...]:
    """One after another; where nothing declares `compute:`, one step with all of them.

    Shared assets go as early as what they are made from allows: each step costs a pod.
    """
    computes = computes_of(collection.settings)
    rounds = _rounds(collection, computes)
    found: list[SegmentStep] = []
    for number in range(max(rounds.values()) + 1):
        here = [asset for asset in collection.asset_names if rounds[asset] == number]
        if shared := tuple(asset for asset in here if asset not in computes):
            found.append(SegmentStep(name=f"{SHARED}__{number + 1}", assets=shared))
        found += [_own_step(collection, asset, computes[asset]) for asset in here if asset in computes]
    return tuple(found)


def _own_step(collection: "Collection", asset: str, compute: ComputeSettings) -> SegmentStep:
    priority = next((stage.priority for stage in collection.stages if stage.name == asset), None)
    return SegmentStep(name=asset, assets=(asset,), compute=compute, priority=priority)


def _rounds(collection: "Collection", computes: Mapping[str, ComputeSettings]) -> Mapping[str, int]:
    """A round is shared assets and then, one by one, those with a step of their own; what is made from one of the
    latter is in a later round."""
    rounds: dict[str, int] = {}
    for asset in collection.asset_names:
        needed = [name for name in collection.inputs_of(asset) if name in rounds]
        rounds[asset] = max((rounds[name] + (name in computes) for name in needed), default=0)
    return rounds


def made_from(collection: "Collection", assets: Iterable[str]) -> frozenset[str]:
    """These assets, and all that is made from them."""
    found = set(assets)
    for asset in collection.asset_names:
        if not found.isdisjoint(collection.inputs_of(asset)):
            found.add(asset)
    return frozenset(found)


def refuse_unknown_gpus(settings: "CollectionSettings", folder: Path, path: Path, node: yaml.Node | None) -> None:
    """A pod that asks for a GPU of a type that operations.yaml does not declare would wait for a node for ever."""
    asked = {asset: found.gpu.type for asset, found in computes_of(settings).items() if found.gpu and found.gpu.type}
    if not asked:
        return
    operations = Home.from_environment(project_directory(folder)).operations
    gathered = Gathered()
    for asset, kind in asked.items():
        if problem := _unknown(kind, cluster_in(operations), operations):
            place = line_of(node, "attributes", *_place(settings, asset), "compute", "gpu", "type")
            gathered.errors.append(CollectionInvalid(path, place, f"{asset}: {problem}"))
    gathered.refuse(CollectionInvalid)


def _unknown(kind: str, cluster: ClusterSettings, operations: Path) -> str | None:
    if kind in cluster.gpu_types:
        return None
    if not cluster.gpu_types:
        return f"GPU type '{kind}' is not declared; declare it in {operations}, under cluster.gpu_types"
    return f"unknown GPU type '{kind}'{nearest(kind, [*cluster.gpu_types])} ({operations}, cluster.gpu_types)"


def _place(settings: "CollectionSettings", asset: str) -> Iterator[str | int]:
    from ai_assets.collection.settings import place_of

    for number, stage in enumerate(settings.stages):
        if stage.name == asset:
            yield from ("stages", number)
            return
    yield from next(place_of(name) for name in settings.every_embedding if vectors_asset(name) == asset)
