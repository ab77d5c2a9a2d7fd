"""Who looks at a request, and filters of the inbox that a person keeps."""

import sqlalchemy as sa

STATEMENTS = (
    # At most one per request. It says who looks at it and gives no right: others may decide it all the same.
    """CREATE TABLE request_claims (
        request_id TEXT PRIMARY KEY, collection TEXT NOT NULL, person TEXT NOT NULL, given_by TEXT NOT NULL,
        made_at TEXT NOT NULL)""",
    "CREATE INDEX request_claims_person ON request_claims (person)",
    # `query` is that of the inbox's address.
    """CREATE TABLE saved_filters (
        person TEXT NOT NULL, name TEXT NOT NULL, query TEXT NOT NULL, made_at TEXT NOT NULL,
        PRIMARY KEY (person, name))""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
