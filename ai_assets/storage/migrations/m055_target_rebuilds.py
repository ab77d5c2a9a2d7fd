"""Targets that were built anew from a release."""

import sqlalchemy as sa

STATEMENTS = (
    # The last of each target. One that a kill ended has no `finished_at`, and goes on under the same `attempt`; its
    # receipt is in target_receipts from `written_at` on. `error`: why the last try failed.
    """CREATE TABLE target_rebuilds (
        collection TEXT NOT NULL, target TEXT NOT NULL, attempt TEXT NOT NULL, release_number INTEGER NOT NULL,
        release_digest TEXT NOT NULL, begun_by TEXT NOT NULL, begun_at TEXT NOT NULL, written_at TEXT,
        finished_at TEXT, error TEXT, PRIMARY KEY (collection, target))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
