"""What the dbt project says of tables and columns, as comments in the warehouse: every DuckDB client shows them."""

from typing import TYPE_CHECKING

from ai_assets.costs.marts import Model, RawTable, models, raw_tables

if TYPE_CHECKING:
    import duckdb

_THERE = """
SELECT schema_name, table_name, 'TABLE' FROM duckdb_tables() WHERE database_name = current_database()
UNION ALL
SELECT schema_name, view_name, 'VIEW' FROM duckdb_views() WHERE database_name = current_database() AND NOT internal"""


def describe(connection: "duckdb.DuckDBPyConnection") -> None:
    """Of all that is there; most tables of `raw` are gone by then."""
    every: list[RawTable | Model] = [*raw_tables(), *models()]
    said = {(each.schema, each.name): each for each in every}
    for schema, name, kind in connection.execute(_THERE).fetchall():
        if (found := said.get((schema, name))) is not None:
            connection.execute(f"COMMENT ON {kind} {schema}.{name} IS {_text(found.description)}")
            for column, (_, description) in found.columns.items():
                connection.execute(f'COMMENT ON COLUMN {schema}.{name}."{column}" IS {_text(description)}')


def _text(said: str) -> str:
    escaped = said.replace("'", "''")
    return f"'{escaped}'"
