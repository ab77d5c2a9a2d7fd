"""The code location: every collection below `collections/`, and what watches them."""

from pathlib import Path

import dagster as dg

from ai_assets import collection_definitions, load_collections
from ai_assets.orchestration.automation import (
    budgets,
    deadlines,
    inference_cost,
    nightly,
    publication,
    retention,
    source_changes,
)
from ai_assets.orchestration.inference_cost import cost_assets, costs_job

COLLECTIONS = load_collections(Path(__file__).parent / "collections")

defs = dg.Definitions.merge(
    *(collection_definitions(collection) for collection in COLLECTIONS),
    dg.Definitions(
        assets=cost_assets(),
        jobs=[costs_job()],
        executor=dg.in_process_executor,
        schedules=[schedule for collection in COLLECTIONS for schedule in nightly(collection)],
        sensors=[
            *(source_changes(collection) for collection in COLLECTIONS),
            *(publication(collection) for collection in COLLECTIONS),
            deadlines(COLLECTIONS),
            budgets(COLLECTIONS),
            inference_cost(),
            retention(COLLECTIONS),
        ],
    ),
)
