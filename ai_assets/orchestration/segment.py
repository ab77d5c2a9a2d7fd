"""The segment: one subsettable op for the whole chain from documents to release candidate.

A run takes many partitions and gives each its own events, so a backfill of 30 days is a few runs.
"""

import time
from collections.abc import Collection as Collection_
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.metadata import normalize_metadata

from ai_assets.base.environment import CLUSTER
from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.base.printable import printable
from ai_assets.base.structured_log import log_fields
from ai_assets.collection.loading import Collection
from ai_assets.lineage.configured import is_configured as lineage_configured
from ai_assets.orchestration.errors import ChecksAlone
from ai_assets.orchestration.events import (
    batch_observation,
    check_evaluation,
    corrections_observation,
    materialization,
    source_observation,
    window_observation,
)
from ai_assets.orchestration.in_flight_log import in_flight_told
from ai_assets.orchestration.op_settings import op_settings, tried_once
from ai_assets.orchestration.run_tags import PATIENT, PATIENT_TAG, priority_of, workers_of
from ai_assets.orchestration.specs import asset_spec, check_specs
from ai_assets.run.errors import PartitionsFailed
from ai_assets.telemetry.endpoints import is_configured

if TYPE_CHECKING:
    from ai_assets.run.context import Outcome, Work
    from ai_assets.run.hand_over import RunPart
    from ai_assets.run.sinks import Sink, Sinks
    from ai_assets.run.total import Counted
    from ai_assets.signoff.launches import Launch
    from ai_assets.storage.stores import Stores
    from ai_assets.telemetry.opening import RunTelemetry

TOTAL_TAG = "ai_assets/total"
"""Of a run: what came of it, in words."""
COST_TAG = "ai_assets/cost_usd"
"""Of a run: the dollars that its calls cost, all assets and partitions together."""


Made = dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.Output[None]


def segment(collection: Collection) -> dg.AssetsDefinition:
    """The op of a collection. It must stay a generator: a plain return would emit outputs that replace its events."""
    specs = [asset_spec(collection, asset) for asset in collection.asset_names]
    settings = op_settings(collection, collection.steps[0])

    @dg.multi_asset(
        name=f"{collection.name}__segment",
        specs=specs,
        check_specs=check_specs(collection),
        can_subset=True,
        partitions_def=collection.scheme.definition(),
        backfill_policy=dg.BackfillPolicy.multi_run(collection.settings.partitions.per_run),
        pool=settings.pool,
        op_tags=settings.tags,
        retry_policy=settings.retries,
    )
    def body(
        context: dg.AssetExecutionContext,
    ) -> Iterator[Made]:
        selected = [key.path[-1] for key in context.selected_asset_keys]
        chosen_checks = {(key.asset_key.path[-1], key.name) for key in context.selected_asset_check_keys}
        if not selected:
            raise failure(ChecksAlone(collection.name))
        with tried_once(settings), log_fields(collection=collection.name, tenant=collection.settings.tenant):
            yield from computed(context, collection, selected, chosen_checks)
            yield from _checks_done(context)

    return body


