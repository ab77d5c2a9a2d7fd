"""Candidates that a gate stopped: they have no request, so nothing else would tell of them once a later run is good."""

import sqlalchemy as sa

STATEMENTS = (
    # Append-only. `candidate`: what it would have been made from. `sentence` and `slice` may quote a value of a row, so
    # they are blanked when a document of the partition is forgotten; the audit chain has the digest of the rest.
    """CREATE TABLE gate_stops (
        stop TEXT NOT NULL PRIMARY KEY, collection TEXT NOT NULL, partition TEXT NOT NULL, candidate TEXT NOT NULL,
        digest TEXT, gate TEXT NOT NULL, verdict TEXT NOT NULL, slice TEXT, sentence TEXT NOT NULL,
        evidence TEXT NOT NULL, run_id TEXT NOT NULL, made_at TEXT NOT NULL)""",
    "CREATE INDEX gate_stops_by_time ON gate_stops (collection, made_at)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
