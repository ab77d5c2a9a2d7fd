"""`ai-assets ledger`: what was asked of models, what it cost, and what nobody knows the cost of."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.base.errors import StateUnavailable
from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    By,
    console,
    errors,
    home,
    money,
    person,
    print_json,
    stores,
    stores_to_read,
    table,
)
from ai_assets.cli.reconcile import reconcile
from ai_assets.cli.signing import administrator, require_admin
from ai_assets.inference import history, resolving
from ai_assets.inference.answer_text import answer_text
from ai_assets.inference.history import Attempt, BudgetRow, Call
from ai_assets.inference.ledger_messages import State
from ai_assets.inference.records import LOST
from ai_assets.inference.resolving import Resolution, ResolvedAttempt
from ai_assets.inference.ways import way_of
from ai_assets.signoff import audit
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore

SHOWN_CHARACTERS = 400
BAR = 20
app = typer.Typer(help="Calls to models: attempts, answers, dollars.", no_args_is_help=True)
ATTEMPTS = ("when (UTC)", "call", "attempt", "who", "document", "endpoint", "state", "error", "tokens", "dollars", "s")
app.command("reconcile")(reconcile)
Asked = Annotated[str, typer.Argument(metavar="CALL_OR_ATTEMPT", help="The beginning of a call's key, or an attempt.")]
Several = Annotated[list[str] | None, typer.Argument(metavar="[CALL_OR_ATTEMPT]...", help="Which; as `show` has it.")]


@app.command("list")
def list_attempts(
    collection: Annotated[str | None, typer.Option(help="Only of this collection.")] = None,
    asset: Annotated[str | None, typer.Option(help="Only for this asset.")] = None,
    run: Annotated[str | None, typer.Option(help="Only of this run: its id or the beginning of it.")] = None,
    document: Annotated[str | None, typer.Option(help="Only about this document.")] = None,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The latest attempts: when, for whom, at which endpoint, and what became of them."""
    with stores_to_read().state.read() as connection:
        found = history.attempts(
            connection, collection=collection, asset=asset, run=run, document=document, state=state, limit=limit
        )
    if as_json:
        print_json([asdict(item) for item in found])
    elif found:
        attempts_table("Attempts, the latest first", found)
    else:
        console.print("No such attempt was made.")


@app.command("show")
def show(
    asked: Asked,
    full: Annotated[bool, typer.Option("--full", help="The whole answer.")] = False,
    as_json: AsJson = False,
) -> None:
    """A call: its attempts in order, its answer, and who used it again."""
    with stores_to_read().state.read() as connection:
        found = history.call(connection, history.find(connection, asked))
        way = way_of(connection, found.call)
    text = answer_text(found.body, found.attempts[-1].protocol, home().inference)
    if as_json:
        print_json({**asdict(found), "text": text, "way": None if way is None else asdict(way)})
        return
    console.print(f"Call {found.call}", style="bold")
    console.print(f"{money(found.cost_usd)} paid{_maybe(found)}, {money(found.saved_usd)} saved by using it again")
    attempts_table("", found.attempts)
    if way is not None:
        console.print(f"Asked by {way.said}")
    for item in found.attempts:
        if item.message:
            console.print(f"{item.attempt}: {item.message}")
    if text is not None:
        title = f"Answer ({found.answered_by})" if found.answered_by else "What came last, and is no answer"
        console.print(title, style="bold")
        console.print(shortened(text, SHOWN_CHARACTERS, full=full))
    if found.reuses:
        rows = [(r.latest_at[:19], _who(r), r.run_id[:8], r.times, money(r.saved_usd)) for r in found.reuses]
        table("Used again", ("latest (UTC)", "who", "run", "times", "saved"), rows, ("times", "saved"))


@app.command("ambiguous")
def ambiguous(as_json: AsJson = False) -> None:
    """Attempts that may have been billed: an answer was lost, or an error is not declared to be free."""
    state = stores_to_read().state
    try:
        with state.write() as connection:
            resolving.reap(connection)
    except StateUnavailable as error:
        errors.print(f"Calls whose process has died since are not among these: {error}")
    with state.read() as connection:
        found = history.attempts(connection, state="ambiguous")
    if as_json:
        print_json([asdict(item) for item in found])
        return
    if not found:
        console.print("Of every attempt it is known whether it was billed.")
        return
    attempts_table("May have been billed", found)
    total = money(math.fsum(item.reserved_usd for item in found))
    what = plural(len(found), "attempt")
    console.print(f"{what}, {total} at most. Look at the provider's bill, then say what you found:")
    console.print(f"  ai-assets ledger resolve {found[0].attempt} --billed    (or --not-billed; --usd for the amount)")
    console.print("Or let its usage export say it: ai-assets ledger reconcile --usage FILE")


