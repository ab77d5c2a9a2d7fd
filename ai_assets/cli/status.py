"""`ai-assets status`: where every partition and document stands."""

from collections import Counter
from typing import Annotated, Any

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.asking_again import say_waiting, show_people
from ai_assets.cli.checkpoints import say_problems
from ai_assets.cli.output import (
    AsJson,
    all_collections,
    collection,
    console,
    led,
    money,
    print_json,
    stores_to_read,
    table,
)
from ai_assets.cli.window_waiting import plain, say_windows
from ai_assets.collection.loading import Collection
from ai_assets.inference.in_flight import InFlight, in_flight
from ai_assets.inference.prices import usd_of
from ai_assets.run.partition_states import PartitionState
from ai_assets.run.status import CollectionStatus, collection_status
from ai_assets.signoff.golden_status import golden_status
from ai_assets.storage.stores import Stores

MOST_SHOWN = 40
SETTLED: tuple[PartitionState, ...] = ("published", "up to date", "empty")
"""Of more partitions than are shown, those in these states are counted."""


def status(
    name: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="One collection; all by default.")] = None,
    disk: Annotated[bool, typer.Option("--disk", help="What takes how much of the disk, and what may go.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="All partitions of the collection, not only those that need something.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Partitions by state and documents by state, as last observed."""
    if disk:
        from ai_assets.cli.retention import show_disk

        show_disk(as_json=as_json)
        return
    places = stores_to_read()
    found = [
        collection_status(chosen, places)
        for chosen in ([collection(name, signed=True)] if name else all_collections(signed=True))
    ]
    with places.state.read() as connection:
        flying = {item.collection: in_flight(connection, collections=[item.collection]) for item in found}
        of_all = in_flight(connection)
    if as_json:
        print_json([{**_plain(item), **flying[item.collection].described()} for item in found])
        return
    if not found:
        console.print("There is no collection yet. Make one: ai-assets new NAME --from FOLDER")
    for item in found:
        _show(item, details=name is not None, everything=everything)
        say_windows(places, item.windows)
        if name is not None:
            _show_golden(collection(name, signed=True), places)
        _show_flying(f"{item.collection}: ", flying[item.collection])
    if name is None and of_all not in flying.values():
        _show_flying("All calls of this ledger: ", of_all)
    say_problems(places)


def _show_flying(whose: str, found: InFlight) -> None:
    if found.calls:
        what = plural(found.calls, "call")
        console.print(f"{whose}in flight now: {what}, {money(usd_of(found.reserved_nusd))} reserved")
    if found.maybe_attempts:
        what = plural(found.maybe_attempts, "attempt")
        most = money(usd_of(found.maybe_nusd))
        console.print(f"{whose}{what} may have been billed, {most} at most: ai-assets ledger ambiguous")


def _show_golden(chosen: Collection, places: Stores) -> None:
    """How many golden labels are missing before each gate on accuracy can be decided."""
    if chosen.judged_stage is None or not chosen.judges_labels:
        return
    found = golden_status(chosen, places)
    for gate in found.gates:
        console.print(f"Golden labels: {gate.gate}: {gate.standing.in_words}")
    if found.waiting:
        console.print(
            f"{plural(found.waiting, 'drawn document waits', 'drawn documents wait')} "
            "for a golden label. On the desk: /golden"
        )


def _plain(item: CollectionStatus) -> dict[str, Any]:
    waiting = {key: each.plain for key, each in item.waiting.items()}
    return {
        **vars(item),
        "targets": [vars(state) for state in item.targets],
        "adaptations": [vars(each) for each in item.adaptations],
        "waiting": waiting,
        "windows": [plain(wait) for wait in item.windows],
        "need_a_person": [vars(retry) for retry in item.need_a_person],
    }


def _show_partitions(item: CollectionStatus, *, everything: bool) -> None:
    """All of a few; of many, the newest of those that are not as they should be."""
    every = list(item.partitions.items())
    if everything or len(every) <= MOST_SHOWN:
        table("", ("partition", "state"), every)
        return
    exceptional = [(key, state) for key, state in every if state not in SETTLED]
    if exceptional:
        table("", ("partition", "state"), exceptional[-MOST_SHOWN:])
    if (more := len(exceptional) - MOST_SHOWN) > 0:
        console.print(
            f"... and {plural(more, 'earlier partition is', 'earlier partitions are')} "
            "not settled (--all shows every partition)."
        )
    console.print(
        f"{plural(len(every) - len(exceptional), 'partition is', 'partitions are')} "
        f"{', '.join(SETTLED)} (--all shows them)."
    )


def _show(item: CollectionStatus, *, details: bool, everything: bool) -> None:
    live = f"release {item.live_release} is live" if item.live_release else "nothing is live yet"
    counts = Counter(item.partitions.values())
    table(
        f"{item.collection}: {live}",
        ("partitions", "number"),
        [(state, number) for state, number in counts.most_common()],
        ("number",),
    )
    for state in item.targets:
        serves = f"serves release {state.serves}" if state.serves else "serves nothing yet"
        again = (
            f"; {state.error} (tried {plural(state.tries, 'time')}, again from {state.next_try_at} UTC)"
            if state.error
            else ""
        )
        console.print(f"{state.target} {serves}{again}")
    if item.documents:
        rows = [(state, number) for state, number in item.documents.items() if number]
        table("", ("documents", "number"), rows, ("number",))
    for adapted in item.adaptations:
        console.print(adapted.sentence(item.collection))
    if item.documents.get("held"):
        console.print(f"Held documents wait for a person: ai-assets held list {item.collection}, or on the desk: /held")
    if item.unassigned:
        console.print(f"{item.unassigned} file(s) of the source belong to no partition.")
    if details:
        _show_partitions(item, everything=everything)
    say_waiting(item.collection, item.waiting)
    if details:
        show_people(item.need_a_person)
    for partition, reasons in item.forbidden.items():
        console.print(led(f"{partition} is approved, and policy forbids it:", "red", f" {'; '.join(reasons)}"))
    for partition, error in item.errors.items():
        console.print(led(f"{partition} failed:", "red", f" {error}"))
