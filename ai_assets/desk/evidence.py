"""The text of a document as a page shows it: in pieces, with evidence, values and the beginnings of pages in it."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ai_assets.documents.places import TextPlace, TextPlaces
from ai_assets.stages.evidence import FoundQuote, found_evidence, value_in

LONGEST_TEXT = 200_000
"""Characters that are shown on one page."""
_BORDER = 4_000
"""Characters before the end of a part in which it may end with a line."""
MOST_VALUES = 120
"""Of one document, that are looked for in its text."""


class _Documented:
    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"use_attribute_docstrings": True}


@dataclass(frozen=True, kw_only=True)
class EvidenceAt(_Documented):
    """Words of the document, and where they stand."""

    text: str
    place: TextPlace
    anchor: str
    """Of the mark in the text of the page."""
    shown: bool
    """Whether the part of the text that is shown has it; else the part is asked for with `at`."""


@dataclass(frozen=True, kw_only=True)
class Span(_Documented):
    """A piece of a document's text; marked pieces are evidence of these stages."""

    text: str
    stages: Sequence[str] = ()
    values: Sequence[str] = ()
    """Fields of answers whose value this is."""
    anchors: Sequence[str] = ()
    """Of what begins here."""
    page: int | None = None
    """The page that begins here."""


@dataclass(frozen=True, kw_only=True)
class PageAt(_Documented):
    page: int
    start: int
    """In characters of the text."""
    shown: bool


@dataclass(frozen=True, kw_only=True)
class TextPart(_Documented):
    """Which part of a text is shown."""

    start: int
    """In characters of the text."""
    end: int
    length: int
    """Of the whole text."""
    pages: Sequence[PageAt]
    """All pages of the document whose beginning is known."""
    earlier: int | None
    """Where the part before this one begins."""
    later: int | None
    """Where the part after this one begins."""


def part_of(text: str, at: int) -> tuple[int, int]:
    """The part of the text that holds this place. Parts follow each other, and end with a line where there is one."""
    start = 0
    while True:
        end = _end_of_part(text, start)
        if at < end or end >= len(text):
            return start, end
        start = end


def _end_of_part(text: str, start: int) -> int:
    end = start + LONGEST_TEXT
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", end - _BORDER, end)
    return line + 1 if line > start else end


@dataclass(frozen=True, kw_only=True)
class _Mark:
    start: int
    end: int
    anchor: str
    stage: str | None = None
    value: str | None = None


class MarkedText:
    """A text whose marks are collected while the answers about it are read."""

    def __init__(self, text: str, places: TextPlaces, *, at: int = 0) -> None:
        self.text = text
        self._places = places
        self._start, self._end = part_of(text, max(0, at))
        self._marks: list[_Mark] = []
        self._values = 0

    def evidence(self, row: Mapping[str, Any], stage: str, data: object) -> list[EvidenceAt]:
        """Marks it, and says where it stands."""
        return [self._marked(found, stage=stage) for found in found_evidence(self.text, row, stage, data)]

    def value(self, stage: str, name: str, value: object) -> EvidenceAt | None:
        """The same for the value of a field, at the first place that has it."""
        if self._values >= MOST_VALUES:
            return None
        members = value if isinstance(value, list) else [value]
        found = next((at for each in members if (at := value_in(each, self.text, name)) is not None), None)
        if found is None:
            return None
        start, end = found
        same = next((mark for mark in self._marks if (mark.start, mark.end) == found), None)
        if same is not None:
            return self._at(FoundQuote(text=self.text[start:end], start=start, end=end), same.anchor)
        self._values += 1
        return self._marked(FoundQuote(text=self.text[start:end], start=start, end=end), value=f"{stage}: {name}")

    def _marked(self, found: FoundQuote, *, stage: str | None = None, value: str | None = None) -> EvidenceAt:
        anchor = f"passage-{len(self._marks) + 1}"
        self._marks.append(_Mark(start=found.start, end=found.end, anchor=anchor, stage=stage, value=value))
        return self._at(found, anchor)

    def _at(self, found: FoundQuote, anchor: str) -> EvidenceAt:
        shown = self._start <= found.start < self._end
        return EvidenceAt(text=found.text, place=self._places.of(found.start, found.end), anchor=anchor, shown=shown)

    @property
    def shown(self) -> str:
        return self.text[self._start : self._end]

    def part(self) -> TextPart:
        pages = [
            PageAt(page=each.page, start=each.start, shown=self._start <= each.start < self._end)
            for each in self._places.pages()
        ]
        earlier = part_of(self.text, self._start - 1)[0] if self._start else None
        later = self._end if self._end < len(self.text) else None
        return TextPart(
            start=self._start, end=self._end, length=len(self.text), pages=pages, earlier=earlier, later=later
        )

    def spans(self) -> list[Span]:
        """The part that is shown, cut wherever something begins or ends."""
        pages = {page.start: page.page for page in self._places.pages()}
        edges = {self._start, self._end, *pages, *(edge for mark in self._marks for edge in (mark.start, mark.end))}
        inside = sorted(edge for edge in edges if self._start <= edge <= self._end)
        return [self._span(start, end, pages.get(start)) for start, end in itertools.pairwise(inside)]

    def _span(self, start: int, end: int, page: int | None) -> Span:
        here = [mark for mark in self._marks if mark.start <= start and end <= mark.end]
        return Span(
            text=self.text[start:end],
            stages=tuple(dict.fromkeys(mark.stage for mark in here if mark.stage is not None)),
            values=tuple(dict.fromkeys(mark.value for mark in here if mark.value is not None)),
            anchors=tuple(mark.anchor for mark in here if mark.start == start),
            page=page,
        )
