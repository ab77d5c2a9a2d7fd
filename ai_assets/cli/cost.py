"""`ai-assets cost`: where the dollars went, as a table with bars, as JSON or as CSV."""

import datetime
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table as Drawn

from ai_assets.base.errors import AiAssetsError, UserError
from ai_assets.base.home import Home
from ai_assets.base.plural import plural
from ai_assets.base.printable import printable
from ai_assets.base.yaml_settings import nearest
from ai_assets.cli.output import AsJson, console, errors, home, led, print_json, stores_to_read, table
from ai_assets.collection.catalog import Catalog
from ai_assets.costs import cost_query
from ai_assets.costs.figures import DEVICE, NONE, Dimension, Forecast, Totals, Waste, table_of, table_of_lines
from ai_assets.costs.tables import Cell, Column, Table, csv_text, disarmed, dollars, records, share, shown, told
from ai_assets.costs.window import Scope, since
from ai_assets.orchestration.in_process import bring_costs_up_to_date
from ai_assets.storage.shared_warehouse import warehouse_file
from ai_assets.storage.warehouse import WarehouseTooNew
from ai_assets.storage.warehouse import reading as opened

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Warehouse

MOST_SHOWN = 20
LONGEST_BAR, SHORTEST_BAR = 40, 6
COLUMN_SPACE = 3
"""Characters between two columns."""
DISPENSABLE = (
    "tokens",
    "cost_today_usd",
    "cpu_s",
    "attempts",
    "reused",
    "gpu_s",
    "usd_per_million_tokens",
    "saved_usd",
)
"""In this order, where a terminal is narrow."""
EIGHTHS = " ▏▎▍▌▋▊▉"


class NameUnknown(UserError):
    def __init__(self, kind: str, asked: str, known: Sequence[str]) -> None:
        listed = f"see them with: ai-assets cost --by {kind}" if len(known) > MOST_SHOWN else None
        found = nearest(asked, list(known), listed if known else "there is none so far")
        super().__init__(f"No call was made for a {kind} '{asked}', and none of that name is declared{found}")


class NoCostsYet(UserError):
    def __init__(self) -> None:
        super().__init__(
            "No model was asked yet, so there are no costs to show. Run a collection first: ai-assets run NAME"
        )


