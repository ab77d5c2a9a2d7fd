"""The state store: one SQL database (SQLite by default, PostgreSQL by URL) behind short transactions.

Queries live with the nouns they are about; here are the engine, the migrations and the two kinds of transaction.
"""

import contextlib
import datetime
import logging
import random
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, cast

import sqlalchemy as sa

from ai_assets.base.environment import CONNECTIONS
from ai_assets.base.errors import StateTooNew, StateTooOld, StateUnavailable, StateUpgradeBlocked
from ai_assets.base.extras import need
from ai_assets.base.home import KEYS, Home
from ai_assets.storage import fences
from ai_assets.storage.known_tables import tables_there
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.patience import POLL_S
from ai_assets.storage.pipeline import Sent, pipelined
from ai_assets.storage.postgres import (
    FREE_CONNECTION_TIMEOUT_S,
    SharedEngine,
    borrow,
    described,
    give_back,
    is_postgres,
    parsed,
    trusting_what_was_just_used,
)
from ai_assets.storage.postgres import engine_of as postgres_engine_of
from ai_assets.storage.postgres_faults import found_in, is_lock_timeout, is_refusal, may_pass

BUSY_TIMEOUT_S = 30.0
CACHE_KB = 8192
"""Of a connection to SQLite, whose own 2 MB do not hold the row of a release of thousands of partitions: it was read
from the file at each question, 8 ms instead of 1."""
KEYS_OPTION = "ai_assets_keys"
"""Option of a connection: the folder of the keys that sign what is recorded through it."""
LONGEST_PAUSE_S = 30.0
"""Between two statements of a writer on PostgreSQL."""
UPGRADE_PATIENCE_S = 120.0
"""For so long an upgrade tries to find a moment in which nobody reads."""
NONE_FREE = (
    f"all connections of this process were in use for {FREE_CONNECTION_TIMEOUT_S:.0f} s (`connections` in "
    "operations.yaml says how many it may have)"
)
_LOG = logging.getLogger(__name__)


