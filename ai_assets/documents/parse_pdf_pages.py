"""What stands where on the pages of a PDF, by either of two libraries that share no code.

A `Piece` is a stretch of a line without a wide gap. Pieces come in the order in which the file draws them, which is the
reading order in most files; `parse_pdf_order.py` judges that.
"""

import ctypes
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Extractor = Literal["pdfium", "pdfminer"]

_WIDE_GAP = 1.1
"""Between two pieces, in sizes of the font: a space is a quarter, a justified one rarely more than three quarters."""
_CLOSE_GAP = 1.6
"""The same where a space was drawn or seen between the two: sentences in justified columns have spaces of one size."""
_SPACE = 0.14
"""A gap that is a space though none was drawn; kerning moves letters by a tenth at most."""
_MONO_NAMES = ("mono", "courier", "cmtt", "typewriter", "consol", "lmtt", "sftt", "txtt", "inconsolata", "fixed")
_BOLD_NAMES = ("bold", "black", "heavy", "cmbx", "sfbx", "demi", "semibold", "medi")
_FIXED_PITCH = 1
_FORCE_BOLD = 1 << 18
SOFT_HYPHEN = "\u00ad"
_SOFT_HYPHENS = {0xFFFE: SOFT_HYPHEN, 0x2: SOFT_HYPHEN}
"""What PDFium makes of a hyphen at the end of a line: a word goes on in the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Places are in points from the upper left corner of the page as it is shown."""

    text: str
    x0: float
    x1: float
    top: float
    bottom: float
    size: float
    """Of most of its letters, in points."""
    starts: tuple[float, ...] = ()
    """Where each of its words begins."""
    bold: bool = False
    mono: bool = False

    @property
    def upright(self) -> bool:
        """Whether it runs along the line: labels of an axis do not."""
        return self.bottom - self.top < 3 * self.size or self.x1 - self.x0 > self.bottom - self.top


@dataclass(frozen=True, kw_only=True)
class Page:
    pieces: Sequence[Piece]
    width: float
    height: float


@dataclass(slots=True)
class _Growing:
    """A piece in the making."""

    text: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    x0: float = math.inf
    x1: float = -math.inf
    top: float = math.inf
    bottom: float = -math.inf
    sizes: dict[float, int] = field(default_factory=dict)
    bold: int = 0
    mono: int = 0
    letters: int = 0

    def add(self, letter: str, box: tuple[float, float, float, float], style: tuple[float, bool, bool]) -> None:
        if not self.text or self.text[-1] == " ":
            self.starts.append(box[0])
        self.text.append(letter)
        self.x0, self.top = min(self.x0, box[0]), min(self.top, box[1])
        self.x1, self.bottom = max(self.x1, box[2]), max(self.bottom, box[3])
        size, bold, mono = style
        self.sizes[size] = self.sizes.get(size, 0) + 1
        self.bold += bold
        self.mono += mono
        self.letters += 1

    @property
    def size(self) -> float:
        return max(self.sizes, key=self.sizes.__getitem__) if self.sizes else 1.0

    def done(self) -> Iterator[Piece]:
        text = " ".join("".join(self.text).split())
        if text and self.letters:
            yield Piece(
                text=text,
                x0=self.x0,
                x1=self.x1,
                top=self.top,
                bottom=self.bottom,
                size=self.size,
                starts=tuple(self.starts),
                bold=self.bold * 5 > self.letters * 4,
                mono=self.mono * 5 > self.letters * 4,
            )


def is_bold(font: str) -> bool:
    return any(name in font for name in _BOLD_NAMES)


def is_mono(font: str) -> bool:
    return any(name in font for name in _MONO_NAMES)


def _parted(grown: _Growing, box: tuple[float, float, float, float]) -> bool:
    """Whether what comes next is beyond a wide gap, or somewhere else."""
    if not grown.letters:
        return False
    size = grown.size
    gap = _CLOSE_GAP if grown.text[-1] == " " else _WIDE_GAP
    elsewhere = box[2] < grown.x0 - size or box[1] > grown.bottom or box[3] < grown.top
    return elsewhere or grown.text[-1] == SOFT_HYPHEN or box[0] - grown.x1 > gap * size


def pdfium_pages(data: bytes) -> Iterator[Page]:
    """By PDFium, the library in Chromium."""
    from pypdfium2 import PdfDocument

    document = PdfDocument(data)
    try:
        for number in range(len(document)):
            page = document[number]
            text = page.get_textpage()
            width, height = page.get_size()
            yield Page(pieces=list(_pdfium_pieces(page, text)), width=width, height=height)
            text.close()
            page.close()
    finally:
        document.close()


