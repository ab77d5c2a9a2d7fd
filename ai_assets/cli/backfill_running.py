"""A backfill while it runs: in this process, or by the Dagster of `ai-assets up`, and followed until it is over."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import typer

from ai_assets.base.errors import UserError
from ai_assets.cli.backfill_progress import Meter
from ai_assets.cli.batch_waiting import answered_of
from ai_assets.cli.launching import Author
from ai_assets.cli.output import errors, home
from ai_assets.collection.loading import Collection
from ai_assets.inference.records import BACKFILL_TAG
from ai_assets.ops.dagster_client import DagsterApi, DagsterUnreachable
from ai_assets.orchestration.launching import start_backfill
from ai_assets.orchestration.run_tags import PATIENT, PATIENT_TAG
from ai_assets.planning import backfills
from ai_assets.planning.backfills import Backfill, State
from ai_assets.planning.plan import Plan
from ai_assets.storage.stores import Stores

POLL_S = 1.0
ENDED: dict[State, str] = {
    "done": "is done",
    "capped": "stopped at its cap",
    "failed": "failed in part",
    "stopped": "was stopped",
    "lost": "was left by the process that ran it",
}


class DagsterGone(UserError):
    def __init__(self, made: Backfill) -> None:
        super().__init__(
            f"{made.backfill} is Dagster's to run, and Dagster does not answer. Start it with `ai-assets up`, and it "
            f"goes on; follow it with `ai-assets backfill {made.collection}`, or end it: `ai-assets backfill "
            f"{made.collection} --stop`."
        )


@dataclass(kw_only=True)
class BackfillReport:
    """How a backfill ended, for people and as JSON."""

    backfill: Backfill
    done: backfills.Progress
    seconds: float
    left: Plan | None = None
    failures: Sequence[str] = field(default_factory=list)


def dagster_url(places: Stores) -> str | None:
    from ai_assets.ops.supervisor import running_at

    return running_at(places.home)


def _tags(made: Backfill, *, patient: bool) -> dict[str, str]:
    return {BACKFILL_TAG: made.backfill, **({PATIENT_TAG: PATIENT} if patient else {})}


def run_here(
    chosen: Collection, places: Stores, made: Backfill, author: Author, *, quiet: bool, patient: bool = False
) -> BackfillReport:
    """`patient`: nobody named partitions, so what is not due yet is left alone."""
    from ai_assets.cli.run import Report, execute

    report = Report(chosen.name, list(made.partitions), list(made.partitions))
    started = time.perf_counter()
    tags = _tags(made, patient=patient)
    assets = None if set(made.assets) == set(chosen.asset_names) else made.assets
    try:
        with Meter(places.state, made, quiet=quiet) as meter, meter.running():
            execute(chosen, places, list(made.partitions), report, quiet=True, assets=assets, tags=tags, author=author)
            while not report.failures and (answered := answered_of(chosen, places, made.partitions)):
                execute(chosen, places, answered, report, quiet=True, assets=assets, tags=tags, author=author)
    except KeyboardInterrupt:
        backfills.end(places, made, "stopped")
        errors.print(f"Interrupted; what was done is kept. Go on: ai-assets backfill {chosen.name}")
        raise typer.Exit(130) from None
    except BaseException:
        backfills.end(places, made, "failed")
        raise
    return ended(places, made, succeeded=not report.failures, started=started, failures=report.failures)


def launch(
    chosen: Collection, places: Stores, made: Backfill, api: DagsterApi, author: Author, *, patient: bool = False
) -> Backfill:
    tags = author.tags(places, chosen, made.partitions, backfill=made.backfill)
    found = start_backfill(chosen, places, api, made, tags, patient=patient)
    errors.print(f"{made.backfill} runs in Dagster: {api.url}/runs/b/{found.dagster_id}")
    return found


def followed(places: Stores, made: Backfill, *, quiet: bool) -> BackfillReport:
    """Until it is over, whoever runs it."""
    started = time.perf_counter()
    try:
        with Meter(places.state, made, quiet=quiet) as meter:
            succeeded = _wait(places, made, meter)
    except KeyboardInterrupt:
        errors.print(
            f"{made.backfill} goes on without you. Follow it again: ai-assets backfill {made.collection}    stop it: "
            f"ai-assets backfill {made.collection} --stop",
        )
        raise typer.Exit(130) from None
    return ended(places, made, succeeded=succeeded, started=started)


def _wait(places: Stores, made: Backfill, meter: Meter) -> bool:
    """Whether all was done. Somebody else may end it meanwhile, and that is then how it ended."""
    url = dagster_url(places) if made.dagster_id else None
    if made.dagster_id and url is None:
        raise DagsterGone(made)
    api = DagsterApi(url) if url else None
    while True:
        with places.state.read() as connection:
            found = backfills.get(connection, made.backfill)
        if found.state != "open":
            return found.state == "done"
        if api is not None and made.dagster_id is not None:
            try:
                status = api.backfill_status(made.dagster_id)
            except DagsterUnreachable as error:
                raise DagsterGone(made) from error
            with places.state.read() as connection:
                waits = status.succeeded and backfills.is_waiting(connection, made)
            if status.done and not waits:
                return status.succeeded
        else:
            sweep(places)
        meter.look()
        time.sleep(POLL_S)


def sweep(places: Stores) -> None:
    """Dagster is looked at only where it runs one."""
    with places.state.read() as connection:
        asks_dagster = backfills.any_of_dagster(connection)
    if not asks_dagster:
        lost = backfills.sweep(places, None)
    else:
        from ai_assets.orchestration.instance import instance

        with instance(home()) as dagster:
            lost = backfills.sweep(places, dagster)
    for name in lost:
        with places.state.read() as connection:
            state = backfills.get(connection, name).state
        errors.print(f"note: {name} {ENDED[state]}; its money is free again.")


def ended(
    places: Stores, made: Backfill, *, succeeded: bool, started: float, failures: Sequence[str] = ()
) -> BackfillReport:
    with places.state.read() as connection:
        done = backfills.progress_of(connection, made.backfill)
        state: State = backfills.state_after(made, done, succeeded=succeeded)
    backfills.end(places, made, state)
    with places.state.read() as connection:
        found = backfills.get(connection, made.backfill)
        failures = failures or ([] if succeeded else backfills.failures_of(connection, found))
    return BackfillReport(backfill=found, done=done, seconds=time.perf_counter() - started, failures=failures)
