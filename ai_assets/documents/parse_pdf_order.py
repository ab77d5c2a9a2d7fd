"""In which order the lines of a PDF page are read, and which of them only repeat what is on every page."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ai_assets.documents.parse_pdf_pages import Page, Piece

_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b")
_EDGE_ROWS = 3
"""Running titles and page numbers are among so many lines at the top and at the bottom."""
_REPEATS = 3
"""On so many pages, at the same height."""
_EDGE_SHARE = 0.15
"""Of the height of the page, where they are looked for."""
_GUTTER_ROWS = 6
"""Fewer lines side by side are a table, a signature or an address."""
_PROSE_WORDS = 3.5
"""Words per line on each side of a gutter; the cells of a table have fewer on one of them."""
_UPWARD_SHARE = 0.2
"""Of the steps from line to line: more of them lead up only where the file is not drawn in order."""


@dataclass(frozen=True, slots=True)
class Row:
    """What stands on one line, from left to right."""

    pieces: tuple[Piece, ...]
    page: int = 0

    @property
    def text(self) -> str:
        return " ".join(piece.text for piece in self.pieces)

    @property
    def x0(self) -> float:
        return min(piece.x0 for piece in self.pieces)

    @property
    def x1(self) -> float:
        return max(piece.x1 for piece in self.pieces)

    @property
    def top(self) -> float:
        return min(piece.top for piece in self.pieces)

    @property
    def bottom(self) -> float:
        return max(piece.bottom for piece in self.pieces)

    @property
    def size(self) -> float:
        return max(self.pieces, key=lambda piece: len(piece.text)).size

    @property
    def bold(self) -> bool:
        return all(piece.bold for piece in self.pieces)

    @property
    def mono(self) -> bool:
        return all(piece.mono for piece in self.pieces)


def rows_in_order(page: Page, number: int) -> list[Row]:
    """As they are read: in the order of the file unless the file is not drawn in order; what is turned comes last."""
    upright = [piece for piece in page.pieces if piece.upright]
    turned = [piece for piece in page.pieces if not piece.upright]
    if _is_shuffled(upright):
        upright = [piece for block in _cut(upright) for piece in block]
    rows = list(_without_gutters(_rows(upright, number)))
    return [*rows, *(Row((piece,), number) for piece in turned)]


def _rows(pieces: Sequence[Piece], number: int) -> list[Row]:
    """Pieces on one line that follow one another from left to right."""
    found: list[list[Piece]] = []
    for piece in pieces:
        if found and _on_line(found[-1], piece):
            found[-1].append(piece)
        else:
            found.append([piece])
    return [Row(tuple(row), number) for row in found]


def _on_line(row: Sequence[Piece], piece: Piece) -> bool:
    last = row[-1]
    shared = min(last.bottom, piece.bottom) - max(last.top, piece.top)
    height = min(last.bottom - last.top, piece.bottom - piece.top)
    return piece.x0 >= last.x1 - 0.5 * last.size and shared > 0.5 * height


def _is_shuffled(pieces: Sequence[Piece]) -> bool:
    """Whether many steps lead up without leading to the right, as to the next column."""
    if len(pieces) < 2 * _REPEATS:
        return False
    upward = sum(after.bottom < before.top and after.x0 < before.x1 for before, after in pairwise(pieces))
    return upward > max(_UPWARD_SHARE * len(pieces), _REPEATS)


def _cut(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    """Blocks of a page in reading order: columns side by side where a gutter parts them, else from the top."""
    if len(pieces) < 2:
        yield pieces
        return
    size = median(piece.size for piece in pieces)
    if (gutter := _gap([(piece.x0, piece.x1) for piece in pieces], size)) is not None:
        left = [piece for piece in pieces if piece.x1 <= gutter]
        right = [piece for piece in pieces if piece.x1 > gutter]
        if min(len(left), len(right)) >= _REPEATS:
            yield from _cut(left)
            yield from _cut(right)
            return
    if (line := _gap([(piece.top, piece.bottom) for piece in pieces], 0.8 * size)) is not None:
        yield from _cut([piece for piece in pieces if piece.bottom <= line])
        yield from _cut([piece for piece in pieces if piece.bottom > line])
        return
    yield sorted(pieces, key=lambda piece: (round(piece.bottom / size), piece.x0))


def _gap(spans: Sequence[tuple[float, float]], least: float) -> float | None:
    """The middle of the widest stretch that no span covers."""
    widest, where, reached = least, None, None
    for start, end in sorted(spans):
        if reached is not None and start - reached > widest:
            widest, where = start - reached, (start + reached) / 2
        reached = end if reached is None else max(reached, end)
    return where


def _without_gutters(rows: Sequence[Row]) -> Iterator[Row]:
    """Columns of prose that are drawn line by line across the page, one after the other."""
    gutter = _gutter_of(rows)
    if gutter is None:
        yield from rows
        return
    left: list[Row] = []
    right: list[Row] = []
    for row in rows:
        if row.x0 < gutter < row.x1 and not any(_parts(pair, gutter) for pair in pairwise(row.pieces)):
            yield from (*left, *right)
            yield row
            left, right = [], []
            continue
        for side, pieces in (
            (left, [piece for piece in row.pieces if piece.x0 < gutter]),
            (right, [piece for piece in row.pieces if piece.x0 >= gutter]),
        ):
            if pieces:
                side.append(Row(tuple(pieces), row.page))
    yield from (*left, *right)


def _parts(pair: tuple[Piece, Piece], gutter: float) -> bool:
    return pair[0].x1 <= gutter <= pair[1].x0


def _gutter_of(rows: Sequence[Row]) -> float | None:
    """Where prose stands on both sides of the same gap in many lines."""
    starts: Counter[int] = Counter()
    for row in rows:
        for _, after in pairwise(row.pieces):
            starts[round(after.x0 / 3)] += 1
    for start, _ in starts.most_common(3):
        x = start * 3
        sides = [pair for row in rows for pair in pairwise(row.pieces) if abs(pair[1].x0 - x) <= 4 and pair[0].x1 < x]
        if len(sides) < _GUTTER_ROWS or len(sides) * 3 < len(rows):
            continue
        words = [median(len(pair[side].text.split()) for pair in sides) for side in (0, 1)]
        if min(words) >= _PROSE_WORDS:
            return min(pair[1].x0 for pair in sides) - 0.5
    return None


def without_furniture(pages: Sequence[Sequence[Row]], heights: Sequence[float]) -> list[list[Row]]:
    """Without running titles and page numbers: lines near an edge that come again at the same height."""
    places: dict[tuple[str, int], set[int]] = defaultdict(set)
    edges = [_edge_rows(rows, height) for rows, height in zip(pages, heights, strict=True)]
    for number, rows in enumerate(edges):
        for row in rows:
            places[_repeated(row)].add(number)
    return [
        [row for row in rows if not (row in edge and len(places[_repeated(row)]) >= _REPEATS)]
        for rows, edge in zip(pages, edges, strict=True)
    ]


def _repeated(row: Row) -> tuple[str, int]:
    """What is the same on every page: the words without their numbers, and the height."""
    return _DIGITS.sub("#", row.text.casefold()), round(row.bottom / 4)


def _edge_rows(rows: Sequence[Row], height: float) -> set[Row]:
    """The outermost lines of a page, as far as a wider gap than that between lines parts them from the rest."""
    found: set[Row] = set()
    down, up = sorted(rows, key=lambda row: row.top), sorted(rows, key=lambda row: -row.bottom)
    for ordered, edge in (
        (down, [row for row in down if row.bottom <= _EDGE_SHARE * height]),
        (up, [row for row in up if row.top >= (1 - _EDGE_SHARE) * height]),
    ):
        if len(edge) == len(ordered):  # nothing else is on the page
            found.update(edge)
            continue
        lines = edge[: 2 * _EDGE_ROWS]
        for place, row in enumerate(lines):
            after = ordered[place + 1]
            if max(after.top - row.bottom, row.top - after.bottom) > 0.6 * row.size:
                found.update(lines[: place + 1])
                if place + 1 >= _EDGE_ROWS:
                    break
    return found
