"""How fast endpoints answer, as all processes have seen it, and which of them are slow now."""

import sqlalchemy as sa

STATEMENTS = (
    # Answers by how long they took: a histogram of ten minutes in slices of ten seconds. Seconds are those of the clock
    # that no process can set (docs/adr/0020): the server's in PostgreSQL, since boot with SQLite.
    """CREATE TABLE latencies (
        endpoint TEXT NOT NULL, kind TEXT NOT NULL, size TEXT NOT NULL, slice BIGINT NOT NULL, bucket BIGINT NOT NULL,
        answers BIGINT NOT NULL, PRIMARY KEY (endpoint, kind, size, slice, bucket))""",
    # What a rule `slower_than_s` holds to be slow: since when its answers count, and when the next call may probe it.
    """CREATE TABLE slow_endpoints (
        endpoint TEXT NOT NULL, kind TEXT NOT NULL, size TEXT NOT NULL, limit_s DOUBLE PRECISION NOT NULL,
        slow BIGINT NOT NULL, since_s DOUBLE PRECISION NOT NULL, probe_at_s DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (endpoint, kind, size, limit_s))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
