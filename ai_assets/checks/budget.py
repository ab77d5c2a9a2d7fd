"""Whether an asset that asks models has money for its next call. It blocks nothing: calls are held to their budgets."""

from dataclasses import replace
from typing import Any

from ai_assets.checks.suites import CheckOutcome
from ai_assets.collection.settings import BUDGET_CHECK
from ai_assets.costs import funding
from ai_assets.inference import budget_status
from ai_assets.inference.budget_status import Standing
from ai_assets.inference.prices import usd_of
from ai_assets.run.context import Outcome, Work
from ai_assets.storage.state import now


def check_budget(work: Work, outcome: Outcome) -> tuple[Outcome, CheckOutcome]:
    """The outcome with the budget that has least left, and the verdict on the next call."""
    manifest, on = outcome.manifest, funding.day_of(now())
    with work.stores.state.read() as connection:
        caller = work.caller(manifest.asset, manifest.partition)
        standings = budget_status.standing(connection, work.inference, caller, "", on)
    asks = next(asks for asks in funding.asking(work.collection) if asks.asset == manifest.asset)
    amount = funding.smallest_call_nusd(asks, work.inference, on) or 0
    found = funding.tightest(standings)
    enough = found is None or not amount or found.left_nusd + found.reserved_nusd >= amount
    verdict = CheckOutcome(
        asset=manifest.asset,
        partition=manifest.partition,
        name=BUDGET_CHECK,
        passed=enough,
        blocking=False,
        failures=[] if enough or found is None else [_short(found, amount)],
        details={} if found is None else _details(found),
    )
    return replace(outcome, budget=found), verdict


def _details(found: Standing) -> dict[str, Any]:
    return {
        "budget": funding.named(found),
        "limit_usd": usd_of(found.limit_nusd),
        "left_usd": usd_of(found.left_nusd),
        "used_share": round(found.share, 6),
    }


def _short(found: Standing, amount_nusd: int) -> str:
    left = funding.in_dollars(max(0, found.left_nusd + found.reserved_nusd))
    return (
        f"budget {funding.named(found)} has {left} of {funding.in_dollars(found.limit_nusd)} left"
        f"{funding.until(found)}, and "
        f"the smallest call may cost {funding.in_dollars(amount_nusd)}: {funding.raising(found.name)}"
    )
