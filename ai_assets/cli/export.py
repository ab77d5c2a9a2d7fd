"""`ai-assets export`: a release as files for other engines."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import AsJson, CollectionName, collection, console, errors, print_json
from ai_assets.reading import published
from ai_assets.reading.errors import HomeMissing
from ai_assets.reading.export import Format
from ai_assets.reading.export import export as write
from ai_assets.signoff.errors import NothingLive


def export(
    name: CollectionName,
    to: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of its own; an earlier export is replaced.")],
    into: Annotated[Format, typer.Option("--format", help="What other engines read.")] = "parquet",
    release: Annotated[int | None, typer.Option(min=1, help="Another release than the live one.")] = None,
    as_json: AsJson = False,
) -> None:
    """The live release as Parquet, JSON lines, a Delta or an Iceberg table, with labels, vectors and who signed."""
    try:
        found = published.live(name)
    except HomeMissing:
        collection(name, signed=True)
        raise NothingLive(name) from None
    chosen = found if release is None else found.release(release)
    exported = write(chosen, to, into, errors.print)
    if as_json:
        print_json({"collection": name, "release": chosen.number, "digest": chosen.digest, **asdict(exported)})
        return
    said = "is there already" if exported.was_there else "is written"
    console.print(f"Release {chosen.number} of {name} {said}:")
    for table, place in exported.tables.items():
        console.print(f"  {table}: {place}  ({plural(exported.rows[table], 'row')})")
