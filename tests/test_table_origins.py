"""Claims about the columns that a column of a table of the warehouse comes from, by the SQL that dbt ran."""

from dataclasses import replace

import pytest

from ai_assets.costs.marts import models, raw_tables
from ai_assets.lineage.table_origins import SqlUnread, table_origins

SPEND = next(model for model in models() if model.name == "spend")


def found(sql: str, column: str = "cost_usd") -> list[tuple[str, str, bool]]:
    """Of a table with that one column."""
    table = replace(SPEND, columns={column: ("double", "")})
    made = table_origins(table, sql, models(), raw_tables(), "inference_cost")
    return [(each.asset, each.column, each.copied) for each in made.get(column, [])]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('SELECT cost_usd FROM "costs"."staging"."stg_attempts"', [("stg_attempts", "cost_usd", True)]),
        ("SELECT a.saved_usd AS cost_usd FROM staging.stg_reuses AS a", [("stg_reuses", "saved_usd", True)]),
        ("SELECT sum(cost_usd) AS cost_usd FROM staging.stg_attempts", [("stg_attempts", "cost_usd", False)]),
        (
            "WITH one AS (SELECT cost_usd + maybe_usd AS total, day FROM staging.stg_attempts WHERE state = 'failed') "
            "SELECT total AS cost_usd FROM one",
            [("stg_attempts", "cost_usd", False), ("stg_attempts", "maybe_usd", False)],
        ),
        (
            "SELECT cost_usd FROM staging.stg_attempts UNION ALL SELECT saved_usd FROM staging.stg_reuses",
            [("stg_attempts", "cost_usd", True), ("stg_reuses", "saved_usd", True)],
        ),
        (
            "SELECT CASE WHEN a.day IS NULL THEN 0 ELSE a.cost_usd END AS cost_usd FROM staging.stg_attempts a "
            "JOIN staging.stg_origins o ON o.origin = a.attempt",
            [("stg_attempts", "cost_usd", False), ("stg_attempts", "day", False)],
        ),
        ("SELECT * FROM raw.attempt_facts", [("inference_cost", "cost_usd", True)]),
        ("SELECT count(*) AS cost_usd FROM staging.stg_attempts", []),
        ("SELECT limit_usd AS cost_usd FROM raw.budgets", []),
        ("SELECT 1 AS cost_usd", []),
    ],
)
def test_a_column_comes_from_the_values_that_it_is_made_of(sql: str, expected: list[tuple[str, str, bool]]) -> None:
    assert found(sql) == expected


def test_a_column_that_is_taken_and_computed_with_is_computed() -> None:
    sql = "SELECT cost_usd FROM staging.stg_attempts UNION ALL SELECT 2 * cost_usd FROM staging.stg_attempts"
    assert found(sql) == [("stg_attempts", "cost_usd", False)]


@pytest.mark.parametrize("sql", ["", "SELECT FROM WHERE (", "SELECT nothing_like_it FROM staging.stg_attempts"])
def test_sql_that_is_not_understood_is_said_in_a_sentence(sql: str) -> None:
    with pytest.raises(SqlUnread, match=r"^Lineage says nothing of the columns of spend: sqlglot cannot read its SQL"):
        found(sql)
