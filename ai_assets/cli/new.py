"""`ai-assets new`: a collection scaffolded from a folder, with its guesses explained in comments."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base.home import DEFINITIONS_FILE
from ai_assets.cli.errors import CollectionExists, NothingToScaffold
from ai_assets.cli.output import console, home, stores
from ai_assets.collection.catalog import FOLDER, Catalog
from ai_assets.collection.loading import DEFS_FILE, check_name, load_collection
from ai_assets.collection.scaffolding import defs, guess, unknown_author
from ai_assets.documents.parse import format_of
from ai_assets.documents.source import Source

DEFINITIONS = '''\
"""The code location: every collection below `collections/`, what watches them, and what they share."""

from pathlib import Path

import dagster as dg

from ai_assets import collection_automation, collection_definitions, load_collections, shared_definitions

COLLECTIONS = load_collections(Path(__file__).parent / "collections")

defs = dg.Definitions.merge(
    *(collection_definitions(collection) for collection in COLLECTIONS),
    *(collection_automation(collection) for collection in COLLECTIONS),
    shared_definitions(COLLECTIONS),
)
'''


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case name; it becomes the folder and the group.")],
    source: Annotated[str, typer.Option("--from", metavar="PATH", help="Folder or s3:// URL with the documents.")],
) -> None:
    """Scaffold collections/NAME/defs.yaml from what lies in a folder. The documents stay where they are."""
    check_name(name)
    root = home().project / FOLDER
    path = root / name / DEFS_FILE
    if path.exists():
        raise CollectionExists(path)
    if name in (known := Catalog(home()).entries()):
        raise CollectionExists(known[name].file)
    where = source if "://" in source else str(Path(source).expanduser().resolve())
    files = list(Source.at(where).list(("**/*",), ()))
    formats = Counter(str(found) for file in files if (found := format_of(file.path)) is not None)
    if not formats:
        raise NothingToScaffold(where, len(files))
    fitting = guess(name, files)
    unknown = unknown_author(_approvers(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(defs(name, where, formats, len(files), fitting, unknown), encoding="utf-8")
    load_collection(root, name)
    _begin_project(home().project)
    console.print(f"Wrote {path}: {sum(formats.values())} document files, {fitting.reason}.")
    console.print(f"Read it, then:  ai-assets run {name}")


def _begin_project(folder: Path) -> None:
    """The definitions of a folder that has none yet, so that Dagster finds the collection."""
    from ai_assets.orchestration.code_location import code_locations

    if not code_locations(folder):
        path = folder / DEFINITIONS_FILE
        path.write_text(DEFINITIONS, encoding="utf-8")
        console.print(f"Wrote {path}: what Dagster loads.")


def _approvers(name: str) -> int:
    """How many people of the store may approve in the new collection."""
    from ai_assets.signoff import people

    with stores().state.read() as connection:
        known = [people.find(connection, account.name) for account in people.everyone(connection)]
    return sum(person is not None and person.may("approver", name) for person in known)
