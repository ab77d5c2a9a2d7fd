"""`ai-assets new`: a collection scaffolded from a folder, with its guesses explained in comments."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from ai_assets.base.collection_files import DEFS_FILE, FOLDER
from ai_assets.base.home import DEFINITIONS_FILE
from ai_assets.base.plural import plural
from ai_assets.cli.errors import CollectionExists, NothingToScaffold
from ai_assets.cli.output import console, errors, home, stores
from ai_assets.cli.scaffold_entry import write_all
from ai_assets.cli.scaffold_route import WrittenEndpoint, endpoint_for, prompt_text
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.label_proposals import propose
from ai_assets.collection.loading import check_name, load_collection
from ai_assets.collection.partition_guess import guess
from ai_assets.collection.sampling_texts import sample_texts
from ai_assets.collection.scaffolding import (
    PROMPT_FILE,
    STAGE,
    ModelStage,
    defs,
    said_of,
    skipped_in_words,
    unknown_author,
)
from ai_assets.collection.survey import Survey, survey
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
    route: Annotated[
        str | None,
        typer.Option(metavar="ROUTE", help="Add a stage that asks a model on this route, with proposed labels."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where the model is, if inference.yaml has no such route; or: rehearsal."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
) -> None:
    """Scaffold collections/NAME/defs.yaml from what lies in a folder. The documents stay where they are."""
    check_name(name)
    if route is None and (base_url or model):
        raise typer.BadParameter("--base-url and --model describe the endpoint of --route; name that too")
    root = home().project / FOLDER
    path = root / name / DEFS_FILE
    if path.exists():
        raise CollectionExists(path)
    if name in (known := Catalog(home()).entries()):
        raise CollectionExists(known[name].file)
    endpoint = endpoint_for(route, home().inference, base_url, model) if route else None
    where = source if "://" in source else str(Path(source).expanduser().resolve())
    place = Source.at(where)
    with console.status(f"Looking at {where}") as progress:
        found = survey(place.look(), _telling(progress, where))
        if not found.documents:
            raise NothingToScaffold(where, found)
        stage = _stage(route, place, found, progress) if route else None
    fitting = guess(name, [file.path for file in found.documents])
    text = defs(name, where, found, fitting, unknown_author(_approvers(name)), stage)
    files = {path: text, **({root / name / PROMPT_FILE: prompt_text(name)} if stage else {})}
    declared = {endpoint.declared: endpoint.text} if endpoint else {}
    write_all(name, files, declared, lambda: load_collection(root, name))
    _begin_project(home().project)
    _say(found)
    console.print(f"Wrote {path}: {plural(len(found.documents), 'document file')}, {fitting.reason}.")
    if stage is not None:
        _say_stage(stage, root / name, endpoint)
    console.print(f"Read it, then:  ai-assets run {name}")


def _telling(progress: Status, where: str) -> Callable[[int], None]:
    """On a terminal in place, elsewhere a line each."""

    def tell(number: int) -> None:
        said = f"Looking at {where}: {plural(number, 'file')} so far"
        if console.is_terminal:
            progress.update(said)
        else:
            errors.print(said)

    return tell


def _stage(route: str, place: Source, found: Survey, progress: Status) -> ModelStage:
    """The stage with labels proposed from a sample of the documents."""
    from ai_assets.embedding.builtin import BuiltinEmbedder

    if not console.is_terminal:
        errors.print("Reading a sample of the documents, to propose labels")
    texts = sample_texts(
        place,
        found.documents,
        lambda number, all_: progress.update(f"Reading a sample: {number} of {plural(all_, 'document')}"),
    )
    return ModelStage(route=route, labels=propose(texts, BuiltinEmbedder()), sampled=len(texts))


def _say(found: Survey) -> None:
    console.print(said_of(found))
    if found.skipped:
        console.print(f"Skipped are {plural(found.skipped_files, 'file')}:")
        for line in skipped_in_words(found):
            console.print(f"  {line}")
    for problem, number in found.unreadable:
        console.print(f"{number} of the documents will be quarantined: {problem}.")


def _say_stage(stage: ModelStage, folder: Path, endpoint: WrittenEndpoint | None) -> None:
    labels = ", ".join(label.name for label in stage.labels) or "placeholders: too few documents to propose any"
    console.print(
        f"Stage {STAGE} asks route {stage.route}; labels proposed from {plural(stage.sampled, 'document')}: {labels}."
    )
    console.print(f"Edit the labels there and the prompt in {folder / PROMPT_FILE}.")
    if endpoint is not None:
        edit = f"; before a call fill in {', '.join(endpoint.to_edit)}" if endpoint.to_edit else ""
        console.print(f"Wrote endpoint '{endpoint.name}' to {endpoint.declared}{edit}.")


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
