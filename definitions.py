"""The code location: every collection below `collections/`, what watches them, and the resources of your own assets."""

from pathlib import Path

import dagster as dg

from ai_assets import collection_definitions, cost_definitions, load_collections
from ai_assets.orchestration.automation import nightly
from ai_assets.orchestration.executor import run_executor
from resources import RESOURCES
from sensors import of_a_collection, of_all

COLLECTIONS = load_collections(Path(__file__).parent / "collections")

defs = dg.Definitions.merge(
    *(collection_definitions(collection) for collection in COLLECTIONS),
    cost_definitions(),
    dg.Definitions(
        resources=RESOURCES,
        schedules=[schedule for collection in COLLECTIONS for schedule in nightly(collection)],
        sensors=[
            *(sensor for collection in COLLECTIONS for sensor in of_a_collection(collection)),
            *of_all(COLLECTIONS),
        ],
        executor=run_executor(),
    ),
)
