"""Whether there is money for a collection's next calls, and how its money is said."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ai_assets.base.plural import plural
from ai_assets.collection.loading import Collection
from ai_assets.costs.tables import dollars
from ai_assets.inference import budget_status
from ai_assets.inference.budget_status import AccountStatus
from ai_assets.inference.prices import NUSD, REQUEST_TOKENS, least_reserved_nusd, nusd_of
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import BATCH_TIER, InferenceSettings
from ai_assets.stages.function_kind import FunctionStage

if TYPE_CHECKING:
    from ai_assets.run.context import Outcome

PASSING = ("run", "document")
"""Budgets of each of these begin anew with the next run or document."""


def in_dollars(nusd: int) -> str:
    return dollars(Decimal(nusd) / NUSD)


def day_of(moment: str) -> datetime.date:
    """The day (UTC) that budgets go by."""
    return datetime.datetime.fromisoformat(moment).astimezone(datetime.UTC).date()


def day(on: datetime.date) -> str:
    return f"{on.day} {on:%B}"


def until(found: AccountStatus) -> str:
    """When its money comes back by itself: ' until 1 December', or nothing."""
    return f" until {day(found.starts_over)}" if found.starts_over else ""


def named(found: AccountStatus) -> str:
    """The budget, and whose it is."""
    return f"{found.name} ({found.holder})" if found.holder else found.name


def used(found: AccountStatus) -> str:
    """'everything: 82 % of $5.00 used'."""
    return f"{named(found)}: {found.percent} % of {in_dollars(found.limit_nusd)} used"


def cost_summary(outcome: "Outcome") -> str:
    """'12 calls, 3 answers reused; $0.0042 paid, $0.0010 saved'; 'free' where nothing was asked."""
    spent = None if outcome.unchanged else outcome.manifest.stats.get("spend")
    if not spent or not (spent["calls"] or spent["reused"]):
        return f"{_usd(outcome.cost_usd)} paid" if outcome.cost_usd else "free"
    asked = f"{plural(spent['calls'], 'call')}, {plural(spent['reused'], 'answer')} reused"
    said = [f"{_usd(spent['cost_usd'])} paid", f"{_usd(spent['reused_usd'])} saved"]
    if spent["maybe_usd"]:
        said.append(f"{_usd(spent['maybe_usd'])} may have been billed")
    return f"{asked}; {', '.join(said)}"


def _usd(amount: float) -> str:
    return in_dollars(nusd_of(amount))


def run_cost(connection: sa.Connection, run_id: str) -> str:
    """The dollars that all calls of a run cost, as a decimal number."""
    query = sa.text(
        "SELECT coalesce(sum(cost_nusd), 0) FROM attempts "
        "WHERE caller_id IN (SELECT caller_id FROM callers WHERE run_id = :run)"
    )
    cost = Decimal(int(connection.execute(query, {"run": run_id}).scalar_one())) / NUSD
    return f"{cost:f}"


def tightest(standings: Sequence[AccountStatus]) -> AccountStatus | None:
    """Of what outlives a run and a document, the one with least left."""
    lasting = [found for found in standings if found.each not in PASSING]
    return min(lasting, key=lambda found: found.left_nusd, default=None)


@dataclass(frozen=True, kw_only=True)
class AskingAsset:
    """An asset that asks models: where, and what a question costs at least."""

    asset: str
    route: str
    least_input_tokens: int
    """As they are reserved, of a document of one letter."""
    max_output_tokens: int
    always: bool
    """Every document goes through it: without money for it no partition gets on."""
    by_batch: bool = False


def asking(collection: Collection) -> Iterator[AskingAsset]:
    for each in collection.embeddings:
        if each.settings.route:
            yield AskingAsset(
                asset=each.asset,
                route=each.settings.route,
                least_input_tokens=REQUEST_TOKENS + 1,
                max_output_tokens=0,
                always=not each.embedding.of,
                by_batch=each.settings.tier == BATCH_TIER,
            )
    for name, question in collection.questions.items():
        yield AskingAsset(
            asset=name,
            route=question.stage.route or "default",
            least_input_tokens=question.least_input_tokens,
            max_output_tokens=question.stage.max_output_tokens,
            always=not question.stage.when,
            by_batch=question.stage.by_batch,
        )
    for stage in collection.stages:
        if isinstance(stage, FunctionStage) and stage.models is not None:
            yield AskingAsset(
                asset=stage.name,
                route=stage.models,
                least_input_tokens=REQUEST_TOKENS + 1,
                max_output_tokens=stage.max_output_tokens,
                always=not stage.when,
            )


def smallest_call_nusd(asks: AskingAsset, settings: InferenceSettings, on: datetime.date) -> int | None:
    """What the smallest call of this asset may cost where it is asked first; None where the price is not known.

    A call that does not fit a budget goes to no other endpoint of its route; a rule may name another one as the first.
    """
    route = settings.routes.get(asks.route)
    names = {route.endpoints[0], *(rule.use for rule in route.rules)} if route is not None else {asks.route}
    asked = [settings.endpoints[name] for name in names if name in settings.endpoints]
    into, out = asks.least_input_tokens, asks.max_output_tokens
    least = [least_reserved_nusd(endpoint, on, into, out, by_batch=asks.by_batch) for endpoint in asked]
    known = [amount for amount in least if amount is not None]
    return min(known) if known and len(known) == len(least) else None


def no_money(
    connection: sa.Connection, collection: Collection, settings: InferenceSettings, on: datetime.date
) -> str | None:
    """Why a run of it would come to nothing: what every document goes through, or all there is, has no money."""
    found = used_up(connection, collection, settings, on)
    return None if found is None else _without(collection.name, *found)


def used_up(
    connection: sa.Connection, collection: Collection, settings: InferenceSettings, on: datetime.date
) -> tuple[AccountStatus, int] | None:
    """The budget that ends such a run, and what the smallest call there may cost.

    Calls in flight are not counted, for some of what they reserve comes back. Budgets of each partition, run or
    document are not either: the next one has its own.
    """
    short: list[tuple[AccountStatus, int]] = []
    possible = False
    for asks in asking(collection):
        amount = smallest_call_nusd(asks, settings, on) or 0
        caller = Caller(tenant=collection.settings.tenant, collection=collection.name, asset=asks.asset)
        for found in budget_status.standing(connection, settings, caller, "", on):
            lasting = found.each not in (*PASSING, "partition")
            if amount and lasting and found.left_nusd + found.reserved_nusd < amount:
                if asks.always:
                    return found, amount
                short.append((found, amount))
                break
        else:
            possible = True
    return short[0] if short and not possible else None


def _without(collection: str, found: AccountStatus, amount_nusd: int) -> str:
    left = in_dollars(max(0, found.left_nusd + found.reserved_nusd))
    aside = f", {in_dollars(found.earmarked_nusd)} set aside for backfills" if found.earmarked_nusd else ""
    maybe = f", {in_dollars(found.held_nusd)} may have been billed" if found.held_nusd else ""
    return (
        f"collection {collection} has no money left{until(found)}: of budget {named(found)} "
        f"{in_dollars(found.spent_nusd)} of {in_dollars(found.limit_nusd)} are spent{maybe}{aside}, {left} are left, "
        f"and its smallest call may cost {in_dollars(amount_nusd)}. Raise it: {raising(found.name)}"
    )


def raising(budget: str) -> str:
    return f"ai-assets budget set {budget} --limit-usd USD --reason WHY"