def cost(
    by: Annotated[Dimension, typer.Option(help="What each line stands for.")] = "model",
    since_: Annotated[
        str, typer.Option("--since", metavar="DAYS|DAY", help="The last days, such as 30d, or from a day on.")
    ] = "30d",
    collection: Annotated[str | None, typer.Option(help="Only of this collection.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help=f"At most so many lines; {MOST_SHOWN} by default on a screen.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: the lines alone.")] = False,
    as_is: Annotated[bool, typer.Option("--as-is", help="Do not bring the figures up to date first.")] = False,
) -> None:
    """Where the dollars went: paid, saved by reuse, maybe billed; what the money was for; the month's forecast."""
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    window = since(since_, datetime.datetime.now(datetime.UTC).date())
    here = home()
    if not as_is:
        _up_to_date(here)
    with opened(warehouse_file(here)) as warehouse:
        _known(warehouse, here, collection, tenant)
        scope = Scope(window=window, collections=None if collection is None else [collection], tenant=tenant)
        whole = as_json or as_csv or by == "day"
        most = limit if limit is not None or whole else MOST_SHOWN
        found, count = cost_query.lines(warehouse, scope, by, most)
        totals = cost_query.totals(warehouse, scope)
        lines = table_of_lines(by, found, totals.cost_usd)
        if as_csv:
            _print_csv(lines)
            return
        earlier = scope.earlier()
        before = cost_query.totals(warehouse, earlier) if earlier else None
        forecast, waste = cost_query.forecast(warehouse, scope), cost_query.waste(warehouse, scope)
        built = cost_query.built(warehouse)
    with stores_to_read().state.read() as connection:
        behind = cost_query.behind(connection, built, scope.collections)
    if as_json:
        print_json({
            "from": window.first, "to": window.last, "collection": collection, "tenant": tenant, "by": by,
            "totals": told(totals), "before": told(before) if before else None,
            "forecast": told(forecast) if forecast else None, "lines": records(lines), "lines_in_all": count,
            "waste": records(table_of(Waste, waste)), **told(built), "behind": behind,
        })  # fmt: skip
        return
    console.print(_head(scope, totals, before, forecast))
    if found:
        _draw(lines, count - len(found))
        _draw_waste(waste)
    said = f"As of {built.as_of[:16].replace('T', ' ')} UTC"
    if behind:
        said += f"; {plural(behind, 'call')} since not counted (without --as-is they would be)"
    if behind or as_is:
        console.print(said)


def _up_to_date(here: Home) -> None:
    """What cannot be built is told, and then what is there is shown."""
    try:
        bring_costs_up_to_date(here, errors.print)
    except WarehouseTooNew:
        raise
    except AiAssetsError as error:
        if not here.warehouse.exists():
            raise
        errors.print(led("not brought up to date:", "yellow", f" {error}"))
    if not here.warehouse.exists():
        raise NoCostsYet


def _known(warehouse: "Warehouse", here: Home, collection: str | None, tenant: str | None) -> None:
    if collection is not None:
        declared = Catalog(here).names()
        known = sorted({*declared, *cost_query.known(warehouse, "collection")} - {""})
        if collection not in known:
            raise NameUnknown("collection", collection, known)
    if tenant is not None and tenant not in (known := cost_query.known(warehouse, "tenant")):
        raise NameUnknown("tenant", tenant, known)


def _head(scope: Scope, totals: Totals, before: Totals | None, forecast: Forecast | None) -> str:
    window = scope.window
    if not totals.attempts and not totals.reused:
        return f"{window.first} to {window.last}: no model was asked."
    parts = [
        f"{plural(totals.calls, 'call')}, {dollars(totals.cost_usd)} paid",
        f"{dollars(totals.saved_usd)} saved by reuse",
    ]
    if totals.maybe_usd:
        parts.append(f"{dollars(totals.maybe_usd)} maybe billed")
    if totals.cpu_s:
        gpus = f"{totals.gpu_s:,.1f} s of GPUs and " if totals.gpu_s else ""
        parts.append(f"{gpus}{totals.cpu_s:,.1f} s of processors here")
    said = f"{window.first} to {window.last}: {', '.join(parts)}"
    if before and before.cost_usd:
        change = round(100 * (totals.cost_usd - before.cost_usd) / before.cost_usd)
        moved = f"{change:+,} % against" if change else "as much as in"
        said += f"; {moved} the {plural(window.days, 'day')} before"
    if forecast:
        said += (
            f"; {forecast.month} will likely come to {dollars(forecast.likely_usd)} "
            f"({dollars(forecast.low_usd)} to {dollars(forecast.high_usd)})"
        )
    return said


def _draw(found: Table, further: int) -> None:
    """With bars as long as the terminal leaves room for; a narrow one has fewer columns."""
    for column in DEVICE:  # where no model was loaded here, there is nothing to say of devices
        if all(each is None for each in _values(found, column.key)):
            found = _without(found, column.key)
    dispensable = list(DISPENSABLE)
    while (room := _room(found)) < SHORTEST_BAR and dispensable:
        found = _without(found, dispensable.pop(0))
    drawn = Drawn(box=SIMPLE_HEAD, padding=(0, 1))
    for column in found.columns:
        drawn.add_column(column.title, justify="right" if column.right else "left", overflow="fold",
                         no_wrap=column.right)  # fmt: skip
    drawn.add_column("", no_wrap=True)
    paid = [Decimal(str(each)) for each in _values(found, "cost_usd")]
    most = max(paid) or Decimal(1)
    for row, amount in zip(_cells(found), paid, strict=True):
        drawn.add_row(*row, _bar(amount / most, max(0, min(LONGEST_BAR, room))))
    console.print(drawn)
    if further:
        console.print(f"and {further:,} more (--limit)")


def _values(found: Table, key: str) -> list[Cell]:
    """None at all where it has no such column."""
    return [row[place] for place, column in enumerate(found.columns) if column.key == key for row in found.rows]


def _room(found: Table) -> int:
    """What the texts leave of a line."""
    widths = [max(map(len, texts)) for texts in zip([c.title for c in found.columns], *_cells(found), strict=True)]
    return console.width - sum(widths) - (len(widths) + 1) * COLUMN_SPACE - 1


def _without(found: Table, key: str) -> Table:
    kept = [place for place, column in enumerate(found.columns) if column.key != key]
    return Table(
        columns=[found.columns[place] for place in kept], rows=[[row[place] for place in kept] for row in found.rows]
    )


def _cells(found: Table) -> list[list[str]]:
    return [[_cell(cell, column) for cell, column in zip(row, found.columns, strict=True)] for row in found.rows]


def _cell(cell: Cell, column: Column) -> str:
    text = shown(cell, column.kind) or (NONE if column.kind == "text" else "")
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def _bar(part: Decimal, width: int) -> str:
    """To an eighth of a character; whatever is not nothing shows."""
    eighths = max(1 if part else 0, round(part * width * 8))
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def _draw_waste(found: Sequence[Waste]) -> None:
    total = sum((item.cost_usd for item in found), Decimal(0))
    rows = [
        (item.category, f"{item.attempts:,}", dollars(item.cost_usd), share(item.cost_usd / total if total else None),
         dollars(item.maybe_usd) if item.maybe_usd else "", item.means)
        for item in found
    ]  # fmt: skip
    columns = ("went to", "attempts", "paid", "share", "maybe billed", "that is")
    table("What the money was for", columns, rows, columns[1:5])


def _print_csv(found: Table) -> None:
    sys.stdout.write(printable(csv_text(found)))
    if count := disarmed(found):
        cells = plural(count, "cell begins", "cells begin")
        errors.print(f"{cells} with an apostrophe, so that no spreadsheet takes text for a formula.")
