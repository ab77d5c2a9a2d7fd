"""Claims about statements to PostgreSQL that do not wait for one another."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres_server import Postgres

from ai_assets.base.errors import StateUnavailable
from ai_assets.storage.pipeline import Sent, is_pipelined, unpipelined
from ai_assets.storage.state import StateStore


@pytest.fixture
def far(postgres: Postgres, tmp_path: Path) -> Iterator[StateStore]:
    with closing(StateStore(postgres.database(f"pipeline{os.urandom(4).hex()}"), keys=tmp_path)) as store:
        with store.write() as connection:
            connection.execute(sa.text("CREATE TABLE numbers (n BIGINT PRIMARY KEY)"))
        yield store


def numbers(store: StateStore) -> list[int]:
    with store.read() as connection:
        return list(connection.execute(sa.text("SELECT n FROM numbers ORDER BY n")).scalars())


def test_each_statement_sees_what_was_sent_before_it_and_all_is_committed(far: StateStore) -> None:
    with far.write(in_pipeline=True) as connection:
        assert is_pipelined(connection)
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (1,))
        first = Sent(connection, "SELECT count(*) AS found FROM numbers", ())
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (2,))
        second = Sent(connection, "SELECT count(*) AS found FROM numbers", ())
        assert (second.all()[0].found, first.all()[0].found) == (2, 1)
    assert numbers(far) == [1, 2]


def test_what_leaves_the_pipeline_is_in_the_same_transaction(far: StateStore) -> None:
    with far.write(in_pipeline=True) as connection:
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (1,))
        with unpipelined(connection):
            assert connection.execute(sa.text("SELECT n FROM numbers")).scalars().all() == [1]
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (2,))
        connection.rollback()
    assert numbers(far) == []


def write(store: StateStore, *statements: str) -> None:
    """All in one pipeline; the result of the last one is awaited where it has one."""
    with store.write(in_pipeline=True) as connection:
        sent = [Sent(connection, statement, ()) for statement in statements]
        if statements[-1].startswith("SELECT"):
            sent[-1].all()


@pytest.mark.parametrize("last", [[], ["SELECT n FROM numbers"]], ids=["at the commit", "at a result"])
def test_a_statement_that_fails_leaves_nothing_behind_and_the_store_goes_on(far: StateStore, last: list[str]) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        write(far, "INSERT INTO numbers VALUES (1)", "INSERT INTO numbers VALUES (1)", *last)
    assert numbers(far) == []
    write(far, "INSERT INTO numbers VALUES (4)")
    assert numbers(far) == [4]


def test_a_server_that_ends_the_connection_is_unavailable_and_used_again(far: StateStore) -> None:
    ends_itself = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(StateUnavailable):
        write(far, "INSERT INTO numbers VALUES (1)", ends_itself)
    write(far, "INSERT INTO numbers VALUES (2)")
    assert numbers(far) == [2]


def test_a_connection_that_breaks_while_something_is_sent_is_unavailable_too(far: StateStore) -> None:
    """Asked for its notes, a broken connection is in no state to be asked."""

    def broken(connection: sa.Connection) -> None:
        Sent(connection, "SELECT 1", ()).all()
        connection.invalidate()
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("server closed the connection unexpectedly"))

    with pytest.raises(StateUnavailable), far.write(in_pipeline=True) as connection:
        broken(connection)
    write(far, "INSERT INTO numbers VALUES (2)")
    assert numbers(far) == [2]
