"""`ai-assets publish` and `ai-assets releases`: what is live, what was, and the way back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    By,
    CollectionName,
    collection,
    console,
    errors,
    home,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.collection.loading import Collection
from ai_assets.run import going_live, released
from ai_assets.run.released import ReleasedFilter
from ai_assets.signoff import live_index, releases, requests, timestamps
from ai_assets.signoff.errors import NothingApproved
from ai_assets.signoff.policy_facts import require_access
from ai_assets.signoff.publication import anything_to_publish
from ai_assets.signoff.releases import Release
from ai_assets.storage.stores import Stores
from ai_assets.targets import serving

app = typer.Typer(help="What is live, what was live, and the way back.", no_args_is_help=True)


def publish(name: CollectionName, as_json: AsJson = False) -> None:
    """Publish what is approved, now: the same Dagster run that the sensor asks for."""
    chosen = collection(name)
    places = stores()
    with places.state.read() as connection:
        behind = serving.due(connection, chosen, at_once=True)
    if not behind and not anything_to_publish(chosen, places):
        if _shown_again(places, name):
            return
        with places.state.read() as connection:
            raise NothingApproved(name, requests.count_open(connection, name))
    from ai_assets.orchestration import in_process
    from ai_assets.orchestration.component import collection_definitions
    from ai_assets.orchestration.instance import instance

    with instance(home()) as dagster:
        job = collection_definitions(chosen).resolve_job_def(f"{name}__publish")
        result = in_process.execute(job, dagster, {})
    if not result.success:
        console.print(f"failed: {in_process.why(result)}", style="red")
        raise typer.Exit(1)
    with places.state.read() as connection:
        live = releases.require_live(connection, name)
    if as_json:
        print_json(asdict(live))
        return
    console.print(
        f"Release {live.number} of {name} is live: {plural(live.documents, 'document')} "
        f"in {plural(len(live.parts), 'partition')}."
    )
    _say_targets(chosen, places)
    console.print(f'Ask it:  ai-assets search {name} "..."')


def _shown_again(places: Stores, name: str) -> bool:
    """Where a kill or another hand left tag or `live.json` of the index on another release than the live one."""
    with places.state.read() as connection:
        found = live_index.difference(places, connection, name, whole=True)
    if found is None:
        return False
    live_index.show(places, name, errors.print)
    console.print(f"{name}: {found}. Put right; nothing else was to be published.")
    return True


def _say_targets(chosen: Collection, places: Stores) -> None:
    with places.state.read() as connection:
        for state in serving.states(connection, chosen):
            serves = f"serves release {state.serves}" if state.serves else "serves nothing yet"
            console.print(f"{state.target} {serves}{f': {state.error}' if state.error else ''}")


@app.command("list")
def list_releases(name: CollectionName, as_json: AsJson = False) -> None:
    """All releases, and which one is live."""
    collection(name, signed=True)
    with stores_to_read().state.read() as connection:
        found = releases.find(connection, name)
        live = releases.live(connection, name)
        pruned = releases.pruned(connection, name)
    number = live.number if live else None
    if as_json:
        print_json(
            [{**asdict(item), "live": item.number == number, "pruned_at": pruned.get(item.number)} for item in found]
        )
        return
    if not found:
        console.print(f"{name} has no release yet.")
        return
    rows = [
        (
            "●" if r.number == number else "",
            r.number,
            r.created_at[:16],
            r.created_by,
            len(r.parts),
            r.documents,
            r.digest[:12],
            f"no: files removed {pruned[r.number][:10]}" if r.number in pruned else "yes",
        )
        for r in found
    ]
    columns = ("live", "release", "since (UTC)", "by", "partitions", "documents", "digest", "can be rolled back to")
    table(f"Releases of {name}", columns, rows, ("release", "partitions", "documents"))


@app.command("show")
def show(
    name: CollectionName,
    number: Annotated[int | None, typer.Argument(help="Which release; the live one by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Partitions of a release: digests, files, who signed."""
    collection(name, signed=True)
    places = stores_to_read()
    with places.state.read() as connection:
        found = releases.require_live(connection, name) if number is None else releases.get(connection, name, number)
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        (key, part.released, part.chunks, ", ".join(part.approved_by), part.digest[:12], part.run_id[:8])
        for key, part in found.parts.items()
    ]
    columns = ("partition", "documents", "chunks", "approved by", "digest", "run")
    table(f"Release {found.number} of {name}, digest {found.digest[:12]}", columns, rows, ("documents", "chunks"))


