"""Formats that another process reads (`parse_format_worker.py`): a hostile or broken file costs a document and never
the run."""

import base64

from ai_assets.documents.formats.kinds import ReadKind
from ai_assets.documents.formats.read import Attachment, Read
from ai_assets.documents.parse_format_worker import GZ, FormatReply
from ai_assets.documents.parse_process import FileProcess


class FormatReader:
    """Of the formats of `formats/`, and of what is in a .gz file."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_characters: int, max_bytes: int) -> None:
        # JSON writes a character in up to 12 bytes, and base 64 a byte in 4/3.
        self._largest = 24 * max_characters + 2 * max_bytes + (1 << 20)
        self._process = FileProcess(
            "parse_format_worker.py", limits=(memory_bytes, max_characters, max_bytes), timeout_s=timeout_s,
            name="the process that reads such files",
            reading="Reading docx, pptx, xlsx, epub, odt, eml, xml, json, rst and gz files",
            package="'markitdown[docx]' python-pptx openpyxl defusedxml",
        )  # fmt: skip

    def read(self, kind: ReadKind, data: bytes, *, packed: bool = False) -> Read:
        """Unreadable with the reason when there is no text to have."""
        reply: FormatReply = self._process.ask(GZ + kind if packed else kind, data, largest=self._largest)
        return Read(
            text=reply["text"],
            title=reply["title"],
            attachments=[Attachment(name=name, data=base64.b64decode(body)) for name, body in reply["attachments"]],
            encoding=reply["encoding"],
            certainty=reply["certainty"],
            new=reply["new"],
        )

    def unpacked(self, data: bytes) -> bytes:
        """The bytes in a .gz file."""
        reply: FormatReply = self._process.ask(GZ, data, largest=self._largest)
        return base64.b64decode(reply["data"])

    def close(self) -> None:
        self._process.close()
