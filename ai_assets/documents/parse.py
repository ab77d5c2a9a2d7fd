"""Files to documents: every file and every row becomes at least one `ParsedDocument`, with its text or the reason
it has none.

The shape only; `parse_text.py` knows text, `parse_converter.py` pdf and html, `parse_format_reader.py` the formats of
`formats/`, `parse_table_reader.py` rows. What has a format that can be abused is read in another process.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import splitext
from pathlib import PurePosixPath
from types import TracebackType
from typing import Literal, Self, cast

from ai_assets.base.plural import plural
from ai_assets.documents.formats.kinds import ENDINGS, MODULES, PACKED, FileKind, Format, ReadKind, TableKind, kind_of
from ai_assets.documents.formats.read import Attachment, Read
from ai_assets.documents.languages import language_of
from ai_assets.documents.parse_converter import Converter
from ai_assets.documents.parse_encodings import EncodingGuess, declared_in_html, decoded
from ai_assets.documents.parse_format_reader import FormatReader
from ai_assets.documents.parse_ocr import Ocr, OcrLimits
from ai_assets.documents.parse_table_reader import TableReader
from ai_assets.documents.parse_tables import TableFormat, TableRow
from ai_assets.documents.parse_text import (
    Unreadable,
    UnreadNow,
    normalise,
    refuse_binary,
    refuse_piled_marks,
    shortened,
    shown_bytes,
    too_many_characters,
)
from ai_assets.documents.parse_titles import first_line, title_of
from ai_assets.documents.source import Source, SourceFile
from ai_assets.storage.digest import sha256_hex

__all__ = ["PARSER_VERSION", "Format", "ParseLimits", "ParsedDocument", "Parser", "TableFormat", "format_of"]

PARSER_VERSION = "2"
"""Raise it when an unchanged file would give another text, title or language; an upgraded converter counts.

2: guesses encodings; reads more formats; docx with headers, footers, comments; titles of wrapped texts;
PDFs by their layout.
"""
PLAIN_SINCE = "1"
"""Of a document that version 2 reads as version 1 did."""

MAX_CHARACTERS = 5_000_000
"""Of a document's text, unless the collection declares another limit: some 2,500 pages."""
MOST_CHARACTERS = 50_000_000
"""Such a text passes between processes whole, and takes a gigabyte on the way."""

_FIRST_ENDINGS = frozenset(".txt .text .md .markdown .html .htm .pdf .docx .csv .tsv .jsonl .ndjson .parquet".split())
"""That the first version of the parser read."""
_UNDECLARED = TableFormat(key=None, text=(), title=None, partition=None)
_MOST_ATTACHMENTS = 200
_DEEPEST = 3
"""Messages within messages."""


def format_of(path: str) -> Format | None:
    """What its name says it is, in a .gz file what is in it."""
    kind = kind_of(path)
    return kind.format if kind else None


@dataclass(frozen=True, kw_only=True)
class ParseLimits:
    """What one document may cost; beyond it is quarantined."""

    max_bytes: int = 50_000_000
    """Of a file that is read whole; table files are streamed and may be of any size."""
    max_characters: int = MAX_CHARACTERS
    max_line_bytes: int = 10_000_000
    """Of one row of a table."""
    timeout_s: float = 60.0
    """For a file that is converted; in a table for the next rows."""
    ocr: OcrLimits | None = None
    """How scanned pages are read; without it they are not."""
    memory_bytes: int = 2 << 30
    """Of each process that reads files, on top of what it takes at rest: 170 MB to convert, 90 MB for tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDocument:
    document_id: str
    """The path, or path#key for a row."""
    path: str
    row_key: str | None
    row_partition: str | None
    """The value of the partition column, as text."""
    status: Literal["ok", "quarantined"]
    reason: str | None
    source_digest: str
    """SHA-256 of the file's bytes, of a row's canonical JSON, or of size and time of a file that was not read."""
    digest: str | None
    """SHA-256 of the text; None without one."""
    title: str | None
    text: str
    language: str | None
    characters: int
    encoding: str | None = None
    """Of the file or row, where it is a guess."""
    certainty: float | None = None
    """Of that guess, 0 to 1."""
    same_as: str | None = None
    """The key of an earlier row with the same content: it lies in the partition of that one, as its duplicate."""
    pages: tuple[int, ...] = ()
    """Where in the text the pages begin; empty where the format has none."""
    read_by: str | None = None
    """Which of several libraries for the format read it."""
    since: str = PLAIN_SINCE
    """The oldest version of the parser that makes this very document."""


RowFilter = Callable[[str, str | None], bool]


