"""What came of the attempts of the last ten minutes, at a cost that does not grow with the ledger.

Attempts are read by the index of when they were sent, minute by minute. A minute in which nothing can change any more
is read once and remembered by this process: only the newest ones are read again each time.
"""

# ruff: noqa: S608 - the parts put together are all from here; values are parameters
import datetime
import threading
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ai_assets.inference.records import ErrorClass

WINDOW_MINUTES = 10
NEW_MINUTES = 2
"""As long a process whose clock is behind may still write attempts into a minute."""
THROTTLED: frozenset[ErrorClass] = frozenset({"rate_limited", "overloaded", "tier_unavailable"})
OPEN = ("intent", "ambiguous")


@dataclass(frozen=True, kw_only=True)
class RecentCalls:
    """Attempts that are alike."""

    tenant: str
    collection: str
    endpoint: str
    model: str
    outcome: str
    """`paid`, `paid_twice`, `throttled`, `failed`, `maybe_billed`, `in_flight` or `reused`."""
    error: str | None = None
    calls: int
    nusd: int
    """What they cost; of what was reused, what it cost once."""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class _Minute:
    found: tuple[RecentCalls, ...]
    is_open: bool
    """Some of them have not ended for good."""


class RecentCallsMemory:
    """Of one process; safe to share between threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Minute] = {}
        self._lock = threading.Lock()

    def read(self, connection: sa.Connection, moment: datetime.datetime) -> list[RecentCalls]:
        """Of the minute of that moment and those before it."""
        last = moment.replace(second=0, microsecond=0)
        minutes = [last - datetime.timedelta(minutes=past) for past in range(WINDOW_MINUTES)]
        with self._lock:
            known = {_text(minute): self._known.get(_text(minute)) for minute in minutes}
            for place, minute in enumerate(minutes):
                before = known[_text(minute)]
                if before is None or before.is_open or place < NEW_MINUTES:
                    known[_text(minute)] = _read(connection, minute)
            self._known = {name: found for name, found in known.items() if found is not None}
            return [each for found in self._known.values() for each in found.found]


def _read(connection: sa.Connection, minute: datetime.datetime) -> _Minute:
    given = {"start": _text(minute), "end": _text(minute + datetime.timedelta(minutes=1))}
    attempts = connection.execute(_ATTEMPTS, given).all()
    reused = connection.execute(_REUSED, given).all()
    is_open = any(row.state in OPEN for row in attempts)
    return _Minute((*(_sum(row, _outcome(row)) for row in attempts), *(_sum(row, "reused") for row in reused)), is_open)


def _outcome(row: sa.Row[Any]) -> str:
    if row.state == "intent":
        return "in_flight"
    if row.state == "ambiguous":
        return "maybe_billed"
    if row.state == "settled":
        return "paid_twice" if row.twice else "paid"
    return "throttled" if row.error in THROTTLED else "failed"


def _sum(row: sa.Row[Any], outcome: str) -> RecentCalls:
    amounts = {name: int(getattr(row, name) or 0) for name in _AMOUNTS}
    return RecentCalls(
        tenant=row.tenant, collection=row.collection, endpoint=row.endpoint, model=row.model, outcome=outcome,
        error=row.error, **amounts,
    )  # fmt: skip


def _text(minute: datetime.datetime) -> str:
    return minute.isoformat(timespec="minutes")[:16]


_AMOUNTS = ("calls", "nusd", "input_tokens", "cached_tokens", "output_tokens")
_TOKENS = ", ".join(f"sum(attempts.{name}) AS {name}" for name in _AMOUNTS[2:])
_OF = "callers.tenant, callers.collection, attempts.endpoint, attempts.model"
_TWICE = "CASE WHEN attempts.duplicate_of IS NULL THEN 0 ELSE 1 END"
_ATTEMPTS = sa.text(
    f"SELECT {_OF}, attempts.state, attempts.error, {_TWICE} AS twice, count(*) AS calls, "
    f"sum(attempts.cost_nusd) AS nusd, {_TOKENS} "
    "FROM attempts JOIN callers ON callers.caller_id = attempts.caller_id "
    "WHERE attempts.sent_at >= :start AND attempts.sent_at < :end "
    f"GROUP BY {_OF}, attempts.state, attempts.error, {_TWICE}"
)
_REUSED = sa.text(
    f"SELECT {_OF}, NULL AS error, count(*) AS calls, sum(reuses.saved_nusd) AS nusd, 0 AS input_tokens, "
    "0 AS cached_tokens, 0 AS output_tokens FROM reuses "
    "JOIN callers ON callers.caller_id = reuses.caller_id JOIN attempts ON attempts.attempt_id = reuses.attempt_id "
    f"WHERE reuses.reused_at >= :start AND reuses.reused_at < :end GROUP BY {_OF}"
)
