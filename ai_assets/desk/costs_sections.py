"""The parts of the page of costs: a question, what was found in a sentence, a plot of it and the table behind it."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from markupsafe import Markup

from ai_assets.base.plural import plural
from ai_assets.costs import cost_query
from ai_assets.costs.budget_forecast import Outlook, outlook
from ai_assets.costs.figures import (
    WASTE,
    BudgetUse,
    Dimension,
    DocumentCost,
    EndpointUse,
    ErrorCount,
    PromptCost,
    SpendRow,
    UnitCost,
    Waste,
    table_of,
    table_of_lines,
    table_of_series,
)
from ai_assets.costs.tables import Table, dollars, share
from ai_assets.costs.window import Scope
from ai_assets.desk import charts
from ai_assets.desk.charts import Bar, Burndown

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Warehouse

MOST_BARS = 8
MOST_SHOWN = 10
"""Lines of a table on the page; a download has more."""
MOST_BURNING = 6
MOST_ROWS = 100_000
"""Of a download; the dearest."""
HATCH_OF_WASTE = {
    "published": 2, "never published": 0, "superseded": 1, "retried": 3, "failed": 4, "ambiguous": 5, "paid twice": 3,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CostContext:
    """Where somebody looks: what the parts are made of."""

    warehouse: "Warehouse"
    scope: Scope
    by: Dimension
    today: datetime.date


@dataclass(frozen=True, kw_only=True)
class Plot:
    drawn: Markup
    title: str = ""
    finding: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    name: str
    title: str
    finding: str
    plots: Sequence[Plot] = ()
    legend: Sequence[tuple[Markup, str, str]] = ()
    table: Table
    unfolded: bool = False
    """The table is what matters, and is not folded away."""


def days(look: CostContext) -> Section:
    found = cost_query.series(look.warehouse, look.scope, look.by)
    sums = found.sums
    total = sum(sums, Decimal(0))
    title = "Spend over time"
    table = table_of_series(found)
    if not total:
        return Section(name="days", title=title, finding=_NOTHING, table=table)
    most = max(range(len(sums)), key=lambda place: sums[place])
    each = "day" if found.step == 1 else plural(found.step, "day")
    name, values = found.parts[0]
    began = "was" if found.step == 1 else "began on"
    dearest = f"The dearest {each} {began} {charts.long_day(found.starts[most])}: {dollars(sums[most])}"
    finding = f"{dollars(total)} in all. {dearest}. {share(sum(values, Decimal(0)) / total)} of all went to {name}."
    legend = [
        (charts.swatch("days", place), part, dollars(sum(amounts, Decimal(0))))
        for place, (part, amounts) in enumerate(found.parts)
    ]
    drawn = charts.stacked_days("days", f"Paid by {each}, parts by {_GROUPED[look.by]}", finding, found)
    plots = [Plot(drawn=drawn)]
    return Section(name="days", title=title, finding=finding, plots=plots, legend=legend, table=table)


def models(look: CostContext) -> Section:
    return _dimension(look, "models", "By model", "model")


def stages(look: CostContext) -> Section:
    return _dimension(look, "stages", "By stage", "asset")


def waste(look: CostContext) -> Section:
    found = cost_query.waste(look.warehouse, look.scope)
    total = sum((item.cost_usd for item in found), Decimal(0))
    useful = sum((item.cost_usd for item in found if item.category == "published"), Decimal(0))
    maybe = sum((item.maybe_usd for item in found), Decimal(0))
    table = table_of(Waste, found)
    if not total and not maybe:
        return Section(name="waste", title=_WASTE, finding=_NOTHING, table=table)
    finding = f"{share(useful / total) or '0 %'} of what was paid is in a release. " if total else ""
    if maybe:
        finding += f"At most {dollars(maybe)} more may have been billed for answers that never came."
    drawn = [
        Bar(label=item.category, value=item.cost_usd + item.maybe_usd, pattern=HATCH_OF_WASTE[item.category])
        for item in found
    ]
    legend = [(charts.swatch("waste", HATCH_OF_WASTE[i.category]), i.category, WASTE[i.category]) for i in found]
    plot = Plot(drawn=charts.bars("waste", "Where the money went", finding.strip(), drawn))
    return Section(name="waste", title=_WASTE, finding=finding.strip(), plots=[plot], legend=legend, table=table)


def budgets(look: CostContext) -> Section:
    found = cost_query.budgets(look.warehouse, look.scope)
    plots: list[Plot] = []
    for use in found:
        seen = outlook(use, look.today)
        if seen is not None and len(plots) < MOST_BURNING:
            said = _outlook_said(use, seen)
            name = f"budget-{len(plots)}"
            title = " of ".join(part for part in (use.name, use.holder) if part)
            drawn = charts.burn_down(name, f"What is left of the budget {title}", said, _burning(use, seen))
            plots.append(Plot(drawn=drawn, title=title, finding=said))
    finding = "No budget that you may see was drawn on."
    if found:
        fullest = found[0]
        used = share(fullest.used_share) or "0 %"
        finding = (
            f"The fullest is {fullest.name}: {used} of {dollars(fullest.limit_usd)} used, "
            f"{dollars(fullest.left_usd)} left."
        )
    table = table_of(BudgetUse, found)
    return Section(name="budgets", title="Budgets", finding=finding, plots=plots, table=table, unfolded=True)


def documents(look: CostContext, most: int = MOST_SHOWN) -> Section:
    found = cost_query.documents(look.warehouse, look.scope, most)
    finding = "Nothing was asked about a document."
    if found:
        finding = f"{found[0].document} alone cost {dollars(found[0].cost_usd)}."
    table = table_of(DocumentCost, found)
    return Section(name="documents", title="Dearest documents", finding=finding, table=table, unfolded=True)


def prompts(look: CostContext, most: int = MOST_SHOWN) -> Section:
    found = cost_query.prompts(look.warehouse, look.scope, most)
    finding = "No call was made from a prompt."
    if found:
        first = found[0]
        finding = (
            f"Version {first.prompt} of {first.collection}/{first.asset}: {dollars(first.cost_usd)} "
            f"in {plural(first.calls, 'call')}."
        )
    table = table_of(PromptCost, found)
    return Section(name="prompts", title=_PROMPTS, finding=finding, table=table, unfolded=True)


def endpoints(look: CostContext) -> Section:
    found = cost_query.endpoints(look.warehouse, look.scope)
    attempts, lost = sum(item.attempts for item in found), sum(item.failed + item.ambiguous for item in found)
    finding = (
        f"{share(lost / attempts)} of {plural(attempts, 'attempt')} brought no answer."
        if attempts
        else "No call was made."
    )
    table = table_of(EndpointUse, found)
    return Section(name="endpoints", title=_ENDPOINTS, finding=finding, table=table, unfolded=True)


def hardware(look: CostContext) -> Section:
    found = cost_query.unit_costs(look.warehouse, look.scope)
    table = table_of(UnitCost, found)
    return Section(name="hardware", title=_HARDWARE, finding=_compared(found), table=table, unfolded=True)


def _compared(found: Sequence[UnitCost]) -> str:
    """The cheapest of each for a kind of stage that both have."""
    own = [item for item in found if item.is_own]
    if not own:
        return "No model ran on a device here." if found else "No call was made."
    for mine in (item for item in own if item.tokens):
        theirs = next((item for item in found if item.kind == mine.kind and item.tokens and not item.is_own), None)
        if theirs is not None:
            return (
                f"A million tokens ({mine.kind}) cost {dollars(mine.usd_per_million_tokens)} with {mine.model} on "
                f"{mine.endpoint}, and {dollars(theirs.usd_per_million_tokens)} with {theirs.model} at "
                f"{theirs.endpoint}."
            )
    seconds = sum(item.gpu_s or item.cpu_s or 0.0 for item in own)
    return (
        f"Models ran for {seconds:,.1f} s on devices here, for {dollars(sum((i.cost_usd for i in own), Decimal(0)))}."
    )


def errors(look: CostContext) -> Section:
    found = cost_query.failures(look.warehouse, look.scope)
    finding = "No attempt ended with an error."
    if found:
        first = found[0]
        finding = f"The most frequent is {first.error} of {first.endpoint}: {plural(first.attempts, 'attempt')}."
    return Section(name="errors", title="Errors", finding=finding, table=table_of(ErrorCount, found), unfolded=True)


SECTIONS: Mapping[str, Callable[[CostContext], Section]] = {
    "days": days,
    "models": models,
    "stages": stages,
    "waste": waste,
    "budgets": budgets,
    "documents": documents,
    "prompts": prompts,
    "hardware": hardware,
    "endpoints": endpoints,
    "errors": errors,
}


def whole_table(name: str, look: CostContext) -> Table:
    """What a download holds."""
    if name == "documents":
        return documents(look, MOST_ROWS).table
    if name == "prompts":
        return prompts(look, MOST_ROWS).table
    return SECTIONS[name](look).table


_WASTE = "What the money was for"
_PROMPTS = "Most expensive prompt versions"
_HARDWARE = "Own hardware and providers"
_ENDPOINTS = "Latency by endpoint"
_NOTHING = "Nothing was paid for in these days."
_GROUPED: Mapping[Dimension, str] = {
    "model": "model", "asset": "stage", "collection": "collection", "tenant": "tenant",
}  # fmt: skip


def _dimension(look: CostContext, name: str, title: str, by: Dimension) -> Section:
    found, _ = cost_query.lines(look.warehouse, look.scope, by)
    total = sum((line.cost_usd for line in found), Decimal(0))
    table = table_of_lines(by, found, total)
    if not total:
        return Section(name=name, title=title, finding=_NOTHING, table=table)
    first = found[0]
    finding = f"{share(first.cost_usd / total)} of all went to {first.label}: {dollars(first.cost_usd)}."
    drawn = charts.bars(name, f"Paid {title.lower()}", finding, _bars([line for line in found if line.cost_usd]))
    return Section(name=name, title=title, finding=finding, plots=[Plot(drawn=drawn)], table=table)


def _bars(found: Sequence[SpendRow]) -> list[Bar]:
    apart = found if len(found) <= MOST_BARS else found[: MOST_BARS - 1]
    drawn = [Bar(label=line.label, value=line.cost_usd) for line in apart]
    if len(apart) < len(found):
        rest = found[len(apart) :]
        together = sum((line.cost_usd for line in rest), Decimal(0))
        drawn.append(Bar(label=f"{plural(len(rest), 'other')}", value=together, pattern=6))
    return drawn


def _burning(use: BudgetUse, seen: Outlook) -> Burndown:
    return Burndown(
        limit_usd=use.limit_usd,
        left=[(burn.day, use.limit_usd - burn.cumulative_usd) for burn in use.burn],
        last=seen.last,
        likely_usd=seen.likely_usd,
        low_usd=seen.low_usd,
        high_usd=seen.high_usd,
    )


def _outlook_said(use: BudgetUse, seen: Outlook) -> str:
    if use.left_usd <= 0:
        return f"All of {dollars(use.limit_usd)} is used up or set aside."
    said = f"{dollars(use.left_usd)} of {dollars(use.limit_usd)} left. "
    if seen.used_up is not None:
        return f"{said}At the pace so far it is used up about {charts.long_day(seen.used_up)}."
    low, high = (dollars(max(Decimal(0), amount)) for amount in (seen.low_usd, seen.high_usd))
    return f"{said}At the pace so far {low} to {high} will be left on {charts.long_day(seen.last)}."
