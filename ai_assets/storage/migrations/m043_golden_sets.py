"""Which golden items judged: a number for each set of them, and what changed from one to the next."""

import sqlalchemy as sa

STATEMENTS = (
    """CREATE TABLE golden_sets (
        collection TEXT NOT NULL, number BIGINT NOT NULL, digest TEXT NOT NULL, labels BIGINT NOT NULL,
        queries BIGINT NOT NULL, run_id TEXT NOT NULL, made_at TEXT NOT NULL, PRIMARY KEY (collection, number))""",
    # `item`: a document, or the digest of a query. `said`: its label, or the digest of the query's documents; null for
    # one that judges no more, and `change` says why.
    """CREATE TABLE golden_set_changes (
        collection TEXT NOT NULL, number BIGINT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL, said TEXT,
        change TEXT NOT NULL, PRIMARY KEY (collection, number, kind, item))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
