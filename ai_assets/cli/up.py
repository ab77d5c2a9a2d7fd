"""`ai-assets up`: Dagster, the desk and the code, until Ctrl-C. In a new home the collections run once."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import sqlalchemy as sa
import typer

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.extras import need
from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.cli.output import all_collections, console, stores
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START, consecutive
from ai_assets.desk.settings import load_desk
from ai_assets.documents.source_listing import observe
from ai_assets.run.status import partition_states
from ai_assets.signoff import audit, people
from ai_assets.signoff.launches import Launcher, issued_or_said
from ai_assets.signoff.passwords import hashed, random_password
from ai_assets.storage.patience import RUN_PATIENCE_S
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from ai_assets.ops.supervisor import Supervisor

POLL_S = 1.0
REVIEWER = "reviewer"


def up(
    port: Annotated[int, typer.Option(help="Port of Dagster's pages.")] = 3000,
    desk_port: Annotated[int | None, typer.Option(help="Port of the sign-off desk; the next one by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    first_run: Annotated[bool, typer.Option(help="Run the collections once when the home is new.")] = True,
) -> None:
    """Start Dagster's pages and daemon and the sign-off desk, and keep them running until Ctrl-C."""
    need("desk", "`ai-assets up`, with Dagster's pages and the sign-off desk,")
    from ai_assets.ops.supervisor import Supervisor

    all_collections()  # a mistake in one is reported before anything starts
    home = Home.from_environment()
    desk = load_desk(home.desk)
    places = stores()
    places.state.patience_s = RUN_PATIENCE_S
    with places.state.write() as connection:
        audit.begin(connection)  # makes the keys in a new home; Dagster's processes must not
    with Supervisor(home, host=host, port=port, desk_port=desk_port, desk_url=desk.url) as supervisor:
        supervisor.start()
        with console.status("starting") if console.is_terminal else _PlainProgress() as shown:
            supervisor.wait_until_healthy(on_progress=lambda line: shown.update(f"{line} …"))
        chosen = all_collections()  # definitions have recorded theirs by now
        for note in supervisor.notes:
            console.print(f"note: {note}")
        console.print(f"Dagster is up:  {supervisor.url}")
        console.print(f"Sign-off desk:  {supervisor.desk_url}")
        console.print(f"Home:           {home.root}")
        if desk.sign_in.local:
            _first_reviewer(places)
        console.print("Stop it with Ctrl-C. In another terminal: ai-assets status")
        if first_run and all(_never_ran(item, places) for item in chosen):
            threading.Thread(target=_first_runs, args=(chosen, places, supervisor), daemon=True).start()
        else:
            for item in chosen:
                _say_next(item, places, supervisor.desk_url)
        told = len(supervisor.notes)
        supervisor.run_forever(
            on_progress=lambda line: console.print(line),
            on_loaded=lambda names: _run_new(names, places, supervisor) if first_run else None,
        )
    for note in supervisor.notes[told:]:
        console.print(f"note: {note}")
    console.print("Stopped; no process is left.")


def _first_reviewer(places: Stores) -> None:
    """In a home without people, an account with the role admin; its password is shown only now."""
    with places.state.read() as connection:
        if people.anybody(connection):
            return
    password = random_password()
    stored = hashed(password)  # takes a while on purpose, and so outside of the transaction
    with places.state.write() as connection:
        people.add(connection, REVIEWER, email=None, password_hash=stored, by=people.SYSTEM)
        people.give(connection, REVIEWER, "admin", people.EVERYWHERE, by=people.SYSTEM)
    console.print(f"Sign in there:  {REVIEWER}, password {password} (shown only now)")


class _PlainProgress:
    """Progress without a terminal: a line each time it changes."""

    def __enter__(self) -> "_PlainProgress":
        return self

    def __exit__(self, *_exit: object) -> None:
        return None

    def update(self, line: str) -> None:
        console.print(line)


