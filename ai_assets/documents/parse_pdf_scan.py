"""Pages of a PDF that show something and say nothing, and their pictures for a program that reads pictures."""

from collections.abc import Sequence

_FEWEST_LETTERS = 20
"""A scan may have a stamp or a page number as text."""
_FEWEST_PATHS = 50
"""Letters that were drawn as outlines; a frame and some rules are fewer."""
_DPI = 300
_MOST_POINTS = 40_000_000
"""Of a picture: A3 has 17 million, and tesseract takes some 20 bytes for each."""


def scanned_pages(data: bytes, text: str, pages: Sequence[int]) -> list[int]:
    """Counted from 0; none where PDFium does not open the file."""
    from pypdfium2 import PdfDocument, PdfiumError

    ends = [*pages[1:], len(text)]
    silent = [
        n for n, (start, end) in enumerate(zip(pages, ends, strict=True)) if _letters(text[start:end]) < _FEWEST_LETTERS
    ]
    if not silent:
        return []
    try:
        document = PdfDocument(data)
        found = [number for number in silent if number < len(document) and _shows(document[number])]
    except PdfiumError:
        return []
    document.close()
    return found


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


def _shows(page: object) -> bool:
    import pypdfium2.raw as raw

    kinds = [each.type for each in page.get_objects(max_depth=3)]  # type: ignore[attr-defined]
    return raw.FPDF_PAGEOBJ_IMAGE in kinds or kinds.count(raw.FPDF_PAGEOBJ_PATH) >= _FEWEST_PATHS


def picture_of(data: bytes, number: int) -> bytes:
    """The page in grey, as a PGM file."""
    from pypdfium2 import PdfDocument

    document = PdfDocument(data)
    page = document[number]
    width, height = page.get_size()
    scale = min(_DPI / 72, (_MOST_POINTS / max(width * height, 1.0)) ** 0.5)
    drawn = page.render(scale=scale, grayscale=True)
    rows = bytes(drawn.buffer)
    packed = b"".join(rows[at * drawn.stride : at * drawn.stride + drawn.width] for at in range(drawn.height))
    found = b"P5 %d %d 255\n" % (drawn.width, drawn.height) + packed
    document.close()
    return found
