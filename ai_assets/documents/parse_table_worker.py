"""The process that reads csv, jsonl and parquet files, one after another, for `parse_table_reader.py`.

It has the limits of `parse_worker.py`, and of ours it imports only what parses: nothing with a state, a setting or a
key. Run by its path.

Protocol: each message is its length (8 bytes) and a body. In: a `TableRequest`. Then out: a letter and what it says:
R, offset and count: send me these bytes (a message; fewer at the end of the file). B: rows, as JSON lists of the
fields of `TableRow`. E: the end, a `ConverterReply`.
"""

import gzip
import io
import json
import operator
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, BinaryIO, TypedDict

from ai_assets.base.plural import plural
from ai_assets.documents.formats.kinds import TableKind
from ai_assets.documents.formats.read import ZIP_RATIO, ZIP_SMALL_BYTES
from ai_assets.documents.parse_tables import TableFormat, TableRow, read_rows
from ai_assets.documents.parse_text import LONGEST_TITLE, Unreadable, too_many_characters
from ai_assets.documents.parse_worker import (
    LENGTH,
    ConverterReply,
    FileRefused,
    channel,
    confine,
    die_with,
    reason_of,
    receive,
)

READ, ROWS, END = b"R", b"B", b"E"
PLACE = struct.Struct("<QQ")
READ_BYTES = 2 << 20
_BATCH_BYTES = 1 << 19
_BATCH_ROWS = 1_000
_BATCH_S = 1.0
"""Slow rows are sent one by one in time, so that a deadline for a batch is one for a row."""


class TableRequest(TypedDict):
    kind: TableKind
    table: dict[str, Any]
    """The fields of a `TableFormat`."""
    delimiter: str | None
    size: int
    packed: bool
    """In a .gz file."""


def main() -> None:
    parent, memory_bytes, max_characters, max_row_bytes = map(int, sys.argv[1:])
    die_with(parent)
    requests, replies = channel()
    try:
        import pyarrow.parquet  # noqa: F401 - before the limit: the library itself claims address space
    except ImportError as error:
        _send(replies, json.dumps({"reason": str(error)}).encode())
        return
    confine(memory_bytes)
    _send(replies, b"{}")
    while (message := receive(requests)) is not None:
        request: TableRequest = json.loads(message)
        stream: io.BufferedReader = io.BufferedReader(_Served(requests, replies, request["size"]), READ_BYTES)
        if request["packed"]:
            stream = io.BufferedReader(_Unpacked(stream, request["size"]), READ_BYTES)
        reply = _read(request, stream, replies, max_characters, max_row_bytes)
        _send(replies, END + json.dumps(reply).encode())
        if reply.get("exhausted"):
            return


def _read(
    request: TableRequest, stream: io.BufferedReader, replies: BinaryIO, max_characters: int, max_row_bytes: int
) -> ConverterReply:
    table = TableFormat(**{**request["table"], "text": tuple(request["table"]["text"])})
    try:
        rows = read_rows(request["kind"], stream, table, max_row_bytes, request["delimiter"])
        for batch in _batches(_bounded(row, max_characters) for row in rows):
            _send(replies, ROWS + json.dumps(batch).encode())  # ASCII, so that a lone surrogate passes
    except (FileRefused, Unreadable) as refused:
        return {"reason": str(refused)}
    except MemoryError:
        return {"exhausted": True}
    # The one boundary around the third-party readers: what they raise at a broken file is anybody's guess.
    except Exception as error:  # noqa: BLE001
        return {"reason": reason_of(error)}
    return {}


def _bounded(row: TableRow, max_characters: int) -> TableRow:
    """No more of a row than a document can have."""
    if row.title is not None and len(row.title) > LONGEST_TITLE:
        row = replace(row, title=row.title[:LONGEST_TITLE])
    if len(row.text) > max_characters:
        problem = row.reason or too_many_characters(len(row.text), max_characters)
        return replace(row, text="", reason=problem)
    return row


_cells = operator.attrgetter(*(field.name for field in fields(TableRow)))


def _batches(rows: Iterator[TableRow]) -> Iterator[list[tuple[Any, ...]]]:
    """What was read before trouble is handed out before the trouble is."""
    batch: list[tuple[Any, ...]] = []
    size, began = 0, time.monotonic()
    try:
        for row in rows:
            batch.append(_cells(row))
            size += len(row.text)
            if size > _BATCH_BYTES or len(batch) >= _BATCH_ROWS or time.monotonic() - began > _BATCH_S:
                yield batch
                batch, size, began = [], 0, time.monotonic()
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


class _Served(io.RawIOBase):
    """The file, whose bytes the parent has."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO, size: int) -> None:
        self._requests, self._replies, self._size = requests, replies, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        _send(self._replies, READ + PLACE.pack(self._position, min(len(buffer), READ_BYTES)))
        data = receive(self._requests)
        if data is None:
            raise EOFError("the parent is gone")
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Unpacked(io.RawIOBase):
    """What is in a .gz file, as far as it is no bomb. Going back begins again."""

    def __init__(self, stream: io.BufferedReader, size: int) -> None:
        self._gzip, self._size = gzip.GzipFile(fileobj=stream), size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._gzip.seek(offset, whence)

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        data = self._gzip.read(len(buffer))
        at = self._gzip.tell()
        if at > ZIP_SMALL_BYTES and at > ZIP_RATIO * self._size:
            raise FileRefused(f"it unpacks to more than {ZIP_RATIO} times its {plural(self._size, 'byte')}")
        buffer[: len(data)] = data
        return len(data)


def _send(replies: BinaryIO, body: bytes) -> None:
    replies.write(LENGTH.pack(len(body)))
    replies.write(body)
    replies.flush()


if __name__ == "__main__":
    main()
