"""Claims about the state store, on real SQLite and PostgreSQL: it is made once, and refuses what it cannot read."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from conftest import Postgres, Project, eventually, free_port
from postgres_server import POSTGRES_PASSWORD

from ai_assets.base.errors import StateTooNew, StateUnavailable
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.state import StateStore, now, upsert

NAMES = [name for name, _ in MIGRATIONS]
COUNTER = {"collection": "c", "partition": "p"}


@pytest.fixture
def state(bare_url: str) -> Iterator[StateStore]:
    store = StateStore(bare_url)
    yield store
    store.close()


def sqlite(path: Path) -> str:
    return f"sqlite:///{path}"


def migrations_of(url: str) -> list[str]:
    store = StateStore(url)
    try:
        with store.read() as connection:
            return list(connection.execute(sa.text("SELECT name FROM schema_migrations ORDER BY name")).scalars())
    finally:
        store.close()


def count_up(url: str, times: int) -> None:
    store = StateStore(url)
    for _ in range(times):
        with store.write() as connection:
            found = connection.execute(sa.text("SELECT files FROM listings")).scalar_one_or_none() or 0
            upsert(connection, "listings", COUNTER, {"digest": "", "files": found + 1, "observed_at": now()})
    store.close()


def test_eight_processes_that_open_an_empty_store_at_once_migrate_it_once(
    bare_url: str, processes: ForkServerContext
) -> None:
    with ProcessPoolExecutor(8, mp_context=processes) as pool:
        assert list(pool.map(migrations_of, [bare_url] * 8)) == [NAMES] * 8


def test_write_transactions_take_turns_so_that_no_update_is_lost(
    state: StateStore, processes: ForkServerContext
) -> None:
    with ProcessPoolExecutor(4, mp_context=processes) as pool:
        list(pool.map(count_up, [state.url] * 4, [25] * 4))
    with state.read() as connection:
        assert connection.execute(sa.text("SELECT files FROM listings")).scalar_one() == 100


def test_a_read_sees_one_moment_while_others_write(state: StateStore) -> None:
    with state.read() as reading:
        before = reading.execute(sa.text("SELECT count(*) FROM listings")).scalar_one()
        count_up(state.url, 1)
        assert reading.execute(sa.text("SELECT count(*) FROM listings")).scalar_one() == before == 0


def test_a_block_that_fails_leaves_nothing_behind(state: StateStore) -> None:
    with pytest.raises(RuntimeError, match="half way"), state.write() as connection:  # noqa: PT012
        upsert(connection, "index_versions", {"collection": "c"}, {"version": 1})
        raise RuntimeError("half way")
    with state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM index_versions")).scalar_one() == 0


def test_a_store_that_is_closed_during_a_transaction_leaves_no_connection_open(postgres: Postgres) -> None:
    """A heartbeat may be half way when a run closes its store."""
    store = StateStore(postgres.database("closed_meanwhile"))
    with store.read() as connection:
        (session,) = connection.execute(sa.text("SELECT pg_backend_pid()")).scalars()
        store.close()
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1

    def still_open() -> int:
        with psycopg.connect(postgres.url()) as connection:
            return connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [session]).rowcount

    eventually(lambda: still_open() == 0)


def test_the_stores_of_a_process_share_their_connections_and_never_wait_for_each_other(postgres: Postgres) -> None:
    """Every thread holds a connection and takes another, and there are fewer than two for each."""
    stores = [StateStore(postgres.database("shared_pool"), connections=3)]
    stores += [StateStore(stores[0].url, connections=50) for _ in range(3)]
    most = []

    def nested(number: int) -> None:
        with stores[number % 4].read() as outer, stores[(number + 1) % 4].read() as inner:
            for connection in (outer, inner):
                select = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                most.append(connection.execute(sa.text(select)).scalar_one())

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(nested, range(60)))
    assert len(most) == 120
    assert max(most) == 3
    for store in stores:
        store.close()


def test_an_upsert_inserts_once_and_then_replaces(state: StateStore) -> None:
    for version in (1, 2, 3):
        with state.write() as connection:
            upsert(connection, "index_versions", {"collection": "c"}, {"version": version})
    with state.read() as connection:
        assert connection.execute(sa.text("SELECT collection, version FROM index_versions")).all() == [("c", 3)]


def test_a_store_of_a_newer_version_is_refused_by_name(state: StateStore) -> None:
    with state.write() as connection:
        connection.execute(sa.text("INSERT INTO schema_migrations VALUES ('m999_future', '2027')"))
    state.close()
    with pytest.raises(StateTooNew, match=r"newer version.*'m999_future'.*nothing was changed"):
        StateStore(state.url)


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["newer", "garbage"])
def test_the_command_refuses_a_store_it_cannot_read_in_one_sentence_and_leaves_it_alone(
    project: Project, kind: str
) -> None:
    project.declare()
    path = project.home.root / "state.db"
    if kind == "garbage":
        path.write_bytes(b"this is not a database, and much longer than a header " * 40)
    else:
        store = StateStore(sqlite(path))
        with store.write() as connection:
            connection.execute(sa.text("INSERT INTO schema_migrations VALUES ('m999_future', '2027')"))
        store.close()
    before = file_digest(path)
    refused = project.cli("status", "notes")
    assert (refused.returncode, refused.stdout, file_digest(path)) == (2, "", before)
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"error: State store {sqlite(path)}")
    assert ("newer version" if kind == "newer" else "not a database") in refused.stderr


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    url: str
    says: str


UNUSABLE = [
    Case(
        id="no such program",
        url="oracle7://u:secret@h/d",
        says="it is of kind 'oracle7'; known are sqlite and postgresql",
    ),
    Case(id="not a URL", url="state.db", says="it is not a database URL"),
    Case(id="folder in the way", url="sqlite:////proc/nothing/state.db", says="its folder cannot be made"),
    Case(id="a folder", url="sqlite:////tmp", says="unable to open database file"),
]


@pytest.mark.parametrize("case", UNUSABLE, ids=lambda case: case.id)
def test_an_address_that_cannot_work_is_refused_in_words(case: Case) -> None:
    with pytest.raises(StateUnavailable) as refused:
        StateStore(case.url)
    assert case.says in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_plain_postgresql_url_works_without_naming_a_driver(postgres: Postgres) -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        StateStore(postgres.url().replace("postgresql", scheme, 1)).close()


def test_the_password_is_in_no_description_and_no_error(postgres: Postgres) -> None:
    store = StateStore(postgres.url())
    assert POSTGRES_PASSWORD not in store.describe()
    assert "keeper:***@127.0.0.1" in store.describe()
    store.close()
    dead = postgres.url().replace(str(postgres.port), str(free_port()))
    for url, password in ((dead, POSTGRES_PASSWORD), (postgres.url(password="wr0ng-one"), "wr0ng-one")):
        with pytest.raises(StateUnavailable) as refused:
            StateStore(url)
        assert password not in str(refused.value)
        assert "keeper:***@" in str(refused.value)


def test_a_server_that_restarts_is_used_again(postgres: Postgres) -> None:
    store = StateStore(postgres.url())
    with store.read():
        postgres.stop()
    with pytest.raises(StateUnavailable), store.read():
        pass
    postgres.start()
    with store.read() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    store.close()
