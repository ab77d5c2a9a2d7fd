"""Runs for partitions that waited for a window: asked for within a minute after it has opened."""

from collections.abc import Iterator

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.automation.source_changes import goes_on

INTERVAL_S = 60


def windows(collection: Collection) -> Iterator[dg.SensorDefinition]:
    """Of a collection that may have to wait for a window; none for others."""
    if not collection.windowed:
        return

    @dg.sensor(
        name=f"{collection.name}__windows",
        job_name=collection.name,
        minimum_interval_seconds=INTERVAL_S,
        description="Starts a run for partitions that waited for a window which has opened.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ai_assets.inference.ledger_clock import store_moment
        from ai_assets.planning.backfills import tags_of_waiting
        from ai_assets.run.window_waits import in_words, opened_partitions, waits
        from ai_assets.storage.stores import Stores

        with Stores.at(Home.from_environment()) as stores:
            with stores.state.read() as connection:
                waiting = waits(connection, collection.name)
                tags = tags_of_waiting(connection, collection.name)
            said = in_words(waiting, store_moment(stores.state))
            opened = opened_partitions(collection, stores, waiting)
        if not opened:
            return dg.SkipReason(said)
        return goes_on(
            collection, context, opened, "window opened", sensor="windows", tags=tags, news="a window has opened"
        )

    yield body
