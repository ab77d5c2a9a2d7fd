"""`ai-assets verify`: the bytes of all that is kept, against what was written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.cli.output import AsJson, collection, console, drawn_bar, errors, print_json, stores_to_read, table
from ai_assets.signoff.integrity import Advance, Area
from ai_assets.signoff.integrity import verify as verify_all


def verify(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check lake, released files, search indexes, model cards, warehouse and ledger against what was written.

    Changes nothing, and names the first difference of each. The audit chain is checked by: ai-assets audit verify
    """
    if name is not None:
        collection(name, signed=True)
    with _progress(quiet=as_json) as (advance, done):
        areas = []
        for area in verify_all(stores_to_read(), name, advance):
            areas.append(area)
            done(area)
    if as_json:
        print_json({"whole": not any(area.differences for area in areas), "areas": [asdict(area) for area in areas]})
    else:
        _show(areas)
    if any(area.differences for area in areas):
        raise typer.Exit(1)


def _show(areas: list[Area]) -> None:
    rows = [(area.name, f"{area.checked:,}", f"{area.differences:,}") for area in areas]
    table("", ("area", "checked", "differences"), rows, ("checked", "differences"))
    for area in areas:
        for note in area.notes:
            console.print(f"{area.name}: {note}")
    for area in areas:
        if area.first is not None:
            errors.print(f"{area.name}: {area.first}", style="red")
    if not any(area.differences for area in areas):
        console.print("Everything that was looked at is as it was written. The audit chain: ai-assets audit verify")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[tuple[Advance, Callable[[Area], None]]]:
    """A bar on a terminal; elsewhere a line on standard error as each area is done."""
    if quiet or not console.is_terminal:
        yield (
            lambda _area, _done, _total: None,
            lambda area: None if quiet else errors.print(f"{area.name}: {area.checked:,} checked"),
        )
        return
    with drawn_bar("lake") as update:
        yield (
            lambda area, done, total: update(description=area, completed=done, total=total),
            lambda _area: None,
        )
