"""Dagster assets for AI document pipelines: traced to their bytes, their model, their cost and the person who signed.

These names are the public surface; each is imported when it is first used, Dagster with those that need it.
"""

import gc
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer, Caller, Request, Unanswered
    from ai_assets.orchestration.component import (
        DocumentCollection,
        collection_automation,
        collection_definitions,
        cost_definitions,
        load_collections,
        shared_definitions,
    )
    from ai_assets.orchestration.gpu_resource import GPUResource
    from ai_assets.orchestration.llm_resource import LLMResource
    from ai_assets.reading.published import Published, live
    from ai_assets.signed_asset.definitions import signed
    from ai_assets.stages.function import Document, Quarantine, Stage, stage

_WITH_DAGSTER = {
    "DocumentCollection": "ai_assets.orchestration.component",
    "GPUResource": "ai_assets.orchestration.gpu_resource",
    "LLMResource": "ai_assets.orchestration.llm_resource",
    "collection_automation": "ai_assets.orchestration.component",
    "collection_definitions": "ai_assets.orchestration.component",
    "cost_definitions": "ai_assets.orchestration.component",
    "load_collections": "ai_assets.orchestration.component",
    "shared_definitions": "ai_assets.orchestration.component",
    "signed": "ai_assets.signed_asset.definitions",
}
_WITHOUT = {
    "Answer": "ai_assets.inference.records",
    "Caller": "ai_assets.inference.records",
    "Document": "ai_assets.stages.function",
    "Published": "ai_assets.reading.published",
    "Quarantine": "ai_assets.stages.function",
    "Stage": "ai_assets.stages.function",
    "stage": "ai_assets.stages.function",
    "Request": "ai_assets.inference.records",
    "Unanswered": "ai_assets.inference.records",
    "live": "ai_assets.reading.published",
}
__all__ = [
    "Answer",
    "Caller",
    "Document",
    "DocumentCollection",
    "GPUResource",
    "LLMResource",
    "Published",
    "Quarantine",
    "Request",
    "Stage",
    "Unanswered",
    "collection_automation",
    "collection_definitions",
    "cost_definitions",
    "live",
    "load_collections",
    "shared_definitions",
    "signed",
    "stage",
]


def __getattr__(name: str) -> Any:
    if module := _WITHOUT.get(name):
        return getattr(importlib.import_module(module), name)
    if not (module := _WITH_DAGSTER.get(name)):
        raise AttributeError(f"module 'ai_assets' has no attribute '{name}'")
    import dagster as _dagster  # noqa: F401

    gc.freeze()  # its modules stay for good: looking for garbage among them takes a third of the time that ours take
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return __all__
