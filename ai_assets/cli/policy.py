"""`ai-assets policy`: testing rules in Rego, trying them on what is there, and beginning with the default ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.base.errors import FileUnwritable
from ai_assets.base.home import project_directory
from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    collection,
    console,
    home,
    led,
    print_json,
    stores_to_read,
    table,
)
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.policy.documents import AccessInput, PolicyInput, PublicationInput, as_input
from ai_assets.policy.errors import NoPolicy, PolicyThere
from ai_assets.policy.files import FOLDER, SUBJECTS, PolicySet, Subject
from ai_assets.policy.testing import PolicyTestResult, run_tests
from ai_assets.policy.verdict import require_sound, verdict
from ai_assets.run.spending_policy import SpendingQuestion
from ai_assets.signoff import decisions, people, releases, requests
from ai_assets.signoff.errors import RequestUnknown
from ai_assets.signoff.frozen_candidate import current_candidate
from ai_assets.signoff.launches import Launch
from ai_assets.signoff.people import Person
from ai_assets.signoff.policy_facts import NOBODY, access_input, publication_input
from ai_assets.storage.stores import Stores

app = typer.Typer(help="Rules in Rego that may forbid to publish, to spend or to act.", no_args_is_help=True)
DEFAULT = Path(__file__).parents[1] / "policy" / "default"


@app.command("test")
def run_the_tests(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the `test_` rules of the policies, and say which fail. Exit code 1 where one does."""
    found = _results(name)
    if as_json:
        print_json([{**vars(each), "path": str(each.path)} for each in found])
    else:
        for each in found:
            if not each.passed:
                why = f": {each.problem}" if each.problem else ""
                console.print(led("failed", "bold red", f" {each.path}:{each.line}: {each.name}{why}"))
        failed = sum(not each.passed for each in found)
        console.print(f"{len(found) - failed} of {plural(len(found), 'test')} pass.")
    if not all(each.passed for each in found):
        raise typer.Exit(1)


def _results(name: str | None) -> list[PolicyTestResult]:
    """Those of the project once, however many collections they hold for."""
    found: dict[tuple[Path, int], PolicyTestResult] = {}
    for policies in _policies(name):
        require_sound(policies)
        found |= {(each.path, each.line): each for each in run_tests(policies)}
    return list(found.values())


def _policies(name: str | None) -> list[PolicySet]:
    """By folder: a broken policy keeps its collection from being loaded, and this must still say why."""
    catalog = Catalog(home())
    entries = catalog.entries()
    if name is not None and name not in entries:
        collection(name)  # says that there is none
    chosen = [entries[name]] if name is not None else list(entries.values())
    folders = [entry.file.parent for entry in chosen]
    found = [PolicySet.of(folder, project_directory(folder)) for folder in folders]
    if name is not None and not found[0]:
        raise NoPolicy(name)
    return [each for each in found if each]


@app.command("try")
def try_(
    name: CollectionName,
    partition: Annotated[
        str | None, typer.Argument(metavar="[PARTITION]", help="Whose request; by default of each that waits.")
    ] = None,
    rules: Annotated[str, typer.Option(help="publication, spending or access.")] = "publication",
    by: Annotated[
        str | None, typer.Option("--by", help="Of access rules: who is asked about; by default nobody.")
    ] = None,
    action: Annotated[
        str, typer.Option(help="Of access rules: open, start, approve, reject, send back or roll back.")
    ] = "start",
    as_json: AsJson = False,
) -> None:
    """Show what the policies are asked about what is there now, and what they say. Nothing is changed."""
    subject = _subject(rules)
    chosen = collection(name, signed=True)
    policies = chosen.policies
    if not policies:
        raise NoPolicy(name)
    with stores_to_read() as places:
        asked: Mapping[str, PolicyInput]
        match subject:
            case "publication":
                asked = _publications(chosen, places, partition)
            case "spending":
                question = SpendingQuestion(
                    collection=chosen,
                    stores=places,
                    inference=Catalog(home()).inference_of(name),
                    partitions=[partition] if partition is not None else [],
                    launch=Launch(),
                )
                asked = {name: question.input}
            case "access":
                asked = {name: _access(chosen, places, by, action, partition)}
    said = {what: verdict(policies, subject, document) for what, document in asked.items()}
    if as_json:
        print_json([
            {"about": what, "input": as_input(document), "deny": list(said[what].denied), "policy": policies.digest}
            for what, document in asked.items()
        ])  # fmt: skip
        return
    for what, document in asked.items():
        console.print(f"{what}: input", style="bold")
        print_json(as_input(document))
        _say(what, said[what].denied)
    if not asked:
        console.print(f"No candidate of {name} waits. Make one: ai-assets run {name}")


def _say(what: str, denied: tuple[str, ...]) -> None:
    if not denied:
        console.print(led(f"{what}: ", "bold", "nothing is forbidden."))
    for reason in denied:
        console.print(led(f"{what}: forbidden:", "bold red", f" {reason}"))


def _subject(asked: str) -> Subject:
    found = next((subject for subject in SUBJECTS if subject == asked), None)
    if found is None:
        raise typer.BadParameter(f"'{asked}' is none of {', '.join(SUBJECTS)}", param_hint="--rules")
    return found


def _publications(chosen: Collection, places: Stores, partition: str | None) -> dict[str, PublicationInput]:
    with places.state.read() as connection:
        found = requests.find(connection, chosen.name, statuses=("open", "approved"))
        if partition is not None:
            latest = requests.latest_of(connection, chosen.name, partition)
            if latest is None:
                raise RequestUnknown(chosen.name, partition, None)
            found = [latest]
        standings = decisions.standings(connection, found)
        before = releases.live(connection, chosen.name)
    asked = {}
    for request in found:
        candidate = current_candidate(places.lake, chosen.name, request.partition)
        if candidate is not None:
            standing = standings[request.request_id]
            asked[request.partition] = publication_input(chosen, request, standing, candidate, before)
    return asked


def _access(chosen: Collection, places: Stores, by: str | None, action: str, partition: str | None) -> AccessInput:
    person = NOBODY
    if by is not None:
        with places.state.read() as connection:
            name = people.known_as(by)
            person = people.find(connection, name) or Person(name=name)
    return access_input(chosen, person, action, partition)


@app.command("init")
def init(
    name: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="Beside this one; by default for the whole project.")
    ] = None,
) -> None:
    """Copy the default policy to where it can be read, tested and made stricter. Nothing is overwritten."""
    base = home().project if name is None else _folder_of(name)
    folder = base / FOLDER
    files = sorted(DEFAULT.glob("*.rego"))
    for file in files:
        if (folder / file.name).exists():
            raise PolicyThere(folder / file.name)
    try:
        folder.mkdir(exist_ok=True)
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())
    except OSError as error:
        raise FileUnwritable(folder, error) from error
    table("Written", ("file", "what"), [(folder / file.name, _first_comment(file)) for file in files])
    console.print(f"Test it: ai-assets policy test{'' if name is None else f' {name}'}")


def _folder_of(name: str) -> Path:
    entries: Mapping[str, Any] = Catalog(home()).entries()
    found: Path = entries[name].file.parent if name in entries else collection(name).folder
    return found


def _first_comment(file: Path) -> str:
    return file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
