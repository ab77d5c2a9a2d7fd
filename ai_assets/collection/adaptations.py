"""The files that stages declare by `adapted`: read and checked when a collection loads."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import yaml

from ai_assets.base.errors import Gathered
from ai_assets.base.yaml_settings import line_of
from ai_assets.collection.builtins import VERSIONS
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.settings import CollectionSettings
from ai_assets.embedding.spec import builtin_embedding
from ai_assets.stages.classify.adaptation import Adaptation, AdaptationUnusable, labels_digest, read_adaptation
from ai_assets.stages.classify.kind import ClassifyStage

_passed_over: ContextVar[bool] = ContextVar("adaptations_passed_over", default=False)


@contextmanager
def unusable_passed_over() -> Iterator[None]:
    """Within the block a file that does not fit is ignored: for the command that replaces it."""
    token = _passed_over.set(True)
    try:
        yield
    finally:
        _passed_over.reset(token)


def read_adaptations(
    settings: CollectionSettings, folder: Path, path: Path, node: yaml.Node | None
) -> Mapping[str, Adaptation]:
    """By stage; a file of other labels or vectors, or one that was edited, is refused with the line that names it."""
    gathered, found = Gathered(), {}
    for number, stage in enumerate(settings.stages):
        if not isinstance(stage, ClassifyStage) or stage.adapted is None:
            continue
        file = folder / stage.adapted
        try:
            found[stage.name] = usable_adaptation(file, stage)
        except AdaptationUnusable as problem:
            if _passed_over.get():
                continue
            line = line_of(node, "attributes", "stages", number, "adapted")
            remedy = f"Make it anew: ai-assets adapt {folder.name} --stage {stage.name}"
            said = f"adaptation {file} of stage '{stage.name}' cannot be used: {problem}. {remedy}; or remove 'adapted'"
            gathered.errors.append(CollectionInvalid(path, line, said))
    gathered.refuse(CollectionInvalid)
    return found


def usable_adaptation(file: Path, stage: ClassifyStage) -> Adaptation:
    """Raises AdaptationUnusable where it does not belong to the stage as it is."""
    found = read_adaptation(file)
    if found.stage != stage.name:
        raise AdaptationUnusable(f"it was fitted for stage '{found.stage}'")
    if found.classifier not in VERSIONS["classifier"]:
        raise AdaptationUnusable(f"it was fitted to version {found.classifier} of the classifier, which is not here")
    found.require_fit(labels_of(stage), stage.names, embedder_space())
    return found


def labels_of(stage: ClassifyStage) -> str:
    return labels_digest([(label.name, label.description) for label in stage.labels])


def embedder_space() -> dict[str, Any]:
    """Of the vectors that the built-in classifier compares, whatever the collection's own are."""
    built_in = builtin_embedding()
    return {"name": built_in.model, "version": built_in.version, "dimensions": built_in.dimensions}
