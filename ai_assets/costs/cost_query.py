# ruff: noqa: S608 - the parts put together are all from here; values are parameters
"""What the warehouse of costs answers, about the spend that a scope names. Queries only; money is `Decimal` throughout.

A scope's collections are those that somebody may see: no function here counts anything of another.
"""

import datetime
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ai_assets.costs.figures import (
    KEYS,
    NONE,
    WASTE,
    BudgetUse,
    Burn,
    Dimension,
    DocumentCost,
    EndpointUse,
    ErrorCount,
    Forecast,
    PerDocument,
    PromptCost,
    Series,
    SpendRow,
    Totals,
    UnitCost,
    WarehouseTimes,
    Waste,
)
from ai_assets.costs.window import Scope, Window

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Warehouse

MOST_PARTS = 6
"""More parts of a bar are not told apart."""
MOST_STEPS = 100
"""More bars side by side are too thin."""
FEWEST_DAYS = 14
"""Fewer side by side would be blocks, not bars."""
OTHERS = "other"
NOTHING = Decimal(0)


def totals(warehouse: "Warehouse", scope: Scope) -> Totals:
    return Totals(**_rows(warehouse, _TOTALS.format(where=scope.where()), scope.given())[0])


def lines(warehouse: "Warehouse", scope: Scope, by: Dimension, limit: int | None = None) -> tuple[list[SpendRow], int]:
    """The dearest first, days in their order; and how many there are, the ones beyond the limit included."""
    keys = KEYS[by]
    template = {"document": _BY_DOCUMENT, "error": _BY_ERROR}.get(by, _BY)
    order = "day" if by == "day" else f"cost_usd DESC, maybe_usd DESC, saved_usd DESC, {', '.join(keys)}"
    statement = template.format(keys=", ".join(keys), where=scope.where(), order=order)
    found = _rows(warehouse, f"{statement} LIMIT $most", scope.given() | {"most": 2**62 if limit is None else limit})
    total = found[0]["total"] if found else 0
    return [
        SpendRow(names=tuple(str(row[key]) for key in keys), **{name: row[name] for name in _MEASURED}) for row in found
    ], total


