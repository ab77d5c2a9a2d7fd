"""Who started a run: tokens, used tickets, launches from the desk. And from which places people sign in."""

import sqlalchemy as sa

STATEMENTS = (
    # A token launches runs and decides nothing. Only its digest is kept, signed with the decision key.
    """CREATE TABLE launch_tokens (
        token_id TEXT PRIMARY KEY, token_digest TEXT NOT NULL, person TEXT NOT NULL, made_at TEXT NOT NULL,
        made_by TEXT NOT NULL, expires_at TEXT NOT NULL, revoked_at TEXT, key_id TEXT NOT NULL,
        signature TEXT NOT NULL)""",
    "CREATE INDEX launch_tokens_person ON launch_tokens (person)",
    # The run that took a partition under a launch ticket. Another run with the same ticket is a repetition.
    """CREATE TABLE launch_uses (
        nonce TEXT NOT NULL, partition TEXT NOT NULL, run_id TEXT NOT NULL, used_at TEXT NOT NULL,
        PRIMARY KEY (nonce, partition))""",
    "CREATE INDEX launch_uses_used ON launch_uses (used_at)",
    # What people started from the desk. The row is written before Dagster is asked, so that a form that is sent twice
    # starts one run. `dagster_ids` is a JSON list.
    """CREATE TABLE desk_launches (
        launch_id TEXT PRIMARY KEY, collection TEXT NOT NULL, person TEXT NOT NULL, what TEXT NOT NULL,
        partitions TEXT NOT NULL, backfill TEXT, dagster_ids TEXT NOT NULL, error TEXT, made_at TEXT NOT NULL)""",
    "CREATE INDEX desk_launches_collection ON desk_launches (collection, made_at)",
    # Digests of name and address: from where an account has signed in with its password.
    "CREATE TABLE sign_in_places (place TEXT PRIMARY KEY, seen_at DOUBLE PRECISION NOT NULL)",
    "CREATE INDEX sign_in_places_seen ON sign_in_places (seen_at)",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
