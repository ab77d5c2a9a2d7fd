"""`ai-assets audit`: proof that nothing in the trail was changed."""

import typer

from ai_assets.cli.output import AsJson, console, print_json, stores
from ai_assets.signoff import audit

app = typer.Typer(help="The trail of requests, decisions and releases.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `verify` a subcommand while it is the only one."""


@app.command("verify")
def verify(as_json: AsJson = False) -> None:
    """Walk the chain and hold requests, releases and the live pointer against it; names the first bad record."""
    found = audit.verify(stores().state)
    if as_json:
        print_json(found)
    else:
        console.print(f"The audit chain verifies: {found.records} records, head {found.head}")
