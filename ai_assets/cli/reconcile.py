"""`ai-assets ledger reconcile`: the ledger held against the provider's own figures."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import AsJson, By, console, home, person, print_json, stores, stores_to_read, table
from ai_assets.cli.signing import administrator, require_admin
from ai_assets.costs import reconciliation
from ai_assets.costs.reconciliation import PastReconciliation, ReconciledGroup, ReconciliationRequest
from ai_assets.inference.load import inference_at
from ai_assets.inference.prices import usd_of
from ai_assets.inference.usage_files import read_usage

COLUMNS = (
    "day (UTC)", "model", "key", "paid here", "maybe billed", "theirs", "difference", "requests", "theirs ", "verdict",
)  # fmt: skip
HISTORY = (
    "at (UTC)", "by", "file", "sha256", "day", "model", "key", "paid here", "theirs", "verdict", "resolved", "for",
)  # fmt: skip
Pairs = list[str] | None


def reconcile(
    usage: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The provider's daily totals by key id and model: CSV or JSON.")
    ] = None,
    first: Annotated[
        datetime.datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="The file covers all days (UTC) from here; else its first."),
    ] = None,
    last: Annotated[
        datetime.datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="And up to here; else its last.")
    ] = None,
    column: Annotated[
        Pairs, typer.Option(metavar="OURS=THEIRS", help="What a column is called in this file; repeatable.")
    ] = None,
    model: Annotated[
        Pairs,
        typer.Option(metavar="THEIRS=OURS", help="What we call a model of the file; repeatable."),
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY_ID", help="Whose figures they are.")] = None,
    assume: Annotated[
        Pairs,
        typer.Option(metavar="ENDPOINT=KEY_ID", help="The key of its attempts that have none noted; repeatable."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Resolve what the totals prove, and record it.")] = False,
    by: By = None,
    history: Annotated[bool, typer.Option("--history", help="What was applied before, the latest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Of the history at most so many rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Hold the ledger against the provider's own totals: differences, and which lost answers were billed. `--apply`
    takes somebody who is an administrator of all collections, and their password. Before the first person is added, any
    name is taken as it is given."""
    state = (stores() if apply else stores_to_read()).state
    if history:
        with state.read() as connection:
            found = reconciliation.recorded(connection, limit)
        if as_json:
            print_json([asdict(item) for item in found])
        else:
            _show_history(found)
        return
    if usage is None:
        raise typer.BadParameter("give --usage FILE, or --history", param_hint="--usage")
    file = read_usage(usage, columns=_pairs(column, "--column"), key_id=key)
    first_day, last_day = reconciliation.days_of(file, first and first.date(), last and last.date())
    asked = ReconciliationRequest(
        file=file,
        settings=inference_at(home()),
        first_day=first_day,
        last_day=last_day,
        same_models=_pairs(model, "--model"),
        assumed_keys=_pairs(assume, "--assume"),
    )
    groups = reconciliation.compare(state, asked)
    if apply:
        who = administrator(by)
        require_admin(who, "", "applying a provider's totals")
        done = reconciliation.apply(state, asked, groups, who.name if who else person(by))
    else:
        done = [ReconciledGroup(group=group) for group in groups]
    if as_json:
        print_json({
            "file": file.name, "file_digest": file.digest, "from": first_day, "to": last_day, "applied": apply,
            "groups": [reconciliation.described(item) for item in done],
        })  # fmt: skip
    else:
        _show(done, asked, applied=apply)


def _pairs(given: Sequence[str] | None, option: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for each in given or ():
        name, equals, value = each.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise typer.BadParameter(f"'{each}' should be two names with = between them", param_hint=option)
        found[name.strip()] = value.strip()
    return found


def _show(done: Sequence[ReconciledGroup], asked: ReconciliationRequest, *, applied: bool) -> None:
    if not done:
        console.print(f"Neither the ledger nor the file has anything from {asked.first_day} to {asked.last_day}.")
        return
    table(f"{asked.file.name}, {asked.first_day} to {asked.last_day}", COLUMNS, [_cells(item) for item in done],
          COLUMNS[3:9])  # fmt: skip
    for item in done:
        if item.group.reason:
            group = item.group
            console.print(f"{_days(group.days)} {', '.join(group.models)}: {group.reason}.")
    proven = [item for item in done if item.group.proven_nusd is not None]
    attempts = sum(item.group.maybe_attempts for item in proven)
    if not attempts:
        return
    paid = sum(item.group.proven_nusd or 0 for item in proven)
    back = sum(item.group.maybe_nusd for item in proven) - paid
    what = plural(attempts, "attempt")
    if applied:
        console.print(f"{what} resolved: {_exact(paid)} paid, {_exact(back)} back to the budgets")
    else:
        console.print(f"{what} can be resolved: {_exact(paid)} paid, {_exact(back)} back to the budgets.")
        console.print("  The same command with --apply does it, and the audit trail has who did.")


def _cells(item: ReconciledGroup) -> tuple[object, ...]:
    group = item.group
    theirs, difference = (None if nusd is None else _exact(nusd) for nusd in (group.their_nusd, group.difference_nusd))
    maybe = f"{_exact(group.maybe_nusd)} ({group.maybe_attempts})" if group.maybe_attempts else _exact(0)
    some = f"{group.more_requests} of {group.maybe_requests} billed"
    return (
        _days(group.days), ", ".join(group.models), group.key_id, _exact(group.billed_nusd), maybe, theirs,
        difference, group.billed_requests, group.their_requests,
        some if group.verdict == "some billed" else group.verdict,
    )  # fmt: skip


def _exact(nusd: int) -> str:
    return _dollars(usd_of(nusd)) or ""


def _dollars(usd: float | None) -> str | None:
    """To the last nano-dollar: what differs may be little."""
    if usd is None:
        return None
    text = f"{abs(usd):,.9f}".rstrip("0")
    whole, _, digits = text.partition(".")
    return f"{'-' if usd < 0 else ''}${whole}.{digits:0<4}"


def _days(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _show_history(found: Sequence[PastReconciliation]) -> None:
    if not found:
        console.print("Nothing was reconciled yet: ai-assets ledger reconcile --usage FILE --apply")
        return
    rows = [
        (item.made_at[:16], item.made_by, item.file, item.file_digest[:12], _days(item.days), ", ".join(item.models),
         item.key_id, _dollars(item.billed_usd), _dollars(item.their_usd),
         item.verdict, item.resolved, _dollars(item.resolved_usd))
        for item in found
    ]  # fmt: skip
    columns = (
        "at (UTC)",
        "by",
        "file",
        "sha256",
        "day",
        "model",
        "key",
        "paid here",
        "theirs",
        "verdict",
        "resolved",
        "for",
    )
    table("Reconciled", columns, rows, ("paid here", "theirs", "resolved", "for"))
