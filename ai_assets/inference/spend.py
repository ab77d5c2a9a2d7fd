"""What calls came to: a view of the ledger, for a run, an asset, a partition, or all there is."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.inference.prices import usd_of


@dataclass(frozen=True, kw_only=True)
class Spend:
    calls: int
    """Different questions that were sent at least once."""
    reused: int
    """Times an answer came from the ledger."""
    attempts: int
    """Requests to providers, those in flight included; above `calls` by what was retried."""
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float
    """What is known to be paid. Calls in flight are in none of the sums of money."""
    reused_usd: float
    """What reused answers had cost when they were paid for."""
    maybe_usd: float
    """Reserved for attempts that may have been billed; they are not in `cost_usd`."""
    p50_s: float | None
    """Half of the answers took no longer; None where there is none."""
    p95_s: float | None
    p99_s: float | None
    errors: dict[str, int]
    """Attempts by the class of the error they ended with."""


def numbers(found: Spend) -> dict[str, int | float]:
    """What Dagster plots; what is unknown is left out."""
    named = {name: value for name, value in vars(found).items() if name not in ("errors", "reused")}
    plain = {name: value for name, value in named.items() if value is not None}
    return {**plain, "answers_reused": found.reused, **{f"errors/{name}": n for name, n in found.errors.items()}}


def spend(
    connection: sa.Connection,
    *,
    collection: str | None = None,
    asset: str | None = None,
    partition: str | None = None,
    run_id: str | None = None,
    tenant: str | None = None,
) -> Spend:
    """Of the calls whose caller is all of this; what is not said may be anything."""
    scope = {"collection": collection, "asset": asset, "partition": partition, "run_id": run_id, "tenant": tenant}
    given = {name: value for name, value in scope.items() if value is not None}
    matches = " AND ".join(f"{name} = :{name}" for name in given)
    theirs = f"caller_id IN (SELECT caller_id FROM callers WHERE {matches})" if given else "true"  # noqa: S608

    def ask(statement: str) -> "sa.CursorResult[Any]":
        return connection.execute(sa.text(statement.replace("{theirs}", theirs)), given)

    made, saved, waited = ask(_MADE).one(), ask(_SAVED).one(), ask(_WAITED).one()
    return Spend(
        calls=made.calls,
        reused=saved.reused,
        attempts=made.attempts,
        input_tokens=int(made.input_tokens),
        cached_tokens=int(made.cached_tokens),
        output_tokens=int(made.output_tokens),
        reasoning_tokens=int(made.reasoning_tokens),
        cost_usd=usd_of(int(made.cost_nusd)),
        reused_usd=usd_of(int(saved.saved_nusd)),
        maybe_usd=usd_of(int(made.maybe_nusd)),
        p50_s=waited.p50_s,
        p95_s=waited.p95_s,
        p99_s=waited.p99_s,
        errors={row.error: row.number for row in ask(_ERRORS)},
    )


# {theirs} is replaced: it is the condition on whose rows count.
_MADE = """
SELECT count(*) AS attempts, count(DISTINCT call_key) AS calls,
    coalesce(sum(input_tokens), 0) AS input_tokens, coalesce(sum(cached_tokens), 0) AS cached_tokens,
    coalesce(sum(output_tokens), 0) AS output_tokens, coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens,
    coalesce(sum(cost_nusd), 0) AS cost_nusd,
    coalesce(sum(CASE WHEN state = 'ambiguous' THEN reserved_nusd END), 0) AS maybe_nusd
FROM attempts WHERE {theirs}"""
_SAVED = "SELECT count(*) AS reused, coalesce(sum(saved_nusd), 0) AS saved_nusd FROM reuses WHERE {theirs}"
_ERRORS = (
    "SELECT error, count(*) AS number FROM attempts WHERE {theirs} AND error IS NOT NULL GROUP BY error ORDER BY error"
)
# The smallest latency that so many of a hundred answers did not exceed.
_WAITED = """
SELECT min(CASE WHEN 100 * place >= 50 * answers THEN latency_s END) AS p50_s,
    min(CASE WHEN 100 * place >= 95 * answers THEN latency_s END) AS p95_s,
    min(CASE WHEN 100 * place >= 99 * answers THEN latency_s END) AS p99_s
FROM (
    SELECT latency_s, row_number() OVER (ORDER BY latency_s) AS place, count(*) OVER () AS answers
    FROM attempts WHERE {theirs} AND state = 'settled'
) AS answered"""
