"""Statements to PostgreSQL that do not wait for one another.

As many as have nothing to do with each other's results are one round trip, BEGIN and COMMIT among them. With SQLite,
where nothing travels, they follow one another.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
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
    """A statement that is on its way, or was executed."""

    def __init__(self, connection: sa.Connection, statement: str, given: Sequence[Any]) -> None:
        self._connection = connection
        self._cursor: Any
        if not is_pipelined(connection):
            self._cursor = connection.exec_driver_sql(statement, tuple(given))
            return
        from psycopg.rows import namedtuple_row

        with _wrapped(connection):
            self._cursor = _driver(connection).cursor(row_factory=namedtuple_row)
            self._cursor.execute(statement, tuple(given))

    def all(self) -> Sequence[Any]:
        """Its rows; waits for them."""
        if isinstance(self._cursor, sa.CursorResult):
            return self._cursor.all()
        with _wrapped(self._connection):
            found: Sequence[Any] = self._cursor.fetchall()
            return found


@contextmanager
def _wrapped(connection: sa.Connection) -> Iterator[None]:
    """Errors of the driver, as SQLAlchemy raises them; what is broken goes back to no pool."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        is_gone = connection.dialect.is_disconnect(error, _driver(connection), None)  # type: ignore[arg-type]
        if is_gone:
            connection.invalidate(error)
        raise sa.exc.DBAPIError.instance(
            None, None, error, psycopg.Error, connection_invalidated=is_gone, dialect=connection.dialect
        ) from error


def _driver(connection: sa.Connection) -> "psycopg.Connection[Any]":
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
