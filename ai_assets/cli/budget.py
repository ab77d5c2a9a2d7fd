"""`ai-assets budget`: how much money there is, who said so, and a new limit."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from ai_assets.cli.ledger import BAR
from ai_assets.cli.output import (
    AsJson,
    By,
    all_collections,
    console,
    errors,
    home,
    led,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.signing import signer
from ai_assets.costs import alerts, limits, scopes
from ai_assets.costs.funding import day, in_dollars, raising
from ai_assets.desk.settings import load_desk
from ai_assets.inference import budget_status
from ai_assets.inference.budget_status import AccountStatus, LimitInForce
from ai_assets.inference.load import inference_at
from ai_assets.inference.prices import usd_of
from ai_assets.inference.settings import Budget, InferenceSettings
from ai_assets.planning import backfills
from ai_assets.signoff import audit

app = typer.Typer(help="Budgets: where they stand, and their limits.", no_args_is_help=True)
SHOWN = 10
"""Accounts of one budget in a table, the most used; `--json` has them all."""
COLUMNS = (
    "budget", "whose", "period", "limit", "set by", "spent", "in flight", "maybe billed", "set aside", "left", "used",
)  # fmt: skip
AMOUNTS = ("limit", "spent", "in flight", "maybe billed", "set aside", "left")


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Every budget of the current day or month: its limit and who set it, what is used, what is left."""
    settings, places = inference_at(home()), stores_to_read()
    on = datetime.now(UTC).date()
    backfills.sweep(places, None)  # what a killed one had set aside is nobody's
    with places.state.read() as connection:
        limits_now = budget_status.in_force(connection, settings.budgets)
        standings = budget_status.all_standing(connection, settings, on, most=None if as_json else SHOWN + 1)
    by_name: dict[str, list[AccountStatus]] = {}
    for found in standings:
        by_name.setdefault(found.name, []).append(found)
    doubts = _doubts(settings)
    if as_json:
        described = [_described(b, limits_now[b.name], by_name.get(b.name, [])) for b in settings.budgets]
        print_json({"budgets": described, "doubts": doubts})
        return
    if not settings.budgets:
        console.print("inference.yaml declares no budget, so nothing bounds what calls may cost.")
        return
    rows = [row for b in settings.budgets for row in _rows(b, limits_now[b.name], by_name.get(b.name, []))]
    table("Budgets", COLUMNS, rows, AMOUNTS)
    for doubt in doubts:
        errors.print(led("warning:", "bold yellow", f" {doubt}"))
    console.print(f"Another limit:  {raising('NAME')}")


