"""What a plan says, in words and amounts for people: on the command line and on the desk."""

from decimal import Decimal

from ai_assets.base import money
from ai_assets.base.plural import plural
from ai_assets.inference.prices import NUSD
from ai_assets.planning.records import BudgetOutlook, Money, Plan
from ai_assets.run.partition_states import WAITING


def headline(plan: Plan) -> str:
    """All of it in one sentence."""
    documents = sum(plan.documents.values())
    if not plan.stages and plan.devices:
        texts = sum(each.texts for each in plan.devices)
        return f"{plan.collection} asks no provider; models that are loaded here would read {plural(texts, 'text')}."
    if not plan.stages:
        return f"{plan.collection} asks no models: a run costs nothing."
    waiting = sum(state in WAITING for state in plan.partitions.values())
    if not plan.planned and waiting:
        return f"{plan.collection}: no partition is due, and {waiting} of {len(plan.partitions)} wait to go on."
    if not plan.planned:
        return (
            f"{plan.collection}: all {plural(len(plan.partitions), 'partition is', 'partitions are')} "
            "up to date; a run would ask nothing."
        )
    of = f"{plan.collection}, {plural(len(plan.planned), 'partition')}, {plural(documents, 'document')}"
    paid = f"{plural(plan.reused, 'call')} already paid ({dollars(plan.already_nusd)} not paid again)"
    if not any(stage.calls.high for stage in plan.stages):
        return f"{of}: {paid}, no new calls"
    time = "" if plan.seconds is None else f", about {time_of(plan.seconds.likely)}"
    return f"{of}: {paid}, {plural(plan.new_calls, 'new call')}, likely {interval(plan.money)}{time}"


def interval(money: Money) -> str:
    return f"{dollars(money.likely_nusd)} ({dollars(money.low_nusd)} to {dollars(money.high_nusd)})"


def dollars(nusd: int) -> str:
    """With two digits that count, however small it is, and cents at least."""
    return money.dollars(Decimal(nusd) / NUSD, significant=2) if nusd else "$0"


def named(found: BudgetOutlook) -> str:
    """The run that is planned has no name yet."""
    return found.budget.removesuffix("/plan") if found.budget.endswith("/ever/plan") else found.budget


def lasts(found: BudgetOutlook) -> str:
    if found.stops == "no":
        return "yes"
    if found.is_among_tenants:
        why = "it counts calls of several tenants, so its sums are not shown"
        return f"no: {why}" if found.stops == "yes" else f"if all goes well: {why}"
    if not found.partition and not found.stage:
        return (
            f"no: {found.call:,} of {plural(found.calls, 'document has', 'documents have')} "
            "too little left for one call and get no answer"
        )
    where = f"{found.stage} of {found.partition or 'the whole'}, about call {found.call:,} of {found.calls:,}"
    return f"no: it ends at {where}" if found.stops == "yes" else f"if all goes well; at worst it ends at {where}"


def time_of(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
