"""Rows of table files, read by another process (`parse_table_worker.py`) that is served the file's bytes from here.

So a hostile file costs its own rows and never the run; and as the process asks for bytes when it needs them, the file
may be of any size, on a disk or in an object store, and is copied nowhere.
"""

import io
import json
from collections.abc import Generator, Iterator
from dataclasses import asdict

from ai_assets.documents.formats.kinds import TableKind
from ai_assets.documents.parse_process import Deadline, ParserProcess, ProcessDied, ProcessTimedOut
from ai_assets.documents.parse_table_worker import PLACE, READ, READ_BYTES, ROWS, TableRequest
from ai_assets.documents.parse_tables import TableFormat, TableRow
from ai_assets.documents.parse_text import Unreadable, UnreadNow, shown_bytes
from ai_assets.documents.parse_worker import ConverterReply


class TableReader:
    """Keeps one process for the next file; a file begun while another is under way has a process of its own."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_characters: int, max_row_bytes: int) -> None:
        self._timeout_s, self._memory_bytes = timeout_s, memory_bytes
        self._max_characters, self._max_row_bytes = max_characters, max_row_bytes
        self._idle: list[ParserProcess] = []

    def rows(
        self,
        kind: TableKind,
        stream: io.BufferedReader,
        table: TableFormat,
        delimiter: str | None = None,
        *,
        packed: bool = False,
    ) -> Iterator[TableRow]:
        """Every row in file order. Raises Unreadable, also after some rows, when the file cannot be read (on)."""
        size = stream.seek(0, io.SEEK_END)
        request: TableRequest = {
            "kind": kind, "table": asdict(table), "delimiter": delimiter, "size": size, "packed": packed,
        }  # fmt: skip
        worker = self._taken()
        try:
            reply = yield from self._read(worker, request, stream)
        except ProcessTimedOut:
            worker.close()
            raise UnreadNow(f"took longer than {self._timeout_s:g} s over the rows that come here") from None
        except ProcessDied as died:
            raise UnreadNow(f"could not be read on: the process that reads tables died of it ({died})") from None
        except BaseException:
            worker.close()
            raise
        if reply.get("exhausted"):
            worker.close()
            raise Unreadable(f"needed more than {shown_bytes(self._memory_bytes)} of memory")
        self._give_back(worker)
        if "reason" in reply:
            raise Unreadable(reply["reason"])

    def _read(
        self, worker: ParserProcess, request: TableRequest, stream: io.BufferedReader
    ) -> Generator[TableRow, None, ConverterReply]:
        # JSON writes a character in up to 12 bytes; beside its text a row has a title and a partition.
        largest = 24 * max(self._max_row_bytes, self._max_characters) + (8 << 20)
        deadline = Deadline(self._timeout_s)
        worker.send(json.dumps(request).encode(), deadline)
        while True:
            message = worker.receive(deadline, largest)
            kind, body = bytes(message[:1]), memoryview(message)[1:]
            if kind == READ:
                offset, count = PLACE.unpack(body)
                stream.seek(offset)
                worker.send(stream.read(min(count, READ_BYTES)), deadline)
            elif kind == ROWS:
                for cells in json.loads(bytes(body)):
                    yield TableRow(*cells)
                deadline = Deadline(self._timeout_s)
            else:
                reply: ConverterReply = json.loads(bytes(body))
                return reply

    def _taken(self) -> ParserProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            worker.close()
        limits = (self._memory_bytes, self._max_characters, self._max_row_bytes)
        return ParserProcess.start("parse_table_worker.py", limits, "pyarrow")

    def _give_back(self, worker: ParserProcess) -> None:
        if self._idle:
            worker.close()
        else:
            self._idle.append(worker)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
