"""Claims about `ai-assets migrate-state`: all of a store arrives, or nothing; and nobody goes on in the old one."""

import json
import os
import signal
import time
import uuid
from contextlib import closing
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Project, eventually
from postgres_server import POSTGRES_PASSWORD, Postgres
from signing import decide

from ai_assets.backup import moving
from ai_assets.backup.errors import DigestDiffers, RowsRefused, StoreInUse, TargetOccupied, TargetSame, TargetUnusable
from ai_assets.backup.moving import Move, move_state
from ai_assets.base.errors import StateArriving, StateMoved
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.signoff import verification
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore, upsert
from ai_assets.storage.stores import Stores


@pytest.fixture
def target(postgres: Postgres) -> str:
    return postgres.database(f"t{uuid.uuid4().hex}")


def at(home: Home, url: str) -> Home:
    return replace(home, declared_state_url=url)


def counts(url: str) -> dict[str, int]:
    engine = StateStore.engine_of(url)
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one()  # noqa: S608
            for name in sa.inspect(connection).get_table_names()
        }
    engine.dispose()
    return {name: number for name, number in found.items() if number}


def test_a_home_goes_to_postgresql_and_back_and_nothing_is_other(
    project: Project, labelled: Collection, target: str, tmp_path: Path
) -> None:
    with project.stores() as stores:
        decide(stores.state, labelled, ["2026-10-05"])
        before = verification.verify(stores.state)
    there = move_state(project.home, target)
    assert {each.name for each in there.tables if each.rows} >= {"audit", "datasets", "people", "review_requests"}
    back = f"sqlite:///{tmp_path}/back/state.db"
    home = at(project.home, target)
    again = move_state(home, back)
    assert again.tables == there.tables
    with Stores.at(at(home, back)) as stores:
        assert verification.verify(stores.state) == before
        decide(stores.state, labelled, ["2026-10-06"], by="ben")  # and it goes on


def test_numbers_go_on_where_they_were(project: Project, target: str) -> None:
    """A worker that was taken over is known by its number, which must not be another's one day."""
    with project.stores() as stores:
        for _ in range(3):
            with hold(stores.state, "something") as lease:
                last = lease.worker_id
    assert last is not None
    move_state(project.home, target)
    with Stores.at(at(project.home, target)) as stores, hold(stores.state, "something") as lease:
        assert lease.worker_id == last + 1


def test_the_command_says_what_to_set_and_the_old_address_is_refused(
    project: Project, labelled: Collection, target: str
) -> None:
    done = project.cli("migrate-state", "--to", target, "--yes")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "Now set AI_ASSETS_STATE_URL to that address" in said
    assert "environment: server" in said
    refused = project.cli("status", "notes")
    assert refused.returncode == 2
    assert "was moved to postgresql://keeper:***@" in refused.stderr
    assert POSTGRES_PASSWORD not in done.stdout + done.stderr + refused.stderr
    shown = project.cli("status", "notes", "--json", AI_ASSETS_STATE_URL=target)
    assert json.loads(shown.stdout)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_who_had_it_open_is_refused_at_its_next_write(kind: str, project: Project, target: str, tmp_path: Path) -> None:
    home = project.home if kind == "sqlite" else at(project.home, target)
    to = target if kind == "sqlite" else f"sqlite:///{tmp_path}/state.db"
    with closing(StateStore(home.state_url, keys=home.keys)) as before:
        move_state(home, to)
        with pytest.raises(StateMoved), before.write():
            pass
    assert counts(home.state_url)["store_fences"] == 1


def test_an_address_that_cannot_be_used_is_told_before_anybody_is_asked(project: Project, labelled: Collection) -> None:
    told = project.cli("migrate-state", "--to", "elsewhere")
    assert told.returncode == 2
    assert "it is not a database URL" in told.stderr
    assert "Copy the state store" not in told.stdout + told.stderr


UNUSABLE = {
    "elsewhere": "it is not a database URL such as",
    "mysql://ann:s3cr3t@host/name": "it is of kind 'mysql'; known are sqlite and postgresql",
    "postgresql://ann:s3cr3t@127.0.0.1:1/name": "nothing answers at that host and port",
}


