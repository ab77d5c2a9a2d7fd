"""`ai-assets backfill`: the price first, then the work, and never more than was approved."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.cli.backfill_running import ENDED, BackfillReport, dagster_url, ended, followed, launch, run_here, sweep
from ai_assets.cli.launching import Author, RunBy, author_of, said
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    collection,
    confirm,
    console,
    errors,
    print_json,
    stores,
)
from ai_assets.cli.plan import partitions_of, progress, show
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.ops.dagster_client import DagsterApi
from ai_assets.planning import backfills
from ai_assets.planning.backfills import Backfill
from ai_assets.planning.plan import Plan, decimal, described
from ai_assets.planning.plan import plan as make_plan
from ai_assets.planning.words import dollars, interval
from ai_assets.run.partition_states import DUE
from ai_assets.run.spending_policy import SpendingQuestion
from ai_assets.signoff.launches import Launch
from ai_assets.storage.leases import hold
from ai_assets.storage.stores import Stores


class ConfirmationUnavailable(UserError):
    def __init__(self) -> None:
        super().__init__("Nobody can be asked here whether to go ahead: add --yes. Nothing was started.")


class NoneUnderWay(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"No backfill of '{name}' is under way, so there is nothing to stop.")


@dataclass(kw_only=True)
class BackfillArguments:
    """What the command line said, to be said again in the command that goes on."""

    name: str
    partition: str | None
    partitions: str | None
    stages: Sequence[str]

    @property
    def patient(self) -> bool:
        """Nobody named partitions, so documents that are not due yet are left alone."""
        return self.partition is None and self.partitions is None

    def command(self) -> str:
        said = ["ai-assets", "backfill", self.name]
        said += ["--partition", self.partition] if self.partition else []
        said += ["--partitions", self.partitions] if self.partitions else []
        return shlex.join([*said, *(part for stage in self.stages for part in ("--stage", stage))])


def backfill(
    name: CollectionName,
    partition: Annotated[str | None, typer.Option(help="One partition, also one that is up to date.")] = None,
    partitions: Annotated[str | None, typer.Option(metavar="A...B", help="All partitions from A to B.")] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage and what it is made from; may be given more than once.")
    ] = None,
    max_usd: Annotated[
        float | None, typer.Option(help="The most that it may cost; by default what the plan says at most.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go ahead without asking.")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the one that is under way; what it has done is kept.")
    ] = False,
    by: RunBy = None,
    as_json: AsJson = False,
) -> None:
    """Show what bringing partitions up to date would cost, ask, set that much aside, and do it.

    It stops at its cap with everything kept; run it again to go on. While one is under way this follows it.
    """
    chosen = collection(name)
    cap_nusd = None if max_usd is None else backfills.amount_of(max_usd)
    asked = BackfillArguments(name=name, partition=partition, partitions=partitions, stages=stage or [])
    with stores() as places:
        sweep(places)
        with places.state.read() as connection:
            under_way = backfills.open_of(connection, name)
        if stop:
            _stop(places, name, under_way, as_json=as_json)
        elif under_way is not None:
            errors.print(f"{under_way.backfill} is under way since {under_way.made_at[:19]}; following it.")
            _tell(chosen, places, asked, followed(places, under_way, quiet=as_json), as_json=as_json)
        else:
            _start(chosen, places, asked, cap_nusd, author_of(places, by, chosen), sure=yes, as_json=as_json)


def _start(
    chosen: Collection,
    places: Stores,
    asked: BackfillArguments,
    cap_nusd: int | None,
    author: Author,
    *,
    sure: bool,
    as_json: bool,
) -> None:
    inference = Catalog(places.home).inference_of(chosen.name)
    assets = _assets(chosen, asked.stages)
    found = _plan(chosen, places, asked, partitions_of(chosen, places, asked.partition, asked.partitions), as_json)
    if not as_json:
        show(found)
        console.print(said(author, chosen))
    due = [key for key in found.planned if found.partitions.get(key) in DUE]
    if not due and not any(stage.calls.high for stage in found.stages):
        if as_json:
            print_json({"backfill": None, "state": "nothing to do", "plan": described(found)})
        else:
            console.print("Nothing is due and nothing is to pay.")
        return
    cap = backfills.usual_cap(found) if cap_nusd is None else cap_nusd
    backfills.refuse_too_low(chosen, inference, found, cap)
    begun = Launch.of(author.launcher) if author.launcher else Launch.unknown(author.why)
    SpendingQuestion(
        collection=chosen, stores=places, inference=inference, partitions=found.planned, launch=begun, plan=found
    ).require()
    _confirm(found, cap, sure=sure, quiet=as_json)
    with hold(places.state, backfills.lease_name(chosen.name), wait_s=1.0):
        made = backfills.begin(places, chosen, inference, found, assets=assets, cap_nusd=cap, by=author.name)
        url = dagster_url(places)
        if url is None:
            ending = run_here(chosen, places, made, author, quiet=as_json, patient=asked.patient)
        else:
            made = launch(chosen, places, made, DagsterApi(url), author, patient=asked.patient)
    if url is not None:
        ending = followed(places, made, quiet=as_json)
    _tell(chosen, places, asked, ending, as_json=as_json, planned=found)


def _plan(
    chosen: Collection, places: Stores, asked: BackfillArguments, keys: Sequence[str] | None, quiet: bool
) -> Plan:
    assets = _assets(chosen, asked.stages)
    paid = [asset for asset in chosen.asking if asset in assets]
    with progress(quiet=quiet) as (say, advance):
        return make_plan(
            chosen,
            places,
            Catalog(places.home).inference_of(chosen.name),
            partitions=keys,
            stages=paid if asked.stages else None,
            say=say,
            advance=advance,
        )


def _assets(chosen: Collection, stages: Sequence[str]) -> list[str]:
    """All of the segment; or the stages that are named and what they are made from."""
    if not stages:
        return list(chosen.asset_names)
    from ai_assets.planning.plan import StageUnknown

    wanted: set[str] = set()
    waiting = list(stages)
    for name in stages:
        if name not in chosen.asking:
            raise StageUnknown(chosen.name, name, chosen.asking)
    while waiting:
        name = waiting.pop()
        if name in chosen.asset_names and name not in wanted:
            wanted.add(name)
            waiting += chosen.inputs_of(name)
    return [asset for asset in chosen.asset_names if asset in wanted]


def _confirm(found: Plan, cap: int, *, sure: bool, quiet: bool) -> None:
    if not quiet:
        console.print(f"\nIt may cost at most {dollars(cap)}; so much is set aside for it in its budgets.")
    confirm(ConfirmationUnavailable(), "Nothing was started.", sure=sure, quiet=quiet)


def _stop(places: Stores, name: str, made: Backfill | None, *, as_json: bool) -> None:
    if made is None:
        raise NoneUnderWay(name)
    backfills.end(places, made, "stopped")
    url = dagster_url(places) if made.dagster_id else None
    if url is not None and made.dagster_id is not None:
        DagsterApi(url).cancel_backfill(made.dagster_id)
    ending = ended(places, made, succeeded=False, started=time.perf_counter())
    if as_json:
        print_json(_plainly(ending, None, None))
    else:
        console.print(f"{made.backfill} is stopped: {_done(ending)}. Calls in flight end first; what was done is kept.")


# What came of it


def _tell(
    chosen: Collection,
    places: Stores,
    asked: BackfillArguments,
    ending: BackfillReport,
    *,
    as_json: bool,
    planned: Plan | None = None,
) -> None:
    done = ending.backfill.state == "done"
    if not done:
        ending.left = _plan(chosen, places, asked, ending.backfill.partitions, quiet=True)
    if as_json:
        print_json(_plainly(ending, asked, planned))
    else:
        _say(ending, asked)
    if not done:
        raise typer.Exit(1)


def _say(ending: BackfillReport, asked: BackfillArguments) -> None:
    found, left = ending.backfill, ending.left
    console.print(f"{found.backfill} {ENDED[found.state]}: {_done(ending)}.")
    if found.state != "capped":
        for failure in ending.failures:
            errors.print(f"failed: {failure}")
    if left is not None:
        documents = max((stage.new_calls for stage in left.stages), default=0)
        console.print(
            f"Everything is kept. Left: {plural(left.new_calls, 'call')}, about "
            f"{plural(documents, 'document')}, likely "
            f"{interval(left.money)}. Go on: {asked.command()}",
        )


def _done(ending: BackfillReport) -> str:
    done, cap = ending.done, ending.backfill.cap_nusd
    maybe = f", {dollars(done.held_nusd)} may have been billed" if done.held_nusd else ""
    reused = f", {plural(done.reused, 'answer')} reused" if done.reused else ""
    return (
        f"{plural(done.answers, 'call')}{reused}, {plural(done.documents, 'document')}, "
        f"{dollars(done.spent_nusd)} of {dollars(cap)} "
        f"spent{maybe}"
    )


def _plainly(ending: BackfillReport, asked: BackfillArguments | None, planned: Plan | None) -> dict[str, Any]:
    found, done = ending.backfill, ending.done
    return {
        **{name: value for name, value in asdict(found).items() if name not in ("plan", "cap_nusd")},
        "cap_usd": decimal(found.cap_nusd),
        "spent_usd": decimal(done.spent_nusd),
        "maybe_usd": decimal(done.held_nusd),
        "answers": done.answers,
        "reused": done.reused,
        "documents": done.documents,
        "seconds": round(ending.seconds, 3),
        "failures": list(ending.failures),
        "plan": None if planned is None else described(planned),
        "left": None if ending.left is None else described(ending.left),
        "next": asked.command() if asked is not None and ending.left is not None else None,
    }
