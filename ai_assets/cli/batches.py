"""`ai-assets batches`: files of calls at a provider, how far each is, what it may cost, and stopping one."""

from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    By,
    console,
    errors,
    home,
    money,
    person,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import administrator, require_admin
from ai_assets.collection.catalog import Catalog
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.collecting import Collector
from ai_assets.inference.batch.errors import BatchUnknown
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.prices import usd_of
from ai_assets.telemetry.command_span import batches_told

app = typer.Typer(help="Batches at a provider: files of calls, at the price of its Batch API.", no_args_is_help=True)
Named = Annotated[str, typer.Argument(metavar="BATCH", help="The beginning of its id, or what the provider calls it.")]
COLUMNS = ("batch", "collection", "endpoint", "state", "lines", "done", "at most", "paid", "made (UTC)", "expires")


@app.command("list")
def list_batches(
    every: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Batches on the way, the newest first."""
    with stores_to_read().state.read() as connection:
        found = [_described(connection, job) for job in jobs.listed(connection, ended=every)]
    if as_json:
        print_json(found)
    elif found:
        rows = [
            (
                each["job"], each["collection"], each["endpoint"], each["in_words"], f"{each['lines']:,}",
                f"{each['done']:,}", money(each["worst_usd"]), money(each["cost_usd"]), each["made_at"][:19],
                (each["expires_at"] or "")[:19],
            )
            for each in found
        ]  # fmt: skip
        table("Batches, the newest first", COLUMNS, rows, ("lines", "done", "at most", "paid"))
    else:
        console.print("No batch was made." if every else "No batch is on the way. Those that have ended: --all")


@app.command("show")
def show(named: Named, as_json: AsJson = False) -> None:
    """One batch: its steps, its lines by state, and what was said of it."""
    with stores_to_read().state.read() as connection:
        job = _the_one(connection, named)
        found = {**_described(connection, job), "attempts": dict(jobs.attempt_counts(connection, job))}
    if as_json:
        print_json(found)
        return
    console.print(f"Batch {job.job_id}", style="bold")
    for name, value in found.items():
        if value not in (None, "", [], {}):
            shown = (
                ", ".join(f"{key} {number:,}" for key, number in value.items()) if isinstance(value, dict) else value
            )
            console.print(f"  {name.replace('_', ' ')}: {shown}")
    console.print(f"Its calls: ai-assets ledger list --run {job.run_id or '…'}")


@app.command("cancel")
def cancel(named: Named, by: By = None, as_json: AsJson = False) -> None:
    """Stop a batch. What was done by then is paid and kept; the rest is free, and no run asks for it by itself. For an
    administrator of its collection, by password; where nobody is known yet, the name is only noted."""
    told = "{}; what was done by then is collected. Go on with the rest: ai-assets run {}"
    _end(named, by, "cancelling a batch", Collector.cancel, told, as_json=as_json)


@app.command("give-up")
def give_up(named: Named, by: By = None, as_json: AsJson = False) -> None:
    """Wait for a batch no longer, whatever its provider says. Lines without a result are kept as maybe billed, and the
    next run asks them again unless the stage holds them. For whoever may cancel it."""
    told = "{}. What may have been billed: ai-assets ledger ambiguous    go on: ai-assets run {}"
    _end(named, by, "giving a batch up", Collector.give_up, told, as_json=as_json)


def _end(
    named: str,
    by: str | None,
    act: str,
    end: Callable[[Collector, BatchJob, str], str],
    told: str,
    *,
    as_json: bool,
) -> None:
    """`told`: with what became of the batch, and its collection."""
    places, who = stores(), administrator(by)
    with places.state.read() as connection:
        job = _the_one(connection, named)
    require_admin(who, job.collection, act)
    with Collector(Catalog(home()).inference_of(job.collection), places.state) as collector:
        became = end(collector, job, who.name if who else person(by))
    if not as_json:
        console.print(f"Batch {job.job_id} {told.format(became, job.collection)}")
        return
    with places.state.read() as connection:
        print_json(_described(connection, jobs.get(connection, job.job_id)))


@app.command("collect")
def collect(as_json: AsJson = False) -> None:
    """Read the results of all batches now, as the sensors do each minute."""
    places, ended, settled = stores(), 0, 0
    notes: list[str] = []
    with places.state.read() as connection:
        names = dict.fromkeys(job.collection for job in jobs.unended(connection))
    catalog = Catalog(places.home)
    for name in names:
        try:
            settings = catalog.inference_of(name)
        except UserError as error:
            notes.append(f"{name}: {error}")
            continue
        if name not in catalog.entries():
            notes.append(
                f"{name}: this collection is gone, and its batches are collected by the inference.yaml of the project."
            )
        with (
            batches_told(errors.print) as told,
            Collector(settings, places.state, listener=told) as collector,
        ):
            found = collector.collect(name)
        ended, settled, notes = ended + len(found.ended), settled + found.settled, [*notes, *found.notes]
    with places.state.read() as connection:
        left = len(jobs.unended(connection))
    if as_json:
        print_json({"ended": ended, "settled": settled, "open": left, "notes": notes})
        return
    console.print(f"{ended:,} ended, {plural(settled, 'result was', 'results were')} read, {left:,} on the way.")
    for note in notes:
        errors.print(note)


def _the_one(connection: sa.Connection, named: str) -> BatchJob:
    found = jobs.found(connection, named) if named else []
    if len(found) != 1:
        raise BatchUnknown(named, len(found))
    return found[0]


def _described(connection: sa.Connection, job: BatchJob) -> dict[str, Any]:
    counts = jobs.attempt_counts(connection, job)
    open_lines = counts.get("intent", 0) + (counts.get("ambiguous", 0) if job.duplicate_of else 0)
    in_words = f"{job.state}, {job.provider_state}" if job.state == "submitted" else job.provider_state or job.state
    if job.state in ("uploaded", "creating") and job.message:
        in_words = job.message
    return {
        "job": job.job_id, "collection": job.collection, "run_id": job.run_id, "endpoint": job.endpoint,
        "kind": job.kind, "state": job.state, "provider_state": job.provider_state, "in_words": in_words,
        "provider_id": job.provider_id, "file_id": job.file_id, "digest": job.digest, "lines": job.lines,
        "bytes": job.bytes, "done": job.provider_done, "settled": job.lines - open_lines if job.lines else 0,
        "worst_usd": usd_of(job.worst_nusd), "cost_usd": usd_of(jobs.cost_nusd(connection, job)),
        "made_at": job.made_at, "submitted_at": job.submitted_at, "expires_at": job.expires_at,
        "next_look_at": job.next_look_at, "ended_at": job.ended_at, "cancelled_by": job.cancelled_by,
        "due_at": job.deadline.due_at if job.deadline else None, "then": job.deadline.then if job.deadline else None,
        "turnaround_s": job.turnaround_s,
        "duplicate_of": job.duplicate_of, "unknown_lines": job.unknown_lines, "message": job.message,
    }  # fmt: skip
