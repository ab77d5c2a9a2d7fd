"""By when work is due, how its calls were asked and why, and how long batches took by the provider's own clock."""

import sqlalchemy as sa


def up(connection: sa.Connection) -> None:
    counted = "INTEGER PRIMARY KEY" if connection.dialect.name == "sqlite" else "BIGSERIAL PRIMARY KEY"
    for statement in (
        # As JSON: when the answers of this file are due, and how what it has not done by then is asked.
        "ALTER TABLE batch_jobs ADD COLUMN deadline TEXT",
        # From its creation to its final state, and from the request to cancel it.
        "ALTER TABLE batch_jobs ADD COLUMN turnaround_s DOUBLE PRECISION",
        "ALTER TABLE batch_jobs ADD COLUMN cancel_s DOUBLE PRECISION",
        # Since when an asset of a partition has been wanted: a time of day is that after this moment, whatever is
        # started meanwhile. `answered_at`: it has all answers, and what is asked later has a deadline of its own.
        """CREATE TABLE deadlines (
            collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, since TEXT NOT NULL,
            due_at TEXT NOT NULL, answered_at TEXT, PRIMARY KEY (collection, asset, partition))""",
        # How calls of a run were asked from a moment on, and why.
        f"""CREATE TABLE ways (
            way_id {counted}, collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL,
            run_id TEXT NOT NULL, chosen_at TEXT NOT NULL, due_at TEXT NOT NULL, way TEXT NOT NULL,
            chance DOUBLE PRECISION NOT NULL, reason TEXT NOT NULL)""",
        "CREATE INDEX ways_of ON ways (collection, asset, partition, run_id)",
    ):
        connection.execute(sa.text(statement))
