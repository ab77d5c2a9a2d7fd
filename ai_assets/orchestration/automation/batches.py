"""Batches at a provider: their results are collected each minute, and the runs that go on are asked for."""

from collections.abc import Iterator

import dagster as dg

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.automation.source_changes import goes_on

INTERVAL_S = 60
WITHIN_S = 30.0
"""A tick of a sensor may take a minute; what is left is read by the next one."""


def batches(collection: Collection) -> Iterator[dg.SensorDefinition]:
    """Of a collection that asks models: one that asks them one by one may wait for money that batches have."""
    if not collection.asks_models:
        return

    @dg.sensor(
        name=f"{collection.name}__batches",
        job_name=collection.name,
        minimum_interval_seconds=INTERVAL_S,
        description="Collects the results of batches, and starts a run for partitions all of whose batches have ended.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ai_assets.collection.catalog import Catalog
        from ai_assets.inference.batch.collecting import Collector
        from ai_assets.planning.backfills import tags_of_waiting
        from ai_assets.run.status import answered_partitions
        from ai_assets.storage.stores import Stores
        from ai_assets.telemetry.command_span import batches_told

        with Stores.at(Home.from_environment()) as stores:
            try:
                settings = Catalog(stores.home).inference_of(collection.name)
            except DeclarationInvalid as error:
                return dg.SkipReason(str(error))
            with (
                batches_told(lambda line: context.log.warning(printable(line))) as told,
                Collector(settings, stores.state, listener=told) as collector,
            ):
                found = collector.collect(collection.name, within_s=WITHIN_S)
            answered = answered_partitions(collection, stores)
            with stores.state.read() as connection:
                tags = tags_of_waiting(connection, collection.name)
        if not answered:
            return dg.SkipReason(found.in_words)
        return goes_on(
            collection, context, answered, "batch answered", sensor="batches", tags=tags, news=found.in_words
        )

    yield body
