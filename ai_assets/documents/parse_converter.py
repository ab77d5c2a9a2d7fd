"""Conversion in another process, so that a hostile or broken file costs a document and never the run."""

import json

from ai_assets.base.extras import need
from ai_assets.documents.parse_process import Deadline, ParserProcess, ProcessDied, ProcessTimedOut
from ai_assets.documents.parse_text import Unreadable, UnreadNow, shown_bytes
from ai_assets.documents.parse_worker import ConverterReply


class Converter:
    """Owns the worker process: started when first needed, replaced when it dies. Not for use by two threads."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_characters: int) -> None:
        self._timeout_s, self._memory_bytes, self._max_characters = timeout_s, memory_bytes, max_characters
        self._worker: ParserProcess | None = None

    def convert(self, format_name: str, data: bytes) -> tuple[str, str | None]:
        """Markdown and title; Unreadable with the reason when there is no text to have."""
        worker = self._running()
        try:
            reply = self._asked(worker, format_name.encode() + b"\n" + data)
        except BaseException:
            self.close()
            raise
        if reply.get("exhausted"):
            self.close()
            raise Unreadable(f"needed more than {shown_bytes(self._memory_bytes)} of memory")
        if "reason" in reply:
            raise Unreadable(reply["reason"])
        return reply["text"], reply["title"]

    def _asked(self, worker: ParserProcess, body: bytes) -> ConverterReply:
        deadline = Deadline(self._timeout_s)
        # JSON writes a character in up to 12 bytes, and a title may be as long as a text.
        largest = 24 * self._max_characters + (1 << 20)
        try:
            worker.send(body, deadline)
            reply: ConverterReply = json.loads(worker.receive(deadline, largest))
        except ProcessTimedOut:
            raise UnreadNow(f"took longer than {self._timeout_s:g} s") from None
        except ProcessDied as died:
            raise UnreadNow(f"could not be read: the converter died of it ({died})") from None
        return reply

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _running(self) -> ParserProcess:
        if self._worker is not None and self._worker.alive:
            return self._worker
        self.close()
        need("formats", "Reading pdf and html files")
        limits = (self._memory_bytes, self._max_characters)
        self._worker = ParserProcess.start("parse_worker.py", limits, "'markitdown[pdf,docx]'")
        return self._worker
