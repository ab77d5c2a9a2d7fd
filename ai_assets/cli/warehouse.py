"""`ai-assets warehouse`: the cost warehouse for analysts and for dbt projects of their own."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.cli.output import AsJson, all_collections, console, home, print_json
from ai_assets.costs.dbt_docs import write_docs
from ai_assets.costs.marts import warehouse_sources
from ai_assets.reading.contract_schemas import dbt_sources
from ai_assets.signoff.contract_draft import said_in_definitions
from ai_assets.storage.shared_warehouse import warehouse_file

app = typer.Typer(help="The cost warehouse: its documentation, and sources for a dbt project.", no_args_is_help=True)


@app.command("docs")
def docs(
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the page is written; beside the warehouse by default.")
    ] = None,
    opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """What dbt documents of every table and column, with where each comes from: one page, for any browser.

    It needs no server and no network. The warehouse is only read.
    """
    page = write_docs(home(), out or home().warehouse.parent / "docs")
    if as_json:
        print_json({"page": str(page)})
    else:
        console.print(f"The documentation of the cost warehouse: {page}")
    if opened:
        webbrowser.open(page.absolute().as_uri())


@app.command("path")
def path(as_json: AsJson = False) -> None:
    """The DuckDB file that is live now: open it to read, and it stays as it is."""
    found = warehouse_file(home())
    if as_json:
        print_json({"path": str(found), "there": found.exists()})
    else:
        sys.stdout.write(f"{found}\n")


@app.command("sources")
def sources() -> None:
    """sources.yml for a dbt project of your own: the marts, and each collection or signed asset with a contract."""
    sys.stdout.write(warehouse_sources())
    for each in all_collections(signed=True):
        if each.contract is not None:
            of_asset = each.signed_asset is not None
            known = said_in_definitions(each)
            [_, *lines] = dbt_sources(each.name, each.contract.contract, known, of_asset=of_asset).splitlines()
            sys.stdout.write("\n".join(lines[lines.index("sources:") + 1 :]) + "\n")
