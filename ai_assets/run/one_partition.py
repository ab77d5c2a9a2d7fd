"""One partition of a run: its assets in order, each announced when it is committed, under the partition's lease."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.structured_log import log_fields
from ai_assets.checks.base import CheckOutcome
from ai_assets.checks.budget import with_budget
from ai_assets.checks.registry import checked, refuse_unsound
from ai_assets.collection.loading import Collection
from ai_assets.collection.steps import made_from
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.errors import WaitingForBatch
from ai_assets.inference.batch.jobs import BatchWait
from ai_assets.inference.batch.pending import AwaitedCalls, HeldBudget
from ai_assets.inference.errors import BudgetInBatches
from ai_assets.inference.postponed import AssetPostponed, PartitionPostponed, WaitingForWindow
from ai_assets.run import window_waits
from ai_assets.run.concurrency import as_ready, one_by_one
from ai_assets.run.context import Outcome, Work
from ai_assets.run.datasets import (
    answered,
    chunks,
    classification,
    documents,
    embeddings,
    function_stage,
    llm_stage,
    release_candidate,
)
from ai_assets.run.datasets.ceilings import require_within
from ai_assets.run.events import BatchAwaited, StageBegan, StageEnded, WindowAwaited
from ai_assets.run.failures import Failures
from ai_assets.run.spans import record_span
from ai_assets.run.stopped_candidates import stops_recorded
from ai_assets.run.window_waits import WindowWait
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import now
from ai_assets.storage.stores import record_dataset

Event = Outcome | CheckOutcome | BatchAwaited | WindowAwaited


@dataclass(frozen=True)
class PartitionBuilder:
    """Computes the assets of one partition at a time; several threads may ask."""

    work: Work
    assets: Sequence[str]
    """In the order of the collection."""
    place: Mapping[str, int]
    """Of each partition of the run: those that come first are computed first."""
    waited: Sequence[WindowWait | BatchWait]
    """What waited for its window or for batches before this run, which takes it up."""
    failures: Failures

    def build(self, partition: str) -> Iterator[Event]:
        if self.failures.lost is not None or partition in self.failures.errors:
            return
        postponed = made_from(self.work.collection, self.failures.before.waits.get(partition, ()))
        assets = [asset for asset in self.assets if asset not in postponed]
        work, inputs_of = self.work, self.work.collection.inputs_of
        with (
            logged(self.work, partition),
            attended(work, self.failures, partition) as lease,
        ):
            self._take_up_waits(partition)

            def build(asset: str) -> Iterator[Event]:
                rank = (asset not in self._leading, self.place[partition])
                with (
                    logged(work, partition, asset),
                    holding(work, lease),
                    work.baton.held(rank) if work.baton is not None else nullcontext(),
                ):
                    made = spanned(work, partition, asset, partial(_build, work, partition, asset))
                    yield from announced(work, *made)

            if work.baton is not None:
                # What waits for models begins before what computes meanwhile.
                asking_first = sorted(assets, key=lambda asset: asset not in work.collection.asking)
                yield from as_ready(asking_first, inputs_of, build)
            else:
                yield from one_by_one(assets, inputs_of, build)

    @cached_property
    def _leading(self) -> frozenset[str]:
        return leads_to_models(self.work.collection)

    def _take_up_waits(self, partition: str) -> None:
        for wait in self.waited:
            if wait.partition != partition:
                continue
            with self.work.fenced() as connection:
                if isinstance(wait, WindowWait):
                    window_waits.take_up(connection, wait)
                elif wait.asset in self.work.collection.asset_names:
                    jobs.take_up(connection, wait.collection, partition, wait.asset)
                else:
                    jobs.forget_wait(connection, wait.collection, partition, wait.asset)


def leads_to_models(collection: Collection) -> frozenset[str]:
    """The assets that ask models, and those that must be there before: while one computes, others may wait for answers;
    what comes after the last question can be computed while answers are awaited."""
    found, left = set[str](), list(collection.asking)
    while left:
        asset = left.pop()
        if asset not in found and asset in collection.asset_names:
            found.add(asset)
            left += collection.inputs_of(asset)
    return frozenset(found)


@contextmanager
def logged(work: Work, partition: str | None = None, asset: str | None = None) -> Iterator[None]:
    """What this thread logs is about these."""
    tenant = work.collection.settings.tenant
    with log_fields(run=work.run_id, collection=work.collection.name, tenant=tenant, partition=partition, stage=asset):
        yield


@contextmanager
def leased(work: Work, partition: str) -> Iterator[Lease]:
    name = f"refresh:{work.collection.name}:{partition}"
    with hold(work.stores.state, name, say=work.say_waiting) as lease, holding(work, lease):
        yield lease


@contextmanager
def holding(work: Work, lease: Lease) -> Iterator[None]:
    """What this thread writes, it writes under the lease."""
    before: Lease | None = getattr(work.lease, "held", None)
    work.lease.held = lease
    try:
        yield
    finally:
        work.lease.held = before


@contextmanager
def attended(work: Work, failures: Failures, partition: str) -> Iterator[Lease]:
    """Under the partition's lease: what keeps it from its end is collected, and written down where others go by it."""
    with (
        failures.collecting(partition),
        leased(work, partition) as lease,
        _waits_kept(work, partition),
        stops_recorded(work, partition),
    ):
        yield lease


