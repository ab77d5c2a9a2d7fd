"""The segment: one subsettable op for the whole chain from documents to release candidate.

A run takes many partitions and gives each its own events, so a backfill of 30 days is a few runs.
"""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

import dagster as dg

from ai_assets.assets.events import check_evaluation, materialization, source_observation
from ai_assets.assets.specs import asset_spec, check_specs
from ai_assets.collection import Collection
from ai_assets.errors import ChecksAlone, PartitionsFailed
from ai_assets.signoff.authors import LAUNCHED_BY_TAG
from resources.errors import UserError
from resources.settings import Home

if TYPE_CHECKING:
    from ai_assets.refresh import Event

Watcher = Callable[["Event"], None]
watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
"""Sees every event of a run in this process; the command line draws its table from it."""
bars: ContextVar[Callable[[str, str, int, int], None] | None] = ContextVar("bars", default=None)
"""Sees progress of a run in this process: asset, partition, done, total."""


def segment(collection: Collection) -> dg.AssetsDefinition:
    """The op of a collection. It must stay a generator: a plain return would emit outputs that replace its events."""
    specs = [asset_spec(collection, asset) for asset in collection.asset_names]

    @dg.multi_asset(
        name=f"{collection.name}__segment",
        specs=specs,
        check_specs=check_specs(collection),
        can_subset=True,
        partitions_def=collection.scheme.definition(),
        backfill_policy=dg.BackfillPolicy.multi_run(collection.settings.partitions.per_run),
    )
    def body(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        from ai_assets.refresh import refresh
        from ai_assets.work import Outcome, Stores, Work

        selected = [key.path[-1] for key in context.selected_asset_keys]
        chosen_checks = {(key.asset_key.path[-1], key.name) for key in context.selected_asset_check_keys}
        if not selected:
            raise failure(ChecksAlone(collection.name))
        try:
            with Work(
                collection,
                Stores.at(Home.from_environment()),
                context.run.run_id,
                say=context.log.info,
                launched_by=context.run.tags.get(LAUNCHED_BY_TAG),
                advance=bars.get() or (lambda *_progress: None),
            ) as work:
                for event in refresh(work, context.partition_keys, selected):
                    if (watch := watcher.get()) is not None:
                        watch(event)
                    if isinstance(event, Outcome):
                        if event.manifest.asset == "documents" and not event.unchanged:
                            context.log_event(source_observation(collection, event))
                        yield materialization(collection, event, context.instance)
                    elif (event.asset, event.name) in chosen_checks:
                        yield check_evaluation(collection, event, context.instance)
        except (PartitionsFailed, UserError) as error:
            raise failure(error) from None

    return body


def failure(error: Exception) -> dg.Failure:
    """What no retry can mend. Raise it `from None`: the run page shows a cause as one more traceback."""
    failed = {"failed": dg.MetadataValue.json(error.errors)} if isinstance(error, PartitionsFailed) else {}
    return dg.Failure(str(error), metadata=failed, allow_retries=False)
