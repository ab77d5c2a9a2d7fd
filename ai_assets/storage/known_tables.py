"""The tables that our migrations make: a PostgreSQL schema may hold those of others, such as Dagster's."""

from functools import cache

import sqlalchemy as sa

from ai_assets.storage.migrations import MIGRATIONS

APPLIED = "schema_migrations"


@cache
def known_tables() -> tuple[str, ...]:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        for _, up in MIGRATIONS:
            up(connection)
        found = sa.inspect(connection).get_table_names()
    engine.dispose()
    return (*sorted(found), APPLIED)


def tables_there(connection: sa.Connection) -> list[str]:
    """Which of them the schema holds already."""
    present = set(sa.inspect(connection).get_table_names())
    return [name for name in known_tables() if name in present]
