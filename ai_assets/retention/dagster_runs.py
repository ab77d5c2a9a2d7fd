"""Runs of Dagster that may go, and events that belong to no run.

Deleting a run deletes its events, and with them what Dagster knows of a partition: so a run that holds the newest
materialization, observation, planned materialization or check of any partition stays, however old it is.
"""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.retention.leftovers import Leftover, RetentionContext, size_of, unlink

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from dagster._core.storage.event_log import SqlEventLogStorage
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

PAGE = 500
RUNLESS_KEPT = 10
"""Of what sensors observe of one partition, so many of the newest stay."""
_NEWEST = """SELECT run_id FROM event_logs WHERE id IN (
    SELECT max(id) FROM event_logs WHERE asset_key IS NOT NULL GROUP BY asset_key, dagster_event_type, partition)"""
_NEWEST_CHECKS = """SELECT run_id FROM asset_check_executions WHERE id IN (
    SELECT max(id) FROM asset_check_executions GROUP BY asset_key, check_name, partition)"""
_RUNLESS = """SELECT id FROM (
    SELECT id, row_number() OVER (PARTITION BY asset_key, dagster_event_type, partition ORDER BY id DESC) AS place
    FROM event_logs WHERE run_id = '' AND asset_key IS NOT NULL) AS ordered WHERE place > :kept"""


def find(bench: RetentionContext) -> Iterator[Leftover]:
    instance = bench.instance
    storage = None if instance is None else _storage(instance)
    if instance is None or storage is None:
        return
    for run_id, job in _removable(instance, storage, bench.settings.runs_per_job):
        yield _leftover(instance, storage, run_id, f"run {run_id[:8]} of {job}")
    files = _sqlite(storage)
    if files is not None:
        for run_id in files.get_all_run_ids():  # the run is gone and its events are not: a removal was killed
            path = Path(files.path_for_shard(run_id))
            if run_id and bench.is_older(path, bench.settings.litter_hours * 3600) and not instance.has_run(run_id):
                yield _leftover(instance, storage, run_id, f"events of run {run_id[:8]}, which is gone")
    if runless := _count_runless(storage):
        yield Leftover(
            kind="dagster", what=f"{plural(runless, 'observation')} that newer ones replaced", size=None,
            remove=partial(_remove_runless, storage),
        )  # fmt: skip


def _leftover(instance: "DagsterInstance", storage: "SqlEventLogStorage", run_id: str, what: str) -> Leftover:
    return Leftover(
        kind="dagster",
        what=what,
        size=sum(size_of(path) for path in _files(instance, storage, run_id)),
        remove=partial(_remove, instance, storage, run_id),
    )


def _removable(instance: "DagsterInstance", storage: "SqlEventLogStorage", per_job: int) -> Iterator[tuple[str, str]]:
    """Finished runs beyond the newest of their job, the oldest first, except those of a backfill under way."""
    from dagster import DagsterRunStatus, RunsFilter

    needed = runs_needed(storage)
    backfills = _backfills_under_way(instance)
    ended = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
    seen: Counter[str] = Counter()
    found: list[tuple[str, str]] = []
    cursor: str | None = None
    while runs := instance.get_runs(RunsFilter(statuses=ended), cursor=cursor, limit=PAGE):
        cursor = runs[-1].run_id
        for run in runs:
            seen[run.job_name] += 1
            free = run.run_id not in needed and run.tags.get("dagster/backfill") not in backfills
            if seen[run.job_name] > per_job and free:
                found.append((run.run_id, run.job_name))
    yield from reversed(found)


def runs_needed(storage: "SqlEventLogStorage") -> set[str]:
    """Runs that hold the newest event of its kind of some partition of some asset."""
    with storage.index_connection() as connection:
        found: set[str] = set(connection.execute(sa.text(_NEWEST)).scalars())
        return found | set(connection.execute(sa.text(_NEWEST_CHECKS)).scalars())


def _backfills_under_way(instance: "DagsterInstance") -> set[str]:
    from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, BulkActionStatus

    open_ = [status for status in BulkActionStatus if status not in BULK_ACTION_TERMINAL_STATUSES]
    return {backfill.backfill_id for backfill in instance.get_backfills(BulkActionsFilter(statuses=open_))}


def _files(instance: "DagsterInstance", storage: "SqlEventLogStorage", run_id: str) -> list[Path]:
    """What of a run is in files: its events, where each run has a database of its own, and what its steps printed."""
    found = [Path(instance.root_directory) / "storage" / run_id]
    if (files := _sqlite(storage)) is not None:
        found += [Path(f"{files.path_for_shard(run_id)}{suffix}") for suffix in ("", "-wal", "-shm")]
    return found


def _remove(instance: "DagsterInstance", storage: "SqlEventLogStorage", run_id: str) -> None:
    """Events first: killed in between, the run is still found, and removed the next time."""
    storage.delete_events(run_id)
    with storage.index_connection() as connection:
        connection.execute(sa.text("DELETE FROM asset_check_executions WHERE run_id = :run"), {"run": run_id})
    for path in _files(instance, storage, run_id):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            unlink(path)
    if (files := _sqlite(storage)) is not None:
        files._initialized_dbs.discard(run_id)  # else this process would take the file for one that has its tables
    with contextlib.suppress(NotImplementedError):
        instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.run_storage.delete_run(run_id)


def _count_runless(storage: "SqlEventLogStorage") -> int:
    with storage.index_connection() as connection:
        query = sa.text(f"SELECT count(*) FROM ({_RUNLESS}) AS old")  # noqa: S608
        return int(connection.execute(query, {"kept": RUNLESS_KEPT}).scalar_one())


def _remove_runless(storage: "SqlEventLogStorage") -> None:
    """In the index and, where each run has a database of its own, in that of no run, which numbers them differently."""
    connections = [storage.index_connection]
    if _sqlite(storage) is not None:
        connections.append(lambda: storage.run_connection(""))
    for opened in connections:
        with opened() as connection:
            old: Sequence[int] = connection.execute(sa.text(_RUNLESS), {"kept": RUNLESS_KEPT}).scalars().all()
            for start in range(0, len(old), PAGE):
                ids = {"ids": list(old[start : start + PAGE])}
                for statement in ("DELETE FROM asset_event_tags WHERE event_id IN :ids",
                                  "DELETE FROM event_logs WHERE id IN :ids"):  # fmt: skip
                    connection.execute(sa.text(statement).bindparams(sa.bindparam("ids", expanding=True)), ids)


def _storage(instance: "DagsterInstance") -> "SqlEventLogStorage | None":
    """None where Dagster keeps its events in something that is no SQL database of ours."""
    from dagster._core.storage.event_log import SqlEventLogStorage
    from dagster._core.storage.legacy_storage import LegacyEventLogStorage

    found = instance.event_log_storage
    if isinstance(found, LegacyEventLogStorage):
        found = found._storage.event_log_storage
    return found if isinstance(found, SqlEventLogStorage) else None


def _sqlite(storage: "SqlEventLogStorage") -> "SqliteEventLogStorage | None":
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

    return storage if isinstance(storage, SqliteEventLogStorage) else None
