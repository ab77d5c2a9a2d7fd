"""Signatures of the audit chain, by keys that are not in this store; sessions that only the desk can have made."""

import sqlalchemy as sa

STATEMENTS = (
    "ALTER TABLE audit ADD COLUMN key_id TEXT",
    "ALTER TABLE audit ADD COLUMN signature TEXT",
    # Who is known and which keys count is told by few records of a long chain.
    "CREATE INDEX audit_action ON audit (action, seq)",
    # Sessions from before have none: people sign in once more.
    "ALTER TABLE sessions ADD COLUMN seal TEXT NOT NULL DEFAULT ''",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
