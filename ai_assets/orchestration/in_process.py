"""Running a Dagster job in this process, and what to say of it when it fails."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ai_assets.base.home import Home
from ai_assets.base.processes import identity
from ai_assets.orchestration.interrupted import PID_TAG
from ai_assets.storage.leases import hold
from ai_assets.storage.stores import Stores, is_there

if TYPE_CHECKING:
    import dagster as dg

INTERRUPTED = "DagsterExecutionInterruptedError"


def execute(
    job: "dg.JobDefinition",
    instance: "dg.DagsterInstance",
    tags: Mapping[str, str],
    assets: "Sequence[dg.AssetKey] | None" = None,
    run_id: str | None = None,
) -> "dg.ExecuteInProcessResult":
    """All of the job, or only these assets of it; nothing is raised, and only what is critical is printed.

    Meanwhile the process has a heartbeat in the state store, by which others see that the run is executing.
    """
    from ai_assets.run.several_processes import end_forgotten_runs

    with Stores.of_run(Home.from_environment()) as stores, hold(stores.state, f"process:{uuid.uuid4().hex}"):
        try:
            return job.execute_in_process(
                instance=instance,
                tags={PID_TAG: identity(), **tags},
                asset_selection=assets,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                raise_on_error=False,
                run_id=run_id,
            )
        finally:
            end_forgotten_runs()


def was_interrupted(result: "dg.ExecuteInProcessResult") -> bool:
    """By Ctrl-C or SIGTERM."""
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return any(data.error is not None and data.error.cls_name == INTERRUPTED for data in failures)


def why(result: "dg.ExecuteInProcessResult") -> str:
    """The message of the failed step, without the stack trace that the run's log in the UI has."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                return data.user_failure_data.description
            if data.error is not None and data.error.cls_name == INTERRUPTED:
                return "interrupted; run it again to go on, what was done stays done"
            if data.error is not None:
                return (data.error.cause or data.error).message.strip()
    return f"run {result.run_id} failed; its log in the Dagster UI says why"


def bring_costs_up_to_date(home: Home, say: Callable[[str], None] = lambda _line: None) -> None:
    """Run the Dagster job `costs` in this process, when something is due. Raises the one sentence why it failed."""
    from ai_assets.costs.building import is_due

    if not is_there(home):
        return
    with Stores.at(home) as stores:
        if not is_due(stores):
            return
    from ai_assets.orchestration.inference_cost import execute

    execute(home, say)
