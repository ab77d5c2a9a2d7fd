"""Claims about statements to PostgreSQL that do not wait for one another."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from counting_relay import counting
from engines import CALLER, one, opened, question
from postgres_server import Postgres
from provider import Provider

from ai_assets.base.errors import StateUnavailable
from ai_assets.inference.records import Answer
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


def test_a_turn_of_the_ledger_is_two_round_trips(postgres: Postgres, running: Provider) -> None:
    """Three turns a call that is asked alone: the look-up, the intent, the answer. A connection that was not used for a
    second is looked at first, which on a busy machine adds some."""
    running.reset()
    with counting(postgres.port) as relay:
        url = postgres.database(f"trips{os.urandom(4).hex()}").replace(f":{postgres.port}/", f":{relay.port}/")
        with opened(url, one(running.url)) as engine:
            engine.call(question(0), CALLER)
            before, turns = relay.round_trips, 3 * 10
            results = [engine.call(question(number), CALLER) for number in range(1, 11)]
            made = relay.round_trips - before
    assert all(isinstance(result, Answer) and not result.reused for result in results)
    assert 2 * turns <= made < 3 * turns


def test_connections_that_the_server_has_ended_are_replaced_before_they_are_used(far: StateStore) -> None:
    """Also those that were used a moment ago: only who asks again trusts them then."""
    write(far, "INSERT INTO numbers VALUES (1)")
    end_others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with StateStore.reached(far.url) as connection:
        assert connection.execute(sa.text(end_others)).scalars().all()
    assert numbers(far) == [1]
