"""What runs, what ran, and what a run would cost: for the pages on which people start runs."""

import datetime
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.desk.access import collection_run_here
from ai_assets.desk.context import Desk
from ai_assets.desk.errors import PriceBusy
from ai_assets.desk.runs_views import BackfillLine, Price, RunLine, RunsRow, RunsView, StagePrice
from ai_assets.documents.source_listing import known_folders
from ai_assets.inference.prices import usd_of
from ai_assets.ops.dagster_client import Run
from ai_assets.planning import backfills
from ai_assets.planning.words import dollars, headline, lasts, named
from ai_assets.run import spans
from ai_assets.run.partition_states import DUE
from ai_assets.run.spans import RunSpans
from ai_assets.run.status import partition_states
from ai_assets.signoff import launches
from ai_assets.signoff.launches import Launch, Launcher
from ai_assets.signoff.people import Person

if TYPE_CHECKING:
    from ai_assets.planning.plan import Plan

MOST_RUNS, MOST_BACKFILLS = 20, 5
PARTITION_TAG = "dagster/partition"
MOST_PRICES_AT_ONCE, LONGEST_QUEUE_S = 2, 20.0
"""A price reads the source and fills prompts, which takes memory and processor time."""
_PRICES = threading.BoundedSemaphore(MOST_PRICES_AT_ONCE)


def runs_rows(desk: Desk, person: Person) -> list[RunsRow]:
    """Of every collection that the person may see and start."""
    rows = []
    for name, collection in sorted(desk.seen_by(person).items()):
        if collection.signed_asset is not None:
            continue  # its runs are its own project's
        states = partition_states(collection, desk.stores)
        with desk.stores.state.read() as connection:
            under_way = backfills.open_of(connection, name)
        rows.append(
            RunsRow(
                collection=name,
                states=dict(Counter(states.values())),
                due=sum(state in DUE for state in states.values()),
                backfill=under_way.backfill if under_way else None,
            )
        )
    return rows


def runs_view(desk: Desk, person: Person, name: str) -> RunsView:
    collection = collection_run_here(desk, person, name)
    states = partition_states(collection, desk.stores)
    problem, runs = None, list[Run]()
    try:
        with desk.dagster() as dagster:
            runs = dagster.runs(name, MOST_RUNS)
    except UserError as error:
        problem = str(error)
    with desk.stores.state.read() as connection:
        if problem is None:
            lines = [line_of(connection, desk, person, run) for run in runs]
        else:
            lines = [_line_of_spans(run) for run in spans.newest_runs(connection, name, MOST_RUNS)]
        backfills = [_backfill(connection, desk, person, found) for found in _newest(connection, name)]
    keys = list(states)
    return RunsView(
        collection=name,
        states=dict(Counter(states.values())),
        due=[key for key, state in states.items() if state in DUE],
        partitions=[keys[0], keys[-1]] if keys else [],
        runs=lines,
        backfills=backfills,
        problem=problem,
        may_run=person.may("reviewer", name),
        may_name=person.may("approver", name),
    )


def line_of(connection: sa.Connection, desk: Desk, person: Person, run: Run) -> RunLine:
    """The ticket's signature is looked at, not whether it was used before: the request of the run says that."""
    ticket = launches.read(connection, run.tags)
    launch = Launch.unknown(ticket) if isinstance(ticket, str) else Launch.of(
        Launcher(kind=ticket.kind, who=ticket.who, proof=ticket.proof), ticket.changes
    )  # fmt: skip
    pages = desk.dagster_pages_for(person)
    first, last = (run.tags.get(tag, run.tags.get(PARTITION_TAG, "")) for tag in (RANGE_START, RANGE_END))
    return RunLine(
        run_id=run.run_id,
        partitions=first if first == last else f"{first} to {last}",
        started_by=launch.in_words,
        author_known=launch.known,
        status=run.status.lower().replace("_", " "),
        done=run.done,
        made_at=datetime.datetime.fromtimestamp(run.made_at, datetime.UTC).isoformat(timespec="seconds"),
        url=f"{pages}/runs/{run.run_id}" if pages else None,
    )


