"""`ai-assets canary`: whether the models of the endpoints are still those that they were, and what was made since."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ai_assets.base.errors import UserError
from ai_assets.base.money import in_full
from ai_assets.base.plural import plural
from ai_assets.cli.errors import NoCanaries
from ai_assets.cli.output import (
    AsJson,
    By,
    all_collections,
    console,
    errors,
    home,
    led,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.inference.canary import asking, records
from ai_assets.inference.canary.records import CanaryChange
from ai_assets.inference.canary.status import CanaryStatus, statuses
from ai_assets.inference.errors import CanaryUndeclared
from ai_assets.inference.load import inference_at
from ai_assets.inference.settings import InferenceSettings
from ai_assets.signoff import canaries
from ai_assets.storage.stores import Stores
from ai_assets.telemetry.command_span import canary_span

app = typer.Typer(help="Whether a model was changed under its name, and what was made since.", no_args_is_help=True)
AnEndpoint = Annotated[
    str | None, typer.Argument(metavar="[ENDPOINT]", help="A name under `endpoints`; all with a canary by default.")
]
MOST_SHOWN = 20


@app.command("run")
def run(endpoint: AnEndpoint = None, as_json: AsJson = False) -> None:
    """Ask the fixed set now, and compare. Exits with 1 where a model has changed or does not answer."""
    settings, places = inference_at(home()), stores()
    problems = []
    for name in _named(settings, endpoint):
        canary = asking.declared(name, settings, home().inference)
        if not as_json:
            count = len(canary.questions.questions) * canary.settings.repeats
            errors.print(f"Asking {name} {plural(count, 'question')} ({in_full(canary.settings.budget_usd)} at most) …")
        try:
            asking.asked(canary, settings, places.state, tell=canaries.teller(settings), hear=canary_span(errors.print))
        except UserError as error:
            if endpoint is not None:
                raise
            problems.append(f"{name}: {error}")
    found = _statuses(settings, places, endpoint)
    if as_json:
        print_json({"endpoints": [_plain(each) for each in found], "problems": problems})
    else:
        _show(found)
    for problem in problems:
        errors.print(led("not asked:", "bold red", f" {problem}"))
    if problems or any(each.state in ("changed", "no answer") for each in found):
        raise typer.Exit(1)


@app.command("status")
def status(endpoint: AnEndpoint = None, as_json: AsJson = False) -> None:
    """How each model stands: when it was asked last, whether it is alike, and what waits to be accepted."""
    settings = inference_at(home())
    if endpoint is not None:
        _named(settings, endpoint)
    found = _statuses(settings, stores_to_read(), endpoint)
    if as_json:
        print_json({"endpoints": [_plain(each) for each in found]})
    else:
        _show(found)


@app.command("changes")
def changes(
    endpoint: AnEndpoint = None,
    rows: Annotated[bool, typer.Option("--rows", help="Each row that was made after a change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Changes of models that were found, the newest first, with the rows and releases that were made after each."""
    settings, places = inference_at(home()), stores_to_read()
    if endpoint is not None and endpoint not in settings.endpoints:
        raise CanaryUndeclared(endpoint, list(settings.endpoints), asking.canaries(settings), home().inference)
    with places.state.read() as connection:
        found = records.changes_of(connection, endpoint)[::-1]
    described = [_described(places, change) for change in found]
    if as_json:
        print_json({"changes": described})
        return
    if not found:
        console.print("No change of a model was found.")
    for change, said in zip(found, described, strict=True):
        _show_change(change, said, rows=rows)


@app.command("accept")
def accept(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Whose model has changed.")],
    reason: Annotated[str, typer.Option("--reason", help="Why the new model will do; recorded with it.")] = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Take the changed model as the new baseline; what was made with it is held back no more. For administrators."""
    settings = inference_at(home())
    if endpoint not in settings.endpoints:
        raise CanaryUndeclared(endpoint, list(settings.endpoints), asking.canaries(settings), home().inference)
    who, state = signer(by), stores().state
    with state.write() as connection:
        taken = canaries.accept(connection, endpoint, by=who, reason=reason)
    if as_json:
        print_json({"endpoint": endpoint, "accepted": [each.change_id for each in taken], "by": who.name})
        return
    for change in taken:
        console.print(f"accepted: {change.sentence}")
    console.print(f"By {who.name}. The runs since then are the beginning of a new baseline.")


def _named(settings: InferenceSettings, endpoint: str | None) -> list[str]:
    declared = asking.canaries(settings)
    if endpoint is not None:
        asking.declared(endpoint, settings, home().inference)
        return [endpoint]
    if not declared:
        raise NoCanaries(home().inference)
    return declared


def _statuses(settings: InferenceSettings, places: Stores, endpoint: str | None) -> list[CanaryStatus]:
    with places.state.read() as connection:
        return statuses(connection, settings, [endpoint] if endpoint is not None else [])


def _plain(found: CanaryStatus) -> dict[str, Any]:
    return {**asdict(found), "changes": [{**asdict(each), "dated": each.dated} for each in found.changes]}


def _show(found: Sequence[CanaryStatus]) -> None:
    if not found:
        console.print("No endpoint of inference.yaml declares a canary (docs/canary.md).")
        return
    rows = [
        (each.endpoint, each.model, each.state, (each.last_at or "")[:16], (each.due_at or "now")[:16], each.runs,
         each.blocks, in_full(each.cost_usd)) for each in found
    ]  # fmt: skip
    columns = ("endpoint", "model", "state", "last asked (UTC)", "next (UTC)", "runs", "blocks", "cost")
    table("Canaries", columns, rows, ("runs", "cost"))
    for each in found:
        style = "bold red" if each.state in ("changed", "no answer") else "bold"
        console.print(led(f"{each.endpoint}: ", style, each.said))
        if each.changes:
            console.print(f"  What was made since: ai-assets canary changes {each.endpoint}")
            console.print(f"  Take it as it is:    ai-assets canary accept {each.endpoint} --reason WHY")


def _described(places: Stores, change: CanaryChange) -> dict[str, Any]:
    with places.state.read() as connection:
        made = canaries.rows_after(connection, change)
    named = {row.collection for row in made}
    known = [each.name for each in all_collections(signed=True) if each.name in named]
    found = [asdict(each) for name in known for each in canaries.releases_after(places, change, name)]
    return {**asdict(change), "dated": change.dated, "rows": [asdict(row) for row in made], "releases": found}


def _show_change(change: CanaryChange, said: dict[str, Any], *, rows: bool) -> None:
    console.print(led(f"{change.change_id}: ", "bold red" if change.open else "bold", change.sentence))
    if not change.open:
        console.print(f"  accepted by {change.accepted_by} at {str(change.accepted_at)[:16]} UTC: {change.reason}")
    by_place = Counter((row["collection"], row["asset"], row["partition"]) for row in said["rows"])
    if not by_place:
        console.print("  no row was made after it")
    for (collection, asset, partition), number in list(by_place.items())[:MOST_SHOWN]:
        console.print(f"  {collection}/{asset} {partition}: {plural(number, 'answer')} since")
        for row in said["rows"] if rows else ():
            if (row["collection"], row["asset"], row["partition"]) == (collection, asset, partition):
                console.print(f"    {row['document']}  {row['sent_at'][:19]}  {row['call'][:12]}")
    if len(by_place) > MOST_SHOWN:
        console.print(f"  ... and {len(by_place) - MOST_SHOWN} more (--json has all)")
    for release in said["releases"]:
        live = ", live" if release["live"] else ""
        console.print(
            f"  release {release['number']} of {release['collection']}{live}: {', '.join(release['partitions'])}"
        )
