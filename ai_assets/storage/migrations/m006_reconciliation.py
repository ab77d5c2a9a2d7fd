"""The provider's own figures: with which key an attempt was made, and what the ledger was held against."""

import sqlalchemy as sa

STATEMENTS = (
    # The provider's public id of the key; NULL where the endpoint declared none when the attempt was made.
    "ALTER TABLE attempts ADD COLUMN key_id TEXT",
    # Append-only: one row per group (days, models, key) of a reconciliation that was applied. What the file does not
    # say is NULL. `billed` is what the ledger had as paid, `maybe` what may have been billed, both before it.
    """CREATE TABLE reconciliations (
        reconciliation TEXT NOT NULL, part BIGINT NOT NULL, made_at TEXT NOT NULL, made_by TEXT NOT NULL,
        file TEXT NOT NULL, file_digest TEXT NOT NULL, days TEXT NOT NULL, models TEXT NOT NULL, key_id TEXT,
        billed_requests BIGINT NOT NULL, billed_nusd BIGINT NOT NULL, maybe_attempts BIGINT NOT NULL,
        maybe_nusd BIGINT NOT NULL, their_requests BIGINT, their_nusd BIGINT, difference_nusd BIGINT,
        verdict TEXT NOT NULL, reason TEXT NOT NULL, resolved BIGINT NOT NULL, resolved_nusd BIGINT NOT NULL,
        PRIMARY KEY (reconciliation, part))""",
    "CREATE INDEX reconciliations_file ON reconciliations (file_digest)",
    "CREATE INDEX reconciliations_made ON reconciliations (made_at)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
