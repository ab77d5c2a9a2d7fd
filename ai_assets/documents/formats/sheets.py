"""Excel workbooks: a heading and a table for each sheet, with the values that Excel last calculated."""

import datetime
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ai_assets.documents.formats.read import Read, blocks, opened, refuse_doctypes, table
from ai_assets.documents.parse_worker import FileRefused

_MOST_CELLS = 2_000_000
"""With values in them; a sheet may claim a million rows of nothing, and those are passed over."""
_MOST_BLANK_ROWS = 10_000
"""In a row; nobody has written below them."""


def read(data: bytes) -> Read:
    from openpyxl import load_workbook

    with opened(data, "workbook of Excel", ".xlsx", "xl/workbook.xml") as archive:
        refuse_doctypes(archive)
    book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    try:
        parts: list[str] = []
        left = _MOST_CELLS
        for sheet in book.worksheets:
            rows = []
            for row in _rows(sheet):
                left -= sum(1 for cell in row if cell)
                if left < 0:
                    raise FileRefused(f"it has more than {_MOST_CELLS:,} cells; export the sheet as .csv")
                rows.append(row)
            if rows:
                parts += [f"## {sheet.title}", table(rows)]
        return Read(text=blocks(parts), title=book.properties.title or None)
    finally:
        book.close()


def _rows(sheet: Any) -> Iterator[Sequence[str]]:
    blank = 0
    for values in sheet.iter_rows(values_only=True):
        row = [_shown(value) for value in values]
        while row and not row[-1]:
            row.pop()
        if row:
            blank = 0
            yield row
        elif (blank := blank + 1) > _MOST_BLANK_ROWS:
            return


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case datetime.datetime():
            return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
        case _:
            return str(value)
