"""Bringing partitions up to date: the whole chain from documents to release candidate, without Dagster.

A generator: each dataset is announced when it is committed. A partition that fails is skipped from there on and the
others go on; the failures are raised together at the end.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from ai_assets.base.collector import old_objects_left_alone
from ai_assets.documents import retries
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.errors import WaitingForBatch
from ai_assets.inference.batch.jobs import BatchWait
from ai_assets.inference.postponed import WaitingForWindow
from ai_assets.run import hand_over, head_start, window_waits
from ai_assets.run.calls_told import calls_told
from ai_assets.run.concurrency import in_lanes
from ai_assets.run.context import Outcome, Work
from ai_assets.run.datasets import evaluation_scores
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.events import BatchAwaited, CheckMade, DatasetMade, RunBegan, RunEnded, WindowAwaited
from ai_assets.run.failures import Failures
from ai_assets.run.hand_over import RunPart, SeenPartition
from ai_assets.run.one_partition import Event, PartitionBuilder, announced, attended, freeze, spanned
from ai_assets.run.process_count import DueFiles, number_of_processes
from ai_assets.run.several_processes import in_processes
from ai_assets.run.spending_policy import require_run
from ai_assets.run.window_waits import WindowWait
from ai_assets.storage import partition_facts
from ai_assets.storage.digest import digest
from ai_assets.storage.state import now, upsert


def refresh(
    work: Work, partitions: Sequence[str], selected: Sequence[str] | None = None, part: RunPart | None = None
) -> Iterator[Event]:
    """Compute the selected assets (all by default) of the partitions; raises PartitionsFailed at the end.

    LeaseLost ends it at once: what another process has taken over is not this one's to finish. The run's sinks hear of
    all that is yielded, and more. `part`: the run has other steps, and what failed is said by the last of them.
    """
    wanted = [asset for asset in work.collection.asset_names if selected is None or asset in selected]
    with run_told(work, partitions, wanted), old_objects_left_alone():
        work.refuse_broken_contract()
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
    started, error, kind = time.perf_counter(), None, None
    work.sinks.tell(RunBegan(**work.own, partitions=tuple(partitions), assets=tuple(assets), at=now()))
    try:
        with calls_told(work):
            yield
    except BaseException as found:
        error, kind = str(found) or type(found).__name__, type(found).__name__
        raise
    finally:
        seconds = time.perf_counter() - started
        work.sinks.tell(RunEnded(**work.own, at=now(), seconds=seconds, error=error, error_kind=kind))


def _refresh(work: Work, partitions: Sequence[str], wanted: Sequence[str], part: RunPart | None) -> Iterator[Event]:
    failures = _begun(work, partitions, part)
    errors = failures.errors
    # Search and labels are judged over all partitions, so what follows from that waits for all of them.
    judged = ("evaluation_scores", "release_candidate") if "evaluation_scores" in wanted else ()
    yield from _computed(work, partitions, wanted, [asset for asset in wanted if asset not in judged], failures, part)
    failures.refuse_if_lost()
    yield from _submitted(work, failures)
    corpus = work.corpus
    for partition in partitions if judged else ():
        if partition in errors or failures.waits(partition):
            continue
        with attended(work, failures, partition):
            scored = partial(evaluation_scores.build, work, partition, corpus)
            yield from announced(work, *spanned(work, partition, "evaluation_scores", scored))
            if "release_candidate" in wanted:
                frozen = partial(freeze, work, partition)
                yield from announced(work, *spanned(work, partition, "release_candidate", frozen))
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


def _begun(work: Work, partitions: Sequence[str], part: RunPart | None) -> Failures:
    """Where the run has other steps, with what those before this one left."""
    if part is None:
        return Failures()
    with work.stores.state.read() as connection:
        known = hand_over.seen(connection, work.run_id)
    fresh = {
        each: _look(work, each) for each in partitions if each not in known
    }  # it lists the source: not in a transaction
    with work.stores.state.write() as connection:
        hand_over.begin(connection, work.run_id, part.step, fresh)
        before = hand_over.handed_over(connection, work.run_id)
    return Failures(errors=dict(before.errors), passing=set(before.passing), before=before)


def _computed(
    work: Work,
    partitions: Sequence[str],
    wanted: Sequence[str],
    assets: Sequence[str],
    failures: Failures,
    part: RunPart | None,
) -> Iterator[Event]:
    """The assets of each partition that can be made without the others."""
    told = 0
    with work.stores.state.read() as connection:
        name = work.collection.name
        waited: list[WindowWait | BatchWait] = [*window_waits.waits(connection, name), *jobs.waits(connection, name)]
    over = {*wanted} | ({wait.asset for wait in waited} - {*work.collection.asset_names})
    taken_up = [wait for wait in waited if wait.asset in over]
    place = {partition: at for at, partition in enumerate(partitions)}
    # As they are before anything is computed: one that comes meanwhile is for the next run.
    _ = work.corrections, work.hold_decisions
    builder = PartitionBuilder(work, assets, place, taken_up, failures)

    def done(partition: str) -> None:
        nonlocal told
        told += 1
        if failures.lost is not None:
            return  # said once, at the end
        found = failures.errors.get(partition) or failures.waiting_said(partition)
        work.say(f"{partition}: {found}" if found else f"{partition} ({told} of {len(partitions)}): computed")

    due = DueFiles(work, partitions)
    processes = number_of_processes(work, partitions, due) if part is None else 1  # a step has a pod of its own
    if processes == 1 and "documents" in assets:
        head_start.begin(work, due)
    if processes > 1:
        yield from in_processes(builder, partitions, processes, done)
    elif work.collection.asks_models:
        yield from in_lanes(work, partitions, builder.build, done)
    else:
        for partition in partitions:
            yield from builder.build(partition)
            done(partition)


def _submitted(work: Work, failures: Failures) -> Iterator[Event]:
    """What all partitions asked by batch is sent; where the provider does not take a file, those whose calls are in it
    have failed."""
    unsent = work.submit_batches()
    for partition, waits in failures.waiting.items():
        for error in (unsent[wait.asset, partition] for wait in waits if (wait.asset, partition) in unsent):
            failures.errors.setdefault(partition, str(error))
            if error.passes:
                failures.passing.add(partition)
    for partition in failures.waiting:
        yield from _awaited(work, partition, failures)


def _awaited(work: Work, partition: str, failures: Failures) -> Iterator[Event]:
    """What the partition waits for; with an error it is tried again like any that failed."""
    if partition in failures.errors:
        return
    for wait in failures.waiting.get(partition, ()):
        about = {**work.own, "asset": wait.asset, "partition": partition}
        if isinstance(wait, WaitingForBatch):
            yield BatchAwaited(**about, said=str(wait), answered=wait.calls - wait.waiting, calls=wait.calls)
        elif isinstance(wait, WaitingForWindow):
            opens = wait.opens.at.isoformat() if wait.opens is not None else ""
            yield WindowAwaited(**about, said=str(wait), until=opens, documents=wait.documents)


def _record_all(work: Work, partitions: Sequence[str], failures: Failures, part: RunPart | None) -> None:
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
    settings = work.collection.settings_digest
    people = work.with_holds(work.with_fit(seen.people), partition)
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
        partition_facts.derive(connection, work.collection.name, [partition])
        retries.record_partition(
            connection, work.collection.name, partition, question=question, error=error, passes=passes
        )