def series(warehouse: "Warehouse", scope: Scope, by: Dimension) -> Series:
    """From the first day of the window on which anything was asked, and a few before it."""
    keys = KEYS[by]
    named = "concat_ws('/', " + ", ".join(f"coalesce(nullif(CAST({key} AS TEXT), ''), '{NONE}')" for key in keys) + ")"
    found = _rows(warehouse, _SERIES.format(named=named, where=scope.where()), scope.given())
    asked = min((row["day"] for row in found), default=scope.window.last)
    few = min(FEWEST_DAYS, scope.window.days)
    first = min(asked, Window.of_days(few, scope.window.last).first)
    window = Window(first=first, last=scope.window.last)
    step = -(-window.days // MOST_STEPS)
    starts = [first + datetime.timedelta(days=place) for place in range(0, window.days, step)]
    sums: dict[str, Decimal] = {}
    for row in found:
        sums[row["named"]] = sums.get(row["named"], NOTHING) + row["cost_usd"]
    largest = sorted((name for name in sums if sums[name]), key=lambda name: (-sums[name], name))
    apart = largest if len(largest) <= MOST_PARTS else largest[: MOST_PARTS - 1]
    parts = {name: [NOTHING] * len(starts) for name in (*apart, *([OTHERS] if len(apart) < len(largest) else []))}
    for row in found:
        if row["cost_usd"]:
            values = parts[row["named"] if row["named"] in apart else OTHERS]
            values[(row["day"] - first).days // step] += row["cost_usd"]
    return Series(starts=starts, step=step, parts=list(parts.items()))


def waste(warehouse: "Warehouse", scope: Scope) -> list[Waste]:
    found = _rows(warehouse, _WASTE.format(where=scope.where()), scope.given())
    order = list(WASTE)
    return sorted((Waste(**row) for row in found), key=lambda item: order.index(item.category))


def endpoints(warehouse: "Warehouse", scope: Scope) -> list[EndpointUse]:
    return [EndpointUse(**row) for row in _rows(warehouse, _ENDPOINTS.format(where=scope.where()), scope.given())]


def unit_costs(warehouse: "Warehouse", scope: Scope) -> list[UnitCost]:
    """By kind of stage, the cheapest for its tokens first: own hardware beside what is asked of servers."""
    return [UnitCost(**row) for row in _rows(warehouse, _UNIT_COSTS.format(where=scope.where()), scope.given())]


def failures(warehouse: "Warehouse", scope: Scope) -> list[ErrorCount]:
    """The most frequent first."""
    return [ErrorCount(**row) for row in _rows(warehouse, _FAILURES.format(where=scope.where()), scope.given())]


def documents(warehouse: "Warehouse", scope: Scope, limit: int | None = None) -> list[DocumentCost]:
    """The dearest first."""
    given = scope.given() | {"most": 2**62 if limit is None else limit}
    return [DocumentCost(**row) for row in _rows(warehouse, _DOCUMENTS.format(where=scope.where()), given)]


def prompts(warehouse: "Warehouse", scope: Scope, limit: int | None = None) -> list[PromptCost]:
    given = scope.given() | {"most": 2**62 if limit is None else limit}
    return [PromptCost(**row) for row in _rows(warehouse, _PROMPTS.format(where=scope.where()), given)]


def per_document(warehouse: "Warehouse", scope: Scope) -> PerDocument:
    found = _rows(warehouse, _PER_DOCUMENT.format(where=scope.where(days=False)), scope.given(days=False))
    return PerDocument(**found[0])


def published_document_costs(warehouse: "Warehouse") -> list[tuple[str, str, Decimal]]:
    """Tenant, collection, and what one of its published documents cost, all its calls counted; of all collections."""
    found = _rows(warehouse, _PUBLISHED, {})
    return [(row["tenant"], row["collection"], row["usd_per_published_document"]) for row in found]


def forecast(warehouse: "Warehouse", scope: Scope) -> Forecast | None:
    """Of the present month, whatever the window; of several collections the sum of theirs."""
    if scope.whole:
        where, given = "tenant = '' AND collection = ''", {}
    elif scope.collections is None:
        where, given = "tenant = $tenant AND collection = ''", {"tenant": scope.tenant}
    else:
        where, given = f"collection <> '' AND {scope.where(days=False)}", scope.given(days=False)
    found = _rows(warehouse, _FORECAST.format(where=where), given)
    return Forecast(**found[0]) if found else None


def budgets(warehouse: "Warehouse", scope: Scope) -> list[BudgetUse]:
    """Those in force that last: the fullest first. Who does not see all sees those of their collections and tenants."""
    found = _rows(warehouse, _BUDGETS, {})
    seen = [
        row
        for row in found
        if scope.whole or row["of_collection"] in (scope.collections or ()) or row["of_tenant"] in scope.budgets_of
    ]
    burnt: dict[str, list[Burn]] = {}
    for row in _rows(warehouse, _BURN, {"budgets": [row["budget"] for row in seen]}):
        burnt.setdefault(row.pop("budget"), []).append(Burn(**row))
    names = [name for name in BudgetUse.__dataclass_fields__ if name != "burn"]
    return [BudgetUse(**{name: row[name] for name in names}, burn=burnt.get(row["budget"], ())) for row in seen]


def built(warehouse: "Warehouse") -> WarehouseTimes:
    return WarehouseTimes(**_rows(warehouse, _BUILT, {})[0])


def known(warehouse: "Warehouse", column: str) -> list[str]:
    """The names that this column of the spend holds."""
    return [
        row["name"] for row in _rows(warehouse, f"SELECT DISTINCT {column} AS name FROM marts.spend ORDER BY 1", {})
    ]


def behind(connection: sa.Connection, built: WarehouseTimes, collections: Sequence[str] | None) -> int:
    """Attempts that the ledger has and the warehouse has not."""
    theirs = "JOIN callers ON callers.caller_id = attempts.caller_id AND callers.collection IN :collections"
    statement = sa.text(
        f"SELECT count(*) FROM attempts {theirs if collections is not None else ''} WHERE attempts.sent_at > :ledger_at"
    )
    if collections is not None:
        # Of an empty list the type cannot be told from what is in it.
        statement = statement.bindparams(sa.bindparam("collections", list(collections), sa.Text, expanding=True))
    return int(connection.execute(statement, {"ledger_at": built.ledger_at or ""}).scalar_one())


def _rows(warehouse: "Warehouse", statement: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    answer = warehouse.execute(statement, given)
    names = [column[0] for column in answer.description]
    return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]


_TOTALS = """
SELECT coalesce(sum(calls), 0) AS calls, coalesce(sum(attempts), 0) AS attempts, coalesce(sum(failed), 0) AS failed,
    coalesce(sum(ambiguous), 0) AS ambiguous, coalesce(sum(in_flight), 0) AS in_flight,
    coalesce(sum(reused), 0) AS reused, coalesce(sum(cost_usd), 0) AS cost_usd,
    coalesce(sum(saved_usd), 0) AS saved_usd, coalesce(sum(maybe_usd), 0) AS maybe_usd,
    coalesce(sum(cost_today_usd), 0) AS cost_today_usd,
    coalesce(sum(cost_usd) FILTER (cost_today_usd IS NULL), 0) AS unpriced_usd,
    CAST(coalesce(sum(gpu_s), 0) AS DOUBLE) AS gpu_s, CAST(coalesce(sum(cpu_s), 0) AS DOUBLE) AS cpu_s
FROM marts.spend WHERE {where}"""
_MEASURED = (
    "calls", "attempts", "reused", "cost_usd", "saved_usd", "maybe_usd", "tokens", "cost_today_usd", "gpu_s", "cpu_s",
)  # fmt: skip
_TODAY = "CASE WHEN count(*) = count(cost_today_usd) THEN sum(cost_today_usd) END AS cost_today_usd"
_ON_DEVICES = "CAST(sum(gpu_s) AS DOUBLE) AS gpu_s, CAST(sum(cpu_s) AS DOUBLE) AS cpu_s"
_MEASURES = f"""
    sum(calls) AS calls, sum(attempts) AS attempts, sum(reused) AS reused, sum(cost_usd) AS cost_usd,
    sum(saved_usd) AS saved_usd, sum(maybe_usd) AS maybe_usd,
    CAST(sum(input_tokens + output_tokens) AS BIGINT) AS tokens, {_TODAY}, {_ON_DEVICES},
    count(*) OVER () AS total"""
_BY = "SELECT {keys}, " + _MEASURES + " FROM marts.spend WHERE {where} GROUP BY {keys} ORDER BY {order}"
_BY_ERROR = """
SELECT {keys}, 0 AS calls, sum(attempts) AS attempts, 0 AS reused, sum(cost_usd) AS cost_usd,
    CAST(0 AS DECIMAL(18, 9)) AS saved_usd, sum(maybe_usd) AS maybe_usd, 0 AS tokens, NULL AS cost_today_usd,
    NULL AS gpu_s, NULL AS cpu_s, count(*) OVER () AS total
FROM marts.errors WHERE {where} GROUP BY {keys} ORDER BY {order}"""
# The mart of documents knows no days.
_ASKED = """
    SELECT day, tenant, collection, partition, document, CAST(previous IS NULL AS INTEGER) AS calls, 1 AS attempts,
        0 AS reused, coalesce(cost_usd, 0) AS cost_usd, CAST(0 AS DECIMAL(18, 9)) AS saved_usd,
        coalesce(maybe_usd, 0) AS maybe_usd, coalesce(input_tokens, 0) AS input_tokens,
        coalesce(output_tokens, 0) AS output_tokens, CASE WHEN cost_usd IS NULL THEN 0 ELSE cost_today_usd END
        AS cost_today_usd, gpu_s, cpu_s
    FROM staging.stg_attempts WHERE {where}
    UNION ALL
    SELECT day, tenant, collection, partition, document, 0, 0, 1, 0, saved_usd, 0, 0, 0, 0, NULL, NULL
    FROM staging.stg_reuses WHERE {where}"""
_BY_DOCUMENT = "SELECT {keys}, " + _MEASURES + " FROM (" + _ASKED + ") AS asked GROUP BY {keys} ORDER BY {order}"
_DOCUMENTS = """
WITH dearest AS (
    SELECT collection, document, max(partition) AS partition, count(*) - count(previous) AS calls,
        coalesce(sum(cost_usd), 0) AS cost_usd, coalesce(sum(maybe_usd), 0) AS maybe_usd
    FROM staging.stg_attempts WHERE {where} AND document <> '' GROUP BY collection, document
    ORDER BY cost_usd DESC, maybe_usd DESC, collection, document LIMIT $most
), again AS (
    SELECT collection, document, count(*) AS reused, sum(saved_usd) AS saved_usd
    FROM staging.stg_reuses SEMI JOIN dearest USING (collection, document) WHERE {where} GROUP BY collection, document
)
SELECT dearest.*, coalesce(reused, 0) AS reused, coalesce(saved_usd, 0) AS saved_usd
FROM dearest LEFT JOIN again USING (collection, document)
ORDER BY cost_usd DESC, maybe_usd DESC, collection, document"""
_SERIES = """
SELECT day, {named} AS named, sum(cost_usd) AS cost_usd FROM marts.spend WHERE {where} GROUP BY day, named"""
_WASTE = """
SELECT category, sum(attempts) AS attempts, sum(cost_usd) AS cost_usd, sum(maybe_usd) AS maybe_usd
FROM marts.waste WHERE {where} GROUP BY category"""
# Shares of many days cannot be put together from those of each, so they are taken from the attempts.
_ENDPOINTS = """
SELECT * EXCLUDE (waited), waited[1] AS p50_s, waited[2] AS p95_s, waited[3] AS p99_s
FROM (
    SELECT endpoint, model, kind, count(*) FILTER (state = 'settled') AS answers,
        quantile_disc(latency_s, [0.5, 0.95, 0.99]) FILTER (state = 'settled') AS waited,
        count(*) AS attempts, count(previous) AS retries, count(*) FILTER (state = 'failed') AS failed,
        count(*) FILTER (state = 'ambiguous') AS ambiguous, coalesce(mode(error), '') AS most_frequent_error
    FROM staging.stg_attempts WHERE {where} GROUP BY endpoint, model, kind
) AS used
ORDER BY attempts DESC, endpoint, model, kind"""
_UNIT_COSTS = f"""
SELECT kind, endpoint, model, sum(answers) AS answers, CAST(sum(input_tokens + output_tokens) AS BIGINT) AS tokens,
    {_ON_DEVICES}, sum(cost_usd) AS cost_usd, {_TODAY}
FROM marts.spend WHERE {{where}} AND attempts > 0 GROUP BY kind, endpoint, model, cpu_s IS NULL
ORDER BY kind, sum(cost_usd) / nullif(sum(input_tokens + output_tokens), 0) NULLS LAST, endpoint, model"""
_FAILURES = """
SELECT endpoint, model, error, sum(attempts) AS attempts, sum(cost_usd) AS cost_usd, sum(maybe_usd) AS maybe_usd
FROM marts.errors WHERE {where} GROUP BY endpoint, model, error ORDER BY attempts DESC, endpoint, model, error"""
_PROMPTS = """
SELECT collection, asset, prompt, sum(calls) AS calls, sum(cost_usd) AS cost_usd,
    CAST(sum(cost_usd) / nullif(sum(calls), 0) AS DECIMAL(18, 9)) AS usd_per_call,
    min(day) AS first_day, max(day) AS last_day
FROM marts.spend WHERE {where} AND prompt <> '' AND attempts > 0 GROUP BY collection, asset, prompt
ORDER BY cost_usd DESC, collection, asset, prompt LIMIT $most"""
_PER_DOCUMENT = """
SELECT coalesce(sum(documents), 0) AS documents, coalesce(sum(published_documents), 0) AS published_documents,
    coalesce(sum(cost_usd), 0) AS cost_usd
FROM marts.cost_per_document WHERE {where}"""
_PUBLISHED = """
SELECT tenant, collection, usd_per_published_document FROM marts.cost_per_document
WHERE usd_per_published_document IS NOT NULL ORDER BY tenant, collection"""
_FORECAST = """
SELECT strftime(month, '%Y-%m') AS month, sum(spent_usd) AS spent_usd, sum(low_usd) AS low_usd,
    sum(likely_usd) AS likely_usd, sum(high_usd) AS high_usd
FROM marts.forecast WHERE {where} GROUP BY ALL ORDER BY 1 DESC LIMIT 1"""
_BURN = """
SELECT budget, day, spent_usd, cumulative_usd FROM marts.budget_burn
WHERE list_contains($budgets, budget) ORDER BY budget, day"""
_BUDGETS = """
SELECT * FROM marts.budget_use WHERE burns ORDER BY used_share DESC, budget"""
_BUILT = "SELECT built_at, ledger_at FROM raw.built"
