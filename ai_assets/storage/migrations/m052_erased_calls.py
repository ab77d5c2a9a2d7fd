"""Calls that were erased with a forgotten document: their attempts stay, and nothing else leads from a key to them."""

import sqlalchemy as sa

STATEMENTS = (
    # As in `calls`, of which it was a row. A document that comes back is asked again under the same key.
    """CREATE TABLE erased_calls (
        call_key TEXT NOT NULL, attempt_id BIGINT NOT NULL, PRIMARY KEY (call_key, attempt_id))""",
    """INSERT INTO erased_calls SELECT call_key, attempt_id FROM attempts
        WHERE NOT EXISTS (SELECT 1 FROM calls WHERE calls.call_key = attempts.call_key)""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
