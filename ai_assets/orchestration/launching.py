"""Starting runs and backfills through Dagster's web server: for the desk, and for `ai-assets backfill` beside `up`."""

from collections.abc import Mapping, Sequence

from ai_assets.base.money import dollars
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START, consecutive
from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import BACKFILL_TAG
from ai_assets.ops.dagster_client import DagsterApi
from ai_assets.orchestration.run_tags import PATIENT, PATIENT_TAG
from ai_assets.planning import backfills
from ai_assets.planning.backfills import Backfill
from ai_assets.signoff import launches
from ai_assets.signoff.launches import Launcher
from ai_assets.storage.stores import Stores


def start_runs(
    collection: Collection,
    stores: Stores,
    api: DagsterApi,
    launcher: Launcher,
    partitions: Sequence[str],
    *,
    patient: bool,
    started: list[str],
) -> None:
    """Runs of the collection's job for these partitions, neighbours together; their ids are added to `started`.

    `patient`: nobody named the partitions, so documents that are not due to be asked about are left alone.
    """
    tags = {PATIENT_TAG: PATIENT} if patient else {}
    order = _registered(collection, stores, partitions)
    for group in consecutive(order, partitions, collection.settings.partitions.per_run):
        with stores.state.write() as connection:
            ticket = launches.issue(connection, launcher, collection=collection.name, partitions=group)
        span = {RANGE_START: group[0], RANGE_END: group[-1]}
        started.append(api.launch_run(collection.name, {**span, **tags, **ticket}))


def start_backfill(
    collection: Collection, stores: Stores, api: DagsterApi, made: Backfill, tags: Mapping[str, str], *, patient: bool
) -> Backfill:
    """Have Dagster run a backfill whose money is set aside. Where it refuses, the money is free again."""
    try:
        _registered(collection, stores, made.partitions)
        dagster_id = api.launch_backfill(
            [(collection.name, asset) for asset in made.assets],
            made.partitions,
            f"{made.backfill}, at most {dollars(usd_of(made.cap_nusd))}",
            {BACKFILL_TAG: made.backfill, **({PATIENT_TAG: PATIENT} if patient else {}), **tags},
        )
    except BaseException:
        backfills.end(stores, made, "failed")
        raise
    backfills.launched(stores, made.backfill, dagster_id)
    with stores.state.read() as connection:
        return backfills.get(connection, made.backfill)


def _registered(collection: Collection, stores: Stores, partitions: Sequence[str]) -> Sequence[str]:
    """All partitions in Dagster's order, which must know of folders before it runs them."""
    if collection.settings.partitions.by != "folder":
        return collection.scheme.keys()
    from ai_assets.orchestration.instance import instance
    from ai_assets.orchestration.sources import register_folders

    with instance(stores.home) as dagster:
        register_folders(collection, dagster, partitions)
        return dagster.get_dynamic_partitions(collection.scheme.dynamic_name)