def _line_of_spans(run: RunSpans) -> RunLine:
    """What is known of a run where Dagster cannot be asked."""
    return RunLine(
        run_id=run.run_id,
        partitions=run.first if run.partitions == 1 else f"{run.first} to {run.last}",
        started_by=None,
        author_known=False,
        status="not known",
        done=None,
        made_at=run.began_at,
        url=None,
    )


def _newest(connection: sa.Connection, collection: str) -> Sequence[backfills.Backfill]:
    query = sa.text("SELECT backfill FROM backfills WHERE collection = :c ORDER BY made_at DESC LIMIT :most")
    names: Sequence[str] = connection.execute(query, {"c": collection, "most": MOST_BACKFILLS}).scalars().all()
    return [backfills.get(connection, name) for name in names]


def _backfill(connection: sa.Connection, desk: Desk, person: Person, found: backfills.Backfill) -> BackfillLine:
    done = backfills.progress_of(connection, found.backfill)
    pages = desk.dagster_pages_for(person)
    url = f"{pages}/runs/b/{found.dagster_id}" if pages and found.dagster_id else None
    return BackfillLine(
        backfill=found.backfill,
        state="under way" if found.state == "open" else found.state,
        made_by=found.made_by,
        made_at=found.made_at,
        partitions=len(found.partitions),
        cap_usd=usd_of(found.cap_nusd),
        used_usd=usd_of(done.used_nusd),
        calls=done.answers,
        calls_expected=int(found.plan.get("new_calls", 0)),
        url=url,
    )


def chosen_partitions(desk: Desk, collection: Collection, first: str, last: str) -> list[str] | None:
    """From the first to the last, one where there is no last; None where none is named, and that is what is due."""
    if not first:
        return None
    folders = known_folders(desk.stores.state, collection.name)
    return collection.scheme.select(first, last or first, folders)


def price(desk: Desk, person: Person, name: str, first: str = "", last: str = "") -> Price:
    """Of what is due, or of these partitions. No model is asked."""
    collection = collection_run_here(desk, person, name)
    found = plan_of(desk, collection, chosen_partitions(desk, collection, first, last))
    return Price(
        headline=headline(found),
        partitions=list(found.planned),
        due=[key for key in found.planned if found.partitions.get(key) in DUE],
        stages=[
            StagePrice(
                stage=stage.stage,
                endpoint=stage.endpoint,
                documents=stage.documents,
                reused=stage.reused,
                new_calls=stage.new_calls,
                low=dollars(stage.money.low_nusd),
                likely=dollars(stage.money.likely_nusd),
                high=dollars(stage.money.high_nusd),
            )
            for stage in found.stages
        ],
        budgets=[f"{named(budget)}: {lasts(budget)}" for budget in found.budgets if budget.stops != "no"],
        notes=list(found.notes),
        cap_usd=usd_of(backfills.usual_cap(found)),
        asks_models=bool(found.stages),
    )


def plan_of(desk: Desk, collection: Collection, partitions: Sequence[str] | None) -> "Plan":
    from ai_assets.planning.plan import plan

    with _one_at_a_time():
        inference = Catalog(desk.stores.home).inference_of(collection.name)
        return plan(collection, desk.stores, inference, partitions=partitions)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    if not _PRICES.acquire(timeout=LONGEST_QUEUE_S):
        raise PriceBusy
    try:
        yield
    finally:
        _PRICES.release()


def launch_of(connection: sa.Connection, launch_id: str) -> Mapping[str, object] | None:
    """What a form with this id started."""
    query = sa.text("SELECT * FROM desk_launches WHERE launch_id = :id")
    row = connection.execute(query, {"id": launch_id}).mappings().one_or_none()
    return None if row is None else {**row, "dagster_ids": json.loads(row["dagster_ids"])}
