"""Which budgets a call draws on, and whether they hold what it may cost. Pure; the rows are the ledger's."""

import datetime
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ai_assets.inference.prices import NUSD
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import BACKFILL, Budget

MOST_REMEMBERED = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One budget of one period and one holder, as declared."""

    budget: str
    """Identifies the row: name, period, holder."""
    name: str
    limit_nusd: int
    of_document: bool = False
    """Where it is used up one document is not asked about, and the others are."""
    is_among_tenants: bool = False
    """It counts calls of several, and its sums are not shown to one of them."""
    backfill: str = ""
    """Whose own budget it is: the limit is what was approved, and stands in its row; 0 here."""


@dataclass(kw_only=True, slots=True)
class Balance:
    """A row read, changed and written within one turn. All that is not left never passes the limit together."""

    limit_nusd: int
    spent_nusd: int = 0
    reserved_nusd: int = 0
    """For calls that may end any moment: some of it comes back."""
    held_nusd: int = 0
    """For calls that may have been billed: comes back only when somebody resolves them."""
    earmarked_nusd: int = 0
    """Set aside for backfills, and not reserved by one of their calls yet."""

    @property
    def left_nusd(self) -> int:
        return self.limit_nusd - self.spent_nusd - self.reserved_nusd - self.held_nusd - self.earmarked_nusd

    def could_ever_hold(self, amount_nusd: int, *, batches_nusd: int = 0) -> bool:
        """Whether it would fit if every call in flight turned out to be free, but for what batches have reserved, which
        may take a day."""
        return self.left_nusd + self.reserved_nusd - batches_nusd >= amount_nusd


class Accounts:
    """Remembers the accounts of callers: a map of many requests asks for the same ones each time."""

    def __init__(self, budgets: Sequence[Budget]) -> None:
        self._budgets = budgets
        self._of_documents = any(budget.each == "document" for budget in budgets)
        self._known: dict[tuple[Caller, str, datetime.date], tuple[Account, ...]] = {}

    def of(self, caller: Caller, document: str, on: datetime.date) -> tuple[Account, ...]:
        key = (caller, document if self._of_documents else "", on)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            found = self._known[key] = accounts_of(self._budgets, caller, document, on)
        return found


def accounts_of(budgets: Sequence[Budget], caller: Caller, document: str, on: datetime.date) -> tuple[Account, ...]:
    """The accounts that a call for this caller and document draws on, on that day (UTC)."""
    approved = (of_backfill(caller.backfill),) if caller.backfill else ()
    return approved + tuple(
        Account(
            budget=_row(budget.name, period_of(budget, on), *_holder(budget, caller, document)),
            name=budget.name,
            limit_nusd=math.floor(budget.limit_usd * NUSD),
            of_document=budget.each == "document",
            is_among_tenants=budget.is_among_tenants,
        )
        for budget in budgets
        if all(getattr(caller, scope) == wanted for scope, wanted in budget.of.items())
    )


def of_backfill(backfill: str) -> Account:
    """The budget that a backfill has of its own, besides those that all calls draw on."""
    return Account(budget=_row(BACKFILL, backfill), name=BACKFILL, limit_nusd=0, backfill=backfill)


def _row(*parts: str) -> str:
    """Different for different parts, readable, and of characters that every database can hold."""
    *outer, last = (_UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part) for part in parts)
    return "/".join((*(part.replace("/", "%2F") for part in outer), last))


_UNSAFE = re.compile("[%\0\ud800-\udfff]")


def period_of(budget: Budget, on: datetime.date) -> str:
    return {"day": on.isoformat(), "month": on.isoformat()[:7], None: "ever"}[budget.per]


def _holder(budget: Budget, caller: Caller, document: str) -> Iterable[str]:
    match budget.each:
        case None:
            return ()
        case "run":
            return (caller.run_id,)
        case "document":
            return (caller.collection, document)
        case "partition":
            return (caller.collection, caller.partition)
        case "asset":
            return (caller.collection, caller.asset)
        case "tenant":
            return (caller.tenant,)
        case "collection":
            return (caller.collection,)


def first_short(
    accounts: Iterable[Account], balances: Mapping[str, Balance], own: Mapping[str, int], amount_nusd: int
) -> Account | None:
    """The first account that has not this much left, with what is set aside there for who asks.

    A limit may be set below what is spent; what costs nothing is asked all the same.
    """
    for account in accounts:
        left = balances[account.budget].left_nusd + own.get(account.budget, 0)
        if max(left, 0) < amount_nusd:
            return account
    return None