def computed(
    context: dg.AssetExecutionContext,
    collection: Collection,
    selected: Sequence[str],
    chosen_checks: Collection_[tuple[str, str]],
    part: "RunPart | None" = None,
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """What a run, or one step of it, makes; what no retry can mend is a Failure."""
    from ai_assets.inference.records import BACKFILL_TAG
    from ai_assets.run.context import Outcome, Work
    from ai_assets.run.events import BatchAwaited, WindowAwaited
    from ai_assets.run.refresh import refresh
    from ai_assets.storage.stores import Stores

    try:
        stores = Stores.of_run(Home.from_environment())
        with (
            _total_told(context, stores, collection, part) as counted,
            traced(context, collection) as (telemetry, spans),
            lineage(context, stores, collection) as lineages,
            heard(context, stores.home, counted, *spans, *lineages) as sinks,
            in_flight_told(context, stores.state) if collection.asks_models else nullcontext(),
            Work(
                collection,
                stores,
                context.run.run_id,
                sinks=sinks,
                launch=launch_of(context, stores, context.run, collection.name, context.partition_keys),
                backfill=context.run.tags.get(BACKFILL_TAG, ""),
                priority=priority_of(context.run.tags),
                workers=workers_of(context.run.tags),
                patient=context.run.tags.get(PATIENT_TAG) == PATIENT,
                halvings=_halvings(stores, collection, part),
                call_listener=telemetry.calls if telemetry is not None else None,
                trace=telemetry.root if telemetry is not None else None,
            ) as work,
        ):
            corrected = {key for key in context.partition_keys if work.corrections.concern(key)}
            for event in refresh(work, context.partition_keys, selected, part):
                if isinstance(event, Outcome):
                    for news in _observations(work, event, corrected, context.instance):
                        context.log_event(news)
                    yield materialization(collection, event, context.instance)
                elif isinstance(event, BatchAwaited):
                    context.log_event(batch_observation(collection, event))
                elif isinstance(event, WindowAwaited):
                    context.log_event(window_observation(collection, event))
                elif (event.asset, event.name) in chosen_checks:
                    yield check_evaluation(collection, event, context.instance)
    except (PartitionsFailed, UserError) as error:
        raise failure(error) from None


def _halvings(stores: "Stores", collection: Collection, part: "RunPart | None") -> int:
    """Of what is taken at once, where the kernel has ended pods of the step for memory."""
    if stores.home.environment != CLUSTER:
        return 0
    from ai_assets.run.step_memory import StepMemory

    return StepMemory(
        stores.state, collection.name, part.step if part is not None else collection.steps[0].name
    ).halvings()


def _checks_done(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
    """To Dagster a check is an output of the op. Verdicts are events, one for each partition, so it is told that the
    outputs are complete; it would log that they were not yielded."""
    layer = context.op_execution_context.job_def.asset_layer
    for key in sorted(context.selected_asset_check_keys, key=str):
        yield dg.Output(None, output_name=layer.get_op_output_name(key))


def launch_of(
    context: dg.AssetExecutionContext, stores: "Stores", run: dg.DagsterRun, name: str, partitions: Sequence[str]
) -> "Launch":
    """Who started the run that made these partitions; the log says it too."""
    from ai_assets.desk.settings import DeskInvalid, load_desk
    from ai_assets.signoff.launches import of_run

    def proxy_declared() -> bool:
        try:
            return load_desk(stores.home.desk).sign_in.proxy is not None
        except DeskInvalid:  # that is for the desk to say; no run fails for it
            return False

    with stores.state.write() as connection:
        found = of_run(
            connection,
            tags=run.tags,
            collection=name,
            partitions=partitions,
            run_id=run.run_id,
            proxy_declared=proxy_declared,
        )
    context.log.info(printable(f"Started by {found.in_words}."))
    return found


@contextmanager
def heard(context: dg.AssetExecutionContext, home: Home, *also: "Sink") -> "Iterator[Sinks]":
    """The run's log, those of whoever started it in this process, and the user's own."""
    from ai_assets.run.configured import configured
    from ai_assets.run.progress import ProgressLines, RunProgress
    from ai_assets.run.sinks import LogSink, Sinks, added

    def report(line: str) -> None:
        context.log.warning(printable(line))

    own = configured(home, report)
    lines = ProgressLines(lambda line: context.log.info(printable(line)), RunProgress())
    sinks = Sinks([LogSink(context.log.info), lines, *also, *added.get(), *own], report)
    try:
        yield sinks
    finally:
        sinks.close_only(own)


@contextmanager
def traced(
    context: dg.AssetExecutionContext, collection: Collection
) -> "Iterator[tuple[RunTelemetry | None, Sequence[Sink]]]":
    """Spans of the run and its calls, where a collector is configured: nothing is imported where none is."""
    if not is_configured():
        yield None, ()
        return
    from ai_assets.telemetry.opening import of_run

    run = context.run
    telemetry = of_run(
        run_id=run.run_id,
        tenant=collection.settings.tenant,
        tags=run.tags,
        report=lambda line: context.log.warning(printable(line)),
        repeats=run.parent_run_id or "",
    )
    if telemetry is None:
        yield None, ()
        return
    try:
        yield telemetry, (telemetry.sink,)
    finally:
        telemetry.sink.close()


@contextmanager
def lineage(
    context: dg.AssetExecutionContext,
    stores: "Stores",
    collection: Collection,
    descriptions: Mapping[str, str] | None = None,
) -> "Iterator[Sequence[Sink]]":
    """Of what the run makes, where OpenLineage is configured: nothing is imported where it is not."""
    if not lineage_configured(stores.home):
        yield ()
        return
    from ai_assets.lineage.opening import of_run

    if descriptions is None:
        descriptions = {asset: str(asset_spec(collection, asset).description or "") for asset in collection.asset_names}
    sink = of_run(collection, stores.lake, stores.home, descriptions, lambda line: context.log.warning(printable(line)))
    try:
        yield () if sink is None else (sink,)
    finally:
        if sink is not None:
            sink.close()


@contextmanager
def _total_told(
    context: dg.AssetExecutionContext, stores: "Stores", collection: Collection, part: "RunPart | None"
) -> "Iterator[Counted]":
    """At its end, however it ends, the run has a line with what came of it, as tags and as an event with numbers. A
    step of it counts with those before; the event is that of the last one."""
    from dagster._core.events import EngineEventData

    from ai_assets.costs.funding import run_cost
    from ai_assets.inference.run_spend import spend_by_asset, total_of
    from ai_assets.run.total import Counted, CountsOfSteps

    counted, started, failed, ended_well = Counted(), time.perf_counter(), 0, False
    try:
        yield counted
        ended_well = True
    except PartitionsFailed as error:
        failed = len(error.errors)
        raise
    finally:
        run = context.run
        with stores.state.read() as connection:
            cost = run_cost(connection, run.run_id)
            spent = total_of(spend_by_asset(connection, collection.name, [run.run_id]))
        seconds = time.perf_counter() - started
        if part is not None:
            seconds = CountsOfSteps(stores.state, run.run_id, part.step).together(counted, seconds)
        total = counted.total(spent, partitions=len(context.partition_keys), failed=failed, seconds=seconds)
        context.instance.add_run_tags(run.run_id, {COST_TAG: cost, TOTAL_TAG: total.in_words})
        if part is None or not part.goes_on or not ended_well:
            context.instance.report_engine_event(
                f"Total: {total.in_words}", run, EngineEventData(metadata=normalize_metadata(total.described()))
            )


def _observations(
    work: "Work", outcome: "Outcome", corrected: set[str], instance: dg.DagsterInstance
) -> Iterator[dg.AssetObservation]:
    """What the outcome was made from, where that is new to Dagster; it must know before it hears of the outcome.

    `corrected` holds the partitions whose corrections are not looked at yet in this run.
    """
    from ai_assets.signoff.corrections import NONE

    collection, manifest = work.collection, outcome.manifest
    if manifest.asset == "documents" and not outcome.unchanged:
        yield source_observation(collection, outcome)
    if manifest.partition in corrected and manifest.asset in {stage.name for stage in collection.labelling}:
        corrected.discard(manifest.partition)
        version = work.corrections.version(manifest.partition) or NONE
        if news := corrections_observation(collection, manifest.partition, version, instance):
            yield news


def failure(error: Exception) -> dg.Failure:
    """What no retry can mend. Raise it `from None`: the run page shows a cause as one more traceback."""
    failed = {"failed": dg.MetadataValue.json(error.errors)} if isinstance(error, PartitionsFailed) else {}
    return dg.Failure(str(error), metadata=failed, allow_retries=False)
