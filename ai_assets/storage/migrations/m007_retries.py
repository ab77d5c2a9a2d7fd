"""Documents without an answer: how often they were asked about, and when the next run may ask again."""

import sqlalchemy as sa

STATEMENTS = (
    # One row per document that an asset has no result for. `question` is the digest of what was asked: another question
    # starts a new count. `passes`: the error is of a kind that goes away by itself. `document_id` is '' where the whole
    # partition failed.
    """CREATE TABLE document_retries (
        collection TEXT NOT NULL, asset TEXT NOT NULL, partition TEXT NOT NULL, document_id TEXT NOT NULL,
        question TEXT NOT NULL, tries BIGINT NOT NULL, passes BIGINT NOT NULL, error TEXT NOT NULL,
        message TEXT NOT NULL, call TEXT NOT NULL, last_at TEXT NOT NULL, next_at TEXT NOT NULL,
        PRIMARY KEY (collection, asset, partition, document_id))""",
    "CREATE INDEX document_retries_partition ON document_retries (collection, partition)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
