"""Where words of a document stand: on which page, under which headings, in which of its passages. No I/O here."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from ai_assets.documents.chunk import BETWEEN_HEADINGS, Headings

FIRST_PAGE = 1


@dataclass(frozen=True, kw_only=True)
class FoundPassage:
    """A chunk of the document's own text, without the text."""

    chunk_id: str
    start: int
    end: int
    kind: str | None = None
    page: int | None = None
    page_end: int | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            chunk_id=row["chunk_id"],
            start=row["start"],
            end=row["end"],
            kind=row.get("kind"),
            page=row.get("page"),
            page_end=row.get("page_end"),
        )


@dataclass(frozen=True, kw_only=True)
class TextPlace:
    """Where a stretch of the text stands; what is not known is None."""

    start: int
    """In characters of the text."""
    end: int
    page: int | None
    """On which it begins, counted from 1."""
    page_end: int | None
    """On which it ends. Where only the passages know pages, both may be wider than the stretch itself."""
    headings: str | None
    """Those that it stands under, the highest first."""
    passage: int | None
    """The number of the passage that holds it, counted from 1."""
    chunk_id: str | None
    """Of that passage."""
    kind: str | None
    """Of that passage: text, list, table or code."""

    @property
    def said(self) -> str:
        """In words: page and headings, where there are any."""
        pages = None
        if self.page is not None:
            one = self.page_end in (None, self.page)
            pages = f"page {self.page}" if one else f"pages {self.page} to {self.page_end}"
        return ", ".join(part for part in (pages, self.headings) if part)


@dataclass(frozen=True, kw_only=True)
class PageStart:
    page: int
    start: int


class TextPlaces:
    """The structure of one document's text.

    `page_starts` are exact, where the dataset of documents still holds the very text. Without them pages are known by
    the passages, each of which says on which page it begins and on which it ends.
    """

    def __init__(self, text: str, passages: Iterable[FoundPassage] = (), page_starts: Sequence[int] = ()) -> None:
        self.passages = sorted(passages, key=lambda passage: (passage.start, passage.end))
        self._text = text
        self._headings: Headings | None = None
        self._starts = list(page_starts)

    def of(self, start: int, end: int) -> TextPlace:
        number = self._passage_at(start, end)
        passage = None if number is None else self.passages[number]
        return TextPlace(
            start=start,
            end=end,
            page=self._page_at(start, earliest=True),
            page_end=self._page_at(max(start, end - 1), earliest=False),
            headings=self._headings_at(start),
            passage=None if number is None else number + 1,
            chunk_id=passage.chunk_id if passage else None,
            kind=passage.kind if passage else None,
        )

    def pages(self) -> list[PageStart]:
        """Where pages begin; of those that no passage begins on, nothing is known without `page_starts`."""
        if self._starts:
            return [PageStart(page=number, start=start) for number, start in enumerate(self._starts, FIRST_PAGE)]
        found: dict[int, int] = {}
        for passage in self.passages:
            if passage.page is not None:
                found.setdefault(passage.page, passage.start)
        return [PageStart(page=page, start=start) for page, start in sorted(found.items())]

    def _headings_at(self, start: int) -> str | None:
        if self._headings is None:
            self._headings = Headings(self._text)
        return self._headings.above(start)

    def _passage_at(self, start: int, end: int) -> int | None:
        """The one that holds all of it, else the one that it begins in."""
        begun: int | None = None
        for number, passage in enumerate(self.passages):
            if passage.start > start:
                break
            if start < passage.end:
                if end <= passage.end:
                    return number
                begun = number if begun is None else begun
        return begun

    def _page_at(self, place: int, *, earliest: bool) -> int | None:
        if self._starts:
            return bisect_right(self._starts, place) or None
        known = [passage for passage in self.passages if passage.page is not None and passage.page_end is not None]
        before = [passage.page for passage in known if passage.start <= place]
        before += [passage.page_end for passage in known if passage.end - 1 <= place]
        after = [passage.page for passage in known if passage.start >= place]
        after += [passage.page_end for passage in known if passage.end - 1 >= place]
        least, most = _largest(before), _smallest(after)
        return (least if least is not None else most) if earliest else (most if most is not None else least)


def _largest(pages: Iterable[int | None]) -> int | None:
    return max((page for page in pages if page is not None), default=None)


def _smallest(pages: Iterable[int | None]) -> int | None:
    return min((page for page in pages if page is not None), default=None)


def last_heading(headings: str) -> str:
    """The one that is nearest to the text."""
    return headings.rsplit(BETWEEN_HEADINGS, 1)[-1]
