"""What people start from the desk: runs of what is due, runs of named partitions, backfills; and stopping a backfill.

A reviewer starts what is due, as the schedule would. Whatever sets money aside, or asks about named partitions again,
takes an approver.
"""

import datetime
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.collection.catalog import Catalog
from ai_assets.collection.loading import Collection
from ai_assets.desk.access import collection_run_here
from ai_assets.desk.context import Desk
from ai_assets.desk.errors import FormUsedElsewhere, LaunchRefused, NothingToRun, PartitionsUnnamed, StartedBefore
from ai_assets.desk.runs_query import chosen_partitions, plan_of
from ai_assets.desk.runs_views import LaunchKind
from ai_assets.documents.source_listing import known_folders, observe
from ai_assets.ops.dagster_client import DagsterApi
from ai_assets.orchestration import launching
from ai_assets.planning import backfills
from ai_assets.planning.backfills import Backfill
from ai_assets.run import file_looks
from ai_assets.run.partition_states import DUE
from ai_assets.run.spending_policy import SpendingQuestion
from ai_assets.run.status import due_partitions
from ai_assets.signoff import launches
from ai_assets.signoff.launches import Launch, Launcher
from ai_assets.signoff.people import Person, Role
from ai_assets.signoff.policy_facts import require_access
from ai_assets.storage.leases import hold
from ai_assets.storage.state import now

KEPT = datetime.timedelta(days=90)
"""So long it is known which form started what."""
ROLES: dict[LaunchKind, tuple[str, Role]] = {
    "due": ("start a run of what is due", "reviewer"),
    "again": ("run named partitions again", "approver"),
    "backfill": ("start a backfill", "approver"),
}
"""What it is called, and the role it takes."""


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """What somebody asks for."""

    kind: LaunchKind
    first: str = ""
    last: str = ""
    max_usd: float | None = None
    launch_id: str = ""
    """Of the form: a form that is sent twice starts one thing."""


@dataclass(frozen=True, kw_only=True)
class LaunchResult:
    launch_id: str
    partitions: Sequence[str]
    run_ids: Sequence[str] = ()
    backfill: str | None = None


def new_id() -> str:
    return secrets.token_hex(16)


def start(desk: Desk, person: Person, name: str, wanted: LaunchRequest) -> LaunchResult:
    """Start it through Dagster, with the person as its proved author."""
    collection = collection_run_here(desk, person, name)
    what, role = ROLES[wanted.kind]
    if not person.may(role, name):
        raise LaunchRefused(person.name, what, role, name)
    require_access(collection, person, "start")
    if wanted.kind == "again" and not wanted.first:
        raise PartitionsUnnamed(name)
    named = chosen_partitions(desk, collection, wanted.first, wanted.last)
    begin = _backfill if wanted.kind == "backfill" else _run
    with desk.dagster() as dagster:
        dagster.health(0)  # nothing is recorded as started where Dagster does not answer
        return begin(desk, dagster, person, collection, wanted, named)


def _run(
    desk: Desk,
    dagster: DagsterApi,
    person: Person,
    collection: Collection,
    wanted: LaunchRequest,
    named: list[str] | None,
) -> LaunchResult:
    patient = wanted.kind == "due"
    partitions = named or []
    if patient:
        due = _due(desk, collection)
        partitions = due if named is None else [key for key in named if key in set(due)]
    if not partitions:
        raise NothingToRun(collection.name)
    launch_id = _record(desk, person, collection.name, wanted, partitions)
    started: list[str] = []
    with _noted(desk, launch_id, started):
        launching.start_runs(
            collection, desk.stores, dagster, _launcher(person), partitions, patient=patient, started=started
        )
    return LaunchResult(launch_id=launch_id, partitions=partitions, run_ids=started)


def _launcher(person: Person) -> Launcher:
    return Launcher(kind="person", who=person.name, proof="desk")


def stop(desk: Desk, person: Person, name: str) -> Backfill | None:
    """End the backfill that is under way; what it has done is kept. None where there is none."""
    collection_run_here(desk, person, name)
    if not person.may("approver", name):
        raise LaunchRefused(person.name, "stop a backfill", "approver", name)
    with desk.stores.state.read() as connection:
        made = backfills.open_of(connection, name)
    if made is None:
        return None
    backfills.end(desk.stores, made, "stopped")
    if made.dagster_id is not None:
        with desk.dagster() as api:
            api.cancel_backfill(made.dagster_id)
    return made


