"""What policies say of spending: asked when a run begins, and when a plan or a backfill is made; never for a call."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.collection.loading import Collection
from ai_assets.inference.prices import usd_of
from ai_assets.inference.settings import InferenceSettings
from ai_assets.policy.documents import PolicyBudget, PolicyCalls, SpendingInput
from ai_assets.policy.errors import SpendingDenied
from ai_assets.policy.verdict import verdict
from ai_assets.signoff.launches import Launch
from ai_assets.signoff.policy_facts import launch_of, models_of
from ai_assets.storage.state import now
from ai_assets.storage.stores import Stores

if TYPE_CHECKING:
    from ai_assets.planning.records import Plan, StagePlan
    from ai_assets.run.context import Work

MOST_BUDGETS = 50
"""Accounts of one budget; one for each document has thousands."""


@dataclass(frozen=True, kw_only=True)
class SpendingQuestion:
    """What a run would spend, or a plan says that it would."""

    collection: Collection
    stores: Stores
    inference: InferenceSettings
    partitions: Sequence[str]
    launch: Launch
    backfill: str = ""
    plan: "Plan | None" = None

    def require(self) -> None:
        """Raises SpendingDenied."""
        if reasons := self.denied:
            raise SpendingDenied(self.collection.name, reasons)

    @property
    def denied(self) -> tuple[str, ...]:
        policies = self.collection.policies
        return verdict(policies, "spending", self.input).denied if policies.judges("spending") else ()

    @property
    def input(self) -> SpendingInput:
        """What the policies are asked about."""
        collection, plan = self.collection, self.plan
        planned = {stage.stage: stage for stage in plan.stages} if plan is not None else {}
        return SpendingInput(
            collection=collection.name,
            tenant=collection.settings.tenant,
            partitions=list(self.partitions),
            backfill=self.backfill,
            launch=launch_of(self.launch),
            planned=plan is not None,
            estimated_usd=None if plan is None else usd_of(plan.money.likely_nusd),
            most_usd=None if plan is None else usd_of(plan.money.high_nusd),
            calls=[_calls(collection, asset, planned) for asset in collection.asking],
            budgets=_budgets(collection, self.stores, self.inference),
            now=now(),
        )


def require_run(work: "Work", partitions: Sequence[str], assets: Sequence[str]) -> None:
    """Before a run asks anything; SpendingDenied ends it."""
    if set(assets) & set(work.collection.asking):
        SpendingQuestion(
            collection=work.collection, stores=work.stores, inference=work.inference, partitions=partitions,
            launch=work.launch, backfill=work.backfill,
        ).require()  # fmt: skip


def _calls(collection: Collection, asset: str, planned: Mapping[str, "StagePlan"]) -> PolicyCalls:
    stage = planned.get(asset)
    embedding = collection.embedding_of(asset)
    declared = next((getattr(each, "route", None) for each in collection.stages if each.name == asset), None)
    return PolicyCalls(
        asset=asset,
        route=embedding.settings.route if embedding is not None else declared,
        models=models_of(collection, asset),
        calls=None if stage is None else stage.calls.likely,
        estimated_usd=None if stage is None else usd_of(stage.money.likely_nusd),
        most_usd=None if stage is None else usd_of(stage.money.high_nusd),
    )


def _budgets(collection: Collection, stores: Stores, inference: InferenceSettings) -> list[PolicyBudget]:
    """Those that calls of the collection draw on, as they stand."""
    from ai_assets.inference.budget_status import all_standing
    from ai_assets.inference.records import Caller

    caller = Caller(tenant=collection.settings.tenant, collection=collection.name)
    scopes = {"tenant", "collection"}
    theirs = [
        budget
        for budget in inference.budgets
        if all(getattr(caller, scope) == wanted for scope, wanted in budget.of.items() if scope in scopes)
    ]
    today = datetime.datetime.now(datetime.UTC).date()
    with stores.state.read() as connection:
        found = all_standing(
            connection, inference.model_copy(update={"budgets": tuple(theirs)}), today, most=MOST_BUDGETS
        )
    return [
        PolicyBudget(
            name=each.name,
            period=each.period,
            limit_usd=usd_of(each.limit_nusd),
            used_usd=usd_of(each.used_nusd),
            left_usd=usd_of(each.left_nusd),
        )
        for each in found
    ]