def _never_ran(item: Collection, places: Stores) -> bool:
    states = partition_states(item, places).values()
    return all(state in ("missing", "empty") for state in states)


def _first_runs(fresh: list[Collection], places: Stores, supervisor: "Supervisor") -> None:
    """Launch each collection as ordinary runs, tell how they go, and say what to type next."""
    for item in fresh:
        try:
            _first_run(item, places, supervisor)
        except AiAssetsError as error:
            console.print(f"{item.name} was not run: {error}")


def _run_new(names: Sequence[str], places: Stores, supervisor: "Supervisor") -> None:
    """Collections that were made meanwhile run once, as those of a new home do; but nobody has seen yet what one that
    asks models would cost."""
    catalog, fresh = Catalog(supervisor.home), []
    for name in names:
        try:
            item = catalog.load(name)
        except AiAssetsError as error:
            console.print(f"{name} was not run: {error}")
            continue
        if item.asks_models:
            console.print(
                f"{name} asks models. What it would cost: ai-assets plan {name}    run it: ai-assets run {name}"
            )
        elif _never_ran(item, places):
            fresh.append(item)
    threading.Thread(target=_first_runs, args=(fresh, places, supervisor), daemon=True).start()


def _first_run(item: Collection, places: Stores, supervisor: "Supervisor") -> None:
    from ai_assets.orchestration.instance import instance
    from ai_assets.orchestration.sources import register_folders

    listing = observe(item, places.lake, places.state)
    keys = [key for key in item.scheme.keys(sorted(listing.by_partition)) if key in listing.by_partition]
    with instance(supervisor.home) as dagster:
        register_folders(item, dagster, keys)
    runs = [
        supervisor.api.launch_run(
            item.name, {RANGE_START: group[0], RANGE_END: group[-1], **_ticket(item, places, group)}
        )
        for group in consecutive(keys, keys, item.settings.partitions.per_run)
    ]
    console.print(
        f"First run of {item.name}: {plural(len(keys), 'partition')}. Watch it: {supervisor.url}/runs/{runs[0]}"
    )
    done, told = 0, -1
    while any(supervisor.api.run_status(run) not in ("SUCCESS", "FAILURE", "CANCELED") for run in runs):
        time.sleep(POLL_S)
        with places.state.read() as connection:
            done = _candidates(connection, item.name)
        if done != told:
            console.print(f"{item.name}: {done} of {plural(len(keys), 'partition has', 'partitions have')} a candidate")
            told = done
    _say_next(item, places, supervisor.desk_url)


def _ticket(item: Collection, places: Stores, partitions: Sequence[str]) -> dict[str, str]:
    """By which the run is known to be started by this command."""
    launcher = Launcher(kind="up", who="ai-assets up", proof="itself")
    with places.state.write() as connection:
        return issued_or_said(connection, launcher, console.print, collection=item.name, partitions=partitions)


def _candidates(connection: "sa.Connection", collection: str) -> int:
    query = sa.text("SELECT count(*) FROM datasets WHERE collection = :c AND asset = 'release_candidate'")
    return int(connection.execute(query, {"c": collection}).scalar_one())


def _say_next(item: Collection, places: Stores, desk: str) -> None:
    states = list(partition_states(item, places).values())
    failed, waiting = states.count("failed"), states.count("awaiting sign-off")
    if failed:
        console.print(f"{plural(failed, 'partition')} of {item.name} failed; see: ai-assets status {item.name}")
    if waiting:
        found = (
            f"1 partition of {item.name} waits"
            if waiting == 1
            else f"{plural(waiting, 'partition')} of {item.name} wait"
        )
        question = item.golden_queries[0].query if item.golden_queries else "..."
        console.print(f"\n{found} for sign-off. Look and decide:  {desk}/?collection={item.name}\n")
        console.print(
            f'  .venv/bin/ai-assets search {item.name} "{question}"     (once it is approved and published)\n'
        )
