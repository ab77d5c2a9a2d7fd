"""Whether an asset that asks models has money for its next call. It blocks nothing: calls are held to their budgets."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ai_assets.checks.base import Check, CheckContext, CheckResult, CheckSpec, Dataset
from ai_assets.collection.settings import BUDGET_CHECK

if TYPE_CHECKING:
    from ai_assets.collection.loading import Collection
    from ai_assets.inference.budget_status import AccountStatus
    from ai_assets.run.context import Outcome, Work


class BudgetCheck(Check):
    def spec(self, collection: "Collection") -> Sequence[CheckSpec]:
        description = "Passes while every budget it draws on has money for its next call. Blocks nothing."
        return [
            CheckSpec(name=BUDGET_CHECK, asset=asset, description=description, blocking=False)
            for asset in collection.asking
        ]

    def run(self, context: CheckContext, dataset: Dataset) -> CheckResult:
        from ai_assets.costs import funding
        from ai_assets.storage.state import now

        work, found = context.work, context.outcome.budget if context.outcome else None
        asks = next(asks for asks in funding.asking(work.collection) if asks.asset == dataset.asset)
        amount = funding.smallest_call_nusd(asks, work.inference, funding.day_of(now())) or 0
        enough = found is None or not amount or found.left_nusd + found.reserved_nusd >= amount
        return CheckResult(
            passed=enough,
            failures=[] if enough or found is None else [_short(found, amount)],
            details={} if found is None else _details(found),
        )


def with_budget(work: "Work", outcome: "Outcome") -> "Outcome":
    """The outcome of an asset that asks models, with the budget that has least left."""
    from ai_assets.costs import funding
    from ai_assets.inference import budget_status
    from ai_assets.storage.state import now

    manifest = outcome.manifest
    if manifest.asset not in work.collection.asking:
        return outcome
    with work.stores.state.read() as connection:
        caller = work.caller(manifest.asset, manifest.partition)
        standings = budget_status.standing(connection, work.inference, caller, "", funding.day_of(now()))
    return replace(outcome, budget=funding.tightest(standings))


def _details(found: "AccountStatus") -> dict[str, Any]:
    from ai_assets.costs import funding
    from ai_assets.inference.prices import usd_of

    return {
        "budget": funding.named(found),
        "limit_usd": usd_of(found.limit_nusd),
        "left_usd": usd_of(found.left_nusd),
        "used_share": round(found.share, 6),
    }


def _short(found: "AccountStatus", amount_nusd: int) -> str:
    from ai_assets.costs import funding

    left = funding.in_dollars(max(0, found.left_nusd + found.reserved_nusd))
    return (
        f"budget {funding.named(found)} has {left} of {funding.in_dollars(found.limit_nusd)} left"
        f"{funding.until(found)}, and "
        f"the smallest call may cost {funding.in_dollars(amount_nusd)}: {funding.raising(found.name)}"
    )
