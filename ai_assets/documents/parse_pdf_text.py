"""Pages of a PDF to one Markdown text: headings, paragraphs, lists, tables and code, and where each page begins."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from ai_assets.documents.formats.read import table as pipe_table
from ai_assets.documents.parse_pdf_order import Row, rows_in_order, without_furniture
from ai_assets.documents.parse_pdf_pages import SOFT_HYPHEN, Page
from ai_assets.documents.parse_pdf_tables import LEADER, table_at
from ai_assets.documents.parse_text import normalise

_HEADING_SIZE = 1.13
"""Times the size of the text: 12 points over 10.5."""
_HEADING_CHARACTERS = 160
_HEADING_ROWS = 3
"""More lines of one size are a poster or a quotation."""
_HEADING_SHARE = 0.35
"""Where more of all letters are large or bold, that says nothing."""
_LEVELS = 4
_BREAK = 1.35
"""Of the usual distance between lines; wider begins a paragraph."""
_USUAL_PITCH = 1.2
"""In sizes, where too few lines show it."""
_MONO_SHARE = 0.6
"""Of all letters: a typewritten text is no program."""
_WINDOW = 6
"""Lines before and after one that show where its column ends."""
_FULL_SIZES = 12
"""A narrower line is part of an address, or stands in the middle of its column."""
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_BULLET = re.compile(r"(?:[•◦▪▫‣∙●○■□◆➢➤✓\uf0b7\uf0a7\u00b7\u2043\u25aa]|\(cid:127\)|[-–—*](?=\s+\S))\s*")
_NUMBER = re.compile(r"\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]\s+\S")
_HYPHENATED = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_LAST_PART = re.compile(r"([^\W\d_]+)[-\u2010\u00ad]$")
_SENTENCE_END = (".", "!", "?", ":", ";", "。", "！", "？", "”", '"')


@dataclass(frozen=True, kw_only=True)
class PdfText:
    text: str
    pages: tuple[int, ...]
    """Where in the text each page begins; a page without text begins where the next one does."""


def text_of(pages: Sequence[Page]) -> PdfText:
    """The Markdown of a whole document."""
    rows = [rows_in_order(page, number) for number, page in enumerate(pages)]
    rows = without_furniture(rows, [page.height for page in pages])
    return _Writer(_Facts.of([row for page in rows for row in page])).written(rows)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What only the whole document shows."""

    body: float
    """The size of most letters."""
    bold: bool
    """Whether most letters are."""
    mono: bool
    pitches: Mapping[int, float]
    """By size, the usual distance from line to line."""
    levels: Mapping[float, int]
    """By size, which heading it is."""
    words: frozenset[str]
    hyphenated: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "_Facts":
        letters: Counter[float] = Counter()
        bold = mono = 0
        for row in rows:
            for piece in row.pieces:
                letters[piece.size] += len(piece.text)
                bold += piece.bold * len(piece.text)
                mono += piece.mono * len(piece.text)
        total = max(letters.total(), 1)
        body = letters.most_common(1)[0][0] if letters else 1.0
        text = "\n".join(row.text for row in rows)
        return cls(
            body=body,
            bold=bold > _HEADING_SHARE * total,
            mono=mono > _MONO_SHARE * total,
            pitches=_pitches(rows),
            levels=_levels(letters, body),
            words=frozenset(map(str.casefold, _FIRST_WORD.findall(text))),
            hyphenated=frozenset(map(str.casefold, _HYPHENATED.findall(text))),
        )

    def pitch(self, row: Row) -> float:
        return self.pitches.get(round(row.size), _USUAL_PITCH * row.size)


def _pitches(rows: Sequence[Row]) -> dict[int, float]:
    found: dict[int, list[float]] = defaultdict(list)
    for before, row in pairwise(rows):
        step = row.bottom - before.bottom
        if before.page == row.page and 0.5 * row.size < step < 4 * row.size and abs(before.size - row.size) < 0.6:
            found[round(row.size)].append(step)
    return {size: median(steps) for size, steps in found.items() if len(steps) >= 5}


def _levels(letters: Mapping[float, int], body: float) -> dict[float, int]:
    """Sizes of headings, the largest first; sizes that hardly differ are one."""
    large = sorted((size for size in letters if size >= _HEADING_SIZE * body), reverse=True)
    if sum(letters[size] for size in large) > _HEADING_SHARE * sum(letters.values()):
        return {}
    found: dict[float, int] = {}
    level, last = 0, 0.0
    for size in large:
        if not last or size < 0.95 * last:
            level, last = level + 1, size
        found[size] = min(level, _LEVELS)
    return found


