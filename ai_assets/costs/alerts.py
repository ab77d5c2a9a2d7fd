"""Telling people that a budget is used up to a declared share: once for each account, limit and share.

The row that remembers it and the messages are one transaction, so neither two processes nor a killed one tell it twice
or never.
"""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ai_assets.collection.loading import Collection
from ai_assets.costs.funding import day, day_of, in_dollars, named, raising, until, used_up
from ai_assets.inference import budget_status
from ai_assets.inference.budget_status import AccountStatus, LimitInForce
from ai_assets.inference.settings import Budget, InferenceSettings
from ai_assets.signoff import outbox
from ai_assets.signoff.outbox import BudgetNews
from ai_assets.storage.state import StateStore


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A share of a limit that was reached."""

    budget: str
    """The account, as in `AccountStatus`."""
    limit_nusd: int
    percent: int
    used_nusd: int
    made_at: str


@dataclass(frozen=True, kw_only=True)
class _ReachedShares:
    declared: Budget
    limit: LimitInForce
    standing: AccountStatus
    shares: tuple[int, ...]
    """All that are reached, rising."""
    untold: tuple[int, ...]


def give(
    state: StateStore, settings: InferenceSettings, moment: str, collections: Sequence[Collection] = ()
) -> list[Alert]:
    """The alerts that are new. Of several shares reached at once only the highest is told, and all are recorded.

    What is left of a budget may be too little for any call: where it keeps one of the collections from all its calls,
    all of it counts as used.
    """
    on = day_of(moment)
    with state.read() as connection:
        if next(_untold(connection, settings, on, collections), None) is None:
            return []
    given = []
    with state.write() as connection:
        for reached in list(_untold(connection, settings, on, collections)):
            given += _record(connection, reached, moment)
            if reached.shares[-1] in reached.untold:
                outbox.make(connection, [_news(reached)], reached.declared.notify, moment)
    return given


def alerts(connection: sa.Connection) -> list[Alert]:
    """All that were given, in the order in which they were."""
    rows = connection.execute(sa.text("SELECT * FROM budget_alerts ORDER BY made_at, budget, percent")).mappings()
    return [Alert(**row) for row in rows]


def _untold(
    connection: sa.Connection, settings: InferenceSettings, on: datetime.date, collections: Sequence[Collection]
) -> Iterator[_ReachedShares]:
    limits = budget_status.in_force(connection, settings.budgets)
    stopping = (used_up(connection, collection, settings, on) for collection in collections)
    empty = {found[0].budget for found in stopping if found is not None}
    for declared in settings.budgets:
        if not declared.alerts:
            continue
        limit = limits[declared.name]
        least = max(1, -(-limit.limit_nusd * declared.alerts[0] // 100))
        for found in budget_status.standing_of(connection, declared, limit, on, used_nusd=least):
            used_nusd = found.limit_nusd if found.budget in empty else found.used_nusd
            shares = tuple(p for p in declared.alerts if used_nusd * 100 >= p * found.limit_nusd)
            told = _told(connection, found)
            if untold := tuple(percent for percent in shares if percent not in told):
                yield _ReachedShares(declared=declared, limit=limit, standing=found, shares=shares, untold=untold)


def _told(connection: sa.Connection, found: AccountStatus) -> set[int]:
    query = sa.text("SELECT percent FROM budget_alerts WHERE budget = :budget AND limit_nusd = :limit")
    return set(connection.execute(query, {"budget": found.budget, "limit": found.limit_nusd}).scalars())


def _record(connection: sa.Connection, reached: _ReachedShares, moment: str) -> list[Alert]:
    found = reached.standing
    made = [
        Alert(
            budget=found.budget,
            limit_nusd=found.limit_nusd,
            percent=percent,
            used_nusd=found.used_nusd,
            made_at=moment,
        )
        for percent in reached.untold
    ]
    statement = sa.text("INSERT INTO budget_alerts VALUES (:budget, :limit_nusd, :percent, :used_nusd, :made_at)")
    connection.execute(statement, [vars(alert) for alert in made])
    return made


def _news(reached: _ReachedShares) -> BudgetNews:
    found = reached.standing
    left = max(0, found.limit_nusd - found.used_nusd)
    title = (
        f"Budget {named(found)}: {found.percent} % of {in_dollars(found.limit_nusd)} used "
        f"({in_dollars(found.used_nusd)}, {in_dollars(left)} left{until(found)})"
    )
    spent = f"{in_dollars(found.spent_nusd)} are spent"
    if found.held_nusd:
        spent += f", {in_dollars(found.held_nusd)} may have been billed (ai-assets ledger ambiguous)"
    if found.earmarked_nusd:
        spent += f", {in_dollars(found.earmarked_nusd)} of the rest are set aside for backfills"
    who = f"{reached.limit.set_by} set" if reached.limit.set_by else "inference.yaml declares"
    body = [f"{spent}. The limit is what {who}.", _ahead(found, reached.shares[-1]), f"Raise it: {raising(found.name)}"]
    return BudgetNews(
        about=f"{found.budget} {found.limit_nusd} {reached.shares[-1]}", title=title, body="\n".join(body)
    )


def _ahead(found: AccountStatus, share: int) -> str:
    """What happens next, in one sentence."""
    begins = f" It starts over on {day(found.starts_over)}." if found.starts_over else ""
    if share < 100:
        return f"A call that might cost more than is left is not made, and scheduled runs wait then.{begins}"
    return f"No call is made from it any more, and scheduled runs that need it wait.{begins}"
