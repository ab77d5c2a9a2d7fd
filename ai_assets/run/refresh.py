"""Bringing partitions up to date: the whole chain from documents to release candidate, without Dagster.

A generator: each dataset is announced when it is committed. A partition that fails is skipped from there on and the
others go on; the failures are raised together at the end.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import sqlalchemy as sa

from ai_assets.base.collector import old_objects_left_alone
from ai_assets.base.errors import LeaseLost, UserError
from ai_assets.checks.base import CheckOutcome
from ai_assets.checks.budget import with_budget
from ai_assets.checks.registry import checked, refuse_unsound
from ai_assets.collection.loading import Collection
from ai_assets.collection.steps import made_from
from ai_assets.documents import retries
from ai_assets.inference.batch.errors import WaitingForBatch
from ai_assets.inference.errors import WorkStops
from ai_assets.inference.postponed import AssetPostponed, PartitionPostponed, WaitingForWindow
from ai_assets.run import hand_over, window_waits
from ai_assets.run.calls_told import calls_told
from ai_assets.run.concurrency import as_ready, in_lanes, one_by_one
from ai_assets.run.context import Outcome, Work
from ai_assets.run.datasets import (
    answered,
    chunks,
    classification,
    documents,
    embeddings,
    evaluation_scores,
    function_stage,
    llm_stage,
    release_candidate,
)
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import (
    BatchAwaited,
    CheckMade,
    DatasetMade,
    RunBegan,
    RunEnded,
    StageBegan,
    StageEnded,
    WindowAwaited,
)
from ai_assets.run.hand_over import HandedOver, RunPart, SeenPartition
from ai_assets.run.spans import record_span
from ai_assets.run.spending_policy import require_run
from ai_assets.stages.classify.kind import ClassifyStage
from ai_assets.stages.function_kind import FunctionStage
from ai_assets.storage.digest import digest
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import now, upsert
from ai_assets.storage.stores import record_dataset

Event = Outcome | CheckOutcome | BatchAwaited | WindowAwaited


def refresh(
    work: Work, partitions: Sequence[str], selected: Sequence[str] | None = None, part: RunPart | None = None
) -> Iterator[Event]:
    """Compute the selected assets (all by default) of the partitions; raises PartitionsFailed at the end.

    LeaseLost ends it at once: what another process has taken over is not this one's to finish. The run's sinks hear of
    all that is yielded, and more. `part`: the run has other steps, and what failed is said by the last of them.
    """
    wanted = [asset for asset in work.collection.asset_names if selected is None or asset in selected]
    with run_told(work, partitions, wanted), old_objects_left_alone():
        require_run(work, partitions, wanted)
        for event in _refresh(work, partitions, wanted, part):
            if isinstance(event, Outcome):
                work.sinks.tell(DatasetMade(**work.own, outcome=event))
            elif isinstance(event, BatchAwaited | WindowAwaited):
                work.sinks.tell(event)
            else:
                work.sinks.tell(CheckMade(**work.own, check=event))
            yield event


@contextmanager
def run_told(work: Work, partitions: Sequence[str], assets: Sequence[str]) -> Iterator[None]:
    """The run's sinks hear when it begins and ends."""
    started, error = time.perf_counter(), None
    work.sinks.tell(RunBegan(**work.own, partitions=tuple(partitions), assets=tuple(assets), at=now()))
    try:
        with calls_told(work):
            yield
    except BaseException as found:
        error = str(found) or type(found).__name__
        raise
    finally:
        work.sinks.tell(RunEnded(**work.own, at=now(), seconds=time.perf_counter() - started, error=error))


