"""`ai-assets plan`: what a run would ask and cost, before it runs. No model is called, and nothing is written."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.cli.output import (
    AsJson,
    CollectionName,
    collection,
    console,
    drawn_bar,
    errors,
    home,
    led,
    print_json,
    stores_to_read,
    table,
)
from ai_assets.collection.catalog import Catalog
from ai_assets.collection.contract_reading import broken_by_definition
from ai_assets.collection.loading import Collection
from ai_assets.documents.source_listing import known_folders, look, stored_listing
from ai_assets.planning.changes import changed_collection
from ai_assets.planning.plan import Plan, Range, described
from ai_assets.planning.plan import plan as make_plan
from ai_assets.planning.records import StagePlan
from ai_assets.planning.words import dollars, headline, lasts, named, time_of
from ai_assets.run.spending_policy import SpendingQuestion
from ai_assets.signoff.contracts import published_contracts, why_undeclarable
from ai_assets.signoff.launches import Launch
from ai_assets.storage.stores import Stores

MOST_NAMED = 6
"""Partitions; the rest are a number."""


def plan(
    name: CollectionName,
    partition: Annotated[str | None, typer.Option(help="One partition, also one that is up to date.")] = None,
    partitions: Annotated[str | None, typer.Option(metavar="A...B", help="All partitions from A to B.")] = None,
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; may be given more than once.")] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="STAGE.KEY=VALUE", help="As if defs.yaml said so: triage.prompt=other.md."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a run would cost, before it runs; by default of all that is due.

    Counts what is answered already, asks no model and writes nothing.
    """
    chosen = changed_collection(collection(name), with_ or ())
    with stores_to_read() as places, progress(quiet=as_json) as (say, advance):
        inference = Catalog(home()).inference_of(name)
        found = make_plan(
            chosen,
            places,
            inference,
            partitions=partitions_of(chosen, places, partition, partitions),
            stages=stage or None,
            say=say,
            advance=advance,
        )
        denied = SpendingQuestion(
            collection=chosen, stores=places, inference=inference, partitions=found.planned, launch=Launch(), plan=found
        ).denied
        broken = _broken_contract(chosen, places)
    if as_json:
        more = {"policy_denies": denied, "contract_broken": broken}
        print_json({**described(found), **{key: said for key, said in more.items() if said}})
        return
    show(found)
    for reason in broken:
        errors.print(led("the contract is broken:", "bold red", f" {reason}"))
    for reason in denied:
        errors.print(led("policy forbids it:", "bold red", f" {reason}"))


def _broken_contract(chosen: Collection, places: Stores) -> list[str]:
    """What of it is known before anything is computed."""
    with places.state.read() as connection:
        problem = why_undeclarable(chosen, published_contracts(connection, chosen.name))
    return [*([problem] if problem else []), *map(str, broken_by_definition(chosen))]


def partitions_of(chosen: Collection, places: Stores, one: str | None, span: str | None) -> list[str] | None:
    """Those that were asked for; None where nobody said, and that is all that is due. The source is only looked at."""
    if one is not None and span is not None:
        raise typer.BadParameter("give one of --partition and --partitions")
    if one is not None:
        return [one]
    if span is None:
        return None
    first, dots, last = span.partition("...")
    if not dots or not first or not last:
        raise typer.BadParameter(f"'{span}' is not a range such as 2026-10-05...2026-10-16", param_hint="--partitions")
    folders = known_folders(places.state, chosen.name)
    if chosen.settings.partitions.by == "folder":
        listing = look(chosen, stored_listing(chosen.name, places.lake))
        folders = sorted({*folders, *listing.by_partition})
    return chosen.scheme.select(first, last, folders)


