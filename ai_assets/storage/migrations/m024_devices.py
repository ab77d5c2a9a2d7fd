"""Models that run here: the seconds of each row of the ledger on a device, and how large a batch fits."""

import sqlalchemy as sa

STATEMENTS = (
    # Seconds that a GPU was ours for it, or that all cores together computed; null where a provider was asked.
    "ALTER TABLE attempts ADD COLUMN gpu_s DOUBLE PRECISION",
    "ALTER TABLE attempts ADD COLUMN cpu_s DOUBLE PRECISION",
    # Found out by running out of memory; more than that is tried again after a day.
    """CREATE TABLE batch_sizes (
        model TEXT NOT NULL, device TEXT NOT NULL, tokens BIGINT NOT NULL, measured_at TEXT NOT NULL,
        PRIMARY KEY (model, device))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
