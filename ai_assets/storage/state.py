"""The state store: one SQL database (SQLite by default, PostgreSQL by URL) behind short transactions.

Queries live with the nouns they are about; here are the engine, the migrations and the two kinds of transaction.
"""

import contextlib
import datetime
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from ai_assets.base.errors import StateTooNew, StateTooOld, StateUnavailable
from ai_assets.base.extras import need
from ai_assets.base.home import KEYS, Home
from ai_assets.storage.migrations import MIGRATIONS
from ai_assets.storage.postgres import is_postgres, parameters

BUSY_TIMEOUT_S = 30.0
KEYS_OPTION = "ai_assets_keys"
"""Option of a connection: the folder of the keys that sign what is recorded through it."""
LONGEST_PAUSE_S = 30.0
"""Between two statements of a writer on PostgreSQL."""


def now() -> str:
    """The present moment as the ISO 8601 text that every table holds: UTC, so that text order is time order."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


class StateStore:
    """Opened by URL; created and migrated on first use. Safe to share between threads, never across a fork."""

    def __init__(self, url: str, *, keys: Path | None = None) -> None:
        """`keys` is the folder of the keys that sign the audit chain; by default beside a SQLite file."""
        self.url = url
        self._keys = keys
        self._closed = False
        try:
            self._engine = _engine(url)
        except sa.exc.ArgumentError as error:
            raise StateUnavailable("address", "it is not a database URL such as postgresql://user@host/name") from error
        with contextlib.ExitStack() as refused:
            refused.callback(self.close)
            try:
                _migrate(self._engine, self.describe())
            except sa.exc.OperationalError as error:
                raise StateUnavailable(self.describe(), _first_line(error)) from error
            except sa.exc.DatabaseError as error:
                raise StateUnavailable(self.describe(), f"not a database ({_first_line(error)})") from error
            refused.pop_all()
        weakref.finalize(self, self._engine.dispose)  # a store that nobody holds any more keeps no connection

    @classmethod
    def reading(cls, url: str, say: Callable[[str], None], *, keys: Path | None = None) -> Self:
        """A store that is only read, where its folder may not be written or the disk is full; `say` is told of a copy.

        Nothing is created or migrated. PostgreSQL is opened as ever.
        """
        if not url.startswith("sqlite"):
            return cls(url, keys=keys)
        from ai_assets.storage.state_reading import reading_engine

        store = cls.__new__(cls)
        store.url = url
        store._keys = keys
        store._closed = False
        try:
            store._engine, forget = reading_engine(url, say)
        except sqlite3.DatabaseError as error:
            described = sa.make_url(url).render_as_string(hide_password=True)
            raise StateUnavailable(described, f"not a database ({error})") from error
        weakref.finalize(store, forget)
        weakref.finalize(store, store._engine.dispose)  # first, as the last is called first
        try:
            with store.read() as connection:
                inspected = sa.inspect(connection)
                known = [name for name, _ in MIGRATIONS]
                applied = _applied(connection, store.describe()) if inspected.has_table("schema_migrations") else []
        except sa.exc.DatabaseError as error:
            raise StateUnavailable(store.describe(), f"not a database ({_first_line(error)})") from error
        if missing := [name for name in known if name not in applied]:
            raise StateTooOld(store.describe(), missing[0])
        return store

    @staticmethod
    def engine_of(url: str) -> sa.Engine:
        """For what makes or replaces the tables themselves; nothing is created or migrated."""
        return _engine(url)

    @classmethod
    @contextlib.contextmanager
    def reached(cls, url: str) -> Iterator[sa.Connection]:
        """One connection, for what is not ours in the same database; nothing is created or migrated."""
        engine = _engine(url)
        try:
            with engine.connect() as connection, connection.begin():
                yield connection
        except sa.exc.OperationalError as error:
            described = sa.make_url(url).render_as_string(hide_password=True)
            raise StateUnavailable(described, _first_line(error)) from error
        finally:
            engine.dispose()

    def describe(self) -> str:
        """The store's address without its password."""
        return sa.make_url(self.url).render_as_string(hide_password=True)

    @property
    def keys(self) -> Path:
        """The folder of the keys that sign what is recorded in this store."""
        if self._keys is not None:
            return self._keys
        file = sa.make_url(self.url).database
        return (
            Path(file).absolute().parent / KEYS if self.dialect == "sqlite" and file else Home.from_environment().keys
        )

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.name

    def vacuum(self) -> None:
        """On PostgreSQL, write all tables once more, so that nothing deleted is left in their files."""
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("VACUUM FULL"))

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock from its start; committed when the block ends without error."""
        with self._transaction("IMMEDIATE") as connection:
            _take_turns(connection)
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment of the store."""
        with self._transaction("DEFERRED", isolation_level="REPEATABLE READ") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, kind: str, **postgresql: str) -> Iterator[sa.Connection]:
        options: dict[str, Any] = {
            "sqlite_begin": kind,
            KEYS_OPTION: self.keys,
            **(postgresql if self._engine.name == "postgresql" else {}),
        }
        pool = self._engine.pool
        try:
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except (sa.exc.OperationalError, sa.exc.InternalError) as error:
            raise StateUnavailable(self.describe(), _first_line(error)) from error
        finally:
            if self._closed:  # while this transaction ran: its connection went back to a pool that nobody holds
                pool.dispose()

    def close(self) -> None:
        """A transaction that another thread is in ends as it would have, and its connection is closed with it."""
        self._closed = True
        self._engine.dispose()


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


def _engine(url: str) -> sa.Engine:
    address = sa.make_url(url)
    kind = address.drivername.partition("+")[0]
    if is_postgres(address):
        need("postgres", "A state store in PostgreSQL")
        told = parameters(address)
        return sa.create_engine(address.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=told)
    if kind != "sqlite":
        raise StateUnavailable(address.render_as_string(), f"it is of kind '{kind}'; known are sqlite and postgresql")
    if address.database and address.database != ":memory:":
        try:
            Path(address.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateUnavailable(
                address.render_as_string(), f"its folder cannot be made: {error.strerror}"
            ) from error
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we write BEGIN ourselves: the driver's own begins too late to hold a lock
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        kind = connection.get_execution_options().get("sqlite_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _migrate(engine: sa.Engine, described: str) -> None:
    known = [name for name, _ in MIGRATIONS]
    with engine.connect().execution_options(sqlite_begin="DEFERRED") as connection, connection.begin():
        if sa.inspect(connection).has_table("schema_migrations") and _applied(connection, described) == known:
            return
    with engine.connect().execution_options(sqlite_begin="IMMEDIATE") as connection, connection.begin():
        _take_turns(connection)
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


def _take_turns(connection: sa.Connection) -> None:
    """What BEGIN IMMEDIATE is to SQLite: what a writer reads, no other writer changes before it is done.

    The server ends the transaction of a process that was suspended within it, so that the others can go on.
    """
    if connection.dialect.name == "postgresql":
        limit = f"set_config('idle_in_transaction_session_timeout', '{LONGEST_PAUSE_S * 1000:.0f}', true)"
        connection.execute(sa.text(f"SELECT {limit}, pg_advisory_xact_lock(726354)"))


def _applied(connection: sa.Connection, described: str) -> list[str]:
    applied = [row.name for row in connection.execute(sa.text("SELECT name FROM schema_migrations ORDER BY name"))]
    unknown = [name for name in applied if name not in {known for known, _ in MIGRATIONS}]
    if unknown:
        raise StateTooNew(described, unknown[0])
    return applied


def _first_line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).splitlines()[0]
