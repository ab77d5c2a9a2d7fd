"""`ai-assets migrate`: make the rows of older built-in parts again, at a price that is said before."""

from dataclasses import replace
from typing import Annotated

import typer

from ai_assets.base.collection_files import DEFS_FILE
from ai_assets.cli.output import AsJson, console, home, print_json, stores_to_read
from ai_assets.cli.output import collection as collection_named
from ai_assets.cli.plan import progress, show
from ai_assets.cli.scaffold_entry import with_key, write_all
from ai_assets.collection.builtins import VERSIONS, BuiltinSettings, newest
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.planning.plan import described
from ai_assets.planning.plan import plan as make_plan


def migrate(
    name: Annotated[str, typer.Argument(metavar="COLLECTION", help="Whose rows are made again.")],
    yes: Annotated[bool, typer.Option("--yes", help="Declare the newest versions in defs.yaml.")] = False,
    as_json: AsJson = False,
) -> None:
    """What it would cost to make the rows of older built-in parts again; with --yes the next run does.

    After an upgrade rows stay as they were signed: what is new is made by the newest parser, chunker and classifier,
    and the rest only if you say so here.
    """
    chosen = collection_named(name)
    older = chosen.settings.builtins.older
    if not older:
        if as_json:
            print_json({"older": {}, "plan": None})
        else:
            console.print(f"Nothing to migrate: no row of {name} can be older than the newest built-in parts.")
        return
    with stores_to_read() as places, progress(quiet=as_json) as (say, advance):
        found = make_plan(migrated(chosen), places, Catalog(home()).inference_of(name), say=say, advance=advance)
    if as_json:
        print_json({"older": {part: list(pair) for part, pair in older.items()}, "plan": described(found)})
    else:
        listed = ", ".join(f"{part} {declared} to {to}" for part, (declared, to) in older.items())
        console.print(f"{listed}: rows are made again, and what people approved of them is asked for again.")
        show(found)
    if yes:
        declare_newest(chosen)
        if not as_json:
            console.print(
                f"Declared in {chosen.folder / DEFS_FILE}. Now: ai-assets run {name}, or ai-assets backfill {name}"
            )
    elif not as_json:
        console.print(f"Nothing was changed. To go on: ai-assets migrate {name} --yes")


def migrated(chosen: Collection) -> Collection:
    """As it would be with the newest versions."""
    builtins = BuiltinSettings(**{part: newest(part) for part in VERSIONS})
    return replace(chosen, settings=chosen.settings.model_copy(update={"builtins": builtins}))


def declare_newest(chosen: Collection) -> None:
    declared = chosen.folder / DEFS_FILE
    inner = ", ".join(f'{part}: "{to}"' for part, (_, to) in chosen.settings.builtins.older.items())
    text = with_key(declared, declared.read_text(encoding="utf-8"), "builtins", f"{{{inner}}}")
    write_all("builtins", {}, {declared: text}, lambda: load_collection(chosen.folder.parent, chosen.name))
