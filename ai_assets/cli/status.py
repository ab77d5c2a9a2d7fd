"""`ai-assets status`: where every partition and document stands."""

from collections import Counter
from typing import Annotated

import typer

from ai_assets.cli.output import AsJson, all_collections, collection, console, led, print_json, stores_to_read, table
from ai_assets.status import CollectionStatus, collection_status

MOST_SHOWN = 40


def status(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Partitions by state and documents by state, as last observed."""
    places = stores_to_read()
    found = [collection_status(chosen, places) for chosen in ([collection(name)] if name else all_collections())]
    if as_json:
        print_json([vars(item) for item in found])
        return
    if not found:
        console.print("There is no collection yet. Make one: ai-assets new NAME --from FOLDER")
    for item in found:
        _show(item, details=name is not None)


def _show(item: CollectionStatus, *, details: bool) -> None:
    live = f"release {item.live_release} is live" if item.live_release else "nothing is live yet"
    counts = Counter(item.partitions.values())
    table(
        f"{item.collection}: {live}",
        ("partitions", "number"),
        [(state, number) for state, number in counts.most_common()],
        ("number",),
    )
    if item.documents:
        rows = [(state, number) for state, number in item.documents.items() if number]
        table("", ("documents", "number"), rows, ("number",))
    if item.unassigned:
        console.print(f"{item.unassigned} file(s) of the source belong to no partition.")
    if details:
        shown = list(item.partitions.items())
        table("", ("partition", "state"), shown[-MOST_SHOWN:])
        if len(shown) > MOST_SHOWN:
            console.print(f"... and {len(shown) - MOST_SHOWN} earlier partitions (--json has all).")
    for partition, error in item.errors.items():
        console.print(led(f"{partition} failed:", "red", f" {error}"))
