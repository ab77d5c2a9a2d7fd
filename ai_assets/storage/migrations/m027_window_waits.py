"""Assets of partitions that wait until their window opens."""

import sqlalchemy as sa

STATEMENTS = (
    # `until` is empty where no window ever opens. `declared` is a digest of the windows; with others a run looks again.
    """CREATE TABLE window_waits (
        collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, since TEXT NOT NULL,
        until TEXT NOT NULL, timezone TEXT NOT NULL, documents BIGINT NOT NULL, declared TEXT NOT NULL,
        run_id TEXT NOT NULL, PRIMARY KEY (collection, asset, partition))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
