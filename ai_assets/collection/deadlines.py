"""Which assets of a collection have a deadline: a stage its own, and else that of the collection. Pure.

What fixes its tier has none, and so have functions, which ask as they go.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from ai_assets.base.due import DeclaredDeadline
from ai_assets.base.yaml_settings import wrong
from ai_assets.embedding.spec import vectors_asset

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.collection.settings import CollectionSettings


def deadlines_of(settings: "CollectionSettings") -> dict[str, DeclaredDeadline]:
    """By asset."""
    found = {stage.name: stage.deadline for stage in settings.stages if stage.deadline is not None}
    if settings.deadline is None:
        return found
    for stage in settings.stages:
        if stage.route is not None and stage.tier is None:
            found.setdefault(stage.name, settings.deadline)
    for name, embedding in settings.every_embedding.items():
        if embedding.route is not None and embedding.tier is None:
            found[vectors_asset(name)] = settings.deadline
    return found


def levels_after(collection: "Collection", asset: str) -> int:
    """How many assets with a deadline are made one after another from its answers."""
    due = deadlines_of(collection.settings)

    def below(name: str) -> int:
        after = [each for each in collection.asset_names if name in collection.inputs_of(each)]
        wanted = [each for each in after if each not in ("evaluation_scores", "release_candidate")]
        return max((below(each) + (each in due) for each in wanted), default=0)

    return below(asset)


def wrong_deadlines(settings: "CollectionSettings") -> Iterator[PydanticCustomError]:
    yield from settings.wrong_deadline()
    if settings.deadline is not None and not any(
        deadline == settings.deadline for deadline in deadlines_of(settings).values()
    ):
        key = "due" if settings.due is not None else "within"
        yield wrong("nothing of this collection asks a model by a tier of its choice, so nothing can be due", key)
