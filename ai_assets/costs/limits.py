"""Limits that people set in place of the declared ones: who may, and the change with its record in the audit chain."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection
from ai_assets.costs.funding import in_dollars
from ai_assets.costs.scopes import fits
from ai_assets.inference import budget_status
from ai_assets.inference.budget_status import BudgetUnknown
from ai_assets.inference.prices import NUSD
from ai_assets.inference.settings import MOST_USD, Budget, InferenceSettings
from ai_assets.signoff import audit
from ai_assets.signoff.people import EVERYWHERE, Person


class LimitInvalid(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(
            f"'{found}' is no limit: write dollars from 0 to {MOST_USD:,.0f} with at most nine decimals, such as 12.50."
        )


class LimitRefused(UserError):
    def __init__(self, who: str, budget: str, places: Sequence[str]) -> None:
        where = "all collections" if EVERYWHERE in places else ", ".join(places)
        role = f"ai-assets reviewers grant {who} admin {shlex.quote(places[0])}"
        super().__init__(
            f"'{who}' cannot set the limit of budget '{budget}': it counts calls of {where}, and that takes the role "
            f"admin there. Whoever keeps this installation gives it: {role}"
        )


class ReasonMissing(UserError):
    def __init__(self, budget: str) -> None:
        super().__init__(f"Why is the limit of budget '{budget}' another one? Say it with --reason; it is recorded.")


@dataclass(frozen=True, kw_only=True)
class LimitChange:
    name: str
    was_nusd: int
    limit_nusd: int
    declared: bool
    """Whether it is the declared limit again."""


def named(settings: InferenceSettings, name: str) -> Budget:
    found = next((budget for budget in settings.budgets if budget.name == name), None)
    if found is None:
        raise BudgetUnknown(name, [budget.name for budget in settings.budgets])
    return found


def nusd_given(text: str) -> int:
    """A limit as somebody typed it, to the last digit."""
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        raise LimitInvalid(text[:40]) from None
    if not amount.is_finite() or not 0 <= amount <= Decimal(MOST_USD):
        raise LimitInvalid(text[:40])
    nusd = amount * NUSD
    if nusd != int(nusd):
        raise LimitInvalid(text[:40])
    return int(nusd)


def touched(budget: Budget, collections: Sequence[Collection]) -> list[str]:
    """The collections whose calls it counts; '*' where nothing says that it counts only some.

    What a tenant may spend is declared by whoever keeps the installation, and so not for the tenant to raise.
    """
    if budget.is_of_operations:
        return [EVERYWHERE]
    found = [collection.name for collection in collections if budget.of and fits(collection, budget.of)]
    return found or [EVERYWHERE]


def require_reason(budget: str, reason: str) -> None:
    if not reason.strip():
        raise ReasonMissing(budget)


def change(
    connection: sa.Connection,
    settings: InferenceSettings,
    budget: Budget,
    limit_nusd: int | None,
    *,
    by: Person,
    reason: str,
    collections: Sequence[Collection],
) -> LimitChange:
    """From now on this limit holds, or the declared one again; in the caller's transaction."""
    places = touched(budget, collections)
    if not all(by.may("admin", place) for place in places):
        raise LimitRefused(by.name, budget.name, places)
    require_reason(budget.name, reason)
    before = budget_status.in_force(connection, settings.budgets)[budget.name]
    done = LimitChange(
        name=budget.name,
        was_nusd=before.limit_nusd,
        limit_nusd=before.declared_nusd if limit_nusd is None else limit_nusd,
        declared=limit_nusd is None,
    )
    record = audit.append(connection, by.name, "budget set", {**vars(done), "reason": reason})
    if limit_nusd is None:
        budget_status.unset_limit(connection, budget.name)
    else:
        at = record.recorded_at
        budget_status.set_limit(connection, budget.name, limit_nusd, by=by.name, reason=reason, at=at)
    return done


def change_in_words(subject: Mapping[str, Any]) -> str:
    """What a record of the audit chain tells of a limit."""
    was, limit = (in_dollars(subject[name]) for name in ("was_nusd", "limit_nusd"))
    return f"from {was} to {limit}{', as declared' if subject['declared'] else ''}"