def now() -> str:
    """The present moment as the ISO 8601 text that every table holds: UTC, so that text order is time order."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class StateStore:
    """Opened by URL; created and migrated on first use. Safe to share between threads, never across a fork."""

    patience_s = 0.0
    """For so long a PostgreSQL that was there and has gone is waited for, before a transaction begins: set by runs."""

    def __init__(self, url: str, *, keys: Path | None = None, connections: int = CONNECTIONS // 2) -> None:
        """`keys` is the folder of the keys that sign the audit chain; by default beside a SQLite file.

        In PostgreSQL the stores of a process share their `connections`; the first says how many.
        """
        self.url = url
        self._keys = keys
        self._closed = False
        self._shared: SharedEngine | None = None
        address = _address(url)
        if is_postgres(address):
            need("postgres", "A state store in PostgreSQL")
            self._shared = borrow(address, connections)
            self._engine = self._shared.engine
            release: Callable[[], None] = partial(give_back, self._shared)
        else:
            self._engine = _sqlite_engine(address)
            release = self._engine.dispose
        self._release = weakref.finalize(self, release)  # a store that nobody holds any more keeps no connection
        with contextlib.ExitStack() as refused:
            refused.callback(self.close)
            try:
                _migrate(self._engine, self.describe())
            except sa.exc.DBAPIError as error:
                raise _unavailable(self.url, error) from error
            refused.pop_all()

    @classmethod
    def reading(cls, url: str, say: Callable[[str], None], *, keys: Path | None = None) -> Self:
        """A store that is only read, where its folder may not be written or the disk is full; `say` is told of a copy.

        Nothing is created or migrated. PostgreSQL is opened as ever.
        """
        if not url.startswith("sqlite"):
            return cls(url, keys=keys)
        from ai_assets.storage.state_reading import reading_engine

        store = cls._unopened(url, keys)
        try:
            store._engine, forget = reading_engine(url, say)
        except sqlite3.DatabaseError as error:
            raise StateUnavailable(described(url), f"not a database ({error})") from error
        weakref.finalize(store, forget)
        store._release = weakref.finalize(store, store._engine.dispose)  # first, as the last is called first
        try:
            with store.read() as connection:
                inspected = sa.inspect(connection)
                known = [name for name, _ in MIGRATIONS]
                applied = _applied(connection, store.describe()) if inspected.has_table("schema_migrations") else []
                if inspected.has_table("store_fences"):
                    fences.refuse(store.describe(), fences.found(connection))
        except sa.exc.DatabaseError as error:
            raise _unavailable(url, error) from error
        if missing := [name for name in known if name not in applied]:
            raise StateTooOld(store.describe(), missing[0])
        return store

    @classmethod
    def empty(cls, url: str, *, keys: Path | None = None) -> Self:
        """A store that is not there yet, as one without rows: only read, and not made."""
        from ai_assets.storage.state_reading import empty_engine

        store = cls._unopened(url, keys)
        store._engine = empty_engine(_empty_tables())
        store._release = weakref.finalize(store, store._engine.dispose)
        return store

    @classmethod
    def _unopened(cls, url: str, keys: Path | None) -> Self:
        store = cls.__new__(cls)
        store.url = url
        store._keys = keys
        store._closed = False
        store._shared = None
        return store

    @staticmethod
    def engine_of(url: str) -> sa.Engine:
        """For what makes or replaces the tables themselves; nothing is created or migrated."""
        address = _address(url)
        if not is_postgres(address):
            return _sqlite_engine(address)
        need("postgres", "A state store in PostgreSQL")
        return postgres_engine_of(address)

    @classmethod
    @contextlib.contextmanager
    def reached(cls, url: str) -> Iterator[sa.Connection]:
        """One connection, for what is not ours in the same database; nothing is created or migrated."""
        engine = cls.engine_of(url)
        try:
            with refusals_told(url), engine.connect() as connection, connection.begin():
                yield connection
        finally:
            engine.dispose()

    def describe(self) -> str:
        """The store's address without its password."""
        return described(self.url)

    @property
    def keys(self) -> Path:
        """The folder of the keys that sign what is recorded in this store."""
        if self._keys is not None:
            return self._keys
        file = sa.make_url(self.url).database
        return (
            Path(file).absolute().parent / KEYS if self.dialect == "sqlite" and file else Home.from_environment().keys
        )

    def prove(self) -> None:
        """Raises where it cannot be reached, has not all of this version's tables, or refuses this process.

        A newer version may have added some: where that harms, it says so by a fence.
        """
        with self.read() as connection:
            applied = {row.name for row in connection.execute(sa.text("SELECT name FROM schema_migrations"))}
            if missing := [name for name, _ in MIGRATIONS if name not in applied]:
                raise StateTooOld(self.describe(), missing[0])
            fences.refuse(self.describe(), fences.found(connection))

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.name

    def vacuum(self) -> None:
        """On PostgreSQL, write all tables once more, so that nothing deleted is left in their files."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM FULL"))

    @contextlib.contextmanager
    def write(self, *, in_pipeline: bool = False) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start; committed when the block ends without error.

        `in_pipeline`: with few round trips, for what uses `ai_assets.storage.pipeline`, and asks again where a
        connection turns out to be gone; whether this process may write at all is read when the block has ended, before
        anything is committed.
        """
        postgresql = {"isolation_level": "AUTOCOMMIT"} if in_pipeline else {}
        with self._transaction("IMMEDIATE", in_pipeline=in_pipeline, **postgresql) as connection:
            refusal = _take_turns(connection)
            if not in_pipeline:
                fences.refuse(self.describe(), refusal())
            yield connection
            if in_pipeline:
                fences.refuse(self.describe(), refusal())

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment of the store."""
        with self._transaction("DEFERRED", isolation_level="REPEATABLE READ") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, kind: str, *, in_pipeline: bool = False, **postgresql: str) -> Iterator[sa.Connection]:
        options: dict[str, Any] = {
            "sqlite_begin": kind,
            KEYS_OPTION: self.keys,
            **(postgresql if self._engine.name == "postgresql" else {}),
        }
        try:
            with contextlib.ExitStack() as held:
                if self._shared is not None:
                    held.enter_context(self._shared.gate.passed())
                held.callback(self._closed_meanwhile, self._engine.pool)
                connected = self._connected(asks_again=in_pipeline)
                connection = held.enter_context(connected.execution_options(**options))
                held.enter_context(connection.begin())
                if in_pipeline:
                    held.enter_context(pipelined(connection))
                yield connection
        except sa.exc.TimeoutError as error:
            raise StateUnavailable(self.describe(), NONE_FREE) from error
        except (sa.exc.OperationalError, sa.exc.InternalError) as error:
            raise _unavailable(self.url, error) from error
        except sa.exc.ProgrammingError as error:
            if is_refusal(error):
                raise _unavailable(self.url, error) from error
            raise

    def _connected(self, *, asks_again: bool) -> sa.Connection:
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                with trusting_what_was_just_used() if asks_again else contextlib.nullcontext():
                    return self._engine.connect()
            except sa.exc.OperationalError as error:
                if time.monotonic() > deadline or not may_pass(error):
                    raise
                time.sleep(POLL_S)

    def _closed_meanwhile(self, pool: sa.Pool) -> None:
        """The connection of this transaction went back to a pool that nobody holds any more."""
        if self._closed and (self._shared is None or not self._shared.users):
            pool.dispose()

    def close(self) -> None:
        """A transaction that another thread is in ends as it would have, and its connection is closed with it."""
        self._closed = True
        self._release()


@contextlib.contextmanager
def refusals_told(url: str) -> Iterator[None]:
    """For what works with an engine of its own: what a database refuses is one sentence, as in a store."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InternalError) as error:
        raise _unavailable(url, error) from error
    except sa.exc.DatabaseError as error:
        if not is_refusal(error) and "not a database" not in str(error.orig):
            raise
        raise _unavailable(url, error) from error