def test_what_stands_in_the_way_is_said_and_changes_nothing(
    project: Project, labelled: Collection, target: str, processes: ForkServerContext, postgres: Postgres
) -> None:
    gate = processes.Event()
    working = processes.Process(target=work, args=(project.home, gate))
    working.start()
    assert gate.wait(60)
    with pytest.raises(StoreInUse, match=f"process {working.pid} on"):
        move_state(project.home, target)
    working.kill()
    working.join()
    with pytest.raises(TargetSame):
        move_state(project.home, project.home.state_url)
    assert counts(target) == {}
    StateStore(target).close()
    with pytest.raises(TargetOccupied, match="tables of a state store, such as"):
        move_state(project.home, target)
    for to, said in UNUSABLE.items():
        with pytest.raises(TargetUnusable, match=said) as refused:
            move_state(project.home, to)
        assert "s3cr" not in str(refused.value)
    with pytest.raises(TargetUnusable, match=r"does not exist.*Give --to an empty database"):
        move_state(project.home, postgres.url("nowhere"))
    with project.stores() as stores:
        verification.verify(stores.state)


def work(home: Home, gate: object) -> None:
    with Stores.at(home) as stores, hold(stores.state, "partition"):
        gate.set()  # type: ignore[attr-defined]
        time.sleep(120)


def test_a_row_that_the_target_does_not_take_or_changes_leaves_the_old_store(
    project: Project, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project.stores() as stores, stores.state.write() as connection:
        upsert(connection, "index_versions", {"collection": "a\0b"}, {"version": 1})
    with pytest.raises(RowsRefused, match="NUL"):
        move_state(project.home, target)
    with project.stores() as stores, stores.state.write() as connection:
        connection.execute(sa.text("DELETE FROM index_versions"))
        upsert(connection, "index_versions", {"collection": "a"}, {"version": 2**53})
    insert = moving._insert

    def lossy(other: sa.Connection, name: str, columns: object, batch: list[tuple[object, ...]]) -> None:
        insert(other, name, columns, [(*row[:-1], 7) if name == "index_versions" else row for row in batch])  # type: ignore[arg-type]

    monkeypatch.setattr(moving, "_insert", lossy)
    with pytest.raises(DigestDiffers, match="'index_versions' is not the same"):
        move_state(project.home, target)
    monkeypatch.undo()
    assert counts(target) == {}
    assert move_state(project.home, target).tables


@pytest.mark.slow
@pytest.mark.parametrize("after", ["datasets", "target", "source"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_killed_at_any_moment_it_is_run_again_and_the_store_is_whole(
    kind: str, after: str, project: Project, labelled: Collection, target: str, tmp_path: Path,
    processes: ForkServerContext,
) -> None:  # fmt: skip
    home, to = project.home, target
    if kind == "postgresql":
        move_state(home, target)
        home, to = at(project.home, target), f"sqlite:///{tmp_path}/there.db"
    said, told = processes.Pipe()
    doomed = processes.Process(target=move_and_stop, args=(home, to, after, told))
    doomed.start()
    assert said.poll(90), "it did not come so far"
    assert doomed.pid is not None
    os.kill(doomed.pid, signal.SIGKILL)
    doomed.join()
    eventually(lambda: is_free(to))
    if after == "datasets":
        assert counts(to) == {}
    else:
        with pytest.raises(StateArriving):
            StateStore(to)
    with StateStore.reached(home.state_url) as connection:
        marked = connection.exec_driver_sql("SELECT count(*) FROM store_fences WHERE kind = 'moved'").scalar_one()
    assert marked == (after == "source")
    assert isinstance(move_state(home, to), Move)
    with Stores.at(at(home, to)) as stores:
        verification.verify(stores.state)
    with pytest.raises(StateMoved):
        StateStore(home.state_url)


def is_free(url: str) -> bool:
    """No lock of the killed process is left."""
    if url.startswith("sqlite"):
        return True
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with StateStore.reached(url) as connection:
        return bool(connection.exec_driver_sql(others).scalar_one() == 0)


def move_and_stop(home: Home, to: str, after: str, told: object) -> None:
    """It goes as far as that, and waits to be killed."""

    def stop() -> None:
        told.send("there")  # type: ignore[attr-defined]
        time.sleep(120)

    put, take_down = moving.fences.put, moving.fences.take_down
    if after == "target":  # committed there, and not yet marked here
        moving.fences.put = lambda connection, kind, value: stop() if kind == "moved" else put(connection, kind, value)
    if after == "source":
        moving.fences.take_down = lambda connection, kind: (stop(), take_down(connection, kind))  # type: ignore[func-returns-value]
    move_state(home, to, lambda name, _done, _total: stop() if name == after else None)
