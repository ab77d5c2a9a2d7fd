"""Claims about upgrades of a store that is in use: who reads and writes goes on, one process upgrades, others wait."""

import logging
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from conftest import eventually
from postgres_server import Postgres

from ai_assets.base.errors import StateTooNew, StateUpgradeBlocked
from ai_assets.storage import fences, state
from ai_assets.storage.known_tables import tables_there
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.state import StateStore, upsert

NAMES = [name for name, _ in MIGRATIONS]
COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns "
    "WHERE table_schema = 'public' ORDER BY 1, 2"
)


def made_by(server: Postgres, newest: str) -> str:
    """A database as the version made it whose newest migration that is."""
    url = server.database(f"t{uuid.uuid4().hex}")
    with StateStore.reached(url) as connection:
        connection.execute(sa.text("CREATE TABLE schema_migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)"))
        for name, up in MIGRATIONS[: NAMES.index(newest) + 1]:
            up(connection)
            connection.execute(sa.text("INSERT INTO schema_migrations VALUES (:name, '')"), {"name": name})
        connection.execute(sa.text("INSERT INTO index_versions (collection, version) VALUES ('counted', 0)"))
    return url


def columns(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(COLUMNS).fetchall()


def load(url: str, said: Connection) -> None:
    """A process of the version before: two threads read many tables in one moment, two write under the lock."""
    stop = threading.Event()
    with StateStore.reached(url) as connection:
        tables = tables_there(connection)

    def read(order: list[str]) -> int:
        number = 0
        with psycopg.connect(url) as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            while not stop.is_set():
                for name in order:
                    connection.execute(f'SELECT count(*) FROM "{name}"')  # type: ignore[call-overload]  # noqa: S608
                connection.commit()
                number += 1
                time.sleep(0.02)
        return number

    def write() -> int:
        number = 0
        with psycopg.connect(url) as connection:
            while not stop.is_set():
                connection.execute("SELECT pg_advisory_xact_lock(726354)")
                ((version,),) = connection.execute("SELECT version FROM index_versions").fetchall()
                connection.execute("UPDATE index_versions SET version = %s", [version + 1])
                connection.commit()
                number += 1
                time.sleep(0.02)
        return number

    with ThreadPoolExecutor(4) as threads:
        readers = [threads.submit(read, tables), threads.submit(read, tables[::-1])]
        writers = [threads.submit(write), threads.submit(write)]
        said.send("begun")
        said.recv()
        stop.set()
        assert all(reader.result() for reader in readers)
        said.send(sum(writer.result() for writer in writers))


def upgrade(url: str) -> None:
    StateStore(url).close()


@pytest.mark.slow
@pytest.mark.parametrize("newest", NAMES[:-1])
def test_from_every_version_two_processes_upgrade_while_others_read_and_write(
    newest: str, postgres_with_tables: Postgres, processes: ForkServerContext
) -> None:
    url = made_by(postgres_with_tables, newest)
    said, theirs = processes.Pipe()
    busy = processes.Process(target=load, args=(url, theirs))
    busy.start()
    assert said.recv() == "begun"
    upgrading = [processes.Process(target=upgrade, args=(url,)) for _ in range(2)]
    for process in upgrading:
        process.start()
    for process in upgrading:
        process.join(150)
    said.send("stop")
    assert said.poll(60), "the load failed"
    written = said.recv()
    assert [process.exitcode for process in upgrading] == [0, 0]
    assert columns(url) == columns(postgres_with_tables.url("tables"))
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT version FROM index_versions").fetchall() == [(written,)]
        applied = connection.execute("SELECT name FROM schema_migrations ORDER BY name").fetchall()
    assert [name for (name,) in applied] == NAMES


def test_who_finds_another_at_work_waits_and_says_so(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    url = made_by(postgres, NAMES[0])
    with caplog.at_level(logging.WARNING), psycopg.connect(url) as other, ThreadPoolExecutor(1) as threads:
        other.execute("SELECT pg_advisory_xact_lock(726354)")
        opening = threads.submit(upgrade, url)
        eventually(lambda: "waiting for another process that upgrades or writes" in caplog.text)
        assert not opening.done()
        other.commit()
        opening.result(60)
    assert "keeper:***@" in caplog.text


def test_an_upgrade_gives_way_to_a_long_reader_and_says_so_in_the_end(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = made_by(postgres, NAMES[-2])
    monkeypatch.setattr(state, "UPGRADE_PATIENCE_S", 1.0)
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM audit")
        with pytest.raises(StateUpgradeBlocked, match="others have read in it without a pause for 1 s"):
            StateStore(url)
        reader.execute("SELECT count(*) FROM leases")
    upgrade(url)


def test_a_process_that_was_there_before_goes_on_unless_the_upgrade_would_be_harmed(state_url: str) -> None:
    """`m999` stands for a migration that this version does not know."""
    before = StateStore(state_url)
    newer = StateStore(state_url)
    with newer.write() as connection:
        connection.execute(sa.text("INSERT INTO schema_migrations VALUES ('m999_more', '')"))
    with before.write() as connection:
        upsert(connection, "index_versions", {"collection": "a"}, {"version": 1})
    with pytest.raises(StateTooNew, match="'m999_more'"):
        StateStore(state_url)
    with newer.write() as connection:
        fences.raise_to(connection, "m999_more")
    with pytest.raises(StateTooNew, match="'m999_more'"), before.write() as connection:
        upsert(connection, "index_versions", {"collection": "a"}, {"version": 2})
    with before.read() as connection:
        assert connection.execute(sa.text("SELECT version FROM index_versions")).all() == [(1,)]
    before.close()
    newer.close()


def test_a_writer_that_waited_for_the_upgrade_is_refused_too(postgres: Postgres) -> None:
    """It asked for its turn before the fence was there, and got it after."""
    old = StateStore(postgres.database(f"t{uuid.uuid4().hex}"))

    def write() -> None:
        with old.write():
            pass

    with ThreadPoolExecutor(1) as threads:
        with psycopg.connect(old.url) as upgrading:
            upgrading.execute("SELECT pg_advisory_xact_lock(726354)")
            waiting = threads.submit(write)
            with psycopg.connect(old.url) as looking:
                locks = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
                eventually(lambda: looking.execute(locks).fetchall())
            upgrading.execute("INSERT INTO store_fences VALUES ('needs', 'm999_future')")
        with pytest.raises(StateTooNew):
            waiting.result(60)
    old.close()
