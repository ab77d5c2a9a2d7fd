"""`ai-assets audit`: proof that nothing in the trail was changed, here or wherever the file is."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ai_assets.base.errors import FileUnwritable
from ai_assets.base.plural import plural
from ai_assets.cli.checkpoints import accept_restored, checkpoint, prove
from ai_assets.cli.output import AsJson, console, errors, led, print_json, stores_to_read, table
from ai_assets.signoff import attestation, audit, checkpoints, keys, verification
from ai_assets.signoff.against import WitnessComparison, compare
from ai_assets.signoff.audit_errors import ChainRewritten, ChainRolledBack, CheckpointUntrusted, StatementRefused

app = typer.Typer(help="The trail of requests, decisions and releases.", no_args_is_help=True)
_DOES_NOT_HOLD = (StatementRefused, CheckpointUntrusted, ChainRolledBack, ChainRewritten)
"""Found by the verification of a statement, and no mistake of whoever asks."""
app.command("checkpoint")(checkpoint)
app.command("prove")(prove)
app.command("accept-restored")(accept_restored)


@app.command("verify")
def verify(
    file: Annotated[Path | None, typer.Option(help="An export, instead of the store; nothing else is read.")] = None,
    trust: Annotated[
        Path | None, typer.Option(help="With --file: the trust.json whose keys to believe, instead of the file's own.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Checkpoints held elsewhere: FILE, folder, s3://, Git."),
    ] = None,
    statement: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="An in-toto statement of `explain --in-toto`, by the chain and keys here."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chain, check every signature, and hold the tables against it; names the first bad record.

    The tables are requests, releases, people, passwords, groups, roles, corrections, limits and the sums of budgets.
    """
    if statement is not None:
        _verify_statement(statement, alone=file is None and trust is None and against is None, as_json=as_json)
        return
    compared, kept = None, None
    if file is None:
        places = stores_to_read()
        compared = compare(places, against) if against is not None else None
        kept = checkpoints.require_whole(places)
        with Progress(TextColumn("records"), BarColumn(), MofNCompleteColumn(), console=errors, transient=True,
                      disable=not errors.is_terminal) as shown:  # fmt: skip
            task = shown.add_task("", total=None)
            found = verification.verify(places.state, lambda done, of: shown.update(task, completed=done, total=of))
    else:
        found = verification.verify_file(file, keys.Trust.read(trust) if trust else None)
    if as_json:
        print_json({**asdict(found), "checkpoints": kept, "against": asdict(compared) if compared else None})
        return
    console.print(
        f"The audit chain verifies: {plural(found.records, 'record')}, {found.signed} signed, head {found.head}"
    )
    if kept:
        console.print(f"It is the chain of {plural(kept, 'checkpoint')} kept here.")
    if compared is not None:
        _show_compared(compared)
    if file is not None and trust is None and found.signed:
        console.print("Signed by keys that the file itself names; to check whose they are: --trust trust.json")


def _verify_statement(path: Path, *, alone: bool, as_json: bool) -> None:
    if not alone:
        raise typer.BadParameter("it is verified by the home: give it without --file, --trust and --against")
    try:
        found = attestation.verify(stores_to_read(), path)
    except _DOES_NOT_HOLD as error:
        errors.print(led("error:", "bold red", f" {error}"))
        raise typer.Exit(1) from None
    if as_json:
        print_json(asdict(found))
        return
    console.print(
        f"The statement holds: row {found.row[:12]} of {found.document} in release {found.release} of "
        f"{found.collection}, in {plural(found.steps, 'step')}."
    )
    console.print(
        f"Its keys count here, and the chain begins with the {plural(found.records, 'record')} it stands for."
    )


def _show_compared(found: WitnessComparison) -> None:
    """What the witness has, and what it cannot say anything of."""
    there = f"{plural(found.notes, 'checkpoint')}, the newest of {plural(found.newest, 'record')}"
    console.print(f"It extends what {found.place} holds: {there}.")
    if found.newest < found.records:
        console.print(f"Records {found.newest + 1} to {found.records} are newer than that.")
    for size, why in found.lost:
        console.print(
            led(f"The checkpoint of {plural(size, 'record')}", "yellow", f" is of records lost in a restore: {why}")
        )
    if found.others:
        console.print(f"{found.others} of another chain there were passed over.")


@app.command("export")
def export(file: Annotated[Path, typer.Argument(help="Where to write JSON lines.")]) -> None:
    """Write the whole chain into a file that verifies by itself: ai-assets audit verify --file FILE."""
    with stores_to_read().state.read() as connection:
        lines = [f"{line}\n" for line in verification.export(connection)]
    try:
        file.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise FileUnwritable(file, error) from error
    console.print(f"{plural(len(lines) - 1, 'record')} written to {file}")


@app.command("show")
def show(
    collection: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this person did.")] = None,
    limit: Annotated[int, typer.Option("-n", help="How many, the newest first.")] = 30,
    as_json: AsJson = False,
) -> None:
    """The newest records."""
    with stores_to_read().state.read() as connection:
        found = audit.select(
            connection, collections=None if collection is None else [collection], actor=actor, limit=limit
        )
    if as_json:
        print_json([vars(record) for record in found])
        return
    rows = [
        (record.seq, record.recorded_at[:16], record.actor, record.action, *(
            str(record.subject.get(name) or "") for name in ("collection", "partition", "reason")
        ))
        for record in found
    ]  # fmt: skip
    table("Audit", ("number", "at (UTC)", "who", "did", "collection", "partition", "reason"), rows, ("number",))
