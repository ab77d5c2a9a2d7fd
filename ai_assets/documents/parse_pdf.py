"""A PDF to text: which library reads it, whether what it read is sound, and what is read instead if it is not.

docs/pdf.md has the measurements that the order and the limits come from.
"""

import itertools
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.documents.parse_pdf_pages import READERS, Extractor, Page
from ai_assets.documents.parse_pdf_text import text_of

ORDER: tuple[Extractor, ...] = ("pdfium", "pdfminer")
"""The one that reads best, and the one that is asked where its text is not sound."""

_WORD = re.compile(r"[^\W\d_]+")
_SPACED = re.compile(r"[a-zA-Z\u00c0-\u024f\u0370-\u052f]+")
"""Of scripts that put spaces between words."""
_CODES = re.compile(r"\(cid:\d+\)|[\ufffd\ue000-\uf8ff]")
_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_MEAN_LETTERS = 9.0
"""Of a word; Finnish has 8, and where every second space is lost English has 9."""
_LONG = 30
"""German compounds reach it seldom, glued sentences always."""
_SAMPLE_PAGES = 10
"""Of these another library must make more, before it is asked for the rest: it takes 0.1 s for each."""
_PATIENCE_S = 20.0
"""For the second library: a third of what a file may take by default, so that what the first one read is not lost."""
_FEWEST_WORDS = 40
"""Fewer say nothing about their text."""
_SOUND = 0.75
"""Of 67 real files each has 0.94 or more as we read it; markitdown's worst 17 are below (docs/pdf.md)."""
_COMMON = frozenset(
    (
        "the of and to in is that for it as with on be by this are or an at from not which "
        "der die und das den von zu mit ist des im dem nicht ein eine auf für als auch "
        "le la les et des en du une est que dans pour qui sur pas au el los las y un una por con para se del no es "
        "il lo che di per non sono da de het een van dat niet zijn op te och att det som på är av för "
        "i na nie się jest do że w z на не что и в с по как это"
    ).split()
)
"""Function words of the languages that we meet most. A text in one of them has a fifth of such words at least."""


@dataclass(frozen=True, kw_only=True)
class PdfReading:
    text: str
    pages: tuple[int, ...]
    """Where in the text each page begins."""
    read_by: Extractor
    soundness: float


def read_pdf(data: bytes, order: Sequence[Extractor] = ORDER) -> PdfReading:
    """By the first library whose text is sound; where none is, the soundest. Raises what the last one raised."""
    best: PdfReading | None = None
    error: Exception | None = None
    for extractor in order:
        try:
            reading = _read(data, extractor, best)
        # The boundary around the third-party libraries: another one may read what this one could not.
        except Exception as raised:  # noqa: BLE001
            error = raised
            continue
        if reading is not None:
            best = reading
            if best.soundness >= _SOUND:
                break
    if best is None:
        raise error or ValueError("no extractor was named")
    return best


def _read(data: bytes, extractor: Extractor, before: PdfReading | None) -> PdfReading | None:
    """None where it is not better than what another one read before, or takes too long to tell."""
    read = READERS[extractor](data)
    if before is None:
        return _reading(list(read), extractor)
    started = time.monotonic()
    pages = list(itertools.islice(read, _SAMPLE_PAGES))
    end = before.pages[len(pages)] if len(pages) < len(before.pages) else len(before.text)
    if _reading(pages, extractor).soundness <= soundness(before.text[:end]):
        return None
    for page in read:
        pages.append(page)
        if time.monotonic() - started > _PATIENCE_S:
            return None
    return _reading(pages, extractor)


def _reading(pages: Sequence[Page], extractor: Extractor) -> PdfReading:
    made = text_of(pages)
    return PdfReading(text=made.text, pages=made.pages, read_by=extractor, soundness=soundness(made.text))


def soundness(text: str) -> float:
    """From 0 to 1, how far a text is made of words: not glued, not parted into letters, not codes, not table rows."""
    if not text:
        return 0.0
    codes = sum(len(code) if code[0] != "(" else 5 for code in _CODES.findall(text))
    score = 1.0 - min(1.0, 4 * codes / len(text))
    words = _SPACED.findall(text)
    if len(words) < _FEWEST_WORDS:
        return score
    letters = sum(map(len, words))
    glued = sum(max(0, len(word) - _LONG) for word in words) / letters
    single = sum(len(word) == 1 for word in words) / len(words)
    score *= 1.0 - min(1.0, 3 * glued + max(0.0, letters / len(words) - _MEAN_LETTERS) / 3)
    score *= 1.0 - max(0.0, single - 0.4)
    rows = _ROW.findall(text)
    score *= 1.0 - 0.5 * max(0.0, sum(map(len, rows)) / len(text) - 0.8)
    return score * (0.6 if _is_scrambled(words) else 1.0)


def _is_scrambled(words: Sequence[str]) -> bool:
    """Whether it looks like a text in Latin or Cyrillic letters of which hardly a word is a common one: letters that
    stand for others. Names and numbers alone look so too, which costs them no more than a second reading."""
    if len(words) < 5 * _FEWEST_WORDS:
        return False
    counts = Counter(map(str.casefold, words))
    return sum(counts[word] for word in _COMMON) < 0.03 * len(words)