@contextmanager
def progress(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """A bar on a terminal; elsewhere one line, on standard error, that it has begun."""
    if quiet or not console.is_terminal:
        yield (lambda line: None if quiet else errors.print(line)), lambda _done, _total: None
        return
    with drawn_bar("Looking at the source") as update:
        yield (
            lambda line: update(description=line),
            lambda done, total: update(description="partitions", completed=done, total=total),
        )


def show(plan: Plan) -> None:
    """The plan as tables."""
    console.print(headline(plan), style="bold")
    if plan.planned and plan.devices and not plan.stages:
        _show_devices(plan)
    if not plan.planned or not plan.stages:
        for note in plan.notes:
            console.print(note)
        return
    console.print(f"\nPartitions: {_states(plan)}. Documents: {_counts(plan.documents) or 'none'}.")
    _show_stages(plan)
    _show_devices(plan)
    _show_deadlines(plan)
    _show_ways(plan)
    _show_budgets(plan)
    for stage in plan.stages:
        if stage.new_calls or stage.calls.high:
            out = f"; output: {stage.output_from}" if stage.output_from else ""
            console.print(f"{stage.stage}: input counted by {stage.tokens_from}{out}.")
    for note in plan.notes:
        console.print(note)
    if plan.in_flight_calls:
        most, calls = dollars(plan.in_flight_nusd), plural(plan.in_flight_calls, "call")
        console.print(f"A kill can cost at most {most} ({calls} in flight at once).")
    console.print(f"The actual cost lies between low and high about {plan.level:.0%} of the time.")


def _endpoint(stage: StagePlan) -> str:
    return f"{stage.endpoint} ({stage.tier})" if stage.tier else stage.endpoint


def _show_stages(plan: Plan) -> None:
    rows = [
        (
            stage.stage, _endpoint(stage), f"{stage.documents:,}", f"{stage.kept:,}", f"{stage.reused:,}",
            _calls(stage.calls), f"{stage.unknown:,}", f"{stage.input_tokens:,}", f"{stage.output_tokens.likely:,.0f}",
            dollars(stage.money.low_nusd), dollars(stage.money.likely_nusd), dollars(stage.money.high_nusd),
            "?" if stage.seconds is None else time_of(stage.seconds.likely),
        )
        for stage in plan.stages
    ]  # fmt: skip
    columns = (
        "stage", "endpoint", "docs", "kept", "paid already", "new calls", "not known yet", "tokens in", "out",
        "low", "likely", "high", "time",
    )  # fmt: skip
    table("", columns, rows, columns[2:])


def _show_devices(plan: Plan) -> None:
    rows = [
        (
            each.stage, each.device, each.model, f"{each.documents:,}", f"{each.kept:,}", f"{each.texts:,}",
            f"{each.input_tokens:,}", "?" if each.cost_nusd is None else dollars(each.cost_nusd), each.price,
            "?" if each.seconds is None else time_of(each.seconds),
        )
        for each in plan.devices
    ]  # fmt: skip
    if rows:
        columns = ("stage", "device", "model", "docs", "kept", "texts", "tokens", "likely", "price", "time")
        table("On hardware of your own (in no budget)", columns, rows, columns[3:8])


def _show_deadlines(plan: Plan) -> None:
    rows = [
        (
            stage.stage, stage.deadline.due_at[:16].replace("T", " "), way.way,
            "not offered" if way.money is None else dollars(way.money.likely_nusd),
            "" if way.money is None or way.chance is None else f"{way.chance:.0%}",
            "chosen" if way.way == stage.deadline.way else "",
        )
        for stage in plan.stages
        if stage.deadline is not None
        for way in stage.deadline.ways
    ]  # fmt: skip
    if rows:
        table("By deadline", ("stage", "due (UTC)", "way", "likely", "in time", ""), rows, ("likely", "in time"))


def _show_ways(plan: Plan) -> None:
    rows = [
        (way.name, way.model, *map(dollars, (way.money.low_nusd, way.money.likely_nusd, way.money.high_nusd)), way.note)
        for way in plan.alternatives
    ]
    if rows:
        table(
            "The same new calls in another way",
            ("way", "model", "low", "likely", "high", ""),
            rows,
            ("low", "likely", "high"),
        )


def _show_budgets(plan: Plan) -> None:
    rows = [
        (named(found), dollars(found.limit_nusd), dollars(found.held_nusd), dollars(found.left_nusd),
         dollars(found.needed.likely_nusd), dollars(found.needed.high_nusd), lasts(found))
        for found in plan.budgets
    ]  # fmt: skip
    if rows:
        columns = ("budget", "limit", "maybe billed", "left", "likely", "high", "lasts")
        table("Budgets", columns, rows, columns[1:6])


def _states(plan: Plan) -> str:
    taken = Counter(plan.partitions[key] for key in plan.planned if key in plan.partitions)
    rest = len(plan.partitions) - len(plan.planned)
    up = f"; {plural(rest, 'other')} up to date" if rest > 0 else ""
    named = f" ({', '.join(plan.planned)})" if len(plan.planned) <= MOST_NAMED else ""
    return _counts(taken) + named + up


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in found.items())


def _calls(calls: Range) -> str:
    likely = f"{calls.likely:,.0f}"
    return likely if calls.low == calls.high else f"{likely} ({calls.low:,.0f} to {calls.high:,.0f})"
