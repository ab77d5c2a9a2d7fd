"""Which ceilings a collection has: what may be declared, and which asset each of them is of. Pure."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from ai_assets.base.yaml_settings import Strict, nearest, wrong
from ai_assets.embedding.spec import vectors_asset
from ai_assets.evaluation.ceilings import OF_ASKING, OF_EACH_STAGE, Ceiling
from ai_assets.stages.base import PromptStage
from ai_assets.stages.function_kind import FunctionStage

if TYPE_CHECKING:
    from ai_assets.collection.settings import CollectionSettings


class CeilingSettings(Strict, Ceiling):
    """A ceiling; a key it does not know is refused with the nearest one."""


def declared_ceilings(settings: "CollectionSettings") -> list[tuple[int, CeilingSettings]]:
    """With their places among the gates."""
    return [(number, gate) for number, gate in enumerate(settings.gates) if isinstance(gate, CeilingSettings)]


def ceilings_of(settings: "CollectionSettings") -> tuple[Ceiling, ...]:
    """One that is of each stage that asks a model, by stage; one that names the stage stands before it."""
    declared = [gate for _, gate in declared_ceilings(settings)]
    named = {(gate.measure, gate.at, gate.stage) for gate in declared}
    found: list[Ceiling] = []
    for gate in declared:
        if gate.stage is not None or gate.measure not in OF_EACH_STAGE:
            found.append(gate)
            continue
        stages = _measurable(settings, gate)
        found += [gate.model_copy(update={"stage": n}) for n in stages if (gate.measure, gate.at, n) not in named]
    return tuple(found)


def asset_of(ceiling: Ceiling) -> str:
    """Whose check it is part of."""
    if ceiling.stage is not None:
        return ceiling.stage
    return "documents" if ceiling.measure == "quarantine_share" else "release_candidate"


def wrong_ceilings(settings: "CollectionSettings") -> Iterator[PydanticCustomError]:
    names: list[str] = []
    for number, gate in declared_ceilings(settings):
        at = ("gates", number)
        known = _measurable(settings, gate)
        if gate.name in names:
            yield wrong(f"the gate '{gate.name}' is here already", *at)
        names.append(gate.name)
        if gate.measure in OF_ASKING and not known:
            batch = ", whose answers do not come by batch" if gate.measure == "p95_latency_s" else ""
            problem = f"the gate on {gate.measure} needs a stage that asks a model{batch}, and there is none"
            yield wrong(problem, *at, "measure")
        elif gate.stage is not None and gate.stage not in known:
            if gate.measure == "p95_latency_s" and gate.stage in _asking(settings, with_vectors=True):
                problem = f"answers of '{gate.stage}' come by batch, which takes as long as it takes"
            elif gate.measure in OF_ASKING:
                problem = f"'{gate.stage}' is no stage that asks a model{nearest(gate.stage, known)}"
            else:
                problem = f"unknown stage '{gate.stage}'{nearest(gate.stage, known) if known else '; there is none'}"
            yield wrong(problem, *at, "stage")


def _measurable(settings: "CollectionSettings", gate: Ceiling) -> list[str]:
    """What its `stage` may be."""
    if gate.measure == "quarantine_share":
        return [stage.name for stage in settings.stages]
    asking = _asking(settings, with_vectors=gate.measure != "unanswered_share")
    return [name for name, by_batch in asking.items() if not by_batch or gate.measure != "p95_latency_s"]


def _asking(settings: "CollectionSettings", *, with_vectors: bool) -> dict[str, bool]:
    """The assets that ask a model, and whether their answers come by batch."""
    found = {
        stage.name: isinstance(stage, PromptStage) and stage.by_batch
        for stage in settings.stages
        if stage.route is not None or (isinstance(stage, FunctionStage) and stage.models is not None)
    }
    if with_vectors:
        routed = {name: each for name, each in settings.every_embedding.items() if each.route is not None}
        found |= {vectors_asset(name): each.tier == "batch" for name, each in routed.items()}
    return found