def _refresh(work: Work, partitions: Sequence[str], wanted: Sequence[str], part: RunPart | None) -> Iterator[Event]:
    failures = _begun(work, partitions, part)
    errors = failures.errors
    # Search and labels are judged over all partitions, so what follows from that waits for all of them.
    judged = ("evaluation_scores", "release_candidate") if "evaluation_scores" in wanted else ()
    computed = [asset for asset in wanted if asset not in judged]
    # What waits for models begins before what computes meanwhile.
    assets = sorted(computed, key=lambda asset: asset not in work.collection.asking)
    leading, place = leads_to_models(work.collection), {partition: at for at, partition in enumerate(partitions)}
    told = 0
    with work.stores.state.read() as connection:
        waited = window_waits.waits(connection, work.collection.name)
    over = {*wanted} | ({wait.asset for wait in waited} - {*work.collection.asset_names})
    _ = work.corrections  # as they are before anything is computed: one that comes meanwhile is for the next run

    def compute(partition: str) -> Iterator[Event]:
        if failures.lost is not None or partition in errors:
            return
        postponed = made_from(work.collection, failures.before.waits.get(partition, ()))
        with failures.collecting(partition), _leased(work, partition) as lease, _windows_kept(work, partition):
            for wait in waited:
                if wait.partition == partition and wait.asset in over:
                    with work.fenced() as connection:
                        window_waits.take_up(connection, wait)

            def build(asset: str) -> Iterator[Event]:
                rank = (asset not in leading, place[partition])
                with _holding(work, lease), work.baton.held(rank) if work.baton is not None else nullcontext():
                    made = spanned(work, partition, asset, partial(_build, work, partition, asset))
                    yield from _announced(work, *made)

            if work.baton is not None:
                here = [asset for asset in assets if asset not in postponed]
                yield from as_ready(here, work.collection.inputs_of, build)
            else:
                here = [asset for asset in computed if asset not in postponed]
                yield from one_by_one(here, work.collection.inputs_of, build)

    def done(partition: str) -> None:
        nonlocal told
        told += 1
        if failures.lost is not None:
            return  # said once, at the end
        found = errors.get(partition) or failures.waiting_said(partition)
        work.say(f"{partition}: {found}" if found else f"{partition} ({told} of {len(partitions)}): computed")

    if work.collection.asks_models:
        yield from in_lanes(work, partitions, compute, done)
    else:
        for partition in partitions:
            yield from compute(partition)
            done(partition)
    failures.refuse_if_lost()
    yield from _submitted(work, failures)
    corpus = evaluation_scores.CorpusEvaluation(work)
    for partition in partitions if judged else ():
        if partition in errors or failures.waits(partition):
            continue
        with failures.collecting(partition), _leased(work, partition), _windows_kept(work, partition):
            scored = partial(evaluation_scores.build, work, partition, corpus)
            yield from _announced(work, *spanned(work, partition, "evaluation_scores", scored))
            if "release_candidate" in wanted:
                frozen = partial(_freeze, work, partition)
                yield from _announced(work, *spanned(work, partition, "release_candidate", frozen))
        failures.refuse_if_lost()
        if said := errors.get(partition) or failures.waiting_said(partition):
            work.say(f"{partition}: {said}")
        yield from _awaited(work, partition, failures)
    if part is not None and part.goes_on:
        with work.stores.state.write() as connection:
            hand_over.hand_over(connection, work.run_id, part.step, failures.left)
        return
    whole = part.whole if part is not None else len(wanted) == len(work.collection.asset_names)
    if whole:  # a part of the chain says nothing of the partition as a whole
        _record_all(work, partitions, failures, part)
    if errors:
        raise PartitionsFailed(work.collection.name, errors, len(partitions))


def _begun(work: Work, partitions: Sequence[str], part: RunPart | None) -> "_Failures":
    """Where the run has other steps, with what those before this one left."""
    if part is None:
        return _Failures()
    with work.stores.state.read() as connection:
        known = hand_over.seen(connection, work.run_id)
    fresh = {
        each: _look(work, each) for each in partitions if each not in known
    }  # it lists the source: not in a transaction
    with work.stores.state.write() as connection:
        hand_over.begin(connection, work.run_id, part.step, fresh)
        before = hand_over.handed_over(connection, work.run_id)
    return _Failures(errors=dict(before.errors), passing=set(before.passing), before=before)


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


