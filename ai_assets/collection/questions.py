"""What a collection asks models: prompt files, schemas, routes and examples, read with file and line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ai_assets.base.errors import Gathered
from ai_assets.base.yaml_settings import line_of, nearest
from ai_assets.collection.embeddings import Models
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.settings import CollectionSettings, EmbeddingSettings, place_of
from ai_assets.evaluation.golden import GoldenLabel
from ai_assets.stages.base import BATCH, PromptStage
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.stages.schema import SchemaWrong
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.records import RequestKind
    from ai_assets.inference.settings import InferenceSettings
    from ai_assets.stages.llm import Question
    from ai_assets.stages.prompt import Prompt, Variables

Declared = Callable[[], "InferenceSettings"]
"""The routes there are; called only where a stage has one."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A stage in the file that declares it."""

    path: Path
    node: yaml.Node | None
    number: int

    def wrong(self, problem: str, *at: str | int) -> CollectionInvalid:
        location = ("stages", self.number, *at)
        where = ".".join(str(part) for part in location)
        return CollectionInvalid(self.path, line_of(self.node, "attributes", *location), f"{where}: {problem}")


def read_questions(
    settings: CollectionSettings,
    path: Path,
    node: yaml.Node | None,
    golden: Sequence[GoldenLabel] | None,
    inference: Declared,
) -> Mapping[str, "Question"]:
    """By stage, for the stages that have a route. `golden` is None where the file of golden labels is wrong."""
    asking = [
        (number, stage)
        for number, stage in enumerate(settings.stages)
        if isinstance(stage, PromptStage) and stage.route is not None
    ]
    if not asking:
        return {}
    from ai_assets.stages.llm import Question

    gathered = Gathered()
    declared = gathered.attempt(None, inference)
    found = {}
    for number, stage in asking:
        place = _Place(path=path, node=node, number=number)
        prompt = gathered.attempt(None, _prompt, settings, stage, place)
        schema = gathered.attempt(None, _schema, stage, place)
        models = () if declared is None else gathered.attempt((), _models, declared, stage, place)
        examples = () if golden is None else gathered.attempt((), _examples, settings, stage, golden, place)
        if prompt is not None:
            found[stage.name] = Question(stage=stage, prompt=prompt, schema=schema, models=models, examples=examples)
    gathered.refuse(CollectionInvalid)
    return found


def read_function_models(
    settings: CollectionSettings, path: Path, node: yaml.Node | None, inference: Declared
) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """By stage that is a function and asks: address and model of each endpoint."""
    found, gathered = {}, Gathered()
    for number, stage in enumerate(settings.stages):
        if isinstance(stage, FunctionStage) and stage.models is not None:
            place = _Place(path=path, node=node, number=number)
            found[stage.name] = gathered.attempt((), _function_models, inference, stage.models, stage.tier, place)
            for prompt in stage.spec.prompts:
                if not (path.parent / prompt).is_file():
                    problem = f"its function names the prompt {path.parent / prompt}, which does not exist"
                    gathered.errors.append(place.wrong(problem))
    gathered.refuse(CollectionInvalid)
    return found


def _function_models(inference: Declared, route: str, tier: str | None, place: _Place) -> tuple[tuple[str, str], ...]:
    declared = inference()
    endpoints = endpoints_of(declared, route)
    if isinstance(endpoints, str):
        raise place.wrong(endpoints, "route")
    if tier is not None and (problem := _unpriced(declared, route, tier)) is not None:
        raise place.wrong(problem, "tier")
    return endpoints


def read_embedding_models(
    settings: CollectionSettings, path: Path, node: yaml.Node | None, inference: Declared
) -> dict[str, Models]:
    """By name of the embedding on a route: one model each, because vectors of two cannot be compared."""
    gathered = Gathered()
    found = {
        name: gathered.attempt((), _embedding_models, each, each.route, path, node, inference, place_of(name))
        for name, each in settings.every_embedding.items()
        if each.route is not None
    }
    gathered.refuse(CollectionInvalid)
    return found


def _embedding_models(
    declared: EmbeddingSettings,
    route: str,
    path: Path,
    node: yaml.Node | None,
    inference: Declared,
    at: tuple[str, ...],
) -> Models:
    found = endpoints_of(inference(), route)
    if not isinstance(found, str):
        models = sorted({model for _, model in found})
        if declared.shorten and (problem := _never_shorter(inference(), route)) is not None:
            raise CollectionInvalid(
                path, line_of(node, "attributes", *at, "shorten"), f"{'.'.join(at)}.shorten: {problem}"
            )
        tier = declared.tier
        if tier is not None and (problem := _unpriced(inference(), route, tier, "embedding")) is not None:
            raise CollectionInvalid(path, line_of(node, "attributes", *at, "tier"), f"{'.'.join(at)}.tier: {problem}")
        if len(models) == 1:
            return found
        found = f"route '{route}' leads to {' and '.join(models)}, and vectors of different models cannot be compared"
    raise CollectionInvalid(path, line_of(node, "attributes", *at, "route"), f"{'.'.join(at)}.route: {found}")


