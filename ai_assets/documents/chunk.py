"""Chunks: passages of a document, cut at its own borders, with ids that survive edits elsewhere in the document."""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHUNKER_VERSION = "2"
"""Changes when the same document and settings would give other chunks."""

_LINE = re.compile(r"[^\n]*\n?")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t]+")
_FENCE = re.compile(r" {0,3}(```|~~~)")

# A heading opens a section of its own unless the section before it is shorter than this share of a chunk, which then
# goes on into it: "## Date" with one line under it is a poor passage on its own.
_SMALLEST_SECTION = 0.2

# The splitter takes time quadratic in the length of one unbroken paragraph: 36 s for 4.8 million characters, 1.2 s so.
_STRETCH_CHARACTERS = 1 << 15

# The same is true of blank lines, and there is nothing in them.
_BLANK = re.compile(r"\n[ \t\n]{1000,}")


BETWEEN_HEADINGS = " > "
_LONGEST_HEADINGS = 500
ChunkKind = Literal["text", "list", "table", "code"]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """One passage; `text` is exactly `document[start:end]`, in characters."""

    chunk_id: str
    """Of document, text and occurrence of that text in the document; not of position."""
    document_id: str
    ordinal: int
    start: int
    end: int
    text: str
    text_digest: str
    """SHA-256 of the text: equal passages of any document share one embedding."""
    headings: str | None
    """Those that it stands under, the highest first; with its own where it begins with one."""
    kind: ChunkKind
    """What all its lines are, but for headings."""
    page: int | None
    """Where it begins, counted from 1; None where the document has no pages."""
    page_end: int | None


def chunk_document(
    document_id: str, text: str, *, max_characters: int, overlap: int, pages: Sequence[int] = ()
) -> list[Chunk]:
    """Cut a document into passages of at most `max_characters`, the next repeating up to `overlap` of the last.

    Sections under headings are cut independently, so that an edit moves borders within its own section only. `pages`:
    where in the text each page begins.
    """
    from semantic_text_splitter import MarkdownSplitter

    if max_characters < 1 or not 0 <= overlap < max_characters:
        raise ValueError(f"chunks need max_characters > overlap >= 0, not {max_characters=} and {overlap=}")
    splitter = MarkdownSplitter(max_characters, overlap)
    seen: Counter[str] = Counter()
    chunks: list[Chunk] = []
    headings = Headings(text)
    for section_start, section in _sections(text, headings.starts, smallest=max_characters * _SMALLEST_SECTION):
        for offset, passage in splitter.chunk_indices(section):
            digest = hashlib.sha256(passage.encode()).hexdigest()
            start = section_start + offset
            chunks.append(
                Chunk(
                    chunk_id=_chunk_id(document_id, digest, seen[digest]),
                    document_id=document_id,
                    ordinal=len(chunks),
                    start=start,
                    end=start + len(passage),
                    text=passage,
                    text_digest=digest,
                    headings=headings.above(start),
                    kind=kind_of(passage),
                    page=bisect_right(pages, start) or None,
                    page_end=bisect_right(pages, start + len(passage) - 1) or None,
                )
            )
            seen[digest] += 1
    return chunks


def _chunk_id(document_id: str, text_digest: str, occurrence: int) -> str:
    key = f"{text_digest}:{occurrence}:{document_id}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def kind_of(passage: str) -> ChunkKind:
    lines = [line for line in passage.split("\n") if line.strip() and not _HEADING.match(line)]
    if not lines:
        return "text"
    if _FENCE.match(lines[0]):
        return "code"
    if all(line.lstrip().startswith("|") for line in lines):
        return "table"
    return "list" if all(_ITEM.match(line) or line[0] in " \t" for line in lines) and _ITEM.match(lines[0]) else "text"


class Headings:
    """The headings of a Markdown text, and which of them stand above a place."""

    def __init__(self, text: str) -> None:
        self.starts: list[int] = []
        """Where they begin, but for one at the very beginning."""
        self._places: list[int] = []
        self._paths: list[str] = []
        above: list[tuple[int, str]] = []
        for start, level, title in _headings(text):
            above = [*((other, name) for other, name in above if other < level), (level, title)]
            self._places.append(start)
            self._paths.append(BETWEEN_HEADINGS.join(name for _, name in above if name)[:_LONGEST_HEADINGS])
            if start:
                self.starts.append(start)

    def above(self, place: int) -> str | None:
        at = bisect_right(self._places, place)
        return (self._paths[at - 1] or None) if at else None


def _sections(text: str, starts: Sequence[int], *, smallest: float) -> Iterator[tuple[int, str]]:
    """Stretches of text that open with a heading; one that is too small goes on into the next, the last is left to
    the one before."""
    kept = [0]
    for here in starts:
        if here - kept[-1] >= smallest:
            kept.append(here)
    if len(kept) > 1 and len(text) - kept[-1] < smallest:
        kept.pop()
    kept.append(len(text))
    for start, end in pairwise(kept):
        for said_start, said_end in _said(text, start, end):
            for cut_start, cut_end in _stretches(text, said_start, said_end):
                yield cut_start, text[cut_start:cut_end]


def _said(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The range without long runs of blank lines."""
    for blank in _BLANK.finditer(text, start, end):
        yield start, blank.start()
        start = blank.end()
    yield start, end


def _stretches(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The range in pieces of bounded length, cut after a blank line, else a line, else a word, else anywhere."""
    while end - start > 2 * _STRETCH_CHARACTERS:
        low, high = start + _STRETCH_CHARACTERS, start + 2 * _STRETCH_CHARACTERS
        ends = (at + len(mark) for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, low, high)) >= 0)
        cut = next(ends, high)
        yield start, cut
        start = cut
    yield start, end


def _headings(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each heading begins, its level and its words."""
    fence: str | None = None
    for line in _LINE.finditer(text):
        mark = _FENCE.match(line.group())
        if mark is not None:
            fence = mark.group(1) if fence is None else None if mark.group(1) == fence else fence
        elif fence is None and (heading := _HEADING.match(line.group().rstrip("\n"))):
            yield line.start(), len(heading.group(1)), heading.group(2)
