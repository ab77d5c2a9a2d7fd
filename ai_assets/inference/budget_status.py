"""Where budgets stand, and the limits that people set in place of the declared ones. Queries over the state store only.

Calls are held to them in `ledger_turn`; who may change a limit is `ai_assets/costs/limits.py`.
"""

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.base.yaml_settings import nearest
from ai_assets.inference.accounts import Account, accounts_of, period_of
from ai_assets.inference.prices import NUSD, usd_of
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import Budget, InferenceSettings
from ai_assets.storage.state import upsert

NO_ROW = "/"
"""No row of a budget begins with it."""
EVERY = 10**9
"""More rows than there are."""
AT_ONCE = 500
_BY_KEY = sa.text("SELECT * FROM budgets WHERE budget IN :ids").bindparams(
    sa.bindparam("ids", expanding=True, type_=sa.Text())
)


@dataclass(frozen=True, kw_only=True)
class LimitInForce:
    """The limit that a budget is held to now: the one that a person set, else the declared one."""

    name: str
    declared_nusd: int
    set_nusd: int | None = None
    set_by: str | None = None
    set_at: str | None = None
    reason: str | None = None

    @property
    def limit_nusd(self) -> int:
        return self.declared_nusd if self.set_nusd is None else self.set_nusd


@dataclass(frozen=True, kw_only=True)
class AccountStatus:
    """Where one account of a budget stands: of one period, and one holder where there is one for each."""

    budget: str
    """Identifies the row, as in `Account`."""
    name: str
    period: str
    """A day, a month, or `ever`."""
    holder: str
    """Whose it is; empty where it is one for all."""
    each: str | None
    limit_nusd: int
    spent_nusd: int = 0
    reserved_nusd: int = 0
    """For calls in flight."""
    held_nusd: int = 0
    """For calls that may have been billed."""
    earmarked_nusd: int = 0
    """Set aside for backfills: nobody else may use it."""
    starts_over: datetime.date | None = None
    """The first day of the next period; None where it is for good."""

    @property
    def used_nusd(self) -> int:
        return self.spent_nusd + self.held_nusd

    @property
    def left_nusd(self) -> int:
        return self.limit_nusd - self.used_nusd - self.reserved_nusd - self.earmarked_nusd

    @property
    def share(self) -> float:
        """Used of the limit; above 1 where the limit was lowered since."""
        if self.limit_nusd <= 0:
            return 1.0 if self.used_nusd else 0.0
        return self.used_nusd / self.limit_nusd

    @property
    def percent(self) -> int:
        """The share in whole per cent that are reached."""
        return 100 * self.used_nusd // self.limit_nusd if self.limit_nusd > 0 else int(100 * self.share)


class BudgetUnknown(UserError):
    def __init__(self, name: str, known: Sequence[str]) -> None:
        hint = nearest(name, list(known), None if known else "it declares none")
        super().__init__(f"inference.yaml declares no budget '{name}'{hint}")


def in_force(connection: sa.Connection, budgets: Sequence[Budget]) -> dict[str, LimitInForce]:
    """By name, of the budgets that are declared."""
    found = {row.name: row for row in connection.execute(sa.text("SELECT * FROM budget_limits"))}
    return {budget.name: _in_force(budget, found.get(budget.name)) for budget in budgets}


def _in_force(budget: Budget, row: Any) -> LimitInForce:
    declared = math.floor(budget.limit_usd * NUSD)
    if row is None:
        return LimitInForce(name=budget.name, declared_nusd=declared)
    return LimitInForce(
        name=budget.name,
        declared_nusd=declared,
        set_nusd=row.limit_nusd,
        set_by=row.set_by,
        set_at=row.set_at,
        reason=row.reason,
    )


def set_limit(connection: sa.Connection, name: str, limit_nusd: int, *, by: str, reason: str, at: str) -> None:
    """From the next call on, in all processes."""
    values = {"limit_nusd": limit_nusd, "set_by": by, "set_at": at, "reason": reason}
    upsert(connection, "budget_limits", {"name": name}, values)


def unset_limit(connection: sa.Connection, name: str) -> None:
    """The declared limit holds again."""
    connection.execute(sa.text("DELETE FROM budget_limits WHERE name = :name"), {"name": name})


