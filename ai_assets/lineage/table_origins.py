"""Which columns the columns of dbt's tables are computed from: the SQL as dbt compiled it, read by sqlglot, which comes
with dagster-dbt. Pure.

Said is whose values a column takes or computes with. By what rows are chosen, joined or grouped is not said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ai_assets.costs.day_rows import ATTEMPTS, REUSES
from ai_assets.costs.marts import Model, RawTable
from ai_assets.lineage.columns import ColumnOrigin

if TYPE_CHECKING:
    from sqlglot.lineage import Node

_DIALECT = "duckdb"
_OF_DAYS = {"attempts": ATTEMPTS, "attempt_facts": ATTEMPTS, "reuses": REUSES}
"""Tables that are loaded from the copied days, with the columns that those have."""


class SqlUnread(Exception):
    """sqlglot does not understand the SQL of a table."""

    def __init__(self, table: str) -> None:
        super().__init__(f"Lineage says nothing of the columns of {table}: sqlglot cannot read its SQL.")


def table_origins(
    model: Model, sql: str, tables: Sequence[Model], raw: Sequence[RawTable], days: str
) -> Mapping[str, Sequence[ColumnOrigin]]:
    """By column. `days`: the asset of the copied days. What is loaded from elsewhere (prices, budgets, releases) is no
    dataset with columns, and what is only counted comes from none."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    schema: dict[str, dict[str, dict[str, str]]] = {}
    every: list[Model | RawTable] = [*tables, *raw]
    for table in every:
        schema.setdefault(table.schema, {})[table.name] = {name: kind for name, (kind, _) in table.columns.items()}
    try:
        tree = parse_one(sql, dialect=_DIALECT)
        for named in tree.find_all(exp.Table):
            named.set("catalog", None)  # the file, which dbt writes before some tables and not before others
        tree = qualify(tree, dialect=_DIALECT, schema=schema, validate_qualify_columns=False, identify=False)
        scope = build_scope(tree)
        read = {
            column: set(_values(lineage(column, tree, schema=schema, scope=scope, dialect=_DIALECT)))
            for column in model.columns
        }
    except SqlglotError as error:
        raise SqlUnread(model.name) from error
    names = {table.name for table in tables}
    found: dict[str, list[ColumnOrigin]] = {}
    for column, values in read.items():
        known = [_origin(value, names, days, copied=copied) for value, copied in values]
        computed = {(each.asset, each.column) for each in known if each and not each.copied}
        of = {(each.asset, each.column) for each in known if each}
        if of:
            found[column] = [
                ColumnOrigin(asset=asset, column=name, copied=(asset, name) not in computed, said="")
                for asset, name in sorted(of)
            ]
    return found


def _values(node: "Node", copied: bool = True) -> Iterator[tuple[tuple[str, str], bool]]:
    """Table and column of each value that a column takes, and whether it takes it as it is."""
    from sqlglot import exp

    if isinstance(node.expression, exp.Table):
        yield (node.expression.name, node.name.rpartition(".")[2]), copied
        return
    if isinstance(node.expression, exp.Alias | exp.Column):
        copied = copied and isinstance(node.expression.unalias(), exp.Column)
    for before in node.downstream:
        yield from _values(before, copied)


def _origin(value: tuple[str, str], names: set[str], days: str, *, copied: bool) -> ColumnOrigin | None:
    """None where the value is of no dataset."""
    table, column = value
    if table in names:
        return ColumnOrigin(asset=table, column=column, copied=copied, said="")
    if (rows := _OF_DAYS.get(table)) is None:
        return None
    if column == "day":
        return ColumnOrigin(asset=days, column=rows.at.rpartition(".")[2], copied=False, said="")
    return ColumnOrigin(asset=days, column=column, copied=copied, said="") if column in rows.columns else None