@app.command("documents")
def documents(
    name: CollectionName,
    number: Annotated[int | None, typer.Argument(help="Which release; the live one by default.")] = None,
    text: Annotated[str, typer.Option(help="Only with these characters in its name or title.")] = "",
    partition: Annotated[str, typer.Option(help="Only of this partition.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many at the beginning.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Documents of a release, with what is said of each."""
    chosen, places = collection(name, signed=True), stores_to_read()
    release = _release(places, name, number)
    only = ReleasedFilter(text=text, partition=partition)
    found = released.page_of(places, chosen, release, first=skip, most=limit, only=only)
    if as_json:
        print_json({"release": release.number, **asdict(found)})
        return
    rows = [(line.document_id, line.partition, line.status, _said(line.headlines)) for line in found.lines]
    table(f"Release {release.number} of {name}", ("document", "partition", "state", "what is said of it"), rows)
    console.print(f"{len(found.lines)} of {found.total}")


@app.command("diff")
def diff(
    name: CollectionName,
    base: Annotated[int, typer.Argument(metavar="FROM", help="The release to go from.")],
    other: Annotated[
        int | None, typer.Argument(metavar="[TO]", help="The release to go to; the live one by default.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many documents, without --json.")] = 50,
    as_json: AsJson = False,
) -> None:
    """What readers see otherwise in another release: documents added, removed and changed, and labels."""
    chosen, places = collection(name, signed=True), stores_to_read()
    with places.state.read() as connection:
        one = releases.get(connection, name, base)
    found = released.difference(places, chosen, one, _release(places, name, other))
    if as_json:
        print_json(asdict(found))
        return
    counted = ", ".join(f"{number} {move}" for move, number in found.counts.items() if number) or "nothing"
    console.print(f"{name}, from release {found.base} to {found.other}: {counted}", style="bold")
    moved = [(move.move, move.document_id, move.partition, _moves(move.labels)) for move in found.moves[:limit]]
    if moved:
        table("", ("change", "document", "partition", "labels"), moved)
    if len(found.moves) > limit:
        console.print(f"and {len(found.moves) - limit} more (--limit)")


def _release(places: Stores, name: str, number: int | None) -> Release:
    """With files that can be read."""
    with places.state.read() as connection:
        found = releases.require_live(connection, name) if number is None else releases.get(connection, name, number)
        released.require_files(connection, found)
    return found


def _said(headlines: Mapping[str, str | None]) -> str:
    return "; ".join(f"{stage}: {text}" for stage, text in headlines.items() if text)


def _moves(labels: Mapping[str, tuple[str | None, str | None]]) -> str:
    return "; ".join(f"{stage}: {was or 'nothing'} -> {now or 'nothing'}" for stage, (was, now) in labels.items())


@app.command("at")
def at(
    name: CollectionName,
    moment: Annotated[str, typer.Argument(help="A date, or a date and time (UTC): 2026-11-21 or 2026-11-21T14:30.")],
    as_json: AsJson = False,
) -> None:
    """What readers saw at that time."""
    collection(name, signed=True)
    with stores_to_read().state.read() as connection:
        found = releases.live_at(connection, name, timestamps.moment(moment, end=True))
    if as_json:
        print_json(None if found is None else asdict(found))
    elif found is None:
        console.print(f"{name} had no live release at {moment} (UTC).")
    else:
        console.print(
            f"Release {found.number} of {name} was live: {plural(found.documents, 'document')}, {found.digest[:12]}."
        )


@app.command("rollback")
def rollback(
    name: CollectionName,
    to: Annotated[
        int | None, typer.Option("--to", help="Which release; the one before the live one by default.")
    ] = None,
    by: By = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Recorded in the audit chain.")] = None,
    as_json: AsJson = False,
) -> None:
    """Point readers at another release, in one step. Nothing is deleted; rolling forward is the same command."""
    chosen, places = collection(name, signed=True), stores()
    person = signer(by)
    require_access(chosen, person, "roll back")
    target = going_live.roll_back(chosen, places, to, by=person, reason=reason, say=errors.print)
    serving.serve(chosen, places, errors.print)
    if as_json:
        print_json(asdict(target))
    else:
        console.print(f"Release {target.number} of {name} is live: {plural(target.documents, 'document')}.")
        _say_targets(chosen, places)
