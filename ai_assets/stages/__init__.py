"""Kinds of stages: what is made of a document.

Most stages of one's own are functions (`ai_assets.stage`). A kind of one's own derives from `PromptStage`, or from
`TextStage` where its answer is text, and is named by `kind: module:name` in defs.yaml.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ai_assets.stages.base import PromptStage
    from ai_assets.stages.generate import TextStage

_PLACES = {"PromptStage": "ai_assets.stages.base", "TextStage": "ai_assets.stages.generate"}
__all__ = ["PromptStage", "TextStage"]


def __getattr__(name: str) -> Any:
    if (module := _PLACES.get(name)) is None:
        raise AttributeError(f"module 'ai_assets.stages' has no attribute '{name}'")
    return getattr(importlib.import_module(module), name)
