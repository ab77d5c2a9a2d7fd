"""What was sent for each call, so that its answer can be read beside its question."""

import sqlalchemy as sa

STATEMENTS = (
    # One row per call, under its newest attempt. `body` is packed by `inference/sent.py`; empty where it was too long.
    "CREATE TABLE sent_requests (attempt_id {keyed}, body TEXT NOT NULL)",
)


def up(connection: sa.Connection) -> None:
    keyed = "INTEGER PRIMARY KEY" if connection.dialect.name == "sqlite" else "BIGINT PRIMARY KEY"
    for statement in STATEMENTS:
        connection.execute(sa.text(statement.format(keyed=keyed)))
