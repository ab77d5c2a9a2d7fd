"""Tables of a PDF page: lines whose pieces stand in columns, and nothing else."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from ai_assets.documents.parse_pdf_order import Row
from ai_assets.documents.parse_pdf_pages import Piece

_FEWEST_ROWS = 3
"""Two lines in two columns are a signature, an address or an index."""
_CELL_WORDS = 6.0
"""More words in the average cell are prose in columns."""
_FULL_SHARE = 0.6
"""Of the cells, so many say something."""
_ALIKE_SHARE = 0.4
"""Of the rows, so many have a piece in each column; in others a long cell touches the next."""
_WHOLE_ROWS = 2
"""So many lines in one piece may follow one another: the rest of a cell, or one that touches the next column."""
_MARK = re.compile(r"[^\w\s]|\(?[\dA-Za-z]{1,3}[.)]|\[\w+\]")
"""What stands before the items of a list, of notes and of references."""
_BULLETS = "•◦▪●■–—"
_NEXT_LINE = 1.9
"""In sizes of the font, from one row to the next; cells have padding."""
LEADER = re.compile(r"(?:\s?[.\u2024\u2026\u00b7]){4,}\s?")
"""The dots between a heading and its page in a table of contents."""


@dataclass(frozen=True, slots=True)
class TableRows:
    cells: Sequence[Sequence[str]]
    rows: int
    """How many lines they were."""


def table_at(rows: Sequence[Row], place: int) -> TableRows | None:
    """The table that begins with that line, if one does."""
    end = _end_of(rows, place)
    while end - place >= _FEWEST_ROWS:
        found = _table(rows[place:end])
        if found is not None:
            return TableRows(found, end - place)
        end -= 1
        if end - place > 60:
            end = place + 60
    return None


def _end_of(rows: Sequence[Row], place: int) -> int:
    """After the last line that may belong to it: below the one before, in pieces, or the rest of a cell."""
    if len(rows[place].pieces) < 2 or LEADER.search(rows[place].text):
        return place
    end, whole = place + 1, 0
    while end < len(rows):
        before, row = rows[end - 1], rows[end]
        close = -0.5 * row.size < row.top - before.bottom < _NEXT_LINE * max(row.size, before.size)
        whole = whole + 1 if len(row.pieces) < 2 else 0
        if not close or whole > _WHOLE_ROWS or row.page != before.page or LEADER.search(row.text):
            break
        if whole and row.x0 <= rows[place].x0 + row.size and (row.text.endswith(":") or row.text[0] in _BULLETS):
            break
        end += 1
    while end > place and len(rows[end - 1].pieces) < 2:
        end -= 1
    return end


Column = tuple[float, float]


def _table(rows: Sequence[Row]) -> Sequence[Sequence[str]] | None:
    if all(row.mono for row in rows):
        return None
    columns = _columns(rows)
    if columns is None:
        return None
    lines: list[list[str]] = []
    for row in rows:
        cells = _cells(row, columns)
        rest = not cells[0] or (
            len(row.pieces) == 1 and not any(cells[1:]) and bool(lines) and _ends_open(lines[-1][0])
        )
        if lines and rest and sum(map(bool, cells)) < len(columns) and not _has_number(cells):
            lines[-1] = [f"{above} {cell}".strip() for above, cell in zip(lines[-1], cells, strict=True)]
        else:
            lines.append(cells)
    return lines if _is_sound(lines) else None


def _columns(rows: Sequence[Row]) -> list[Column] | None:
    """Those of the rows that have most in common: as many pieces, one below the other."""
    counts = Counter(len(row.pieces) for row in rows if len(row.pieces) > 1)
    for count, _ in sorted(counts.items(), key=lambda item: (-item[1], -item[0]))[:2]:
        alike = [row for row in rows if len(row.pieces) == count]
        if len(alike) < max(_FEWEST_ROWS - 1, _ALIKE_SHARE * len(rows)):
            continue
        found = [_span([row.pieces[at] for row in alike]) for at in range(count)]
        parted = all(before[1] < after[0] for before, after in pairwise(found))
        straight = sum(_is_straight([row.pieces[at] for row in alike]) for at in range(count))
        if parted and straight * 3 >= 2 * count:
            return found
    return None


def _span(pieces: Sequence[Piece]) -> Column:
    return min(piece.x0 for piece in pieces), max(piece.x1 for piece in pieces)


def _is_straight(pieces: Sequence[Piece]) -> bool:
    """Whether they share their left edge, their right edge or their middle, but for one (the heading)."""
    size = median(piece.size for piece in pieces)
    for values in (
        [piece.x0 for piece in pieces], [piece.x1 for piece in pieces], [(piece.x0 + piece.x1) / 2 for piece in pieces],
    ):  # fmt: skip
        middle = median(values)
        if sum(abs(value - middle) <= 0.5 * size for value in values) >= max(2, 0.7 * (len(values) - 1)):
            return True
    return False


def _cells(row: Row, columns: Sequence[Column]) -> list[str]:
    """A long cell may leave no gap before the next: a word that begins where a column does is in it."""
    cells: list[list[str]] = [[] for _ in columns]
    for piece in row.pieces:
        at = _column_of(piece, columns)
        words = piece.text.split()
        if len(words) == len(piece.starts) and piece.x1 > columns[at][1]:
            for word, start in zip(words, piece.starts, strict=True):
                begun = [n for n in range(at + 1, len(columns)) if columns[n][0] - 0.4 * piece.size <= start]
                at = begun[-1] if begun else at
                cells[at].append(word)
        else:
            cells[at] += words
    return [" ".join(cell) for cell in cells]


def _column_of(piece: Piece, columns: Sequence[Column]) -> int:
    """The one that it begins in, else the one that it lies in most."""
    for at, (start, end) in enumerate(columns):
        if start - 0.4 * piece.size <= piece.x0 <= end:
            return at
    shared = [min(piece.x1, end) - max(piece.x0, start) for start, end in columns]
    return max(range(len(columns)), key=shared.__getitem__)


def _ends_open(cell: str) -> bool:
    return cell.endswith((",", "-", "and", "of", "the", "or"))


def _has_number(cells: Sequence[str]) -> bool:
    return any(cell.strip("-+.,%()$€£ \u2212").isdigit() for cell in cells)


def _is_sound(lines: Sequence[Sequence[str]]) -> bool:
    """Whether most cells are filled and short, and the first column is no column of bullets."""
    if len(lines) < _FEWEST_ROWS:
        return False
    cells = [cell for line in lines for cell in line]
    filled = [cell for cell in cells if cell]
    marks = sum(bool(_MARK.fullmatch(line[0])) for line in lines)
    if len(lines[0]) == 2 and (_counts(lines, 0, 1) or _counts(lines, 1, None)):
        return False
    words = fmean(len(cell.split()) for cell in filled)
    return len(filled) >= _FULL_SHARE * len(cells) and words <= _CELL_WORDS and 2 * marks < len(lines)


def _counts(lines: Sequence[Sequence[str]], at: int, step: int | None) -> bool:
    """Whether a column counts: numbers of lines by one, the pages of a table of contents by any steps up."""
    numbers = [int(line[at]) for line in lines if line[at].isdecimal() and len(line[at]) < 7]
    if len(numbers) < max(2, 0.7 * len(lines)):
        return False
    steps = [after - before for before, after in pairwise(numbers)]
    if step is None:
        return all(each >= 0 for each in steps)
    return sum(each == step for each in steps) * 2 > len(steps)