def _submitted(work: Work, failures: "_Failures") -> Iterator[Event]:
    """What all partitions asked by batch is sent; where the provider does not take it, those that wait have failed."""
    try:
        work.submit_batches()
    except UserError as error:
        for partition, waits in failures.waiting.items():
            if any(isinstance(wait, WaitingForBatch) for wait in waits):
                failures.errors[partition] = str(error)
                if error.passes:
                    failures.passing.add(partition)
    for partition in failures.waiting:
        yield from _awaited(work, partition, failures)


def _awaited(work: Work, partition: str, failures: "_Failures") -> Iterator[Event]:
    """What the partition waits for; with an error it is tried again like any that failed."""
    if partition in failures.errors:
        return
    for wait in failures.waiting.get(partition, ()):
        about = {**work.own, "asset": wait.asset, "partition": partition}
        if isinstance(wait, WaitingForBatch):
            yield BatchAwaited(**about, answered=wait.calls - wait.waiting, calls=wait.calls)
        elif isinstance(wait, WaitingForWindow):
            opens = wait.opens.at.isoformat() if wait.opens is not None else ""
            yield WindowAwaited(**about, said=str(wait), until=opens, documents=wait.documents)


@contextmanager
def _windows_kept(work: Work, partition: str) -> Iterator[None]:
    """What waits for its window is written down under the partition's lease, so that a sensor asks for the run that
    goes on."""
    try:
        yield
    except (AssetPostponed, PartitionPostponed) as found:
        for wait in found.waits if isinstance(found, PartitionPostponed) else [found]:
            if isinstance(wait, WaitingForWindow):
                hours = window_waits.hours_of_asset(work.collection, work.inference, wait.asset)
                with work.fenced() as connection:
                    window_waits.keep(connection, wait, partition, work.collection.name, hours.declared, work.run_id)
        raise


def spanned(work: Work, partition: str, asset: str, build: Callable[[], Outcome]) -> tuple[Outcome, StageEnded]:
    """What it builds, and its span, which the caller keeps with it; that of a failure is kept here."""
    began_at, started = now(), time.perf_counter()
    work.sinks.tell(StageBegan(**work.own, partition=partition, asset=asset, at=began_at))
    try:
        outcome = build()
    except AssetPostponed:
        raise  # it has not failed, and is computed by another run
    except BaseException as found:
        error = str(found) or type(found).__name__
        failed = _span(work, partition, asset, began_at, time.perf_counter() - started, None, error)
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
    work: Work, partition: str, asset: str, began_at: str, seconds: float, made: Outcome | None, error: str | None
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
        error=error,
    )


def _build(work: Work, partition: str, asset: str) -> Outcome:
    match asset:
        case "documents":
            return documents.build(work, partition)
        case "chunks":
            return chunks.build(work, partition)
        case "release_candidate":
            return _freeze(work, partition)
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


def _freeze(work: Work, partition: str) -> Outcome:
    refuse_unsound(work, partition)
    answered.require_answers(work, partition)
    return release_candidate.build(work, partition)


def _announced(work: Work, outcome: Outcome, span: StageEnded) -> Iterator[Event]:
    with work.fenced() as connection:
        record_dataset(connection, outcome.manifest)
        record_span(connection, span)
    outcome = with_budget(work, outcome)
    yield outcome
    try:
        yield from checked(work, outcome)
    except UserError as error:
        _keep_failed(work, replace(span, error=str(error)))
        raise


