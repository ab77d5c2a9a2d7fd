"""A table of figures, and how its cells are written for people, for programs and for spreadsheets."""

import csv
import datetime
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ai_assets.base.money import dollars as dollars

Kind = Literal["text", "count", "usd", "seconds", "share"]
Cell = str | int | float | Decimal | datetime.date | None
NANO = Decimal("1e-9")
NOTHING = Decimal(0)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes a cell for that begins so."""


@dataclass(frozen=True)
class Column:
    key: str
    """As programs know it."""
    title: str
    """As people read it."""
    kind: Kind = "text"

    @property
    def right(self) -> bool:
        return self.kind != "text"


@dataclass(frozen=True, kw_only=True)
class Table:
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


def share(value: float | Decimal | None) -> str:
    if value is None:
        return ""
    percent = 100 * float(value)
    return "under 1 %" if 0 < percent < 1 else f"{percent:.0f} %"


def shown(cell: Cell, kind: Kind) -> str:
    """For people."""
    match kind:
        case "usd":
            return dollars(None if cell is None else Decimal(str(cell)))
        case "share" if not isinstance(cell, str | datetime.date):
            return share(cell)
        case "seconds":
            return "" if cell is None else f"{cell:.2f} s"
        case "count":
            return "" if cell is None else f"{cell:,}"
    return "" if cell is None else str(cell)


def plain(cell: Cell) -> str | int | float | None:
    """For programs: money as decimal digits without an exponent."""
    match cell:
        case Decimal():
            return f"{cell.quantize(NANO):f}"
        case datetime.date():
            return cell.isoformat()
    return cell


def told(item: object) -> dict[str, str | int | float | None]:
    """A record for programs."""
    return {name: plain(value) for name, value in vars(item).items()}


def records(table: Table) -> list[dict[str, str | int | float | None]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, map(plain, row), strict=True)) for row in table.rows]


def csv_text(table: Table) -> str:
    """As RFC 4180 has it. Text that a spreadsheet would take for a formula has an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_harmless(column.key) for column in table.columns])
    for row in table.rows:
        writer.writerow([_harmless(cell) if isinstance(cell, str) else plain(cell) for cell in row])
    return out.getvalue()


def disarmed(table: Table) -> int:
    """Cells that would have been formulas."""
    return sum(isinstance(cell, str) and _harmless(cell) != cell for row in table.rows for cell in row)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
