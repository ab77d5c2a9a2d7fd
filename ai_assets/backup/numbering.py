"""The numbers that a database gives to rows, carried to another one: a number that was given is never given again."""

from collections.abc import Sequence

import sqlalchemy as sa

from ai_assets.storage.known_tables import known_tables

_SEQUENCES = sa.text(
    "SELECT t.relname AS name, a.attname AS counted, s.relname AS sequence, pg_sequence_last_value(s.oid) AS last "
    "FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i') "
    "JOIN pg_class t ON t.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid "
    "WHERE s.relkind = 'S' AND t.relname = ANY(:tables) AND t.relnamespace = to_regnamespace(current_schema())"
)


def copy_numbers(connection: sa.Connection, other: sa.Connection) -> None:
    """From one to the other, after the rows."""
    given = _given(connection)
    if other.dialect.name == "sqlite":
        _go_on_in_sqlite(other, given)
        return
    for row in other.execute(_SEQUENCES, {"tables": list(known_tables())}).all():
        select = sa.text(f'SELECT max("{row.counted}") FROM "{row.name}"')  # noqa: S608
        highest: int | None = other.execute(select).scalar_one()
        if (last := max(highest or 0, given.get(row.name, 0))) > 0:
            other.execute(sa.text("SELECT setval(:name, :last)"), {"name": f'"{row.sequence}"', "last": last})


def _given(connection: sa.Connection) -> dict[str, int]:
    """The last number that each table was given, where it is remembered beside the rows."""
    if connection.dialect.name == "sqlite":
        found = connection.execute(sa.text("SELECT name, seq AS last FROM sqlite_sequence")).all()
    else:
        found = connection.execute(_SEQUENCES, {"tables": list(known_tables())}).all()
    return {row.name: int(row.last) for row in found if row.last is not None}


def _go_on_in_sqlite(other: sa.Connection, given: dict[str, int]) -> None:
    counting = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'"
    names: Sequence[str] = other.execute(sa.text(counting)).scalars().all()
    for name in names:
        there = other.execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": name})
        last = max(there.scalar_one_or_none() or 0, given.get(name, 0))
        other.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
        other.execute(sa.text("INSERT INTO sqlite_sequence VALUES (:name, :last)"), {"name": name, "last": last})