@app.command("set")
def set_limit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a budget in inference.yaml.")],
    limit: Annotated[str | None, typer.Option("--limit-usd", metavar="USD", help="Dollars, such as 12.50.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Recorded with it.")] = "",
    declared: Annotated[bool, typer.Option("--declared", help="The limit of inference.yaml holds again.")] = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Another limit, from the next call on and in all processes; for an administrator of what the budget counts."""
    if (limit is None) != declared:
        raise typer.BadParameter("give --limit-usd USD, or --declared for the limit of inference.yaml")
    settings, collections = inference_at(home()), all_collections()
    budget = limits.named(settings, name)
    wanted = None if limit is None else limits.nusd_given(limit)
    scopes.refuse_misspelt(home().inference, settings, collections)
    limits.require_reason(name, reason)
    who, state = signer(by), stores().state
    with state.write() as connection:
        done = limits.change(connection, settings, budget, wanted, by=who, reason=reason, collections=collections)
    with state.read() as connection:
        now = budget_status.in_force(connection, settings.budgets)[name]
        standings = list(budget_status.standing_of(connection, budget, now, datetime.now(UTC).date()))
    if as_json:
        print_json(_described(budget, now, standings))
        return
    console.print(f"{name}: {limits.change_in_words(vars(done))}, by {who.name}")
    for found in [found for found in standings if found.limit_nusd <= found.used_nusd][:SHOWN]:
        until = f" before {day(found.starts_over)}" if found.starts_over else ""
        whose = f" for {found.holder}" if found.holder else ""
        console.print(
            f"Nothing more can be spent{whose}{until}: {in_dollars(found.used_nusd)} of it are used already.",
        )


@app.command("history")
def history(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One budget; all by default.")] = None,
    as_json: AsJson = False,
) -> None:
    """Who set which limit and why, and the alerts that were given; the newest first."""
    with stores_to_read().state.read() as connection:
        changes = audit.select(connection, actions=["budget set"])
        given = alerts.alerts(connection)
    events = [
        {"at": c.recorded_at, "budget": str(c.subject["name"]), "who": c.actor, "what": "limit",
         "text": limits.change_in_words(c.subject), "reason": c.subject["reason"]}
        for c in changes
    ] + [
        {"at": a.made_at, "budget": a.budget, "who": None, "what": "alert",
         "text": f"{a.percent} % of {in_dollars(a.limit_nusd)} reached ({in_dollars(a.used_nusd)})", "reason": None}
        for a in given
    ]  # fmt: skip
    chosen = [event for event in events if name is None or str(event["budget"]).split("/")[0] == name]
    chosen.sort(key=lambda event: str(event["at"]), reverse=True)
    if as_json:
        print_json(chosen)
    elif not chosen:
        of = f" of budget {name}" if name else ""
        console.print(f"No limit{of} was ever set by a person, and no alert was given.")
    else:
        rows = [(str(e["at"])[:16].replace("T", " "), e["budget"], e["text"], e["who"], e["reason"]) for e in chosen]
        table("Limits and alerts", ("at (UTC)", "budget", "what", "by", "reason"), rows)


def _doubts(settings: InferenceSettings) -> list[str]:
    path, channels = home().inference, load_desk(home().desk).channels
    found = [*scopes.doubts(settings, all_collections()), *scopes.unheard(settings, channels)]
    return [scopes.located(path, doubt) for doubt in found]


def _described(budget: Budget, limit: LimitInForce, standings: Sequence[AccountStatus]) -> dict[str, Any]:
    return {
        "name": budget.name,
        "of": budget.of,
        "each": budget.each,
        "per": budget.per,
        "declared_usd": budget.limit_usd,
        "limit_usd": usd_of(limit.limit_nusd),
        "set_by": limit.set_by,
        "set_at": limit.set_at,
        "reason": limit.reason,
        "alert_at": budget.alerts,
        "notify": budget.notify,
        "accounts": [budget_status.as_json(found) for found in standings],
    }


def _rows(budget: Budget, limit: LimitInForce, standings: Sequence[AccountStatus]) -> list[tuple[Any, ...]]:
    of = ", ".join(f"{dimension} {found}" for dimension, found in budget.of.items())
    who = limit.set_by or "inference.yaml"
    rows = [
        (
            budget.name,
            " ".join(part for part in (of, found.holder) if part) or "all calls",
            "for good" if found.period == "ever" else found.period,
            *map(in_dollars, (
                found.limit_nusd, found.spent_nusd, found.reserved_nusd, found.held_nusd, found.earmarked_nusd,
                found.left_nusd,
            )),
            bar(found),
        )
        for found in standings[:SHOWN]
    ]  # fmt: skip
    if not standings or len(standings) > SHOWN:
        whose = "more, less used: --json" if standings else f"each {budget.each}: none yet"
        rows.append((budget.name, whose, "", in_dollars(limit.limit_nusd), "", "", "", "", "", ""))
    return [(*row[:4], who, *row[4:]) for row in rows]


def bar(found: AccountStatus) -> str:
    """Spent, then what is in flight, maybe billed or set aside, then what is left; whatever is not nothing shows."""
    if found.limit_nusd <= 0:
        return ""
    spent = min(BAR, math.ceil(BAR * found.spent_nusd / found.limit_nusd))
    open_nusd = found.reserved_nusd + found.held_nusd + found.earmarked_nusd
    open_ = min(BAR - spent, math.ceil(BAR * open_nusd / found.limit_nusd))
    return f"{'█' * spent}{'▒' * open_}{'░' * (BAR - spent - open_)} {100 * found.share:.0f} %"
