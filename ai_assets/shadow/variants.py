"""The variants of a shadow: the collection as it would be with another prompt or route of one stage."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ai_assets.base.yaml_settings import nearest
from ai_assets.collection.loading import Collection
from ai_assets.collection.questions import endpoints_of
from ai_assets.inference.settings import DEFAULT_TIER, InferenceSettings
from ai_assets.planning.changes import ChangeInvalid, changed_collection
from ai_assets.shadow.errors import ShadowRefused, VariantUnusable
from ai_assets.shadow.spec import VariantSpec
from ai_assets.stages.base import PromptStage
from ai_assets.stages.llm import Question
from ai_assets.storage.digest import sha256_hex


@dataclass(frozen=True, kw_only=True)
class WantedVariant:
    """As it was asked for."""

    name: str
    prompt: Path | None = None
    route: str | None = None


@dataclass(frozen=True, kw_only=True)
class Variant:
    spec: VariantSpec
    promoted: Collection
    """As the declaration would be."""
    asking: Collection
    """The same, asked at once: without a deadline, and not by batch. It asks the very same questions."""

    def question(self, stage: str) -> Question:
        return self.asking.questions[stage]


def comparable_stage(collection: Collection, name: str) -> PromptStage:
    """The stage of that name, whose questions can be put together with another prompt or route."""
    stage = next((each for each in collection.stages if each.name == name), None)
    able = [each.name for each in collection.stages if isinstance(each, PromptStage) and each.route is not None]
    if stage is None:
        hint = nearest(name, able, "none of its stages asks a model")
        raise ShadowRefused(collection.name, name, f"there is no such stage{hint}")
    if stage.name not in able or not isinstance(stage, PromptStage):
        asks = "it is a function, whose questions are known when it has asked them"
        found = asks if stage.kind_name == "function" else "it asks no model (it has no 'route')"
        others = f"; stages that can be compared: {', '.join(able)}" if able else ""
        raise ShadowRefused(collection.name, name, f"{found}{others}")
    return stage


def wanted_variants(prompts: Sequence[str], routes: Sequence[str], named: Sequence[str]) -> list[WantedVariant]:
    """Of `--prompt FILE`, `--route NAME` and `--variant NAME=FILE`; one prompt and one route alone go together."""
    if len(prompts) == len(routes) == 1 and not named:
        return [WantedVariant(name=Path(prompts[0]).stem, prompt=Path(prompts[0]), route=routes[0])]
    found = [WantedVariant(name=Path(each).stem, prompt=Path(each)) for each in prompts]
    found += [WantedVariant(name=each, route=each) for each in routes]
    for each in named:
        name, equals, file = each.partition("=")
        if not equals or not name.strip() or not file.strip():
            raise VariantUnusable(each, "write NAME=FILE, such as short=prompts/short.md")
        found.append(WantedVariant(name=name.strip(), prompt=Path(file.strip())))
    for number, variant in enumerate(found):
        if any(variant.name == other.name for other in found[:number]):
            raise VariantUnusable(variant.name, "there are two of that name; name them with --variant NAME=FILE")
    return found


def variant_of(
    collection: Collection, stage: PromptStage, wanted: WantedVariant, inference: InferenceSettings
) -> Variant:  # fmt: skip
    changes: list[str] = []
    path = None if wanted.prompt is None else _file(collection, wanted)
    if path is not None:
        changes.append(f"{stage.name}.prompt={json.dumps(str(path))}")
    if wanted.route is not None:
        endpoints = endpoints_of(inference, wanted.route)
        if isinstance(endpoints, str):
            raise VariantUnusable(wanted.name, endpoints)
        changes.append(f"{stage.name}.route={json.dumps(wanted.route)}")
    at_once = [f"{stage.name}.tier={DEFAULT_TIER}"] if stage.by_batch else []
    at_once += [f"{stage.name}.{key}=null" for key in ("due", "within") if getattr(stage, key) is not None]
    try:
        promoted = changed_collection(collection, changes)
        asking = changed_collection(collection, [*changes, *at_once]) if at_once else promoted
    except ChangeInvalid as error:
        raise VariantUnusable(wanted.name, str(error.__cause__ or error)) from error
    question = promoted.questions[stage.name]
    if question.identity_digest == collection.questions[stage.name].identity_digest:
        raise VariantUnusable(wanted.name, f"it asks what stage '{stage.name}' of {collection.name} asks now")
    spec = VariantSpec(
        name=wanted.name,
        prompt=None if path is None else str(path),
        prompt_digest="" if path is None else digest_of(path),
        version=question.prompt.version,
        route=wanted.route,
        models=tuple(model for _, model in question.models),
    )
    return Variant(spec=spec, promoted=promoted, asking=asking)


def digest_of(path: Path) -> str:
    return sha256_hex(path.read_bytes())


def _file(collection: Collection, wanted: WantedVariant) -> Path:
    """Where the command is given, or in the folder of the collection."""
    assert wanted.prompt is not None
    for path in (wanted.prompt, collection.folder / wanted.prompt):
        if path.is_file():
            return path.resolve()
    places = f"{wanted.prompt.absolute()} nor {collection.folder / wanted.prompt}"
    raise VariantUnusable(wanted.name, f"there is no such file: neither {places}")


def declared_file(collection: Collection, stage: PromptStage) -> Path:
    """Of its prompt as it is."""
    return stage.own_prompt if stage.prompt is None else collection.folder / stage.prompt


def require_any(wanted: Sequence[WantedVariant], collection: Collection, stage: str) -> None:
    if not wanted:
        said = "say what is compared: --prompt FILE, --route ROUTE or --variant NAME=FILE"
        raise ShadowRefused(collection.name, stage, said)