class Parser:
    """A context manager; owns the processes that convert and read tables, each started for the first file it is for."""

    def __init__(self, limits: ParseLimits | None = None, *, tells_language: bool = True) -> None:
        """Without `tells_language` no document says its language: it takes as long as all else."""
        self._tells_language = tells_language
        self._limits = limits or ParseLimits()
        self._converter = Converter(
            timeout_s=self._limits.timeout_s,
            memory_bytes=self._limits.memory_bytes,
            max_characters=self._limits.max_characters,
        )
        self._formats = FormatReader(
            timeout_s=self._limits.timeout_s,
            memory_bytes=self._limits.memory_bytes,
            max_characters=self._limits.max_characters,
            max_bytes=self._limits.max_bytes,
        )
        self.ocr = Ocr(limits=self._limits.ocr) if self._limits.ocr else None
        self.passing: dict[str, str] = {}
        """By document, why its last reading failed, where another may succeed: an I/O error, a converter that died."""
        self._tables = TableReader(
            timeout_s=self._limits.timeout_s,
            memory_bytes=self._limits.memory_bytes,
            max_characters=self._limits.max_characters,
            max_row_bytes=self._limits.max_line_bytes,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._converter.close()
        self._formats.close()
        self._tables.close()

    def parse(
        self,
        source: Source,
        file: SourceFile,
        tables: Mapping[Format, TableFormat],
        rows: RowFilter | None = None,
    ) -> Iterator[ParsedDocument]:
        """The documents of a file. Only a table all of whose rows `rows` (of key and partition value) refuses has none.

        A key that comes again is quarantined as key~2; which of the two is first depends on their order in the file.
        """
        kind = kind_of(file.path)
        self.passing.pop(file.path, None)
        try:
            if file.problem is not None:
                raise Unreadable(file.problem)
            if kind is None:
                known = ", ".join(sorted(ENDINGS))
                raise Unreadable(f"'{PurePosixPath(file.path).suffix}' is not supported; these are: {known}")
            if kind.format in ("csv", "jsonl", "parquet"):
                yield from self._rows(source, file, kind, tables.get(kind.format, _UNDECLARED), rows)
            else:
                yield from self._whole(file, self._read(source, file), kind, splitext(file.path)[1].lower())
        except Unreadable as reason:
            if isinstance(reason, UnreadNow):
                self.passing[file.path] = str(reason)
            yield _quarantined(file, str(reason))
        except OSError as error:
            self.passing[file.path] = found = f"could not be read: {error.strerror or error}"
            yield _quarantined(file, found)

    def _whole(
        self, file: SourceFile, data: bytes, kind: FileKind, ending: str, *, key: str | None = None, depth: int = 0
    ) -> Iterator[ParsedDocument]:
        """The document of a file that is read whole, or of an attachment, and those of its own attachments."""
        content = sha256_hex(data)
        try:
            found = self._contents(data, kind) if data else Read(text="", new=False)
            text = self._checked(found.text)
        except Unreadable as reason:
            if isinstance(reason, UnreadNow):
                self.passing[file.path] = str(reason)
            without_text = kind.format == "pdf" and data and str(reason) == _EMPTY
            said = self._without_text if without_text else str(reason)
            yield _quarantined(file, said, content=content, key=key)
            return
        title, of_now = _titled(found.title, text, markdown=kind.format != "txt")
        new = found.new or of_now or kind.packed or key is not None or ending not in _FIRST_ENDINGS
        document = self._document(file, content, text, title, key=key, encoding=found, new=new)
        same = text == found.text  # else the pages begin elsewhere
        yield replace(document, pages=tuple(found.pages) if same else (), read_by=found.read_by)
        yield from self._attached(file, found.attachments, key, depth)

    @property
    def _without_text(self) -> str:
        return f"no text in the PDF (scanned?){'' if self.ocr else '; source.ocr reads it'}"

    def _contents(self, data: bytes, kind: FileKind) -> Read:
        if kind.format in MODULES:
            return self._formats.read(cast(ReadKind, kind.format), data, packed=kind.packed)
        if kind.packed:
            data = self._formats.unpacked(data)
        if kind.format == "pdf":
            paged = self._converter.convert("pdf", data)
            if self.ocr is not None:
                paged = self.ocr.completed(paged, self._converter.picture)
            return Read(text=paged.text, title=paged.title, pages=paged.pages, read_by=paged.read_by)
        read = decoded(data, declared_in_html(data) if kind.format == "html" else None)
        title = None
        if kind.format == "html":
            page = self._converter.convert("html", read.text.encode())
            text, title = page.text, page.title
        else:
            text = read.text
            refuse_binary(text)
        return Read(text=text, title=title, encoding=read.encoding, certainty=read.certainty, new=False)

    def _attached(
        self, file: SourceFile, attachments: Sequence[Attachment], key: str | None, depth: int
    ) -> Iterator[ParsedDocument]:
        """Each a document by the name that it has in the message (ADR 58); the same file twice is one."""
        named: dict[str, set[str]] = {}
        for each in attachments:
            named.setdefault(each.name, set()).add(sha256_hex(each.data))
        done: set[str] = set()
        for each in attachments:
            content = sha256_hex(each.data)
            name = each.name if len(named[each.name]) == 1 else f"{each.name}~{content[:8]}"
            own = name if key is None else f"{key}#{name}"
            if own in done:
                continue
            done.add(own)
            kind = kind_of(each.name)
            if kind is not None and kind.format in ("csv", "jsonl") and not kind.packed:
                kind = FileKind("txt")  # a table in a message is one document
            problem = None
            if len(done) > _MOST_ATTACHMENTS:
                problem = f"the message has more than {_MOST_ATTACHMENTS} attachments"
            elif kind is None or kind.format in ("csv", "jsonl", "parquet"):
                problem = f"an attachment of the kind '{PurePosixPath(each.name).suffix}' is not read"
            elif depth >= _DEEPEST:
                problem = f"it lies {plural(depth, 'message')} deep"
            if problem is not None or kind is None:
                yield _quarantined(file, problem or "", content=content, key=own)
            else:
                yield from self._whole(file, each.data, kind, "", key=own, depth=depth + 1)

    def _read(self, source: Source, file: SourceFile) -> bytes:
        limit = self._limits.max_bytes
        size = file.size
        if size <= limit:
            with source.open(file.path) as stream:
                data = stream.read(size + 1)
                if len(data) > size:  # it has grown since it was listed
                    data += stream.read(limit + 1 - len(data))
            if len(data) <= limit:
                return data
            size = len(data)
        raise Unreadable(f"the file has {shown_bytes(size)}; the limit is {shown_bytes(limit)}")

    def _rows(
        self,
        source: Source,
        file: SourceFile,
        kind: FileKind,
        table: TableFormat,
        wanted: RowFilter | None,
    ) -> Iterator[ParsedDocument]:
        seen: dict[str, bytes] = {}
        times: dict[str, int] = {}
        delimiter = "\t" if file.path.lower().removesuffix(PACKED).endswith(".tsv") else None
        with source.open(file.path) as stream:
            rows = self._tables.rows(cast(TableKind, kind.format), stream, table, delimiter, packed=kind.packed)
            for row in rows:
                key, content = row.key, bytes.fromhex(row.digest[:16])
                same = seen.get(key) == content
                while key in seen:
                    times[row.key] = times.get(row.key, 1) + 1
                    key = f"{row.key}~{times[row.key]}"
                seen[key] = content
                if wanted is None or wanted(row.key, row.partition):
                    yield self._row(file, row, key, same=same, packed=kind.packed)
        if not seen:
            raise Unreadable("no rows")

    def _row(self, file: SourceFile, row: TableRow, key: str, *, same: bool, packed: bool) -> ParsedDocument:
        try:
            if row.reason is not None:
                raise Unreadable(row.reason)
            if key != row.key and not same:
                raise Unreadable(f"another row before it has the key '{row.key}'")
            text = self._checked(row.text)
        except Unreadable as reason:
            return _quarantined(file, str(reason), content=row.digest, key=key, partition=row.partition)
        title, of_now = _titled(row.title, text, markdown=False)
        guess = EncodingGuess(encoding=row.encoding, certainty=row.certainty or 0.0) if row.encoding else None
        new = row.new or packed or key != row.key or of_now
        found = self._document(file, row.digest, text, title, key=key, partition=row.partition, encoding=guess, new=new)
        return replace(found, same_as=row.key) if key != row.key else found

    def _checked(self, text: str) -> str:
        limit = self._limits.max_characters
        if len(text) > limit:
            raise Unreadable(too_many_characters(len(text), limit))
        refuse_piled_marks(text)
        text = normalise(text)
        if not text:
            raise Unreadable(_EMPTY)
        return text

    def _document(
        self,
        file: SourceFile,
        content: str,
        text: str,
        title: str | None,
        *,
        key: str | None = None,
        partition: str | None = None,
        encoding: EncodingGuess | Read | None = None,
        new: bool = False,
    ) -> ParsedDocument:
        return ParsedDocument(
            document_id=_id(file, key),
            path=file.path,
            row_key=key,
            row_partition=partition,
            status="ok",
            reason=None,
            source_digest=content,
            digest=sha256_hex(text.encode()),
            title=title,
            text=text,
            language=language_of(text) if self._tells_language else None,
            characters=len(text),
            encoding=encoding.encoding if encoding else None,
            certainty=encoding.certainty if encoding else None,
            since=PARSER_VERSION if new or (encoding and encoding.encoding) else PLAIN_SINCE,
        )


_EMPTY = "empty"


def _titled(given: str | None, text: str, *, markdown: bool) -> tuple[str | None, bool]:
    """The title that the file gives or the text has; and whether the first version of the parser had another one."""
    if title := shortened(given or ""):
        return title, False
    title = title_of(text, markdown=markdown)
    return title, title != first_line(text, markdown=markdown)


def _quarantined(
    file: SourceFile, reason: str, *, content: str | None = None, key: str | None = None, partition: str | None = None
) -> ParsedDocument:
    unread = hashlib.sha256(f"unread:{file.size}:{file.modified_ns}".encode()).hexdigest()
    return ParsedDocument(
        document_id=_id(file, key),
        path=file.path,
        row_key=key,
        row_partition=partition,
        status="quarantined",
        reason=reason,
        source_digest=content or unread,
        digest=None,
        title=None,
        text="",
        language=None,
        characters=0,
    )


def _id(file: SourceFile, key: str | None) -> str:
    return file.path if key is None else f"{file.path}#{key}"
