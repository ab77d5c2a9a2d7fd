"""The models of `backend: torch` stages: read from their files when a collection loads, without torch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import yaml

from ai_assets.base.errors import Gathered
from ai_assets.base.yaml_settings import line_of
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.settings import CollectionSettings
from ai_assets.collection.stage_windows import is_here
from ai_assets.local_models.errors import ModelUnusable

if TYPE_CHECKING:
    from pathlib import Path

    from ai_assets.stages.classify.local import LocalClassifier


def read_local_classifiers(
    settings: CollectionSettings, path: "Path", node: yaml.Node | None
) -> "Mapping[str, LocalClassifier]":
    """By stage; a folder without a classifier, or one of other labels, is refused with the line that names it."""
    gathered, found = Gathered(), {}
    for number, stage in enumerate(settings.stages):
        if not is_here(stage):
            continue
        from ai_assets.stages.classify.local import local_classifier

        try:
            found[stage.name] = local_classifier(stage, path)
        except ModelUnusable as problem:
            line = line_of(node, "attributes", "stages", number, "model")
            gathered.errors.append(CollectionInvalid(path, line, f"stages.{number}.model: {problem}"))
    gathered.refuse(CollectionInvalid)
    return found
