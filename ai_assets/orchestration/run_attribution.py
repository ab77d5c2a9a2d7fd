"""Who presses the buttons of Dagster's pages, where a proxy in front of them signs people in.

Dagster itself knows nobody. Its web server hands each run that it launches to this coordinator together with the web
request, and the name that the declared proxy put there becomes a launch ticket for exactly that run. A backfill is
launched later, by the daemon and without any request, so nobody is known to have started it.
"""

import logging
from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.workspace.context import WorkspaceRequestContext

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.home import Home
from ai_assets.collection.partitions import RANGE_END, RANGE_START

PARTITION = "dagster/partition"
_HARMLESS = frozenset({"loggers", "execution"})
"""Parts of a run's configuration that change nothing of what comes of it."""
_log = logging.getLogger("ai_assets.orchestration.run_attribution")


class AttributingRunCoordinator(QueuedRunCoordinator):
    """Dagster's own queue, with a launch ticket for runs of people whom the proxy names."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        run = context.dagster_run
        tags = _ticket(context)
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
            context = context._replace(dagster_run=run.with_tags({**run.tags, **tags}))
        return super().submit_run(context)


def _ticket(context: SubmitRunContext) -> Mapping[str, str]:
    """Nothing where nobody is named, or not by the proxy. A mistake leaves the run without a known author."""
    from ai_assets.desk.proxy import ProxyDoubtful, told
    from ai_assets.desk.settings import load_desk

    scope = _scope(context)
    if scope is None:
        return {}
    home = Home.from_environment()
    try:
        found = told(scope, load_desk(home.desk).sign_in.proxy)
        return {} if found is None else _issued(home, context.dagster_run, found.name)
    except (AiAssetsError, ProxyDoubtful) as error:
        _log.warning("run %s starts without a known author: %s", context.dagster_run.run_id, error)
        return {}


def _scope(context: SubmitRunContext) -> dict[str, Any] | None:
    """Of the web request; the daemon has none."""
    workspace = context.workspace
    source = workspace.source if isinstance(workspace, WorkspaceRequestContext) else None
    scope = getattr(source, "scope", None)
    return scope if isinstance(scope, dict) else None


def _issued(home: Home, run: DagsterRun, name: str) -> Mapping[str, str]:
    from ai_assets.collection.catalog import Catalog
    from ai_assets.documents.source_listing import known_folders
    from ai_assets.signoff import launches, people
    from ai_assets.storage.stores import Stores

    first = run.tags.get(RANGE_START, run.tags.get(PARTITION))
    last = run.tags.get(RANGE_END, first)
    collections = {key.path[0] for key in run.asset_selection or ()} or {run.job_name}
    catalog = Catalog(home)
    if first is None or last is None or len(collections) != 1 or not collections <= set(catalog.entries()):
        return {}
    with Stores.at(home) as stores:
        collection = catalog.load(collections.pop())
        partitions = collection.scheme.select(first, last, known_folders(stores.state, collection.name))
        launcher = launches.Launcher(kind="person", who=people.known_as(name), proof="proxy")
        changes = ["run config"] if set(run.run_config) - _HARMLESS else []
        with stores.state.write() as connection:
            return launches.issue(
                connection, launcher, collection=collection.name, partitions=partitions, run_id=run.run_id,
                changes=changes,
            )  # fmt: skip
