"""Keeps the cost warehouse up to date: when calls have paused, or have gone on for a while."""

import datetime

import dagster as dg

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.orchestration.automation.shared_work import done_elsewhere
from ai_assets.orchestration.held_back import held_back
from ai_assets.orchestration.inference_cost import JOB
from ai_assets.orchestration.interrupted import is_orphaned

INTERVAL_S = 30
QUIET_S = 30
MOST_WAITED_S = 300
"""While calls go on, and after a build that failed."""


def inference_cost() -> dg.SensorDefinition:
    """One for all collections."""

    @dg.sensor(
        name="inference_cost",
        job_name=JOB,
        minimum_interval_seconds=INTERVAL_S,
        description="Builds the cost warehouse when the ledger, prices, budgets or releases have changed.",
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def body(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from ai_assets.costs.building import is_due, newest_call
        from ai_assets.storage.state import now
        from ai_assets.storage.stores import Stores

        if other := done_elsewhere():
            return dg.SkipReason(other)
        if held := held_back(Home.from_environment()):
            return dg.SkipReason(held)
        moment = now()
        waited_s = _seconds(context.cursor, moment)
        last = next(iter(context.instance.get_runs(dg.RunsFilter(job_name=JOB), limit=1)), None)
        if last is not None and not last.is_finished and not is_orphaned(context.instance, last):
            return dg.SkipReason("the warehouse is being built")
        if last is not None and last.status == dg.DagsterRunStatus.FAILURE and waited_s < MOST_WAITED_S:
            return dg.SkipReason(f"the last build failed; its run says why. Tried again after {MOST_WAITED_S} s")
        try:
            with Stores.at(Home.from_environment()) as stores:
                if not is_due(stores):
                    return dg.SkipReason("the warehouse is up to date")
                newest = newest_call(stores)
        except UserError as error:
            return dg.SkipReason(str(error))
        if _seconds(newest, moment) < QUIET_S and waited_s < MOST_WAITED_S:
            return dg.SkipReason("calls are being made; it is built when they pause, or after 5 minutes")
        context.update_cursor(moment)
        return dg.RunRequest()

    return body


def _seconds(since: str | None, until: str) -> float:
    if not since:
        return float("inf")
    passed = datetime.datetime.fromisoformat(until) - datetime.datetime.fromisoformat(since)
    return passed.total_seconds()
