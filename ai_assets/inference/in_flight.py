# ruff: noqa: S608 - the parts put together are all from here
"""What is in flight at this moment: what a kill now can make somebody pay for again. One cheap query, on an index."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa

from ai_assets.inference.ledger import is_owner_live
from ai_assets.inference.ledger_sql import OWNER_SHIFT
from ai_assets.inference.prices import NUSD, usd_of


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """Money is what was reserved: the most that it can come to."""

    calls: int = 0
    """Requests that a living process sent and whose answer is awaited."""
    reserved_nusd: int = 0
    maybe_attempts: int = 0
    """Attempts that may have been billed, those that dead processes left included."""
    maybe_nusd: int = 0

    @property
    def reserved_usd(self) -> Decimal:
        return Decimal(self.reserved_nusd) / NUSD

    @property
    def maybe_usd(self) -> Decimal:
        return Decimal(self.maybe_nusd) / NUSD

    def described(self) -> dict[str, int | float]:
        """For programs, in dollars."""
        return {
            "calls_in_flight": self.calls,
            "in_flight_usd": usd_of(self.reserved_nusd),
            "maybe_attempts": self.maybe_attempts,
            "maybe_usd": usd_of(self.maybe_nusd),
        }


def in_flight(
    connection: sa.Connection, *, run_id: str | None = None, collections: Sequence[str] | None = None
) -> InFlight:
    """Of everything, of a run, or of these collections."""
    wanted, given = [], {}
    if run_id is not None:
        wanted.append("callers.run_id = :run_id")
        given["run_id"] = run_id
    if collections is not None:
        names = {f"collection_{number}": name for number, name in enumerate(collections)}
        wanted.append(f"callers.collection IN ({', '.join(f':{name}' for name in names)})" if names else "1 = 0")
        given.update(names)
    joined = "JOIN callers ON callers.caller_id = attempts.caller_id" if wanted else ""
    condition = "".join(f" AND {each}" for each in wanted)
    # The states are written out, because the index of what has not ended is only used for states that a query names.
    statement = sa.text(f"""
        SELECT state, CASE WHEN state = 'intent' THEN attempt_id >> {OWNER_SHIFT} END AS owner, count(*) AS attempts,
            sum(CASE WHEN carried = 0 THEN 1 ELSE 0 END) AS requests, sum(reserved_nusd) AS reserved_nusd
        FROM attempts {joined} WHERE state IN ('intent', 'ambiguous'){condition}
        GROUP BY state, CASE WHEN state = 'intent' THEN attempt_id >> {OWNER_SHIFT} END""")
    calls = reserved = attempts = maybe = 0
    for row in connection.execute(statement, given):
        if row.state == "intent" and is_owner_live(connection, row.owner):
            calls += int(row.requests)
            reserved += int(row.reserved_nusd)
        else:
            attempts += int(row.attempts)
            maybe += int(row.reserved_nusd)
    return InFlight(calls=calls, reserved_nusd=reserved, maybe_attempts=attempts, maybe_nusd=maybe)
