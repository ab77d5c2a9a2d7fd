"""What the calls of runs came to, asset by asset: a view of the ledger, also during a run and after a kill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ai_assets.inference.prices import usd_of


@dataclass(frozen=True, kw_only=True)
class RunSpend:
    """Of an asset, or of all of them."""

    calls: int = 0
    """Different questions that were sent at least once."""
    attempts: int = 0
    reused: int = 0
    """Answers that came from the ledger: of other runs, or of one that was interrupted."""
    cost_nusd: int = 0
    maybe_nusd: int = 0
    """Reserved for attempts that may have been billed; not in the cost."""
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Attempts by the class of the error that they ended with, and the endpoint."""

    @property
    def retried(self) -> int:
        return max(0, self.attempts - self.calls)

    @property
    def cost_usd(self) -> float:
        return usd_of(self.cost_nusd)

    @property
    def maybe_usd(self) -> float:
        return usd_of(self.maybe_nusd)

    def plus(self, other: "RunSpend") -> "RunSpend":
        keys = {*self.errors, *other.errors}
        return RunSpend(
            calls=self.calls + other.calls,
            attempts=self.attempts + other.attempts,
            reused=self.reused + other.reused,
            cost_nusd=self.cost_nusd + other.cost_nusd,
            maybe_nusd=self.maybe_nusd + other.maybe_nusd,
            errors={key: self.errors.get(key, 0) + other.errors.get(key, 0) for key in keys},
        )

    @property
    def retries_in_words(self) -> str:
        """'12 retried: 429 from endpoint a'; nothing where nothing was."""
        if not self.retried:
            return ""
        why = self.errors_in_words
        return f"{self.retried:,} retried{': ' if why else ''}{why}"

    @property
    def errors_in_words(self) -> str:
        """'2 × 429 from endpoint a, 1 × timeout from endpoint b'; the number stands only where there are several."""
        most = sorted(self.errors.items(), key=lambda item: (-item[1], item[0]))
        several = len(most) > 1
        return ", ".join(
            f"{f'{number} × ' if several else ''}{STATUS.get(error, error.replace('_', ' '))} from endpoint {endpoint}"
            for (error, endpoint), number in most
        )


STATUS = {"rate_limited": "429"}
"""Of errors that people know by the number."""


def spend_by_asset(connection: sa.Connection, collection: str, run_ids: Sequence[str]) -> dict[str, RunSpend]:
    found: dict[str, RunSpend] = {}
    for run_id in run_ids:
        given = {"collection": collection, "run": run_id}
        for row in connection.execute(sa.text(_MADE), given):
            made = RunSpend(
                calls=row.calls, attempts=row.attempts, cost_nusd=int(row.cost_nusd), maybe_nusd=int(row.maybe_nusd)
            )
            found[row.asset] = found.get(row.asset, RunSpend()).plus(made)
        for row in connection.execute(sa.text(_SAVED), given):
            found[row.asset] = found.get(row.asset, RunSpend()).plus(RunSpend(reused=row.reused))
        for row in connection.execute(sa.text(_ERRORS), given):
            errors = {(row.error, row.endpoint): row.attempts}
            found[row.asset] = found.get(row.asset, RunSpend()).plus(RunSpend(errors=errors))
    return found


def total_of(spends: Mapping[str, RunSpend]) -> RunSpend:
    total = RunSpend()
    for each in spends.values():
        total = total.plus(each)
    return total


_THEIRS = "callers.collection = :collection AND callers.run_id = :run"
_MADE = f"""
SELECT callers.asset, count(*) AS attempts, count(DISTINCT call_key) AS calls, coalesce(sum(cost_nusd), 0) AS cost_nusd,
    coalesce(sum(CASE WHEN state = 'ambiguous' THEN reserved_nusd END), 0) AS maybe_nusd
FROM callers JOIN attempts ON attempts.caller_id = callers.caller_id WHERE {_THEIRS} GROUP BY callers.asset"""  # noqa: S608
_SAVED = f"""
SELECT callers.asset, count(*) AS reused
FROM callers JOIN reuses ON reuses.caller_id = callers.caller_id WHERE {_THEIRS} GROUP BY callers.asset"""  # noqa: S608
_ERRORS = f"""
SELECT callers.asset, error, attempts.endpoint, count(*) AS attempts
FROM callers JOIN attempts ON attempts.caller_id = callers.caller_id
WHERE {_THEIRS} AND error IS NOT NULL GROUP BY callers.asset, error, attempts.endpoint"""  # noqa: S608
