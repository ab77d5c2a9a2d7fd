"""Whether the budgets of the new calls last, and if not, about where they end."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from ai_assets.inference.accounts import Account, accounts_of
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import InferenceSettings
from ai_assets.planning.records import NOTHING, BudgetOutlook, Money


@dataclass(kw_only=True)
class PlannedCalls:
    """The new calls of one stage of one partition, in the order of a run."""

    partition: str
    stage: str
    calls: float
    size: float
    reserve_nusd: int
    """The most that one of them reserves."""
    documents: Mapping[str, int]
    """By document the most that one of its calls reserves; kept only where documents have budgets."""
    money: Money = NOTHING


_NOWHERE = PlannedCalls(partition="", stage="", calls=0.0, size=0.0, reserve_nusd=0, documents={})


@dataclass(frozen=True, kw_only=True)
class AccountFunds:
    limit_nusd: int
    held_nusd: int
    left_nusd: int


def outlooks(
    connection: sa.Connection, inference: InferenceSettings, spans: Sequence[PlannedCalls], caller: Caller
) -> list[BudgetOutlook]:
    """One per budget that is drawn on; of those that are counted apart only the tightest of a name, or what stops."""
    today = datetime.datetime.now(datetime.UTC).date()
    drawn: dict[str, list[PlannedCalls]] = {}
    accounts: dict[str, Account] = {}
    for span in spans:
        theirs = replace(caller, asset=span.stage, partition=span.partition)
        for account in accounts_of(inference.budgets, theirs, "", today):
            if not account.of_document:
                accounts[account.budget] = account
                drawn.setdefault(account.budget, []).append(span)
    balances = _balances(connection, accounts.values())
    found = [_outlook(accounts[budget], balances[budget], theirs) for budget, theirs in drawn.items()]
    found += _of_documents(connection, inference, spans, caller, today)
    return _tightest(found)


def has_document_budgets(inference: InferenceSettings) -> bool:
    return any(budget.each == "document" for budget in inference.budgets)


def _balances(connection: sa.Connection, accounts: Iterable[Account]) -> dict[str, AccountFunds]:
    """As the ledger counts them: a limit that a person set stands above the declared one."""
    limits = {
        row.name: row.limit_nusd for row in connection.execute(sa.text("SELECT name, limit_nusd FROM budget_limits"))
    }
    wanted = {account.budget: limits.get(account.name, account.limit_nusd) for account in accounts}
    found = {name: AccountFunds(limit_nusd=limit, held_nusd=0, left_nusd=limit) for name, limit in wanted.items()}
    statement = sa.text("SELECT * FROM budgets WHERE budget IN :names").bindparams(
        sa.bindparam("names", type_=sa.Text, expanding=True)
    )
    names = list(wanted)
    for start in range(0, len(names), 500):
        for row in connection.execute(statement, {"names": names[start : start + 500]}):
            used = row.spent_nusd + row.reserved_nusd + row.held_nusd + row.earmarked_nusd
            limit = wanted[row.budget]
            found[row.budget] = AccountFunds(limit_nusd=limit, held_nusd=row.held_nusd, left_nusd=limit - used)
    return found


def _outlook(account: Account, balance: AccountFunds, spans: Sequence[PlannedCalls]) -> BudgetOutlook:
    needed = NOTHING
    for span in spans:
        needed += span.money
    likely, high = (_end(spans, balance.left_nusd, which) for which in ("likely_nusd", "high_nusd"))
    span, call = likely or high or (_NOWHERE, 0)
    return BudgetOutlook(
        budget=account.budget,
        name=account.name,
        limit_nusd=balance.limit_nusd,
        held_nusd=balance.held_nusd,
        left_nusd=balance.left_nusd,
        needed=needed,
        stops="yes" if likely else "maybe" if high else "no",
        partition=span.partition,
        stage=span.stage,
        call=call,
        calls=max(call, round(span.calls)),
        is_among_tenants=account.is_among_tenants,
    )


def _end(spans: Sequence[PlannedCalls], left: int, which: str) -> tuple[PlannedCalls, int] | None:
    """The first call for which there is not left what it may cost at most."""
    spent = 0
    for span in spans:
        if span.calls <= 0:
            continue
        total = getattr(span.money, which)
        room, each = left - span.reserve_nusd - spent, total / span.calls
        if room < 0:
            return span, 1
        if each and (fits := int(room / each) + 1) < span.calls:
            return span, fits + 1
        spent += total
    return None


def _of_documents(
    connection: sa.Connection,
    inference: InferenceSettings,
    spans: Sequence[PlannedCalls],
    caller: Caller,
    today: datetime.date,
) -> Iterable[BudgetOutlook]:
    """A document whose budget does not hold one of its calls gets no answer; the others do."""
    needs: dict[str, int] = {}
    accounts: dict[str, Account] = {}
    for span in spans:
        theirs = replace(caller, asset=span.stage, partition=span.partition)
        for document, reserve in span.documents.items():
            for account in accounts_of(inference.budgets, theirs, document, today):
                if account.of_document:
                    accounts[account.budget] = account
                    needs[account.budget] = max(needs.get(account.budget, 0), reserve)
    balances = _balances(connection, accounts.values())
    for name in sorted({account.name for account in accounts.values()}):
        theirs_of = [account for account in accounts.values() if account.name == name]
        short = [each for each in theirs_of if balances[each.budget].left_nusd < needs[each.budget]]
        tightest = min(short or theirs_of, key=lambda each: balances[each.budget].left_nusd)
        yield BudgetOutlook(
            budget=tightest.budget,
            name=name,
            limit_nusd=balances[tightest.budget].limit_nusd,
            held_nusd=balances[tightest.budget].held_nusd,
            left_nusd=balances[tightest.budget].left_nusd,
            needed=Money(low_nusd=0, likely_nusd=0, high_nusd=needs[tightest.budget]),
            stops="yes" if short else "no",
            partition="",
            stage="",
            call=len(short),
            calls=len(theirs_of),
        )


def _tightest(found: Sequence[BudgetOutlook]) -> list[BudgetOutlook]:
    kept: dict[str, list[BudgetOutlook]] = {}
    for item in found:
        kept.setdefault(item.name, []).append(item)
    shown = []
    for items in kept.values():
        stopping = [item for item in items if item.stops != "no"]
        rest = min(items, key=lambda item: item.left_nusd - item.needed.likely_nusd)
        shown += stopping[:MOST_SHOWN] or [rest]
    return shown


MOST_SHOWN = 3
"""Budgets of one name that would stop the run; where one partition's ends, so do others'."""