@dataclass
class _Writer:
    """Writes block after block and notes where pages begin."""

    facts: _Facts
    parts: list[str] = field(default_factory=list)
    length: int = 0
    begins: dict[int, int] = field(default_factory=dict)
    in_list: float | None = None
    """Where the first item of the list stands that is being written."""

    def written(self, pages: Sequence[Sequence[Row]]) -> PdfText:
        rows = [row for page in pages for row in page if _said(row)]
        place = 0
        while place < len(rows):
            place = self._block(rows, place)
        text = "".join(self.parts)
        starts: list[int] = []
        after = len(text)
        for number in reversed(range(len(pages))):
            after = self.begins.get(number, after)
            starts.append(after)
        return PdfText(text=text, pages=tuple(reversed(starts)))

    def _block(self, rows: Sequence[Row], place: int) -> int:
        """Write what begins there; where the next one begins."""
        row = rows[place]
        if not _BULLET.match(_said(row)):
            self.in_list = None
        if (table := table_at(rows, place)) is not None:
            cells = [[_clean(cell) for cell in line] for line in table.cells]
            self._write(pipe_table(cells), row.page)
            return place + table.rows
        if (lines := self._code_rows(rows, place)) > 1:
            self._write(_fenced(rows[place : place + lines]), row.page)
            return place + lines
        if (level := self._level(rows, place)) is not None:
            lines = self._heading_rows(rows, place)
            heading = " ".join(_said(each).strip(SOFT_HYPHEN) for each in rows[place : place + lines])
            self._write(f"{'#' * level} {heading.lstrip('#> ')}", row.page)
            return place + lines
        return self._paragraph(rows, place)

    def _write(self, block: str, page: int, between: str = "\n\n") -> None:
        if self.parts:
            self._add(between)
        self.begins.setdefault(page, self.length)
        self._add(block)

    def _add(self, text: str) -> None:
        self.parts.append(text)
        self.length += len(text)

    # Headings and code

    def _level(self, rows: Sequence[Row], place: int) -> int | None:
        row, facts = rows[place], self.facts
        said = _said(row)
        if len(said) > _HEADING_CHARACTERS or row.mono or sum(map(str.isalpha, said)) < 2 or LEADER.search(said):
            return None
        if _BULLET.match(said):
            return None
        lines = self._heading_rows(rows, place)
        if lines > _HEADING_ROWS:
            return None
        if row.size in facts.levels:
            return facts.levels[row.size]
        if facts.bold or not row.bold or row.size < 0.95 * facts.body or said.endswith((".", ",", ";")):
            return None
        alone = place + lines >= len(rows) or self._breaks(rows, place + lines) or not rows[place + lines].bold
        if not alone or not (said[0].isupper() or said[0].isdigit()) or lines > 2:
            return None
        if place and not self._apart(rows[place - 1], row):
            return None
        return min(max(facts.levels.values(), default=0) + 1, _LEVELS + 1)

    def _heading_rows(self, rows: Sequence[Row], place: int) -> int:
        """How many lines of one look follow one another closely."""
        first, end = rows[place], place + 1
        while end < len(rows):
            row = rows[end]
            alike = abs(row.size - first.size) < 0.3 and row.bold == first.bold
            if not alike or not 0 < row.bottom - rows[end - 1].bottom < 1.7 * row.size or row.page != first.page:
                break
            end += 1
        return end - place

    def _apart(self, before: Row, row: Row) -> bool:
        """Whether a line stands off from the one before, or that one ends a sentence, a column or a page."""
        step = row.bottom - before.bottom
        return (
            before.page != row.page
            or step < 0
            or step > 1.1 * self.facts.pitch(row)
            or before.bold
            or _said(before).endswith(_SENTENCE_END)
        )

    def _code_rows(self, rows: Sequence[Row], place: int) -> int:
        if self.facts.mono:
            return 0
        end = place
        while end < len(rows) and rows[end].mono and rows[end].page == rows[place].page:
            if end > place and not -row_height(rows[end]) < rows[end].top - rows[end - 1].bottom < 3 * rows[end].size:
                break
            end += 1
        return end - place

    # Paragraphs and lists

    def _paragraph(self, rows: Sequence[Row], place: int) -> int:
        row = rows[place]
        text, between = _said(row), "\n\n"
        if (bullet := _BULLET.match(text)) and len(text) > bullet.end():
            text, between = self._item(row, text[bullet.end() :])
        elif (
            _NUMBER.match(text)
            and place
            and self._follows(rows[place - 1], row)
            and _NUMBER.match(_said(rows[place - 1]))
        ):
            between = "\n"
        elif bullet and place + 1 < len(rows):  # the mark alone; its text is drawn next
            text, between = self._item(row, "")
        self._write(text, row.page, between)
        end = place + 1
        while end < len(rows) and not self._starts_block(rows, end):
            self._join(rows, end)
            end += 1
        return end

    def _item(self, row: Row, text: str) -> tuple[str, str]:
        between = "\n\n" if self.in_list is None else "\n"
        first = row.x0 if self.in_list is None else self.in_list
        nested = "  " if row.x0 > first + row.size else ""
        self.in_list = first
        return f"{nested}- {text}", between

    def _follows(self, before: Row, row: Row) -> bool:
        step = row.bottom - before.bottom
        return before.page == row.page and 0 < step <= 2 * _BREAK * self.facts.pitch(row)

    def _starts_block(self, rows: Sequence[Row], place: int) -> bool:
        return (
            self._breaks(rows, place)
            or (rows[place].mono and not self.facts.mono)
            or table_at(rows, place) is not None
            or self._level(rows, place) is not None
        )

    def _breaks(self, rows: Sequence[Row], place: int) -> bool:
        """Whether a paragraph ends before that line."""
        before, row = rows[place - 1], rows[place]
        said = _said(row)
        if _BULLET.match(said) or (_NUMBER.match(said) and row.x0 <= before.x0 + row.size):
            return True
        above = _said(before)
        step = row.bottom - before.bottom
        if before.page != row.page or step <= -0.5 * row.size or row.x0 > before.x1:
            goes_on = said[0].islower() and not above.endswith(_SENTENCE_END) and abs(before.size - row.size) < 0.6
            return not (goes_on or above.endswith(SOFT_HYPHEN))
        if step > _BREAK * self.facts.pitch(row) or abs(before.size - row.size) > 1.5 or (before.mono and not row.mono):
            return not above.endswith(SOFT_HYPHEN)
        left = min(each.x0 for each in _beside(rows, place))
        indented = 0.8 * row.size < row.x0 - left < 6 * row.size and before.x0 - left < 0.5 * row.size
        return indented and (above.endswith(_SENTENCE_END) or not self._is_full(rows, place - 1))

    def _is_full(self, rows: Sequence[Row], place: int) -> bool:
        """Whether the next line's first word would not have had room in it."""
        row, after = rows[place], rows[place + 1]
        said, following = _said(row), _said(after)
        right = max(each.x1 for each in _beside(rows, place))
        if row.x1 - row.x0 < _FULL_SIZES * row.size:
            return False
        letter = (row.x1 - row.x0) / max(len(said), 1)
        first = following.split(None, 1)[0]
        if not first.isascii() and len(first) > 12:  # no spaces: any letter may begin a line
            first = first[:1]
        return row.x1 + (len(first) + 1) * letter >= right - row.size

    def _join(self, rows: Sequence[Row], place: int) -> None:
        before, row = rows[place - 1], rows[place]
        said, above = _said(row), _said(before)
        if (part := _LAST_PART.search(above)) and said[0].islower():
            self._unhyphenate(part.group(1), said)
        elif before.page == row.page and row.bottom > before.bottom and not self._is_full(rows, place - 1):
            self._add("\n")
        elif not (_is_wide(above[-1]) and _is_wide(said[0])):
            self._add(" ")
        self.begins.setdefault(row.page, self.length)
        self._add(said)

    def _unhyphenate(self, part: str, said: str) -> None:
        """Take off the hyphen at the end unless the document has the word with it elsewhere, and not without."""
        rest = (_FIRST_WORD.match(said) or [""])[0]
        whole, parted = f"{part}{rest}".casefold(), f"{part}-{rest}".casefold()
        last = self.parts[-1]
        kept = "-" if parted in self.facts.hyphenated and whole not in self.facts.words else ""
        self.parts[-1] = last[:-1] + kept
        self.length += len(kept) - 1


