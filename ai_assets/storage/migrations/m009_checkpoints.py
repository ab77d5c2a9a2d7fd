"""Checkpoints of the audit chain, and what became of them at each witness."""

import sqlalchemy as sa

STATEMENTS = (
    # `frontier`: of the tree before the last record, so that folding that record in must give the root.
    """CREATE TABLE checkpoints (
        size BIGINT PRIMARY KEY, root TEXT NOT NULL, note TEXT NOT NULL, frontier TEXT NOT NULL,
        made_at TEXT NOT NULL)""",
    """CREATE TABLE checkpoint_witnesses (
        witness TEXT NOT NULL, size BIGINT NOT NULL, state TEXT NOT NULL, attempts BIGINT NOT NULL,
        next_try_at TEXT NOT NULL, error TEXT, receipt TEXT, sent_at TEXT, PRIMARY KEY (witness, size))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