@contextmanager
def _waits_kept(work: Work, partition: str) -> Iterator[None]:
    """What waits for its window, or for money that batches have, is written down under the partition's lease, so that a
    sensor asks for the run that goes on. Who asks by batch keeps its own waits."""
    try:
        yield
    except (AssetPostponed, PartitionPostponed) as found:
        for wait in found.waits if isinstance(found, PartitionPostponed) else [found]:
            if isinstance(wait, WaitingForWindow):
                hours = window_waits.hours_of_asset(work.collection, work.inference, wait.asset)
                with work.fenced() as connection:
                    window_waits.keep(connection, wait, partition, work.collection.name, hours.declared, work.run_id)
            elif isinstance(wait, WaitingForBatch) and wait.held is not None:
                awaited = AwaitedCalls(held=Counter([wait.held]))
                with work.fenced() as connection:
                    jobs.keep_wait(connection, work.caller(wait.asset, partition), 0, now(), awaited)
        raise


def spanned(work: Work, partition: str, asset: str, build: Callable[[], Outcome]) -> tuple[Outcome, StageEnded]:
    """What it builds, and its span, which the caller keeps with it; that of a failure is kept here."""
    began_at, started = now(), time.perf_counter()
    work.sinks.tell(StageBegan(**work.own, partition=partition, asset=asset, at=began_at))
    try:
        outcome = build()
    except AssetPostponed:
        raise  # it has not failed, and is computed by another run
    except BudgetInBatches as short:
        held = HeldBudget(name=short.name, jobs=short.batches)
        raise WaitingForBatch(asset, partition, held=held) from short
    except BaseException as found:
        failed = _span(work, partition, asset, began_at, time.perf_counter() - started, None, found)
        work.tell_calls()
        work.sinks.tell(failed)
        _keep_failed(work, failed)
        raise
    span = _span(work, partition, asset, began_at, time.perf_counter() - started, outcome, None)
    work.tell_calls()
    work.sinks.tell(span)
    return outcome, span


def _keep_failed(work: Work, span: StageEnded) -> None:
    """Where the state store is what failed, the error of the stage says more."""
    with suppress(UserError, sa.exc.SQLAlchemyError), work.stores.state.write() as connection:
        record_span(connection, span)


def _span(
    work: Work,
    partition: str,
    asset: str,
    began_at: str,
    seconds: float,
    made: Outcome | None,
    error: BaseException | None,
) -> StageEnded:
    spent = made.manifest.stats.get("spend") if made is not None and not made.unchanged else None
    return StageEnded(
        **work.own,
        partition=partition,
        asset=asset,
        began_at=began_at,
        at=now(),
        seconds=seconds,
        documents=made.documents_in if made else 0,
        documents_out=made.documents_out if made else 0,
        reused=made.reused if made else 0,
        quarantined=made.quarantined if made else 0,
        unchanged=made.unchanged if made else False,
        calls=spent["calls"] if spent else 0,
        cost_usd=made.cost_usd if made else 0.0,
        error=None if error is None else str(error) or type(error).__name__,
        error_kind=None if error is None else type(error).__name__,
    )


def _build(work: Work, partition: str, asset: str) -> Outcome:
    match asset:
        case "documents":
            return documents.build(work, partition)
        case "chunks":
            return chunks.build(work, partition)
        case "release_candidate":
            return freeze(work, partition)
        case _ if (vectors := work.collection.embedding_of(asset)) is not None:
            return embeddings.build(work, partition, vectors)
        case _:
            if (question := work.collection.questions.get(asset)) is not None:
                return llm_stage.build(work, partition, question)
            stage = next(stage for stage in work.collection.stages if stage.name == asset)
            if isinstance(stage, FunctionStage):
                return function_stage.build(work, partition, stage)
            assert isinstance(stage, ClassifyStage)
            return classification.build(work, partition, stage)


def freeze(work: Work, partition: str) -> Outcome:
    refuse_unsound(work, partition)
    answered.require_answers(work, partition)
    require_within(work, partition)
    return release_candidate.build(work, partition)


def announced(work: Work, outcome: Outcome, span: StageEnded) -> Iterator[Event]:
    with work.fenced() as connection:
        jobs.forget_wait(connection, work.collection.name, outcome.manifest.partition, outcome.manifest.asset)
        record_dataset(connection, outcome.manifest)
        record_span(connection, span)
    outcome = with_budget(work, outcome)
    yield outcome
    try:
        yield from checked(work, outcome)
    except UserError as error:
        _keep_failed(work, replace(span, error=str(error), error_kind=type(error).__name__))
        raise