def upsert(connection: sa.Connection, table: str, key: Mapping[str, object], values: Mapping[str, object]) -> None:
    """Insert a row or replace its values; the statement is the same in SQLite and PostgreSQL."""
    columns = [*key, *values]
    changes = (
        ", ".join(f"{name} = excluded.{name}" for name in values) or f"{next(iter(key))} = excluded.{next(iter(key))}"
    )
    connection.execute(
        sa.text(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(':' + name for name in columns)}) "  # noqa: S608
            f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
        ),
        {**key, **values},
    )


def storable(text: str | None) -> str | None:
    """What every database can hold: no NUL, no half of a character (as in a file name that is no UTF-8)."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def rows_of(dialect: str, given: str, **columns: str) -> str:
    """A SELECT of the JSON array of arrays that the parameter `given` holds, with these columns and types.

    Many rows are one statement and one parameter: SQLite then works without the interpreter lock, PostgreSQL without
    more round trips.
    """
    if dialect == "sqlite":
        cells = [f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(columns)]
        return f"SELECT {', '.join(cells)} FROM json_each({given}) WHERE true"  # noqa: S608
    cells = [f"CAST(value ->> {place} AS {kind}) AS {name}" for place, (name, kind) in enumerate(columns.items())]
    return f"SELECT {', '.join(cells)} FROM json_array_elements(CAST({given} AS json)) AS array_of(value) WHERE true"  # noqa: S608


def keys_of(dialect: str, given: str) -> str:
    """The texts of the JSON array that the parameter `given` holds, as a table `json_each` with the column `value`."""
    if dialect == "sqlite":
        return f"json_each({given})"
    return f"json_array_elements_text(CAST({given} AS json)) AS json_each(value)"


def _address(url: str) -> sa.URL:
    address = parsed(url)
    kind = address.drivername.partition("+")[0]
    if kind != "sqlite" and not is_postgres(address):
        raise StateUnavailable(described(address), f"it is of kind '{kind}'; known are sqlite and postgresql")
    return address


def _unavailable(url: str, error: sa.exc.DBAPIError) -> StateUnavailable:
    if is_postgres(sa.make_url(url)):
        return StateUnavailable(described(url), found_in(error))
    found = str(error.orig).splitlines()[0]
    is_plain = isinstance(error, sa.exc.OperationalError | sa.exc.InternalError)
    return StateUnavailable(described(url), found if is_plain else f"not a database ({found})")


def _sqlite_engine(address: sa.URL) -> sa.Engine:
    if address.database and address.database != ":memory:":
        try:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateUnavailable(described(address), f"its folder cannot be made: {error.strerror}") from error
    engine = sa.create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we write BEGIN ourselves: the driver's own begins too late to hold a lock
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KB}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _migrate(engine: sa.Engine, described: str) -> None:
    if _is_migrated(engine, described):
        return
    deadline = time.monotonic() + UPGRADE_PATIENCE_S
    while True:
        try:
            return _upgrade(engine, described)
        except sa.exc.OperationalError as error:
            if not is_lock_timeout(error):
                raise
            if time.monotonic() > deadline:
                raise StateUpgradeBlocked(described, UPGRADE_PATIENCE_S) from error
            time.sleep(random.uniform(0.05, POLL_S))


@cache
def _empty_tables() -> bytes:
    """A SQLite file with the tables of this version and no row."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    _migrate(engine, "in memory")
    with engine.connect() as connection:
        return cast("sqlite3.Connection", connection.connection.driver_connection).serialize()


