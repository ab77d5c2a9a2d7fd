"""Runs for partitions whose source, settings, corrections or last attempt ask for one: every minute, and each night.

An unchanged source starts nothing, and only partitions that changed are observed in the event log. Documents without an
answer, and partitions that failed for a reason that may pass, are tried again when their back-off is over.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import dagster as dg

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START, consecutive
from ai_assets.orchestration.events import version_tags
from ai_assets.orchestration.held_back import held_back
from ai_assets.orchestration.interrupted import is_orphaned
from ai_assets.orchestration.run_tags import PATIENT, PATIENT_TAG
from ai_assets.orchestration.sources import register_folders
from ai_assets.orchestration.specs import key_of

REASON = "ai_assets/reason"
WATCH_INTERVAL_S = 60


def source_changes(collection: Collection) -> dg.SensorDefinition:
    """Looks at the source each minute. Off unless the collection says `watch: true`; the UI switches it on too."""

    @dg.sensor(
        name=f"{collection.name}__source_changes",
        job_name=collection.name,
        minimum_interval_seconds=WATCH_INTERVAL_S,
        description="Starts a run for partitions whose source, settings or corrections changed, or that are due to be "
        "tried again, and otherwise nothing.",
        default_status=dg.DefaultSensorStatus.RUNNING if collection.settings.watch else dg.DefaultSensorStatus.STOPPED,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if held := held_back(Home.from_environment()):
            return dg.SkipReason(held)
        if is_busy(collection, context.instance):
            return dg.SkipReason("a run of this collection is queued or under way")
        due, again, events = _due(collection, context.instance, failed=False)
        if not due and not again:
            return dg.SkipReason("the source is unchanged")
        if poor := _no_money(collection):
            return dg.SkipReason(poor)
        requests = [
            *run_requests(collection, context, due, "source changed", "sensor"),
            *run_requests(collection, context, again, "tried again", "sensor"),
        ]
        return dg.SensorResult(run_requests=requests, asset_events=events)

    return body


def nightly(collection: Collection) -> Iterator[dg.ScheduleDefinition]:
    """The schedule: what is missing, stale, failed or due to be tried again, and nothing where nothing is."""
    declared = collection.settings.schedule
    if declared is None:
        return

    @dg.schedule(
        name=f"{collection.name}__nightly",
        job_name=collection.name,
        cron_schedule=declared.cron,
        execution_timezone=declared.timezone,
        description="Brings up to date what is missing, stale, failed or due to be tried again; skips when nothing is.",
        default_status=dg.DefaultScheduleStatus.RUNNING if declared.enabled else dg.DefaultScheduleStatus.STOPPED,
    )
    def body(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if held := held_back(Home.from_environment()):
            return dg.SkipReason(held)
        due, again, _ = _due(collection, context.instance, failed=True)
        if not due and not again:
            return dg.SkipReason("every partition is up to date")
        if poor := _no_money(collection):
            return dg.SkipReason(poor)
        wanted = {*due, *again}
        in_order = [key for key in collection.scheme.keys(sorted(wanted)) if key in wanted]
        return list(run_requests(collection, context, in_order, "nightly", "schedule"))

    yield body


def _due(
    collection: Collection, instance: dg.DagsterInstance, *, failed: bool
) -> tuple[list[str], list[str], list[dg.AssetObservation]]:
    """Partitions to run because of a change, and those to try again, in order; and observations of what changed: the
    source, corrections if any. `failed`: all that failed, whatever their back-off.
    """
    from ai_assets.documents.source_listing import known_folders, observe
    from ai_assets.run.partition_states import DUE, observed_states
    from ai_assets.run.status import watched_partitions
    from ai_assets.signoff.corrections import NONE, in_force
    from ai_assets.storage.stores import Stores

    with Stores.at(Home.from_environment()) as stores:
        listing = observe(collection, stores.lake, stores.state)
        found, waiting = observed_states(collection, stores, only=DUE)
        folders = known_folders(stores.state, collection.name) if collection.scheme.is_open else ()
        with stores.state.read() as connection:
            given = in_force(connection, collection)
    register_folders(collection, instance, folders)
    wanted = frozenset(watched_partitions(found, waiting))
    due = [
        key
        for key, state in found.items()
        if key in wanted and (state == "stale" or (state == "missing" and key in listing.by_partition))
    ]
    again = [
        key
        for key, state in found.items()
        if (key in wanted and state in ("failed", "ask again")) or (failed and state == "failed")
    ]
    events = [
        dg.AssetObservation(
            key_of(collection, "source_files"), partition=key, tags=version_tags(listing.digest_of(key))
        )
        for key in due
    ]
    events += [
        dg.AssetObservation(
            key_of(collection, "corrections"), partition=key, tags=version_tags(given.version(key) or NONE)
        )
        for key in due
        if collection.labelling and given.concern(key)
    ]
    return due, again, events


def _no_money(collection: Collection) -> str | None:
    """Why runs would only fail: no call has money, or inference.yaml is wrong by now. The next tick looks again.

    A backfill that is under way does the work at the price that was approved for it.
    """
    if not collection.asks_models:
        return None
    from ai_assets.costs import funding
    from ai_assets.inference.load import inference_at
    from ai_assets.planning.backfills import open_of
    from ai_assets.storage.state import now
    from ai_assets.storage.stores import Stores

    with Stores.at(Home.from_environment()) as stores, stores.state.read() as connection:
        if (backfill := open_of(connection, collection.name)) is not None:
            return f"{backfill.backfill} is under way, at its own price"
        try:
            settings = inference_at(stores.home)
        except DeclarationInvalid as error:
            return str(error)
        return funding.no_money(connection, collection, settings, funding.day_of(now()))


def run_requests(
    collection: Collection,
    context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext,
    due: Sequence[str],
    reason: str,
    kind: Literal["sensor", "schedule"],
    sensor: str = "source_changes",
    tags: Mapping[str, str] | None = None,
) -> Iterator[dg.RunRequest]:
    """Neighbouring partitions share a run, up to the collection's limit. Dagster orders folders as they came to it."""
    from ai_assets.signoff.launches import Launcher, issued_or_said
    from ai_assets.storage.stores import Stores

    who = f"{collection.name}__{sensor}" if kind == "sensor" else f"{collection.name}__nightly"
    itself = Launcher(kind=kind, who=who, proof="itself")
    dynamic = collection.settings.partitions.by == "folder"
    known = context.instance.get_dynamic_partitions(collection.scheme.dynamic_name) if dynamic else None
    order = collection.scheme.keys() if known is None else known
    groups = list(consecutive(order, due, collection.settings.partitions.per_run))
    if not groups:
        return
    with Stores.at(Home.from_environment()) as stores, stores.state.write() as connection:
        tickets = [
            issued_or_said(connection, itself, context.log.warning, collection=collection.name, partitions=group)
            for group in groups
        ]
    for group, ticket in zip(groups, tickets, strict=True):
        own = {RANGE_START: group[0], RANGE_END: group[-1], REASON: reason, PATIENT_TAG: PATIENT}
        yield dg.RunRequest(tags={**own, **(tags or {}), **ticket})


def goes_on(
    collection: Collection,
    context: dg.SensorEvaluationContext,
    partitions: Sequence[str],
    reason: str,
    *,
    sensor: str,
    tags: Mapping[str, str],
    news: str,
) -> dg.SensorResult | dg.SkipReason:
    """Runs for partitions that waited and can go on; none while runs are held back or one is under way. `news`: what
    the sensor has to say then."""
    if held := held_back(Home.from_environment()):
        return dg.SkipReason(held)
    if is_busy(collection, context.instance):
        return dg.SkipReason(f"{news}; a run of this collection is queued or under way")
    register_folders(collection, context.instance, partitions)
    return dg.SensorResult(
        run_requests=list(run_requests(collection, context, partitions, reason, "sensor", sensor, tags))
    )


def is_busy(collection: Collection, instance: dg.DagsterInstance) -> bool:
    under_way = dg.RunsFilter(
        job_name=collection.name,
        statuses=[
            dg.DagsterRunStatus.QUEUED,
            dg.DagsterRunStatus.NOT_STARTED,
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.STARTED,
        ],
    )
    return any(not is_orphaned(instance, run) for run in instance.get_runs(under_way))
