"""When the assets of a partition were computed in a run, and what came of it."""

import sqlalchemy as sa

STATEMENTS = (
    # A run that goes on after it was interrupted computes an asset again: each time is a row. `error` is the reason
    # where it failed; `unchanged` is 1 where nothing had to be computed.
    """CREATE TABLE run_spans (
        run_id TEXT NOT NULL, partition TEXT NOT NULL, asset TEXT NOT NULL, began_at TEXT NOT NULL,
        collection TEXT NOT NULL, ended_at TEXT NOT NULL, seconds DOUBLE PRECISION NOT NULL,
        documents INTEGER NOT NULL, documents_out INTEGER NOT NULL, calls INTEGER NOT NULL, unchanged INTEGER NOT NULL,
        error TEXT, PRIMARY KEY (run_id, partition, asset, began_at))""",
    "CREATE INDEX run_spans_collection ON run_spans (collection, ended_at)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
