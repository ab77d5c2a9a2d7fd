"""The job of the collection `notes`, as a step in a process of its own finds it."""

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.orchestration.component import collection_definitions


def job_of_notes() -> dg.JobDefinition:
    home = Home.from_environment()
    return collection_definitions(load_collection(home.project / "collections", "notes")).resolve_job_def("notes")
