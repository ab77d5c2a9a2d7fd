"""A collection that was published twice, for claims about readers of what is live."""

from conftest import Project
from signing import decide, known

from ai_assets.collection.loading import Collection, load_collection
from ai_assets.signoff.publication import publish

DAY, OTHER = "2026-10-05", "2026-10-06"
FIRST = f"{DAY}/0.txt"


def published_twice(project: Project) -> Collection:
    """Release 2 differs from 1 in one document."""
    collection = load_collection(project.root / "collections", "notes")
    state = project.stores().state
    known(state)
    decide(state, collection)
    publish(collection, project.stores(), by="ann")
    project.edit(collection, FIRST, "An invoice about a heron: the total due is 9.00, payment terms 30 days.")
    decide(state, collection)
    publish(collection, project.stores(), by="ann")
    return collection
