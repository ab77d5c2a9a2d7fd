"""Chunks: passages of a document, cut at its own borders, with ids that survive edits elsewhere in the document."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNKER_VERSION = "1"
"""Changes when the same document and settings would give other chunks."""

_LINE = re.compile(r"[^\n]*\n?")
_HEADING = re.compile(r" {0,3}#{1,3} ")
_FENCE = re.compile(r" {0,3}(```|~~~)")

# A heading opens a section of its own unless the section or the one before it is shorter than this share of a chunk:
# "## Date" with one line under it is a poor passage on its own.
_SMALLEST_SECTION = 0.2

# The splitter takes time quadratic in the length of one unbroken paragraph: 36 s for 4.8 million characters, 1.2 s so.
_STRETCH_CHARACTERS = 1 << 15

# The same is true of blank lines, and there is nothing in them.
_BLANK = re.compile(r"\n[ \t\n]{1000,}")


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


def chunk_document(document_id: str, text: str, *, max_characters: int, overlap: int) -> list[Chunk]:
    """Cut a document into passages of at most `max_characters`, the next repeating up to `overlap` of the last.

    Sections under headings are cut independently, so that an edit moves borders within its own section only.
    """
    from semantic_text_splitter import MarkdownSplitter

    if max_characters < 1 or not 0 <= overlap < max_characters:
        raise ValueError(f"chunks need max_characters > overlap >= 0, not {max_characters=} and {overlap=}")
    splitter = MarkdownSplitter(max_characters, overlap)
    seen: Counter[str] = Counter()
    chunks: list[Chunk] = []
    for section_start, section in _sections(text, smallest=max_characters * _SMALLEST_SECTION):
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
                )
            )
            seen[digest] += 1
    return chunks


def _chunk_id(document_id: str, text_digest: str, occurrence: int) -> str:
    key = f"{text_digest}:{occurrence}:{document_id}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _sections(text: str, *, smallest: float) -> Iterator[tuple[int, str]]:
    """Stretches of text that open with a heading. Whether a border holds depends on its two neighbours only."""
    borders = [0, *_heading_starts(text), len(text)]
    kept = [0]
    for before, here, after in zip(borders, borders[1:], borders[2:], strict=False):
        if min(here - before, after - here) >= smallest:
            kept.append(here)
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


def _heading_starts(text: str) -> Iterator[int]:
    fence: str | None = None
    for line in _LINE.finditer(text):
        mark = _FENCE.match(line.group())
        if mark is not None:
            fence = mark.group(1) if fence is None else None if mark.group(1) == fence else fence
        elif fence is None and line.start() > 0 and _HEADING.match(line.group()):
            yield line.start()
