"""What a writer must know of the store, or be refused: it was moved elsewhere, or a migration would be harmed by it."""

import sqlalchemy as sa

STATEMENTS = (
    # kind `needs`: the newest migration that a process must know to write. `moved`: where the store is now, without a
    # password. `arriving`: where it is being moved here from; it is not whole yet.
    "CREATE TABLE store_fences (kind TEXT PRIMARY KEY, value TEXT NOT NULL)",
)
TURN = """CREATE OR REPLACE FUNCTION ai_assets_turn(known TEXT) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(726354);
    RETURN (SELECT kind || ' ' || value FROM store_fences WHERE kind <> 'needs' OR value > known ORDER BY kind LIMIT 1);
END $$"""
"""In one statement for a writer the lock, and what was committed before it was given: no round trip more."""


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(TURN)