@app.command("resolve")
def resolve(
    asked: Several = None,
    billed: Annotated[
        bool | None, typer.Option("--billed/--not-billed", help="What the provider's bill says.", show_default=False)
    ] = None,
    usd: Annotated[float | None, typer.Option(help="What it cost; without it the most that it can have cost.")] = None,
    run: Annotated[str | None, typer.Option("--all-of-run", metavar="RUN", help="All of this run instead.")] = None,
    by: By = None,
    note: Annotated[str | None, typer.Option(help="Recorded with it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether attempts were billed: budgets get back what was not. For an administrator of their collections, by
    password; where nobody is known yet, the name is only noted."""
    if bool(asked) == (run is not None):
        raise typer.BadParameter("name calls or attempts, or give --all-of-run RUN")
    if billed is None:
        raise typer.BadParameter("say --billed or --not-billed")
    if usd is not None and not billed:
        raise typer.BadParameter("--usd is an amount that was billed; it does not go with --not-billed")
    who = administrator(by)
    verdict = Resolution(billed=billed, by=who.name if who else person(by), usd=usd, note=note)
    resolved = _resolve(stores().state, asked or [], run, verdict, who)
    if as_json:
        print_json([asdict(item) for item in resolved])
        return
    for item in resolved:
        console.print(f"{item.attempt} of call {item.call[:12]}: {item.message}")
    paid, held = (sum(values) / 1e9 for values in zip(*((r.cost_nusd, r.reserved_nusd) for r in resolved), strict=True))
    console.print(f"{len(resolved)} resolved: {money(paid)} paid, {money(held - paid)} back to the budgets")


@app.command("budgets")
def list_budgets(as_json: AsJson = False) -> None:
    """Every budget: its limit, what is spent, in flight, maybe billed, set aside for backfills, and left."""
    with stores_to_read().state.read() as connection:
        found = history.budgets(connection)
    if as_json:
        print_json([asdict(item) for item in found])
        return
    if not found:
        console.print("No call was reserved from a budget yet. Budgets are declared in inference.yaml.")
        return
    amounts = [(b.limit_usd, b.spent_usd, b.in_flight_usd, b.maybe_usd, b.earmarked_usd, b.left_usd) for b in found]
    rows = [(b.budget, *map(money, of), bar(b)) for b, of in zip(found, amounts, strict=True)]
    columns = ("limit", "spent", "in flight", "maybe billed", "set aside", "left")
    table("Budgets", ("budget", *columns, "used"), rows, columns)


def _resolve(
    state: StateStore, asked: Sequence[str], run: str | None, verdict: Resolution, who: Person | None
) -> list[ResolvedAttempt]:
    """One transaction: attempts, budgets and the audit trail change together or not at all."""
    with state.write() as connection:
        resolving.reap(connection)
        found = (
            resolving.of_run(connection, run)
            if run is not None
            else [item for name in asked for item in resolving.named(connection, name)]
        )
        chosen = list(dict.fromkeys(found))
        for each in chosen:
            require_admin(who, each.collection, "saying what was billed")
        if verdict.usd is not None and len(chosen) > 1:
            listed = ", ".join(item.attempt for item in chosen)
            raise typer.BadParameter(f"--usd is the cost of one attempt, and these are several: {listed}")
        resolved = resolving.resolve(connection, chosen, verdict)
        for item in resolved:
            audit.append(connection, verdict.by, "resolved", resolving.subject_of(item, verdict))
    return resolved


def bar(row: BudgetRow) -> str:
    """Spent, then what may come back, then what is left; whatever is not nothing shows."""
    if row.limit_usd <= 0:
        return ""
    spent = min(BAR, math.ceil(BAR * row.spent_usd / row.limit_usd))
    open_ = min(BAR - spent, math.ceil(BAR * (row.in_flight_usd + row.maybe_usd) / row.limit_usd))
    return "█" * spent + "▒" * open_ + "░" * (BAR - spent - open_)


def shortened(text: str, most: int, *, full: bool) -> str:
    """For a screen; whole where that is asked for."""
    return text if full or len(text) <= most else f"{text[:most]}... (all of it: --full)"


def attempts_table(title: str, found: Sequence[Attempt]) -> None:
    rows = [
        (a.sent_at[:19].replace("T", " "), a.call[:12], a.attempt, _who(a), a.document, a.endpoint, _state(a), a.error,
         _tokens(a), _dollars(a), None if a.latency_s is None else f"{a.latency_s:.2f}")
        for a in found
    ]  # fmt: skip
    table(title, ATTEMPTS, rows, ("tokens", "dollars", "s"))


def _state(item: Attempt) -> str:
    return item.state if item.duplicate_of is None else f"{item.state} (paid twice, after {item.duplicate_of})"


def _who(found: "Attempt | history.Reuse") -> str:
    named = "/".join(part for part in (found.collection, found.asset) if part)
    return " ".join(part for part in (named, found.partition) if part) or found.run_id[:8]


def _tokens(item: Attempt) -> str | None:
    """Empty where nobody knows: no answer came that could have said it."""
    if item.input_tokens is None or item.cost_usd is None or item.error in LOST:
        return None
    return f"{item.input_tokens} + {item.output_tokens}"


def _dollars(item: Attempt) -> str:
    if item.cost_usd is None:
        return f"at most {money(item.reserved_usd)}"
    return money(item.cost_usd)


def _maybe(found: Call) -> str:
    return f", {money(found.maybe_usd)} may have been billed" if found.maybe_usd else ""
