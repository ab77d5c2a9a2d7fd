"""Claims about statements to PostgreSQL that do not wait for one another."""

import os
import signal
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


def test_a_statement_that_fails_leaves_nothing_behind_and_the_store_goes_on(far: StateStore) -> None:
    with pytest.raises(sa.exc.IntegrityError), far.write(in_pipeline=True) as connection:
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (1,))
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (1,))
        Sent(connection, "SELECT n FROM numbers", ()).all()
    with pytest.raises(sa.exc.IntegrityError), far.write(in_pipeline=True) as connection:
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (3,))
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (3,))
    assert numbers(far) == []
    with far.write(in_pipeline=True) as connection:
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (4,))
    assert numbers(far) == [4]


def test_a_server_that_ends_the_connection_is_unavailable_and_used_again(far: StateStore) -> None:
    with pytest.raises(StateUnavailable), far.write(in_pipeline=True) as connection:
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (1,))
        (row,) = Sent(connection, "SELECT pg_backend_pid() AS pid", ()).all()
        os.kill(row.pid, signal.SIGTERM)
        Sent(connection, "SELECT pg_sleep(1)", ()).all()
    with far.write(in_pipeline=True) as connection:
        Sent(connection, "INSERT INTO numbers VALUES (%s)", (2,))
    assert numbers(far) == [2]