def row_height(row: Row) -> float:
    return row.bottom - row.top


def _beside(rows: Sequence[Row], place: int) -> Iterator[Row]:
    """The lines of its column near by, itself among them."""
    row = rows[place]
    for each in rows[max(0, place - _WINDOW) : place + _WINDOW + 1]:
        if each.page == row.page and abs(each.x0 - row.x0) < 4 * row.size and len(each.pieces) <= 2:
            yield each
    yield row


def _said(row: Row) -> str:
    """The text of a line."""
    found = ""
    for piece in row.pieces:
        glue = "" if not found or found.endswith(SOFT_HYPHEN) else " "
        found = f"{found.removesuffix(SOFT_HYPHEN)}{glue}{piece.text}"
    return LEADER.sub(" … ", _clean(found))


def _clean(text: str) -> str:
    return normalise(text.translate(_LIGATURES))


def _is_wide(letter: str) -> bool:
    """Of a script that is written without spaces."""
    return "\u2e80" <= letter <= "\u9fff" or "\uf900" <= letter <= "\uffef"


def _fenced(rows: Sequence[Row]) -> str:
    """A program as it stands, with its indents."""
    left = min(row.x0 for row in rows)
    widths = [(row.x1 - row.x0) / max(len(_said(row)), 1) for row in rows]
    letter = max(median(widths), 0.1)
    lines: list[str] = []
    for before, row in pairwise([rows[0], *rows]):
        if row.bottom - before.bottom > 1.8 * row.size:
            lines.append("")
        lines.append(" " * min(round((row.x0 - left) / letter), 60) + _said(row).rstrip(SOFT_HYPHEN))
    return "\n".join(["```", *lines, "```"])
