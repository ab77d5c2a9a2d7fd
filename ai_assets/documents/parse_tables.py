"""Rows of csv, jsonl and parquet files as documents: streamed, and each row judged by itself."""

import codecs
import csv
import datetime
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai_assets.base.plural import plural
from ai_assets.documents.formats.kinds import TableKind
from ai_assets.documents.parse_encodings import EncodingGuess, guessed, is_utf8
from ai_assets.documents.parse_text import Unreadable, normalise, shown_bytes
from ai_assets.storage.digest import Json, canonical_json, digest, sha256_hex

if TYPE_CHECKING:
    import pyarrow as pa

_KEY_CHARACTERS = 500
"""Longer ones are texts, from a key column declared by mistake, and would end up in every identifier."""
MAX_COLUMNS = 2_000
_NAMED_COLUMNS = 30
_NAME_CHARACTERS = 60
"""Of a column, where it is named in a reason."""
UNNAMED = "column {}"
"""Names a column of a file without a header, from 1."""
_VALUE = re.compile(r"[-+]?[$€£]?\d[\d.,' ]*%?|\d{4}-\d\d?-\d\d?(?:[T ][\d:.+Z-]+)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_YEAR = re.compile(r"(?:19|20)\d\d")
_HEAD_BYTES = 1 << 18
"""By which the encoding of a file is told."""
_PEEK_ROWS = 100
_PEEK_BYTES = 1 << 20
_PARQUET_BATCH_ROWS = 16
"""Dictionary pages let a file of 1 MB hold rows of 10 MB each: 1,024 at a time would take 10 GB, 16 take 0.3. It costs
10 microseconds a row, a tenth of what the rest of parsing does."""

Record = Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """Which columns of a table file mean what."""

    key: str | None
    """Names the row; without it a row is named by its content."""
    text: tuple[str, ...]
    """Joined by blank lines; empty: every text column but key and partition, as 'column: value' lines."""
    title: str | None
    partition: str | None

    @property
    def columns(self) -> list[str]:
        named = [self.key, *self.text, self.title, self.partition]
        return [column for column in named if column is not None]


@dataclass(frozen=True, slots=True)
class TableRow:
    digest: str
    key: str
    partition: str | None = None
    title: str | None = None
    text: str = ""
    reason: str | None = None
    """Why this row cannot be used."""
    encoding: str | None = None
    """Of the file, where it was guessed."""
    certainty: float | None = None
    new: bool = False
    """Whether the first version of the parser would have made another row."""


@dataclass(frozen=True, slots=True)
class _Bad:
    """A row that is no record."""

    digest: str
    reason: str


class _BadLine(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Oversized:
    size: int
    digest: str


def read_rows(
    kind: TableKind, stream: io.BufferedReader, table: TableFormat, max_row_bytes: int, delimiter: str | None = None
) -> Iterator[TableRow]:
    """Every row in file order. Raises Unreadable, also after some rows, when the file itself cannot be read (on)."""
    guess: EncodingGuess | None = None
    if kind != "parquet":
        stream, guess = _utf8(stream)
    match kind:
        case "csv":
            records = _csv_records(stream, table, max_row_bytes, delimiter)
        case "jsonl":
            records = _jsonl_records(stream, table, max_row_bytes)
        case "parquet":
            records = _parquet_records(stream, table, max_row_bytes)
    for record in records:
        if isinstance(record, _Bad):
            yield TableRow(digest=record.digest, key=record.digest[:16], reason=record.reason)
        else:
            yield _row(record, table, guess, new=guess is not None or next(iter(record), None) == UNNAMED.format(1))


def _row(record: Record, table: TableFormat, guess: EncodingGuess | None, *, new: bool) -> TableRow:
    row_digest = digest(record)
    key = " ".join(normalise(_shown(record.get(table.key)) or "").split()) if table.key else ""
    reason = None
    if len(key) > _KEY_CHARACTERS:
        reason = (
            f"its key has {plural(len(key), 'character')}; the limit is {_KEY_CHARACTERS}. "
            f"Is '{table.key}' the key column?"
        )
        key = ""
    return TableRow(
        digest=row_digest,
        key=key or row_digest[:16],
        partition=_shown(record.get(table.partition)) if table.partition else None,
        title=_shown(record.get(table.title)) if table.title else None,
        text=_text(record, table),
        reason=reason,
        encoding=guess.encoding if guess else None,
        certainty=guess.certainty if guess else None,
        new=new,
    )


def _text(record: Record, table: TableFormat) -> str:
    if table.text:
        values = [_shown(record.get(column)) for column in table.text]
        return "\n\n".join(value for value in values if value)
    unsaid = (table.key, table.partition)
    columns = [(name, value) for name, value in record.items() if isinstance(value, str) and name not in unsaid]
    return "\n".join(f"{name}: {value}" for name, value in columns if value.strip())


def _shown(value: Json) -> str | None:
    """A cell as text; None stays unknown."""
    if value is None or isinstance(value, str):
        return value
    return canonical_json(value)


def _check_columns(columns: Sequence[str], table: TableFormat) -> None:
    known: set[str] = set()
    for name in columns:
        if name in known:
            raise Unreadable(f"two columns are named '{_cut(name)}'")
        known.add(name)
    missing = [name for name in table.columns if name not in known]
    if missing:
        first = ", ".join(map(_cut, columns[:_NAMED_COLUMNS]))
        more = len(columns) - _NAMED_COLUMNS
        found = first + (f" and {more:,} more" if more > 0 else "")
        raise Unreadable(f"no column '{missing[0]}'; the columns are: {found}")


def _check_width(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise Unreadable(_too_wide(columns))


def _too_wide(count: int) -> str:
    return f"{plural(count, 'column')}; the limit is {MAX_COLUMNS:,}"


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}…"


# Lines


def _utf8(stream: io.BufferedReader) -> tuple[io.BufferedReader, EncodingGuess | None]:
    """The stream as UTF-8 without a byte order mark; the encoding, where its beginning is in another and says none."""
    head = stream.read(_HEAD_BYTES)
    stream.seek(3 if head.startswith(codecs.BOM_UTF8) else 0)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return io.BufferedReader(_Transcoded(stream, "utf-16")), None
    whole = len(head) < _HEAD_BYTES
    guess = None if head.startswith(codecs.BOM_UTF8) or is_utf8(head, whole=whole) else guessed(head)
    if guess is None:
        return stream, None  # a row that is damaged is found when it is read
    return io.BufferedReader(_Transcoded(stream, guess.encoding)), guess


class _Transcoded(io.RawIOBase):
    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        self._stream, self._ready, self._name = stream, b"", encoding.upper()
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        while not self._ready:
            block = self._stream.read(1 << 16)
            try:
                self._ready = self._decoder.decode(block, final=not block).encode()
            except UnicodeDecodeError as error:
                raise Unreadable(f"not valid {self._name} shortly before byte {self._stream.tell()}") from error
            if not block:
                break
        taken = self._ready[: len(buffer)]
        buffer[: len(taken)] = taken
        self._ready = self._ready[len(taken) :]
        return len(taken)


def _lines(stream: io.BufferedReader, max_bytes: int) -> Iterator[tuple[int, bytes | _Oversized]]:
    """Numbered lines; one that is too long is hashed as it passes, never held."""
    number = 0
    while line := stream.readline(max_bytes + 1):
        number += 1
        yield number, line if len(line) <= max_bytes else _pass_over(stream, line)


def _pass_over(stream: io.BufferedReader, start: bytes) -> _Oversized:
    content, size = hashlib.sha256(start), len(start)
    ended = start.endswith(b"\n")
    while not ended and (block := stream.readline(1 << 20)):
        content.update(block)
        size += len(block)
        ended = block.endswith(b"\n")
    return _Oversized(size, content.hexdigest())


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Unreadable(f"not valid UTF-8 at its byte {error.start}") from error


def _too_long(size: int, max_bytes: int) -> str:
    return f"{shown_bytes(size)} long; the limit is {shown_bytes(max_bytes)}"


# JSON lines


def _jsonl_records(stream: io.BufferedReader, table: TableFormat, max_bytes: int) -> Iterator[Record | _Bad]:
    """A column that none of the first rows has is missing; one that a later row lacks is empty there."""
    lines = (
        (number, line) for number, line in _lines(stream, max_bytes) if isinstance(line, _Oversized) or line.strip()
    )
    first: list[Record | _Bad] = []
    columns: dict[str, None] = {}
    peeked = 0
    for number, line in itertools.islice(lines, _PEEK_ROWS):
        record = _json_record(number, line, max_bytes)
        first.append(record)
        if not isinstance(record, _Bad):
            columns.update(dict.fromkeys(record))
        peeked += len(line) if isinstance(line, bytes) else 0
        if peeked > _PEEK_BYTES or (columns and all(name in columns for name in table.columns)):
            break
    if columns:
        _check_columns(list(columns), table)
    yield from first
    for number, line in lines:
        yield _json_record(number, line, max_bytes)


def _json_record(number: int, line: bytes | _Oversized, max_bytes: int) -> Record | _Bad:
    if isinstance(line, _Oversized):
        return _Bad(line.digest, f"line {number}: {_too_long(line.size, max_bytes)}")
    try:
        # Python writes NaN, which JSON has not: it means that the value is missing.
        record: object = json.loads(_decoded(line), parse_constant=lambda _: None)
        if isinstance(record, dict) and len(record) <= MAX_COLUMNS:
            canonical_json(record)
            return record
        if isinstance(record, dict):
            return _Bad(sha256_hex(line), f"line {number}: {_too_wide(len(record))}")
        problem = f"a {type(record).__name__}, not an object with columns"
    except Unreadable as error:
        problem = str(error)
    except RecursionError:
        problem = "nested too deeply"
    except ValueError as error:
        problem = f"not valid JSON: {error}"
    return _Bad(sha256_hex(line), f"line {number}: {problem}")


# CSV


class _CsvLines:
    """The lines of one record at a time, bounded however many lines a quoted field spans."""

    def __init__(self, stream: io.BufferedReader, max_bytes: int) -> None:
        self._lines = _lines(stream, max_bytes)
        self._max_bytes = max_bytes
        self._raw: list[bytes] = []
        self._size = 0
        self._oversized: str | None = None
        self._first = self._last = 0

    def begin(self) -> None:
        self._raw.clear()
        self._size, self._first, self._oversized = 0, self._last + 1, None

    def bad(self, problem: str) -> _Bad:
        where = f"line {self._first}" if self._first >= self._last else f"lines {self._first} to {self._last}"
        return _Bad(self._oversized or sha256_hex(b"".join(self._raw)), f"{where}: {problem}")

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._last, line = next(self._lines)
        if isinstance(line, _Oversized):
            self._oversized = line.digest
            raise _BadLine(_too_long(line.size, self._max_bytes))
        self._raw.append(line)
        self._size += len(line)
        if self._size > self._max_bytes:
            raise _BadLine(f"more than {shown_bytes(self._max_bytes)} between two quotes; one is never closed")
        try:
            return _decoded(line)
        except Unreadable as error:
            raise _BadLine(str(error)) from error


def _csv_records(
    stream: io.BufferedReader, table: TableFormat, max_bytes: int, delimiter: str | None
) -> Iterator[Record | _Bad]:
    # The module's own limit is one for the whole process and 128 KiB; ours, below, is per reader.
    csv.field_size_limit(max(csv.field_size_limit(), max_bytes))
    lines = _CsvLines(stream, max_bytes)
    lines.begin()
    try:
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            return
        reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter or _delimiter(first), strict=True)
        columns = [normalise(name) for name in next(reader)]
    except (_BadLine, csv.Error) as error:
        raise Unreadable(f"its header cannot be read: {error}") from error
    _check_width(len(columns))
    rows = _csv_rows(reader, lines, len(columns))
    ahead: list[list[str] | _Bad] = []
    peeked = 0
    while len(ahead) < _PEEK_ROWS and peeked < _PEEK_BYTES:
        if (row := next(rows, None)) is None:
            break
        ahead.append(row)
        peeked += sum(map(len, row)) if isinstance(row, list) else 0
    if not is_header(columns, [row for row in ahead if isinstance(row, list)]):
        if table.columns:
            found = ", ".join(map(_cut, columns[:5]))
            raise Unreadable(f"no column '{table.columns[0]}': its first line is data and not a header ({found})")
        ahead.insert(0, columns)
        columns = [UNNAMED.format(number) for number in range(1, len(columns) + 1)]
    _check_columns(columns, table)
    for row in itertools.chain(ahead, rows):
        yield row if isinstance(row, _Bad) else dict(zip(columns, row, strict=True))


def _csv_rows(reader: Iterator[list[str]], lines: _CsvLines, width: int) -> Iterator[list[str] | _Bad]:
    while True:
        lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (_BadLine, csv.Error) as error:
            yield lines.bad(str(error))
            continue
        if len(fields) == width:
            yield fields
        elif fields:
            yield lines.bad(f"{plural(len(fields), 'field')}, but the header has {width}")


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first line names columns: it does not where a number or a date stands in it as in the lines below."""
    values = [cell for cell in first if _VALUE.fullmatch(cell.strip())]
    if not values or not rows or all(_YEAR.fullmatch(cell.strip()) for cell in values):
        return True  # years are names of columns as often as not
    for at, cell in enumerate(first):
        below = [row[at] for row in rows if row[at].strip()]
        alike = sum(1 for other in below if _VALUE.fullmatch(other.strip()))
        if _VALUE.fullmatch(cell.strip()) and below and alike >= 0.8 * len(below):
            return False
    return True


def _delimiter(header: str) -> str:
    """Spreadsheets of half the world write ';'."""
    unquoted = "".join(header.split('"')[::2])
    return max((",", ";", "\t"), key=unquoted.count)


# Parquet


def _parquet_records(stream: io.BufferedReader, table: TableFormat, max_bytes: int) -> Iterator[Record | _Bad]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Without `pre_buffer=False` all of a row group would be read at once, whatever `buffer_size` says.
        file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
        _check_width(file.metadata.num_columns)  # with those inside of others
        _check_columns(list(file.schema_arrow.names), table)
        # Group by group: a batch over the border would lose sound rows to damage in the next group.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, row_groups=[group]):
                columns = [_cells(column) for column in batch.columns]
                for cells in zip(*columns, strict=True):
                    yield _parquet_record(batch.schema.names, cells, max_bytes)
    except (Unreadable, MemoryError):
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"not a Parquet file that can be read: {said}") from error


def _cells(column: "pa.Array") -> list[Json | Unreadable]:
    """The values of a column; one that Python has no value for (the year 300,000) spoils only itself."""
    import pyarrow as pa

    cells: list[Json | Unreadable] = []
    try:
        return [_json(value) for value in column.to_pylist()]
    except (ValueError, OverflowError, pa.ArrowException):
        for scalar in column:
            try:
                cells.append(_json(scalar.as_py()))
            except (ValueError, OverflowError, pa.ArrowException) as error:
                cells.append(Unreadable(str(error)))
        return cells


def _parquet_record(names: Sequence[str], cells: Sequence[Json | Unreadable], max_bytes: int) -> Record | _Bad:
    record = {name: cell for name, cell in zip(names, cells, strict=True) if not isinstance(cell, Unreadable)}
    for name, cell in zip(names, cells, strict=True):
        if isinstance(cell, Unreadable):
            return _Bad(digest(record), f"its column '{_cut(name)}' cannot be read: {cell}")
    size = sum(len(cell) for cell in record.values() if isinstance(cell, str))
    if size > max_bytes:
        return _Bad(digest(record), f"its row is {shown_bytes(size)} long; the limit is {shown_bytes(max_bytes)}")
    return record


def _json(value: object) -> Json:
    """Arrow's values as JSON: times in ISO 8601, NaN is missing, bytes by their digest."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return {"sha256": sha256_hex(value)}
        case list() | tuple():
            return [_json(item) for item in value]
        case dict():
            return {str(key): _json(item) for key, item in value.items()}
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return str(value)
