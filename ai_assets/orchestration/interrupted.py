"""Runs whose process is gone: Dagster's local launcher never notices, so they would stay 'started' for ever."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from ai_assets.base.processes import standing, was_alive_at

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

PID_TAG = "ai_assets/pid"
"""Set by a command that executes a run in its own process, to `ai_assets.base.processes.identity()`."""
MESSAGE = "ai-assets up ended while this run was executing; run it again, nothing paid is repeated"
MESSAGE_OF_COMMAND = "The command that executed this run ended before it; run it again, nothing paid is repeated"


def runs_in_flight(instance: "DagsterInstance") -> list[str]:
    """The runs that end when `ai-assets up` ends: not those a command executes in its own process."""
    return [run.run_id for run in _unfinished(instance) if PID_TAG not in run.tags]


def explain_interrupted_runs(instance: "DagsterInstance", run_ids: Collection[str]) -> list[str]:
    """Add our reason where a run process, being terminated, could still report its own failure; the ids."""
    from dagster import DagsterRunStatus

    runs = [run for run_id in run_ids if (run := instance.get_run_by_id(run_id))]
    failed = [run for run in runs if run.status == DagsterRunStatus.FAILURE]
    for run in failed:
        instance.report_engine_event(MESSAGE, run)
    return [run.run_id for run in failed]


def report_interrupted_runs(instance: "DagsterInstance") -> list[str]:
    """Report them failed and free their pool slots; the ids. Call it while nothing of ours can launch a run."""
    interrupted = [run for run in _unfinished(instance) if not _is_executing(instance, run)]
    for run in interrupted:
        instance.report_run_failed(run, MESSAGE_OF_COMMAND if PID_TAG in run.tags else MESSAGE)
        if instance.event_log_storage.supports_global_concurrency_limits:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in interrupted]


def is_orphaned(instance: "DagsterInstance", run: "DagsterRun") -> bool:
    """Whether the run counts as started while its process is gone, killed perhaps: nothing is to be waited for."""
    from dagster import DagsterRunStatus

    return _runs_are_here(instance) and run.status == DagsterRunStatus.STARTED and not _is_executing(instance, run)


def is_under_way(instance: "DagsterInstance", tag: str, value: str) -> bool:
    """Whether the newest run with that tag is still to end by itself."""
    from dagster import RunsFilter

    runs = instance.get_runs(RunsFilter(tags={tag: value}), limit=1)
    return bool(runs) and not runs[0].is_finished and not is_orphaned(instance, runs[0])


def _unfinished(instance: "DagsterInstance") -> "list[DagsterRun]":
    from dagster import DagsterRunStatus, RunsFilter

    if not _runs_are_here(instance):
        return []  # another launcher (Kubernetes, say) executes runs elsewhere: they live on
    statuses = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    return list(instance.get_runs(RunsFilter(statuses=statuses)))


def _runs_are_here(instance: "DagsterInstance") -> bool:
    """Whether runs are processes of this machine. The settings are asked: in a pod without a token of the cluster, such
    as that of the code location, a launcher of pods cannot be made."""
    from dagster._core.launcher import DefaultRunLauncher

    declared = instance.get_ref().run_launcher_data if instance.is_persistent else None
    return declared is None or declared.class_name == DefaultRunLauncher.__name__


def _process_lives(process: str) -> bool:
    """Also in another container or on another machine, where only its heartbeat in the state store can be seen."""
    from ai_assets.base.home import Home
    from ai_assets.storage.stores import Stores
    from ai_assets.storage.workers import is_process_live

    match standing(process):
        case "out of sight":
            with Stores.at(Home.from_environment()) as stores, stores.state.read() as connection:
                return is_process_live(connection, process)
        case seen:
            return seen == "running"


def _is_executing(instance: "DagsterInstance", run: "DagsterRun") -> bool:
    from dagster import DagsterEventType

    if PID_TAG in run.tags:
        return _process_lives(run.tags[PID_TAG])
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
        pid = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if pid is not None and str(pid.value).isdigit() and was_alive_at(int(str(pid.value)), entry.timestamp):
            return True
    return False
