"""What the steps of one run tell each other, where they are processes one after another; and how much a stage takes at
once, after it ran out of memory."""

import sqlalchemy as sa

STATEMENTS = (
    # The partition as the first step of the run saw it.
    """CREATE TABLE run_partitions (
        run_id TEXT NOT NULL, partition TEXT NOT NULL, listing TEXT NOT NULL, people TEXT NOT NULL,
        seen_at TEXT NOT NULL,
        PRIMARY KEY (run_id, partition))""",
    "CREATE INDEX run_partitions_by_age ON run_partitions (seen_at)",
    # How a step leaves it, where it is not done: `waits` is a JSON object, by asset, why.
    """CREATE TABLE run_leftovers (
        run_id TEXT NOT NULL, partition TEXT NOT NULL, step TEXT NOT NULL, error TEXT, passes INTEGER NOT NULL,
        waits TEXT NOT NULL, left_at TEXT NOT NULL,
        PRIMARY KEY (run_id, partition, step))""",
    "CREATE INDEX run_leftovers_by_age ON run_leftovers (left_at)",
    # `counted` is a JSON object.
    """CREATE TABLE run_steps (
        run_id TEXT NOT NULL, step TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL, counted TEXT NOT NULL,
        ended_at TEXT NOT NULL,
        PRIMARY KEY (run_id, step))""",
    "CREATE INDEX run_steps_by_age ON run_steps (ended_at)",
    # `halvings`: how often the batch of the step was halved.
    """CREATE TABLE step_memory (
        collection TEXT NOT NULL, step TEXT NOT NULL, halvings INTEGER NOT NULL, ended_at TEXT NOT NULL,
        pod TEXT NOT NULL,
        PRIMARY KEY (collection, step))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
