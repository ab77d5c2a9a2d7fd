"""`ai-assets corrections`: labels that people gave in place of a model's."""

import sys
from typing import Annotated

import typer

from ai_assets.base.printable import readable_json
from ai_assets.cli.output import AsJson, CollectionName, collection, console, print_json, stores_to_read, table
from ai_assets.collection.loading import Collection
from ai_assets.signoff.corrections import current, of_the_present_text

app = typer.Typer(help="Labels that people gave in place of a model's.", no_args_is_help=True)


@app.command("list")
def list_corrections(name: CollectionName, as_json: AsJson = False) -> None:
    """What is in force, and whether its text is still the one that was read."""
    chosen, places = collection(name), stores_to_read()
    with places.state.read() as connection:
        found = list(current(connection, chosen.name).values())
    present = {id(item) for item in of_the_present_text(places, found)}
    if as_json:
        print_json([{**vars(item), "text_unchanged": id(item) in present} for item in found])
        return
    if not found:
        console.print(f"Nothing of {name} is corrected. Labels are corrected on the page of a document: ai-assets desk")
        return
    rows = [
        (
            item.partition, item.document_id, item.stage, item.was or "", item.label or "", item.author,
            item.made_at[:16], item.reason, "" if id(item) in present else "the text changed",
        )
        for item in found
    ]  # fmt: skip
    columns = ("partition", "document", "stage", "was", "label", "by", "when (UTC)", "reason", "")
    table("Corrections", columns, rows)


@app.command("export")
def export(
    name: CollectionName,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Which stage's; the judged or only one by default.")
    ] = None,
) -> None:
    """Golden labels as JSON lines, each with its author: save them as the file that `golden.labels` names."""
    chosen, places = collection(name), stores_to_read()
    wanted = _stage_of(chosen, stage)
    with places.state.read() as connection:
        found = [item for item in current(connection, chosen.name).values() if item.stage == wanted]
    for item in of_the_present_text(places, found):
        line = {"document": item.document_id, "label": item.label, "author": item.author}
        sys.stdout.write(readable_json(line) + "\n")


def _stage_of(chosen: Collection, stage: str | None) -> str:
    names = [item.name for item in chosen.labelling]
    wanted = stage or chosen.settings.golden.labels_stage or (names[0] if len(names) == 1 else None)
    if wanted not in names:
        found = (
            f"no classify stage '{wanted}'" if wanted else "several classify stages" if names else "none that labels"
        )
        raise typer.BadParameter(f"{chosen.name} has {found}; name one with --stage ({', '.join(names) or 'none'})")
    return str(wanted)