def standing(
    connection: sa.Connection, settings: InferenceSettings, caller: Caller, document: str, on: datetime.date
) -> list[AccountStatus]:
    """Of each account that a call for this caller and document draws on, in the order in which they are declared.

    Of a backfill's call, what is set aside for that backfill is no hindrance; its own cap is not among them.
    """
    limits, declared = in_force(connection, settings.budgets), {budget.name: budget for budget in settings.budgets}
    accounts = accounts_of(settings.budgets, caller, document, on)
    rows = {row.budget: row for row in connection.execute(_BY_KEY, {"ids": [account.budget for account in accounts]})}
    aside = sa.text("SELECT budget, left_nusd FROM earmarks WHERE backfill = :backfill")
    own = {r.budget: r.left_nusd for r in connection.execute(aside, {"backfill": caller.backfill})}
    found = [
        _standing(declared[account.name], limits[account.name], account.budget, rows.get(account.budget), on)
        for account in accounts
        if account.name in declared
    ]
    return [replace(item, earmarked_nusd=item.earmarked_nusd - own.get(item.budget, 0)) for item in found]


def standing_among(
    connection: sa.Connection, settings: InferenceSettings, accounts: Sequence[Account], on: datetime.date
) -> list[AccountStatus]:
    """Of these accounts, as of that day: each row is found by its key, however many there are."""
    limits, declared = in_force(connection, settings.budgets), {budget.name: budget for budget in settings.budgets}
    rows = {
        row.budget: row
        for start in range(0, len(accounts), AT_ONCE)
        for row in connection.execute(_BY_KEY, {"ids": [each.budget for each in accounts[start : start + AT_ONCE]]})
    }
    return [
        _standing(declared[account.name], limits[account.name], account.budget, rows.get(account.budget), on)
        for account in accounts
        if account.name in declared
    ]


def all_standing(
    connection: sa.Connection, settings: InferenceSettings, on: datetime.date, *, most: int | None = None
) -> list[AccountStatus]:
    """Every account of the current periods that a call has touched, and those that are one for all in any case.

    Of each budget at most so many, the most used: one for each run or document has thousands.
    """
    limits = in_force(connection, settings.budgets)
    return [
        item
        for budget in settings.budgets
        for item in standing_of(connection, budget, limits[budget.name], on, most=most)
    ]


def standing_of(
    connection: sa.Connection,
    budget: Budget,
    limit: LimitInForce,
    on: datetime.date,
    *,
    used_nusd: int = 0,
    most: int | None = None,
) -> Iterator[AccountStatus]:
    """The accounts of one budget in its current period of which at least so much is used, the most used first."""
    row_of_all = f"{budget.name}/{period_of(budget, on)}"
    query = sa.text(
        "SELECT * FROM budgets WHERE name = :name AND spent_nusd + held_nusd >= :used "
        "AND (budget = :one OR substr(budget, 1, length(CAST(:each AS TEXT))) = :each) "
        "ORDER BY spent_nusd + held_nusd DESC, budget LIMIT :most"
    )
    one, each = (row_of_all, NO_ROW) if budget.each is None else (NO_ROW, f"{row_of_all}/")
    given = {"name": budget.name, "used": used_nusd, "one": one, "each": each, "most": most or EVERY}
    found = connection.execute(query, given).all()
    for row in found:
        yield _standing(budget, limit, row.budget, row, on)
    if budget.each is None and not found and not used_nusd:
        yield _standing(budget, limit, row_of_all, None, on)


def _standing(budget: Budget, limit: LimitInForce, row_id: str, row: Any, on: datetime.date) -> AccountStatus:
    _, period, *holder = row_id.split("/", 2)
    amounts: Mapping[str, int] = {} if row is None else {name: getattr(row, name) for name in _AMOUNTS}
    return AccountStatus(
        budget=row_id,
        name=budget.name,
        period=period,
        holder="/".join(unquote(part) for part in holder),
        each=budget.each,
        limit_nusd=limit.limit_nusd,
        starts_over=starts_over(budget, on),
        **amounts,
    )


_AMOUNTS = ("spent_nusd", "reserved_nusd", "held_nusd", "earmarked_nusd")


def starts_over(budget: Budget, on: datetime.date) -> datetime.date | None:
    """The day (UTC) on which its next period begins; None where it is for good."""
    match budget.per:
        case "day":
            return on + datetime.timedelta(days=1)
        case "month":
            return (on.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
        case None:
            return None


def as_json(found: AccountStatus) -> dict[str, Any]:
    """With exact dollars, for programs."""
    amounts = {
        f"{name}_usd": usd_of(getattr(found, f"{name}_nusd")) for name in ("limit", "spent", "earmarked", "left")
    }
    return {
        "budget": found.budget,
        "period": found.period,
        "holder": found.holder,
        **amounts,
        "in_flight_usd": usd_of(found.reserved_nusd),
        "maybe_usd": usd_of(found.held_nusd),
        "used_share": round(found.share, 6),
        "starts_over": None if found.starts_over is None else found.starts_over.isoformat(),
    }
