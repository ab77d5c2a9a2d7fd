"""Workers: a process that holds leases, as all processes of the state store see it; answers that were paid twice."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    # AUTOINCREMENT: a number is never given twice, so a worker that was taken over is known by its number alone.
    counted = "INTEGER PRIMARY KEY AUTOINCREMENT" if connection.dialect.name == "sqlite" else "BIGSERIAL PRIMARY KEY"
    for statement in (
        # A row is there while the worker may act. Whoever takes its work over deletes the row in the same transaction.
        # `expires_at`: by the clock of the PostgreSQL server, or on SQLite by the seconds since `boot`.
        f"""CREATE TABLE workers (
            worker_id {counted}, host TEXT NOT NULL, process TEXT NOT NULL, boot TEXT NOT NULL,
            expires_at DOUBLE PRECISION NOT NULL)""",
        # Leases of the version before: their expiry is a reading of some machine's own clock.
        "DROP TABLE leases",
        "CREATE TABLE leases (name TEXT PRIMARY KEY, worker_id BIGINT NOT NULL, hold_id TEXT NOT NULL)",
        "CREATE INDEX leases_worker ON leases (worker_id)",
        # Who makes the calls of an owner. NULL: a process of the version before, which has ended.
        "ALTER TABLE owners ADD COLUMN worker_id BIGINT",
        # The attempt whose answer is used, where this one was answered and paid for as well.
        "ALTER TABLE attempts ADD COLUMN duplicate_of BIGINT",
        # What processes know together of an endpoint is now measured by the same clock as expiry; `boot` names it.
        "CREATE TABLE clock (boot TEXT PRIMARY KEY)",
        "UPDATE endpoints SET measured_at = 0, blocked_until = 0, probing_until = 0",
    ):
        connection.execute(sa.text(statement))
