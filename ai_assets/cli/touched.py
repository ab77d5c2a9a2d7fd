"""`ai-assets touched`: from a prompt, a model or a call forward to what it published."""

from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.errors import ReachUnclear
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    collection,
    console,
    led,
    money,
    print_json,
    stores_to_read,
    table,
)
from ai_assets.inference import history
from ai_assets.run.touched import By, Touched, TouchedBy
from ai_assets.run.touched import touched as find_touched

SHOWN = 50


def touched(
    name: CollectionName,
    prompt: Annotated[str | None, typer.Option(help="A version of a prompt, as the rows name it.")] = None,
    model: Annotated[str | None, typer.Option(help="A model, as the rows name it.")] = None,
    call: Annotated[str | None, typer.Option(help="A call, by the beginning of its key, or an attempt: 3-17.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only rows of this stage.")] = None,
    as_json: AsJson = False,
) -> None:
    """Which rows and releases a prompt, a model or a call touched, what that cost, and what a backfill would do.

    Releases that are live no more are among them.
    """
    every: list[tuple[By, str | None]] = [("prompt", prompt), ("model", model), ("call", call)]
    given = [(by, value) for by, value in every if value is not None]
    if len(given) != 1:
        raise ReachUnclear
    [(by, value)] = given
    chosen, places = collection(name), stores_to_read()
    if by == "call":
        with places.state.read() as connection:
            value = history.find(connection, value)
    found = find_touched(chosen, places, TouchedBy(by=by, value=value, stage=stage))
    if as_json:
        print_json(found.plain)
        return
    _show(found)


def _show(found: Touched) -> None:
    rows, live = len(found.rows), [release for release in found.releases if release.live]
    more = f", {live[0].rows:,} of them live" if live else ", none of them live"
    unknown = f" ({found.unpriced:,} of unknown price)" if found.unpriced else ""
    console.print(led(
        f"{found.asked.by} {found.asked.value}", "bold",
        f": {plural(rows, 'row')} of {found.collection}{more}; {plural(found.answers, 'answer')}, "
        f"{money(found.cost_usd)}{unknown}",
    ))  # fmt: skip
    told = [
        (release.number, "live" if release.live else "", release.published_at[:16], f"{release.rows:,}",
         ", ".join(release.partitions[:5]) + (" …" if len(release.partitions) > 5 else ""),
         "" if release.files_kept else "files removed; counted by its model card")
        for release in found.releases
    ]  # fmt: skip
    table("Releases", ("release", "", "published (UTC)", "rows", "partitions", ""), told, ("release", "rows"))
    lines = [
        (row.stage, row.partition, row.document, "yes" if row.current else "no",
         ", ".join(map(str, row.releases[:6])) or "none", ", ".join(key[:12] for key in row.calls))
        for row in found.rows[:SHOWN]
    ]  # fmt: skip
    table("Rows", ("stage", "partition", "document", "current", "releases", "call"), lines)
    if rows > SHOWN:
        console.print(f"and {plural(rows - SHOWN, 'more row')}: --json has all")
    for command in found.backfills:
        console.print(f"What making them again would cost: {command}", soft_wrap=True)
    if found.more_backfills:
        console.print(f"and {plural(found.more_backfills, 'more range')} of partitions")
    if found.current and not found.backfills:
        console.print("No model of a route was asked for these rows, so there is nothing to price.")
    elif not found.backfills:
        console.print("No row as computed last says so: a backfill would make nothing of it again.")
