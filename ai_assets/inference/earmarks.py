"""Money set aside for backfills: what of each budget only their own calls may use.

Everything here happens inside a write transaction, a turn of the ledger or one of its own, so it holds over all
processes: what is set aside is in the budget's own row, and nobody else counts it as left.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.money import in_full
from ai_assets.inference.accounts import Account, of_backfill
from ai_assets.inference.prices import usd_of
from ai_assets.storage.state import now, upsert


class CannotSetAside(UserError):
    def __init__(self, account: Account, left_nusd: int, asked_nusd: int) -> None:
        has = f"has {in_full(usd_of(max(left_nusd, 0)))} left, and"
        if account.is_among_tenants:
            has = "counts calls of several tenants, so its sums are not shown; it has too little left, as"
        super().__init__(
            f"Budget '{account.name}' ({account.budget}) {has} "
            f"{in_full(usd_of(asked_nusd))} of it should be set aside for the backfill. Nothing was started. Give a "
            "lower --max-usd, name fewer partitions, or raise the limit: ai-assets budget set "
            f"{account.name} --limit-usd USD --reason WHY"
        )


class Earmarks:
    """What is left of the earmarks of open backfills, within one turn."""

    def __init__(self, rows: Sequence[Any]) -> None:
        """Of a backfill, a budget and what is left; a backfill that is open and has none has one row without budget."""
        self._left: dict[str, dict[str, int]] = {}
        self._changed: set[tuple[str, str]] = set()
        for row in rows:
            earmarks = self._left.setdefault(row.backfill, {})
            if row.budget is not None:
                earmarks[row.budget] = row.left_nusd

    def of(self, backfill: str) -> Mapping[str, int]:
        """By budget; empty where the backfill is closed or unknown."""
        return self._left.get(backfill, {})

    def is_open(self, backfill: str) -> bool:
        return backfill in self._left

    def take(self, backfill: str, budget: str, amount_nusd: int) -> int:
        """How much of what a call reserves was set aside for it."""
        taken = min(amount_nusd, self.of(backfill).get(budget, 0))
        self._change(backfill, budget, -taken)
        return taken

    def give(self, backfill: str, budget: str, unused_nusd: int, left_of_cap_nusd: int) -> int:
        """How much of what a call did not need is set aside again: no more than the backfill may still spend."""
        own = self.of(backfill)
        if budget not in own:
            return 0
        given = max(0, min(unused_nusd, left_of_cap_nusd - own[budget]))
        self._change(backfill, budget, given)
        return given

    def changed(self) -> list[list[Any]]:
        return [[backfill, budget, self._left[backfill][budget]] for backfill, budget in self._changed]

    def _change(self, backfill: str, budget: str, by_nusd: int) -> None:
        if by_nusd:
            self._left[backfill][budget] += by_nusd
            self._changed.add((backfill, budget))


def set_aside(connection: sa.Connection, backfill: str, cap_nusd: int, amounts: Mapping[Account, int]) -> None:
    """Give the backfill a budget of its own with that limit, and set the amounts aside; all of them or none."""
    _declare(connection, of_backfill(backfill), cap_nusd)
    for account, amount in amounts.items():
        limit = limit_in_force(connection, account)
        _declare(connection, account, limit)
        row = connection.execute(_BALANCE, {"budget": account.budget}).one()
        left = limit - row.used_nusd
        if left < amount:
            raise CannotSetAside(account, left, amount)
        connection.execute(_EARMARK_MORE, {"budget": account.budget, "amount": amount})
        upsert(connection, "earmarks", {"backfill": backfill, "budget": account.budget}, {"left_nusd": amount})


def close(connection: sa.Connection, backfill: str, state: str) -> None:
    """The backfill is over: its calls in flight may end, and none is made any more. What is left goes back."""
    connection.execute(
        sa.text("UPDATE backfills SET state = :state, ended_at = :at WHERE backfill = :backfill AND state = 'open'"),
        {"state": state, "at": now(), "backfill": backfill},
    )
    release(connection, backfill)


def release(connection: sa.Connection, backfill: str) -> None:
    """Return what is left, and make the backfill's own budget one that nothing is left of."""
    for budget, amount in left(connection, backfill).items():
        connection.execute(_EARMARK_MORE, {"budget": budget, "amount": -amount})
    connection.execute(sa.text("DELETE FROM earmarks WHERE backfill = :backfill"), {"backfill": backfill})
    connection.execute(
        sa.text("UPDATE budgets SET limit_nusd = spent_nusd + reserved_nusd + held_nusd WHERE budget = :budget"),
        {"budget": of_backfill(backfill).budget},
    )


def left(connection: sa.Connection, backfill: str) -> dict[str, int]:
    """What is set aside for the backfill and not reserved, by budget."""
    rows = connection.execute(
        sa.text("SELECT budget, left_nusd FROM earmarks WHERE backfill = :backfill"), {"backfill": backfill}
    )
    return {row.budget: row.left_nusd for row in rows}


def limit_in_force(connection: sa.Connection, account: Account) -> int:
    """The limit that a person set, and otherwise the declared one."""
    found = connection.execute(
        sa.text("SELECT limit_nusd FROM budget_limits WHERE name = :name"), {"name": account.name}
    ).scalar_one_or_none()
    return account.limit_nusd if found is None else int(found)


_BALANCE = sa.text(
    "SELECT spent_nusd + reserved_nusd + held_nusd + earmarked_nusd AS used_nusd FROM budgets WHERE budget = :budget"
)
_EARMARK_MORE = sa.text("UPDATE budgets SET earmarked_nusd = earmarked_nusd + :amount WHERE budget = :budget")


def _declare(connection: sa.Connection, account: Account, limit_nusd: int) -> None:
    connection.execute(
        sa.text(
            "INSERT INTO budgets (budget, name, limit_nusd, spent_nusd, reserved_nusd, held_nusd, earmarked_nusd) "
            "VALUES (:budget, :name, :limit, 0, 0, 0, 0) ON CONFLICT (budget) DO UPDATE SET limit_nusd = :limit"
        ),
        {"budget": account.budget, "name": account.name, "limit": limit_nusd},
    )