def _is_migrated(engine: sa.Engine, described: str) -> bool:
    known = [name for name, _ in MIGRATIONS]
    with engine.connect().execution_options(sqlite_begin="DEFERRED") as connection, connection.begin():
        if not sa.inspect(connection).has_table("schema_migrations") or _applied(connection, described) != known:
            return False
        fences.refuse(described, fences.found(connection))
        return True


def _upgrade(engine: sa.Engine, described: str) -> None:
    with engine.connect().execution_options(sqlite_begin="IMMEDIATE") as connection, connection.begin():
        _one_upgrades(connection, described)
        connection.execute(
            sa.text("CREATE TABLE IF NOT EXISTS schema_migrations (name TEXT PRIMARY KEY, applied_at TEXT NOT NULL)")
        )
        applied = _applied(connection, described)
        for name, up in MIGRATIONS:
            if name not in applied:
                up(connection)
                connection.execute(
                    sa.text("INSERT INTO schema_migrations VALUES (:name, :at)"), {"name": name, "at": now()}
                )
        fences.refuse(described, fences.found(connection))


def _one_upgrades(connection: sa.Connection, described: str) -> None:
    """The lock of writers, and on PostgreSQL then all tables: what reads goes on until its transaction ends.

    Half of the time after which PostgreSQL looks for deadlocks, so that it is never a reader that has to give up.
    """
    if connection.dialect.name != "postgresql":
        return
    take = "SELECT pg_try_advisory_xact_lock(726354)"
    if not connection.execute(sa.text(take)).scalar_one():
        _LOG.warning("waiting for another process that upgrades or writes %s", described)
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(726354)"))
    connection.execute(sa.text("SET LOCAL lock_timeout = '500ms'"))
    if ours := tables_there(connection):
        connection.execute(sa.text(f"LOCK TABLE {', '.join(ours)} IN ACCESS EXCLUSIVE MODE"))


def _take_turns(connection: sa.Connection) -> Callable[[], str | None]:
    """What BEGIN IMMEDIATE is to SQLite: what a writer reads, no other writer changes before it is done.

    The server ends the transaction of a process that was suspended within it, so that the others can go on. Returns
    what says why this process is refused, if it is.
    """
    if connection.dialect.name != "postgresql":
        return partial(fences.found, connection)
    limit = f"set_config('idle_in_transaction_session_timeout', '{LONGEST_PAUSE_S * 1000:.0f}', true)"
    sent = Sent(connection, f"SELECT {limit}, ai_assets_turn(%s) AS said", (fences.NEWEST,))
    return lambda: cast("str | None", sent.all()[0].said)


def _applied(connection: sa.Connection, described: str) -> list[str]:
    applied = [row.name for row in connection.execute(sa.text("SELECT name FROM schema_migrations ORDER BY name"))]
    unknown = [name for name in applied if name not in {known for known, _ in MIGRATIONS}]
    if unknown:
        raise StateTooNew(described, unknown[0])
    return applied
