"""`ai-assets corrections`: labels that people gave in place of a model's."""

import sys
from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.golden import AsFormat, FromFile
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    collection,
    console,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.collection.loading import Collection
from ai_assets.signoff.corrections import current, of_the_present_text
from ai_assets.signoff.label_files import import_corrections, written

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
    format_: AsFormat = "jsonl",
) -> None:
    """Golden labels, each with its author: as JSON lines they can be the file that `golden.labels` names."""
    chosen, places = collection(name), stores_to_read()
    wanted = _stage_of(chosen, stage)
    with places.state.read() as connection:
        found = [item for item in current(connection, chosen.name).values() if item.stage == wanted]
    lines = [
        {"document": item.document_id, "label": item.label, "author": item.author}
        for item in of_the_present_text(places, found)
    ]
    sys.stdout.write(written(lines, ("document", "label", "author"), format_))


@app.command("import")
def import_file(
    name: CollectionName,
    file: FromFile,
    stage: Annotated[
        str | None, typer.Option("--stage", help="Which stage's; the judged or only one by default.")
    ] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Corrections of a file (document, label, author, reason); a file with a mistake is refused as a whole."""
    chosen, person = collection(name), signer(by)
    wanted = _stage_of(chosen, stage)
    labelling = next(item for item in chosen.labelling if item.name == wanted)
    found = import_corrections(stores(), chosen, labelling, file, by=person)
    if as_json:
        print_json({"recorded": len(found)})
        return
    console.print(
        f"Corrected in {name}: {plural(len(found), 'label')}. The next run uses "
        f"what is corrected:  ai-assets run {name}"
    )


def _stage_of(chosen: Collection, stage: str | None) -> str:
    names = [item.name for item in chosen.labelling]
    wanted = stage or chosen.settings.golden.labels_stage or (names[0] if len(names) == 1 else None)
    if wanted not in names:
        found = (
            f"no classify stage '{wanted}'" if wanted else "several classify stages" if names else "none that labels"
        )
        raise typer.BadParameter(f"{chosen.name} has {found}; name one with --stage ({', '.join(names) or 'none'})")
    return str(wanted)
