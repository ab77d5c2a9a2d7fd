"""What watches in this deployment and what gates its publications, out of the functions of the library."""

from collections.abc import Sequence

import dagster as dg

from ai_assets.collection.loading import Collection
from ai_assets.orchestration import automation


def of_a_collection(collection: Collection) -> list[dg.SensorDefinition]:
    """Runs when its source changes; publishes what is signed, and nothing else; collects what it asked by batch."""
    watching = [automation.source_changes(collection), automation.publication(collection)]
    return [*watching, *automation.batches(collection)]


def of_all(collections: Sequence[Collection]) -> list[dg.SensorDefinition]:
    """Once: deadlines of requests with their messages, alerts of budgets, canaries of models, costs, what may go."""
    return [
        automation.deadlines(collections),
        automation.budgets(collections),
        automation.canaries(),
        automation.inference_cost(),
        automation.retention(collections),
    ]
