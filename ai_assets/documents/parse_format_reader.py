"""Formats that another process reads (`parse_format_worker.py`): a hostile or broken file costs a document and never
the run."""

import base64
import json

from ai_assets.base.extras import need
from ai_assets.documents.formats.kinds import ReadKind
from ai_assets.documents.formats.read import Attachment, Read
from ai_assets.documents.parse_format_worker import GZ, FormatReply
from ai_assets.documents.parse_process import Deadline, ParserProcess, ProcessDied, ProcessTimedOut
from ai_assets.documents.parse_text import Unreadable, UnreadNow, shown_bytes


class FormatReader:
    """Owns the process: started when first needed, replaced when it dies. Not for use by two threads."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_characters: int, max_bytes: int) -> None:
        self._timeout_s, self._memory_bytes = timeout_s, memory_bytes
        self._max_characters, self._max_bytes = max_characters, max_bytes
        self._worker: ParserProcess | None = None

    def read(self, kind: ReadKind, data: bytes, *, packed: bool = False) -> Read:
        """Unreadable with the reason when there is no text to have."""
        reply = self._reply(GZ + kind if packed else kind, data)
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
        return base64.b64decode(self._reply(GZ, data)["data"])

    def _reply(self, kind: str, data: bytes) -> FormatReply:
        worker = self._running()
        deadline = Deadline(self._timeout_s)
        # JSON writes a character in up to 12 bytes, and base 64 a byte in 4/3.
        largest = 24 * self._max_characters + 2 * self._max_bytes + (1 << 20)
        try:
            worker.send(kind.encode() + b"\n" + data, deadline)
            reply: FormatReply = json.loads(worker.receive(deadline, largest))
        except ProcessTimedOut:
            self.close()
            raise UnreadNow(f"took longer than {self._timeout_s:g} s") from None
        except ProcessDied as died:
            self.close()
            raise UnreadNow(f"could not be read: the process that reads such files died of it ({died})") from None
        except BaseException:
            self.close()
            raise
        if reply.get("exhausted"):
            self.close()
            raise Unreadable(f"needed more than {shown_bytes(self._memory_bytes)} of memory")
        if "reason" in reply:
            raise Unreadable(reply["reason"])
        return reply

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _running(self) -> ParserProcess:
        if self._worker is not None and self._worker.alive:
            return self._worker
        self.close()
        need("formats", "Reading docx, pptx, xlsx, epub, odt, eml, xml, json, rst and gz files")
        limits = (self._memory_bytes, self._max_characters, self._max_bytes)
        package = "'markitdown[docx]' python-pptx openpyxl defusedxml"
        self._worker = ParserProcess.start("parse_format_worker.py", limits, package)
        return self._worker
