"""Money: who has a budget, and which are used up."""

import datetime
from collections.abc import Iterator

from ai_assets.base.money import dollars
from ai_assets.doctor.findings import Finding, fine, warned, wrong
from ai_assets.doctor.installation import Installation
from ai_assets.doctor.state import NoStoreYet, looking, tables_of
from ai_assets.inference.budget_status import AccountStatus, all_standing
from ai_assets.inference.prices import usd_of
from ai_assets.inference.settings import OF_TENANT, InferenceSettings

NEARLY = 0.8
MOST_OF_ONE = 5


def look(at: Installation) -> Iterator[Finding]:
    settings, tenants = at.inference, at.tenants
    priced = [name for name, endpoint in settings.endpoints.items() if not endpoint.free]
    if at.asks_models and priced and not settings.budgets:
        yield warned(
            "budgets",
            found="none is declared, so nothing bounds what is spent",
            fix="Write `budgets` into inference.yaml (docs/inference.md).",
        )
    for name in tenants.declared:
        if at.tenant in (None, name) and not any(budget.name == f"{OF_TENANT}{name}" for budget in settings.budgets):
            yield wrong(
                f"tenant {name}",
                found="it has no budget",
                fix=f"Write tenants.{name}.budget into {at.home.operations}.",
            )
    found = _standing(at, settings)
    for account in found:
        yield from _told(account)
    if settings.budgets and not any(account.share >= NEARLY for account in found):
        shown = {account.name for account in found}
        yield fine("budgets", f"none is nearly used up: {', '.join(sorted(shown)) or 'nothing was spent yet'}")


def _standing(at: Installation, settings: InferenceSettings) -> list[AccountStatus]:
    """Of a tenant, its own alone: another one may count several."""
    today = datetime.datetime.now(datetime.UTC).date()
    shown = [each for each in settings.budgets if at.tenant is None or each.name == f"{OF_TENANT}{at.tenant}"]
    try:
        with looking(at) as connection:
            if not {"budgets", "budget_limits"} <= tables_of(connection):
                return []
            return all_standing(
                connection, settings.model_copy(update={"budgets": tuple(shown)}), today, most=MOST_OF_ONE
            )
    except NoStoreYet:
        return []


def _told(account: AccountStatus) -> Iterator[Finding]:
    if account.share < NEARLY:
        return
    limit = dollars(usd_of(account.limit_nusd))
    until = f", until {account.starts_over} (UTC)" if account.starts_over else ""
    used_up = account.left_nusd <= 0
    holder = f" of {account.holder}" if account.holder else ""
    yield Finding(
        level="error" if used_up else "warning",
        looked_at=f"budget {account.name}{holder}",
        found=f"{'all' if used_up else f'{account.percent} %'} of {limit} is used{until}",
        fix=f"ai-assets budget set {account.name} --limit-usd USD --reason ... raises it; calls beyond it are refused.",
    )