@dataclass
class _Failures:
    """A user's error ends its partition only; anything else is a bug or a dying machine and ends the run."""

    errors: dict[str, str] = field(default_factory=dict)
    walls: dict[type[WorkStops], str] = field(default_factory=dict)
    """What the first partition said of what stops all of them: the others say the same, with the same amounts."""
    passing: set[str] = field(default_factory=set)
    """Partitions whose error may go away by itself."""
    lost: LeaseLost | None = None
    waiting: dict[str, Sequence[AssetPostponed]] = field(default_factory=dict)
    """Partitions of which calls travel in batches, or must not leave yet."""
    before: HandedOver = field(default_factory=HandedOver)
    """By earlier steps of the run."""

    def waits(self, partition: str) -> dict[str, str]:
        """By asset, why it is postponed."""
        own = {wait.asset: str(wait) for wait in self.waiting.get(partition, ())}
        return {**self.before.waits.get(partition, {}), **own}

    def waiting_said(self, partition: str) -> str | None:
        return "; ".join(f"{asset}: {why}" for asset, why in self.waits(partition).items()) or None

    @property
    def left(self) -> HandedOver:
        """By this step alone."""
        return HandedOver(
            errors={key: error for key, error in self.errors.items() if key not in self.before.errors},
            passing=frozenset(self.passing - self.before.passing),
            waits={key: {wait.asset: str(wait) for wait in waits} for key, waits in self.waiting.items()},
        )

    @contextmanager
    def collecting(self, partition: str) -> Iterator[None]:
        try:
            yield
        except PartitionPostponed as found:
            self.waiting[partition] = found.waits
        except AssetPostponed as found:
            self.waiting[partition] = (found,)
        except LeaseLost as error:
            self.lost = self.lost or error
            self.errors[partition] = str(self.lost)
        except WorkStops as error:
            self.errors[partition] = self.walls.setdefault(type(error), str(error))
        except UserError as error:
            self.errors[partition] = str(error)
            if error.passes:
                self.passing.add(partition)

    def refuse_if_lost(self) -> None:
        """Call it when no partition is under way: those that have sent calls still wait for the answers."""
        if self.lost is not None:
            raise self.lost


@contextmanager
def _leased(work: Work, partition: str) -> Iterator[Lease]:
    name = f"refresh:{work.collection.name}:{partition}"
    with hold(work.stores.state, name, say=work.say_waiting) as lease, _holding(work, lease):
        yield lease


@contextmanager
def _holding(work: Work, lease: Lease) -> Iterator[None]:
    """What this thread writes, it writes under the lease."""
    before: Lease | None = getattr(work.lease, "held", None)
    work.lease.held = lease
    try:
        yield
    finally:
        work.lease.held = before


def _record_all(work: Work, partitions: Sequence[str], failures: _Failures, part: RunPart | None) -> None:
    """What became of each partition, under what the run saw when it began: what came since makes it stale again."""
    seen: Mapping[str, SeenPartition] = {}
    if part is not None:
        with work.stores.state.read() as connection:
            seen = hand_over.seen(connection, work.run_id)
    for partition in partitions:
        if failures.waits(partition) and partition not in failures.errors:
            continue  # it is as due as it was, once it need not wait any more
        found = seen.get(partition) or _look(work, partition)
        passes = partition in failures.passing
        _record_refresh(work, partition, found, failures.errors.get(partition), passes=passes)


def _look(work: Work, partition: str) -> SeenPartition:
    return SeenPartition(listing=work.listing.digest_of(partition), people=work.people_gave(partition))


def _record_refresh(work: Work, partition: str, seen: SeenPartition, error: str | None, *, passes: bool) -> None:
    settings, people = work.collection.settings_digest, work.with_fit(seen.people)
    question = digest([seen.listing, settings, people])[:32]
    with work.stores.state.write() as connection:
        upsert(
            connection,
            "refreshes",
            {"collection": work.collection.name, "partition": partition},
            {
                "status": "failed" if error else "ok",
                "error": error,
                "listing_digest": seen.listing,
                "settings_digest": settings,
                "corrections_digest": people,
                "run_id": work.run_id,
                "finished_at": now(),
            },
        )
        retries.record_partition(
            connection, work.collection.name, partition, question=question, error=error, passes=passes
        )
