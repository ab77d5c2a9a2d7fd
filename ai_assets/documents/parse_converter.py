"""Conversion in another process, so that a hostile or broken file costs a document and never the run."""

import base64

from ai_assets.documents.parse_process import FileProcess
from ai_assets.documents.parse_worker import Converted, ConverterReply

_LARGEST_PICTURE = 64 << 20
"""A page of A0 at the most points that are drawn."""


class Converter:
    """Of pdf and html files."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_characters: int) -> None:
        # JSON writes a character in up to 12 bytes, and a title may be as long as a text.
        self._largest = 24 * max_characters + (1 << 20)
        self._process = FileProcess(
            "parse_worker.py", limits=(memory_bytes, max_characters), timeout_s=timeout_s, name="the converter",
            reading="Reading pdf and html files", package="'markitdown[docx]' pdfminer.six pypdfium2",
        )  # fmt: skip

    def convert(self, format_name: str, data: bytes) -> Converted:
        """Markdown, title and pages; Unreadable with the reason when there is no text to have."""
        reply: ConverterReply = self._process.ask(format_name, data, largest=self._largest)
        return Converted(
            text=reply["text"],
            title=reply["title"],
            pages=tuple(reply["pages"]),
            read_by=reply["read_by"],
            scanned=tuple(reply["scanned"]),
        )

    def picture(self, page: int) -> bytes:
        """A page of the PDF that was converted last, drawn."""
        reply: ConverterReply = self._process.ask_again("page", str(page).encode(), largest=_LARGEST_PICTURE)
        return base64.b64decode(reply["picture"])

    def close(self) -> None:
        self._process.close()