def _never_shorter(inference: "InferenceSettings", route: str) -> str | None:
    from ai_assets.inference.routes import names_of
    from ai_assets.protocols.registry import known

    for name in names_of(inference, route):
        spoken = inference.endpoints[name].protocol
        if (protocol := known(spoken)) is not None and not protocol.shortens:
            return f"endpoint '{name}' speaks '{spoken}', which cannot ask for shorter vectors; leave 'shorten' out"
    return None


def _prompt(settings: CollectionSettings, stage: PromptStage, place: _Place) -> "Prompt":
    from ai_assets.stages.prompt import default_prompt, load_prompt

    variables = _variables(settings, stage)
    if stage.prompt is None:
        return default_prompt(stage.own_prompt, variables)
    path = place.path.parent / stage.prompt
    if not path.is_file():
        raise place.wrong(f"the prompt file {path} does not exist", "prompt")
    return load_prompt(path, stage.own_prompt, variables)


def _variables(settings: CollectionSettings, stage: PromptStage) -> "Variables":
    from ai_assets.stages.prompt import Variables

    stages = {item.name: item for item in settings.stages}
    offered = {name: stages[name].columns.offered for name in stage.upstream}
    return Variables(given=stage.prompt_values(), stages=stage.offers(offered))


def _schema(stage: PromptStage, place: _Place) -> Mapping[str, Json] | None:
    try:
        return stage.answer_schema(place.path.parent)
    except SchemaWrong as error:
        raise place.wrong(str(error), *error.at) from error


def _models(declared: "InferenceSettings", stage: PromptStage, place: _Place) -> tuple[tuple[str, str], ...]:
    found = endpoints_of(declared, stage.route or "")
    if isinstance(found, str):
        raise place.wrong(found, *(("route",) if "route" in stage.model_fields_set else ()))
    if stage.tier is not None and (problem := _unpriced(declared, stage.route or "", stage.tier)) is not None:
        raise place.wrong(problem, "tier")
    if stage.asks_labels and (name := _raw_scored(declared, stage.route or "")) is not None:
        said = f"endpoint '{name}' of inference.yaml has the option raw_scores: true, and a label's confidence is a"
        raise place.wrong(f"{said} probability; take that option away", "route")
    if stage.judges is not None and len(models := sorted({model for _, model in found})) > 1:
        said = f"route '{stage.route}' leads to {' and '.join(models)}, and a judge is one model"
        raise place.wrong(f"{said}; name an endpoint, or a route to one model", "route")
    return found


def _unpriced(declared: "InferenceSettings", route: str, tier: str, kind: "RequestKind" = "chat") -> str | None:
    """Why its calls cannot be asked at this tier."""
    from ai_assets.inference.errors import BatchUndeclared
    from ai_assets.inference.routes import names_of

    names = names_of(declared, route)
    if tier == BATCH:
        taken = any(declared.endpoints[name].has_batches_of(kind) for name in names)
        return None if taken else str(BatchUndeclared(route, names, kind))
    for name in names:
        if (problem := declared.endpoints[name].unpriced(tier)) is not None:
            return f"endpoint '{name}' of inference.yaml: {problem}"
    return None


def _raw_scored(declared: "InferenceSettings", route: str) -> str | None:
    """An endpoint whose scores are no probabilities."""
    from ai_assets.inference.routes import names_of

    return next(
        (name for name in names_of(declared, route) if declared.endpoints[name].options.get("raw_scores")), None
    )


def endpoints_of(declared: "InferenceSettings", route: str) -> tuple[tuple[str, str], ...] | str:
    """Address and model of each in order, or what is wrong."""
    from ai_assets.inference.errors import InferenceMissing
    from ai_assets.inference.identity import model_of
    from ai_assets.inference.routes import names_of

    names = names_of(declared, route)
    if not names and declared.missing is not None:
        return f"unknown route '{route}': {InferenceMissing(declared.missing)}"
    if not names:
        known = [*declared.routes, *declared.endpoints]
        hint = nearest(route, known) if known else "; inference.yaml declares none"
        return f"unknown route or endpoint '{route}'{hint}"
    return tuple(model_of(declared.endpoints[name]) for name in names)


def _examples(
    settings: CollectionSettings, stage: PromptStage, golden: Sequence[GoldenLabel], place: _Place
) -> tuple[GoldenLabel, ...]:
    """Golden labels by the id of their document."""
    if not isinstance(stage, ClassifyStage) or not stage.examples:
        return ()
    if not golden or settings.golden.labels_stage not in (None, stage.name):
        of = f"those of this collection are for '{settings.golden.labels_stage}'" if golden else "there are none"
        raise place.wrong(f"examples are golden labels of this stage, and {of}", "examples")
    known, gathered = {item.document: item for item in golden}, Gathered()
    for number, name in enumerate(stage.examples):
        if name in stage.examples[:number]:
            gathered.errors.append(place.wrong(f"'{name}' is here already", "examples", number))
        elif name not in known:
            hint = nearest(name, list(known), "see the file of golden labels")
            gathered.errors.append(place.wrong(f"no golden label for document '{name}'{hint}", "examples", number))
    gathered.refuse(CollectionInvalid)
    if len(stage.examples) == len(known):
        raise place.wrong("all golden labels are used as examples, and none is left to judge with", "examples")
    return tuple(known[name] for name in stage.examples)
