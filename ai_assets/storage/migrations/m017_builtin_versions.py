"""Which version of the built-in classifier labels the collections that were there before there were two of them."""

import sqlalchemy as sa

STATEMENTS = (
    # A collection that is not here is labelled by the newest version. `migrate` declares a newer one in defs.yaml.
    """CREATE TABLE builtin_versions (
        collection TEXT NOT NULL, part TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (collection, part))""",
    """INSERT INTO builtin_versions (collection, part, version)
        SELECT DISTINCT collection, 'classifier', '1' FROM datasets""",
)


def up(connection: sa.Connection) -> None:
    for statement in STATEMENTS:
        connection.execute(sa.text(statement))
