"""Statements to PostgreSQL that do not wait for one another.

As many as have nothing to do with each other's results are one round trip, BEGIN and COMMIT among them. With SQLite,
where nothing travels, they follow one another.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import psycopg

_OPEN = "ai_assets_pipeline"
"""In the notes of a connection: what ends its pipeline."""


@contextmanager
def pipelined(connection: sa.Connection) -> Iterator[None]:
    """A transaction. Within the block, `send` waits for nothing. Statements of SQLAlchemy have no results here: see
    `unpipelined`.

    The connection is in autocommit: the driver waits for its own BEGIN and again after its own COMMIT, so both are
    sent from here like any other statement. When the block has ended, the transaction is committed.
    """
    if connection.dialect.name != "postgresql":
        yield
        return
    notes, held = connection.info, ExitStack()  # a connection that breaks loses its notes
    notes[_OPEN] = held
    try:
        with _wrapped(connection):
            held.enter_context(_driver(connection).pipeline())
        Sent(connection, "BEGIN", ())
        yield
        if connection.in_transaction():
            Sent(connection, "COMMIT", ())
        with _wrapped(connection):
            held.close()
    except BaseException:
        end_pipeline(connection)
        raise
    finally:
        notes.pop(_OPEN, None)


@contextmanager
def unpipelined(connection: sa.Connection) -> Iterator[None]:
    """Within this block, which may be inside of `pipelined`, statements are what they always are."""
    held: ExitStack | None = connection.info.get(_OPEN)
    if held is None:
        yield
        return
    with _wrapped(connection):
        held.close()
    yield
    with _wrapped(connection):
        held.enter_context(_driver(connection).pipeline())


def end_pipeline(connection: sa.Connection) -> None:
    """After a failure: what else was sent is void, and a transaction is rolled back outside of its pipeline only."""
    if connection.invalidated:
        return  # it has broken, and to ask for its notes would be to ask for another one
    held: ExitStack | None = connection.info.get(_OPEN)
    if held is None:
        return
    import psycopg

    with suppress(psycopg.Error):
        held.close()


def is_pipelined(connection: sa.Connection) -> bool:
    return _OPEN in connection.info


class Sent:
    """A statement that is on its way, or was executed: by the driver itself, for a turn of the ledger is a dozen."""

    def __init__(self, connection: sa.Connection, statement: str, given: Sequence[Any]) -> None:
        self._connection = connection
        self._cursor: Any
        if connection.dialect.name == "postgresql" and not is_pipelined(connection):
            self._cursor = connection.exec_driver_sql(statement, tuple(given))
            return
        with _wrapped(connection):
            self._cursor = _cursor_of(connection)
            self._cursor.execute(statement, tuple(given))

    def all(self) -> Sequence[Any]:
        """Its rows; waits for them."""
        if isinstance(self._cursor, sa.CursorResult):
            return self._cursor.all()
        with _wrapped(self._connection):
            found: Sequence[Any] = self._cursor.fetchall()
            return found


def _cursor_of(connection: sa.Connection) -> Any:
    """Of the driver; its rows have names."""
    if connection.dialect.name == "postgresql":
        from psycopg.rows import namedtuple_row

        return _driver(connection).cursor(row_factory=namedtuple_row)
    cursor: sqlite3.Cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
    cursor.row_factory = _named_row
    return cursor


def _named_row(cursor: sqlite3.Cursor, row: Any) -> Any:
    return _row_type(tuple(column[0] for column in cursor.description))._make(row)


@lru_cache
def _row_type(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names, rename=True)


class _wrapped:  # noqa: N801 - used as a function; a generator costs as much as a statement
    """Errors of the driver, as SQLAlchemy raises them; what is broken goes back to no pool."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        base: type[Exception] = self._connection.dialect.loaded_dbapi.Error  # type: ignore[attr-defined, unused-ignore]
        if error is None or not isinstance(error, base):
            return
        dialect = self._connection.dialect
        is_gone = dialect.is_disconnect(error, _driver(self._connection), None)  # type: ignore[arg-type]
        if is_gone:
            self._connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            None, None, error, base, connection_invalidated=is_gone, dialect=dialect
        ) from error


def _driver(connection: sa.Connection) -> "psycopg.Connection[Any]":
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
