"""Asset-centric lineage pipelines for AI document work.

Dagster is imported when one of these names is first used: commands that only read do without it.
"""

import gc
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_assets.orchestration.component import DocumentCollection, collection_definitions, load_collections

__all__ = ["DocumentCollection", "collection_definitions", "load_collections"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'ai_assets' has no attribute '{name}'")
    import dagster as _dagster  # noqa: F401

    gc.freeze()  # its modules stay for good: looking for garbage among them takes a third of the time that ours take
    from ai_assets.orchestration import component

    return getattr(component, name)


def __dir__() -> list[str]:
    return __all__