def _due(desk: Desk, collection: Collection) -> list[str]:
    """After a look at the source, as `ai-assets run` does."""
    observe(collection, desk.stores.lake, desk.stores.state)
    keys = collection.scheme.keys(known_folders(desk.stores.state, collection.name))
    due = due_partitions(collection, desk.stores, keys)
    file_looks.went_on(desk.stores.state, collection.name, keys)
    return due


def _backfill(
    desk: Desk,
    dagster: DagsterApi,
    person: Person,
    collection: Collection,
    wanted: LaunchRequest,
    named: list[str] | None,
) -> LaunchResult:
    stores, name = desk.stores, collection.name
    asked = None if wanted.max_usd is None else backfills.amount_of(wanted.max_usd)
    found = plan_of(desk, collection, named)
    due = any(found.partitions.get(key) in DUE for key in found.planned)
    if not due and not any(stage.calls.high for stage in found.stages):
        raise NothingToRun(name)
    inference = Catalog(stores.home).inference_of(name)
    cap = backfills.usual_cap(found) if asked is None else asked
    backfills.refuse_too_low(collection, inference, found, cap)
    launch = Launch.of(_launcher(person))
    SpendingQuestion(
        collection=collection, stores=stores, inference=inference, partitions=found.planned, launch=launch, plan=found
    ).require()
    launch_id = _record(desk, person, name, wanted, found.planned)
    ids: list[str] = []
    with _noted(desk, launch_id, ids), hold(stores.state, backfills.lease_name(name), wait_s=1.0):
        made = backfills.begin(
            stores, collection, inference, found, assets=collection.asset_names, cap_nusd=cap, by=person.name
        )
        ids.append(made.backfill)
        ticket = _backfill_ticket(desk, person, made)
        launching.start_backfill(collection, stores, dagster, made, ticket, patient=named is None)
    return LaunchResult(launch_id=launch_id, partitions=list(found.planned), backfill=made.backfill)


def _backfill_ticket(desk: Desk, person: Person, made: Backfill) -> dict[str, str]:
    """Where it cannot be signed, nothing is started and the money is free again."""
    try:
        with desk.stores.state.write() as connection:
            return launches.issue(
                connection, _launcher(person), collection=made.collection, partitions=made.partitions,
                backfill=made.backfill,
            )  # fmt: skip
    except BaseException:
        backfills.end(desk.stores, made, "failed")
        raise


def _record(desk: Desk, person: Person, name: str, wanted: LaunchRequest, partitions: Sequence[str]) -> str:
    """Before Dagster is asked. A second form with the same id finds the row of the first."""
    launch_id = wanted.launch_id or new_id()
    row = {
        "id": launch_id, "collection": name, "person": person.name, "what": wanted.kind,
        "partitions": json.dumps(list(partitions)), "at": now(),
    }  # fmt: skip
    with desk.stores.state.write() as connection:
        query = sa.text("SELECT collection, person, made_at FROM desk_launches WHERE launch_id = :id")
        before = connection.execute(query, {"id": launch_id}).one_or_none()
        if before is not None and before.collection != name:
            raise FormUsedElsewhere
        if before is not None:
            raise StartedBefore(before.person, before.made_at)
        old = sa.text("DELETE FROM desk_launches WHERE made_at < :old")
        connection.execute(old, {"old": (datetime.datetime.now(datetime.UTC) - KEPT).isoformat()})
        insert = (
            "INSERT INTO desk_launches (launch_id, collection, person, what, partitions, dagster_ids, made_at) "
            "VALUES (:id, :collection, :person, :what, :partitions, '[]', :at)"
        )
        connection.execute(sa.text(insert), row)
    return launch_id


@contextmanager
def _noted(desk: Desk, launch_id: str, ids: Sequence[str]) -> Iterator[None]:
    """However it ends, the row says what was started, and why not more."""
    problem: str | None = None
    try:
        yield
    except Exception as error:
        problem = str(error)[:2000]
        raise
    finally:
        with desk.stores.state.write() as connection:
            connection.execute(
                sa.text("UPDATE desk_launches SET dagster_ids = :ids, error = :error WHERE launch_id = :id"),
                {"ids": json.dumps(list(ids)), "error": problem, "id": launch_id},
            )