def _pdfium_pieces(page: Any, text: Any) -> Iterator[Piece]:
    import pypdfium2.raw as raw

    placed = _placing(page)
    box = raw.FS_RECTF()
    at = ctypes.byref(box)
    handle = text.raw
    grown, style = _Growing(), (1.0, False, False)
    fonts = _Fonts(handle)
    starts = True
    for index in range(text.count_chars()):
        code = raw.FPDFText_GetUnicode(handle, index)
        letter = _SOFT_HYPHENS.get(code) or (chr(code) if code < 0x110000 else "\ufffd")
        if letter in "\r\n":
            yield from grown.done()
            grown, starts = _Growing(), True
            continue
        if letter.isspace():
            if grown.text and grown.text[-1] != " ":
                grown.text.append(" ")
            starts = True
            continue
        if not raw.FPDFText_GetLooseCharBox(handle, index, at):
            grown.text.append(letter)
            continue
        where = placed(box.left, box.top, box.right, box.bottom)
        if starts:
            style, starts = fonts.style(index), False
        if _parted(grown, where):
            yield from grown.done()
            grown, style = _Growing(), fonts.style(index)
        grown.add(letter, where, style)
    yield from grown.done()


class _Fonts:
    """Size and look of the font at a letter; one question to PDFium for each font."""

    def __init__(self, handle: Any) -> None:
        import pypdfium2.raw as raw

        self._raw, self._handle = raw, handle
        self._name = ctypes.create_string_buffer(256)
        self._flags, self._matrix = ctypes.c_int(), raw.FS_MATRIX()

    def style(self, index: int) -> tuple[float, bool, bool]:
        raw = self._raw
        size = raw.FPDFText_GetFontSize(self._handle, index)
        if raw.FPDFText_GetMatrix(self._handle, index, ctypes.byref(self._matrix)):
            size *= math.hypot(self._matrix.c, self._matrix.d) or 1.0
        raw.FPDFText_GetFontInfo(self._handle, index, self._name, 256, ctypes.byref(self._flags))
        font, flags = self._name.value.decode("latin-1").casefold(), self._flags.value
        bold = is_bold(font) or bool(flags & _FORCE_BOLD)
        return round(size, 1) or 1.0, bold, is_mono(font) or bool(flags & _FIXED_PITCH)


def _placing(page: Any) -> Callable[[float, float, float, float], tuple[float, float, float, float]]:
    """From PDFium's left, top, right, bottom in the page as it lies to ours in the page as it is shown."""
    width, height = page.get_size()
    turned = page.get_rotation()
    left, bottom = page.get_bbox()[:2]
    if turned in (90, 270):
        width, height = height, width

    def placed(x0: float, y1: float, x1: float, y0: float) -> tuple[float, float, float, float]:
        x0, x1, y0, y1 = x0 - left, x1 - left, y0 - bottom, y1 - bottom
        match turned:
            case 90:
                return y0, x0, y1, x1
            case 180:
                return width - x1, y0, width - x0, y1
            case 270:
                return height - y1, width - x1, height - y0, width - x0
            case _:
                return x0, height - y1, x1, height - y0

    return placed


def pdfminer_pages(data: bytes) -> Iterator[Page]:
    """By pdfminer.six, which is slower, in Python throughout, and takes other files. Its own layout takes most of its
    time and reads tables column by column; without it letters come in the order of the file."""
    from pdfminer.converter import PDFPageAggregator
    from pdfminer.pdfinterp import PDFPageInterpreter, PDFResourceManager
    from pdfminer.pdfpage import PDFPage

    resources = PDFResourceManager()
    device = PDFPageAggregator(resources, laparams=None)
    interpreter = PDFPageInterpreter(resources, device)
    for each in PDFPage.get_pages(io.BytesIO(data)):
        interpreter.process_page(each)
        page = device.get_result()
        yield Page(pieces=list(_pdfminer_pieces(page)), width=page.width, height=page.height)


def _letters(found: Any) -> Iterator[Any]:
    from pdfminer.layout import LTChar, LTContainer

    for each in found:
        if isinstance(each, LTChar):
            yield each
        elif isinstance(each, LTContainer):
            yield from _letters(each)


def _pdfminer_pieces(page: Any) -> Iterator[Piece]:
    grown = _Growing()
    for each in _letters(page):
        letter = each.get_text()
        spaced = bool(grown.letters) and _SPACE * grown.size < each.x0 - grown.x1 <= _WIDE_GAP * grown.size
        if (letter.isspace() or spaced) and grown.text and grown.text[-1] != " ":
            grown.text.append(" ")
        if letter.isspace():
            continue
        box = (each.x0, page.height - each.y1, each.x1, page.height - each.y0)
        if _parted(grown, box):
            yield from grown.done()
            grown = _Growing()
        font = each.fontname.casefold()
        grown.add(letter, box, (round(each.size, 1) or 1.0, is_bold(font), is_mono(font)))
    yield from grown.done()


READERS: Mapping[Extractor, Callable[[bytes], Iterator[Page]]] = {"pdfium": pdfium_pages, "pdfminer": pdfminer_pages}
