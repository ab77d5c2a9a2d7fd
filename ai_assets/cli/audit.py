"""`ai-assets audit`: proof that nothing in the trail was changed, here or wherever the file is."""

from pathlib import Path
from typing import Annotated

import typer

from ai_assets.cli.output import AsJson, console, print_json, stores_to_read, table
from ai_assets.signoff import audit, proof

app = typer.Typer(help="The trail of requests, decisions and releases.", no_args_is_help=True)


@app.command("verify")
def verify(
    file: Annotated[Path | None, typer.Option(help="An export, instead of the store; nothing else is read.")] = None,
    as_json: AsJson = False,
) -> None:
    """Walk the chain and hold requests, releases, roles and corrections against it; names the first bad record."""
    found = proof.verify(stores_to_read().state) if file is None else proof.verify_file(file)
    if as_json:
        print_json(found)
    else:
        console.print(f"The audit chain verifies: {found.records} records, head {found.head}")


@app.command("export")
def export(file: Annotated[Path, typer.Argument(help="Where to write JSON lines.")]) -> None:
    """Write the whole chain into a file that verifies by itself: ai-assets audit verify --file FILE."""
    with stores_to_read().state.read() as connection, file.open("w", encoding="utf-8") as out:
        lines = [out.write(line + "\n") for line in proof.export(connection)]
    console.print(f"{len(lines) - 1} records written to {file}")


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
