# ruff: noqa: S608 - the parts put together are all from here
"""What the ledger has paid and may have paid, by day (UTC), key id and model. Queries only."""

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.inference.records import DECLARED_FREE

SKEW_S = 60
"""How far the provider's clock may be from ours."""
TAIL_S = 600
"""So long after a request left may a provider still count it, where nobody saw its answer."""
_NEAR_S = 3600 + TAIL_S + SKEW_S
"""No attempt lasts longer than its timeout, at most an hour: others are not near midnight."""


@dataclass(frozen=True, kw_only=True)
class LedgerTotal:
    """Attempts of one day that are alike. Requests are counted once where several texts shared one."""

    day: str
    key_id: str | None
    endpoint: str
    model: str
    """As it was asked for."""
    answered_model: str | None
    """As the provider named it; None where no answer came."""
    billed_requests: int = 0
    billed_nusd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    maybe_attempts: int = 0
    maybe_requests: int = 0
    maybe_nusd: int = 0
    in_flight: int = 0
    declared_free: int = 0
    """Errors that the endpoint declared to be free: not billed by its word alone."""


def totals(connection: sa.Connection, first: str, last: str, assumed: Mapping[str, str]) -> list[LedgerTotal]:
    """Of attempts sent on these days; those without a key id get the one that is assumed for their endpoint."""
    rows = connection.execute(_TOTALS, {"start": first, "end": _after(last)})
    return [
        LedgerTotal(
            day=row.day,
            key_id=row.key_id if row.key_id is not None else assumed.get(row.endpoint),
            endpoint=row.endpoint,
            model=row.model,
            answered_model=row.answered_model,
            **{name: int(getattr(row, name) or 0) for name in _SUMS},
        )
        for row in rows
    ]


@dataclass(frozen=True, kw_only=True)
class Straddling:
    """Attempts that the provider may have counted on either of two days."""

    day: str
    """The earlier one."""
    key_id: str | None
    model: str


def straddling(connection: sa.Connection, first: str, last: str, assumed: Mapping[str, str]) -> set[Straddling]:
    """Over the midnights from the beginning of the first day to the end of the last."""
    found = set()
    span = {"start": _before(first), "end": _after(_after(last)), "late": _clock(86_400 - _NEAR_S),
            "early": _clock(SKEW_S + 1)}  # fmt: skip
    for row in connection.execute(_NEAR_MIDNIGHT, span):
        sent = datetime.datetime.fromisoformat(row.sent_at)
        lasted = (row.latency_s or 0.0) + (TAIL_S if row.state == "ambiguous" else 0)
        earliest = (sent - datetime.timedelta(seconds=SKEW_S)).date()
        latest = (sent + datetime.timedelta(seconds=lasted + SKEW_S)).date()
        if earliest != latest:
            key_id = row.key_id if row.key_id is not None else assumed.get(row.endpoint)
            found.add(Straddling(day=earliest.isoformat(), key_id=key_id, model=row.model))
    return found


def ambiguous_of(
    connection: sa.Connection, days: tuple[str, ...], models: frozenset[str], key_id: str, assumed: Mapping[str, str]
) -> Iterator[int]:
    """The ids of a group's attempts that may have been billed, in order."""
    span = {"start": days[0], "end": _after(days[-1])}
    for row in connection.execute(_AMBIGUOUS, span):
        its_key = row.key_id if row.key_id is not None else assumed.get(row.endpoint)
        if row.model in models and its_key == key_id:
            yield row.attempt_id


def _after(day: str) -> str:
    return (datetime.date.fromisoformat(day) + datetime.timedelta(days=1)).isoformat()


def _before(day: str) -> str:
    return (datetime.date.fromisoformat(day) - datetime.timedelta(days=1)).isoformat()


def _clock(seconds: int) -> str:
    return (datetime.datetime.min + datetime.timedelta(seconds=seconds)).strftime("%H:%M:%S")


_SUMS = (
    "billed_requests", "billed_nusd", "input_tokens", "output_tokens", "maybe_attempts", "maybe_requests", "maybe_nusd",
    "in_flight", "declared_free",
)  # fmt: skip
_FREE = ", ".join(f"'{error}'" for error in sorted(DECLARED_FREE))
_BILLED = "(state = 'settled' OR (state = 'failed' AND cost_nusd > 0))"
_DECLARED = f"(state = 'failed' AND cost_nusd = 0 AND error IN ({_FREE}) AND message NOT LIKE '%resolved as %')"


def _sum(condition: str, what: str = "1") -> str:
    return f"sum(CASE WHEN {condition} THEN {what} ELSE 0 END)"


_TOTALS = sa.text(f"""
SELECT substr(sent_at, 1, 10) AS day, key_id, endpoint, model, answered_model,
    {_sum(f"{_BILLED} AND carried = 0")} AS billed_requests,
    {_sum(_BILLED, "cost_nusd")} AS billed_nusd,
    {_sum(_BILLED, "input_tokens")} AS input_tokens,
    {_sum(_BILLED, "output_tokens")} AS output_tokens,
    {_sum("state = 'ambiguous'")} AS maybe_attempts,
    {_sum("state = 'ambiguous' AND carried = 0")} AS maybe_requests,
    {_sum("state = 'ambiguous'", "reserved_nusd")} AS maybe_nusd,
    {_sum("state = 'intent'")} AS in_flight,
    {_sum(_DECLARED)} AS declared_free
FROM attempts WHERE sent_at >= :start AND sent_at < :end
GROUP BY substr(sent_at, 1, 10), key_id, endpoint, model, answered_model""")
_NEAR_MIDNIGHT = sa.text(f"""
SELECT sent_at, latency_s, state, key_id, endpoint, model FROM attempts
WHERE sent_at >= :start AND sent_at < :end
    AND (substr(sent_at, 12, 8) >= :late OR substr(sent_at, 12, 8) < :early)
    AND ({_BILLED} OR state IN ('ambiguous', 'intent'))""")
_AMBIGUOUS = sa.text("""
SELECT attempt_id, key_id, endpoint, model FROM attempts
WHERE state = 'ambiguous' AND sent_at >= :start AND sent_at < :end ORDER BY attempt_id""")
