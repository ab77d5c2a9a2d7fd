"""The weight of vectors that was fitted to the golden queries of a collection, and what the fit is worth."""

import sqlalchemy as sa

STATEMENTS = (
    # One for each embedding; `space` is that of the vectors it was fitted for, `queries` the digest of the queries.
    """CREATE TABLE fitted_searches (
        collection TEXT NOT NULL, embedding TEXT NOT NULL, space TEXT NOT NULL, queries TEXT NOT NULL,
        weight DOUBLE PRECISION NOT NULL, report TEXT NOT NULL, fitted_at TEXT NOT NULL, run_id TEXT NOT NULL,
        PRIMARY KEY (collection, embedding))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
