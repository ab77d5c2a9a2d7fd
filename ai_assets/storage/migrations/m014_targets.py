"""Where releases go beside the built-in index, and assets of others' Dagster projects that are signed here."""

import sqlalchemy as sa

STATEMENTS = (
    # What a target has of a release. `receipt` is the target's own, as JSON; there is a row as soon as it is tried.
    # `pointed_at` says when the target was last made to serve it, `error` why the last try failed.
    """CREATE TABLE target_receipts (
        collection TEXT NOT NULL, target TEXT NOT NULL, release_number INTEGER NOT NULL, release_digest TEXT NOT NULL,
        receipt TEXT, written_at TEXT, PRIMARY KEY (collection, target, release_number))""",
    """CREATE TABLE target_states (
        collection TEXT NOT NULL, target TEXT NOT NULL, serves INTEGER, pointed_at TEXT, error TEXT,
        tries INTEGER NOT NULL, next_try_at TEXT, PRIMARY KEY (collection, target))""",
    # `declared` is JSON: the key of its rows and the rules of its sign-off, as its own project declares them.
    """CREATE TABLE signed_assets (
        name TEXT PRIMARY KEY, asset TEXT NOT NULL, declared TEXT NOT NULL, recorded_at TEXT NOT NULL)""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
