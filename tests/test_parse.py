"""Claims about turning files into documents: what comes out, what is quarantined and why, and what it may cost."""

import datetime
import io
import json
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil
import py3langid
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from growth import growth
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_assets.base.errors import ParserUnavailable
from ai_assets.documents.formats.kinds import Format
from ai_assets.documents.languages import language_model, language_of
from ai_assets.documents.parse import ParsedDocument, ParseLimits, Parser, TableFormat, format_of
from ai_assets.documents.parse_text import normalise
from ai_assets.documents.source import Source, SourceFile

ENGLISH = "This is the text of a report about the money that the company spent this year."
GERMAN = "Der Vertrag wird zwischen den beiden Parteien geschlossen."
HEADED = "intro\n\n```\n# code\n```\n## The *Title* and [more](http://x) ##\ntext"
TABLE = TableFormat(key="id", text=("text",), title=None, partition=None)
TABLES: Mapping[Format, TableFormat] = {"csv": TABLE, "jsonl": TABLE, "parquet": TABLE}


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


def parse(
    parser: Parser, folder: Path, name: str, content: bytes | str, tables: Mapping[Format, TableFormat] = TABLES
) -> list[ParsedDocument]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return parse_file(parser, folder, name, tables)


def parse_file(
    parser: Parser, folder: Path, name: str, tables: Mapping[Format, TableFormat] = TABLES
) -> list[ParsedDocument]:
    source = Source.at(folder)
    (file,) = (file for file in source.list((), ()) if file.path == name)
    return list(parser.parse(source, file, tables))


# Samples


def pdf(*lines: str, pages: int = 1, password: str | None = None) -> bytes:
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    file = io.BytesIO()
    canvas = Canvas(file, encrypt=StandardEncryption(password, "owner") if password is not None else None)
    for _ in range(pages):
        for number, line in enumerate(lines):
            canvas.drawString(72, 720 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def docx(heading: str, body: str) -> bytes:
    from docx import Document

    file = io.BytesIO()
    document = Document()
    document.add_heading(heading, 1)
    document.add_paragraph(body)
    document.save(file)
    return file.getvalue()


def archive(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return file.getvalue()


def lying_archive(unpacked: int) -> bytes:
    """A zip bomb whose directory says that it unpacks to next to nothing."""
    honest = archive({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<a>" + b"0" * unpacked})
    size = (unpacked + 3).to_bytes(4, "little")
    assert honest.count(size) == 2
    return honest.replace(size, (1000).to_bytes(4, "little"))


@dataclass(frozen=True)
class Good:
    id: str
    name: str
    content: bytes | str | Callable[[], bytes]
    text: str
    title: str | None
    language: str | None = None


GOOD = (
    Good("txt", "a.txt", f"  {ENGLISH}\r\nMore.\r", f"{ENGLISH}\nMore.", ENGLISH, "en"),
    Good("upper suffix", "A.TXT", "x", "x", "x"),
    Good("utf-8 with mark", "a.txt", b"\xef\xbb\xbfcaf\xc3\xa9", "café", "café"),
    Good("utf-16", "a.txt", "café".encode("utf-16"), "café", "café"),
    Good("decomposed", "a.txt", "cafe\u0301", "café", "café"),
    Good(
        "controls",
        "a.txt",
        f"one\x07 two\tthree\x1b[0m {GERMAN}",
        f"one two\tthree[0m {GERMAN}",
        f"one two three[0m {GERMAN}",
        "de",
    ),
    Good("latin-1", "a.txt", b"caf\xe9", "café", "café"),
    Good("utf-16 without a mark", "a.txt", ENGLISH.encode("utf-16-be"), ENGLISH, ENGLISH, "en"),
    Good("form feed parts lines", "a.txt", "one\ftwo", "one\ntwo", "one"),
    Good("heading", "a.md", HEADED, HEADED, "The Title and more", "en"),
    Good("front matter", "a.md", "---\n---\n\n**Bold** start", "---\n---\n\n**Bold** start", "Bold start"),
    Good("long first line", "a.txt", ENGLISH * 2, ENGLISH * 2, (ENGLISH * 2)[:116] + "…", "en"),
    Good("german", "a.txt", GERMAN, GERMAN, GERMAN, "de"),
    Good(
        "html",
        "a.html",
        "<title>T &amp; t</title><script>x</script><h1>H</h1><p>a<b>b</b></p>",
        "T & t\n\n# H\n\na**b**",
        "T & t",
    ),
    Good("html in latin-1", "a.htm", b"<meta charset=iso-8859-1><p>caf\xe9", "café", "café"),
    Good(
        "html with an image inside",
        "a.html",
        '<p>x <img alt="pic" src="data:image/png;base64,AAAA"> y',
        "x pic y",
        "x pic y",
    ),
    Good("html nested too deeply", "a.html", "<div>" * 5_000 + "deep", "deep", "deep"),
    Good("pdf", "a.pdf", lambda: pdf("Annual report", ENGLISH), f"Annual report\n\n{ENGLISH}", "Annual report", "en"),
    Good(
        "pdf locked against editing only",
        "a.pdf",
        lambda: pdf("Free to read", password=""),
        "Free to read",
        "Free to read",
    ),
    Good("docx", "a.docx", lambda: docx("Contract", "Between us."), "# Contract\n\nBetween us.", "Contract"),
)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.id)
def test_a_file_becomes_text(case: Good, parser: Parser, tmp_path: Path) -> None:
    content = case.content() if callable(case.content) else case.content
    (document,) = parse(parser, tmp_path, case.name, content)
    assert (document.status, document.reason) == ("ok", None)
    assert (document.text, document.title, document.language) == (case.text, case.title, case.language)
    assert (document.document_id, document.path, document.row_key) == (case.name, case.name, None)
    assert document.characters == len(document.text)


@dataclass(frozen=True)
class Bad:
    id: str
    name: str
    content: bytes | str | Callable[[], bytes]
    says: str


BAD = (
    Bad("empty", "a.txt", b"", "empty"),
    Bad("blank", "a.md", " \n\t\ufeff\n", "empty"),
    Bad("damaged utf-8", "a.txt", "Größe über Äcker".encode() * 9 + b"\xe9", "; save it as UTF-8"),
    Bad("noise", "a.txt", Random(3).randbytes(200).replace(b"\0", b""), "binary content: not valid UTF-8 at byte"),
    Bad("an archive called text", "a.txt", lambda: archive({"a": b"x" * 9}), "binary content"),
    Bad("not utf-8 after a mark", "a.txt", b"\xef\xbb\xbfab\xff", "not valid UTF-8 at byte 5"),
    Bad("half a utf-16 character", "a.txt", b"\xff\xfea", "not valid UTF-16 at byte 2"),
    Bad("nul", "a.md", "ab\0c", "binary content: NUL at character 2"),
    Bad("control characters", "a.txt", "\x01\x02a" * 9, "binary content: 18 of the first 27 characters"),
    Bad("unknown format", "a.xyz", b"x", "'.xyz' is not supported; these are: .csv"),
    Bad("html that is binary", "a.html", b"<p>" + Random(5).randbytes(99), "binary content: not valid UTF-8 at byte"),
    Bad("html without text", "a.html", "<p> <br>", "empty"),
    Bad("broken pdf", "a.pdf", b"%PDF-1.4 rubbish", "could not be read: PDFSyntaxError: No /Root object!"),
    Bad("half a pdf", "a.pdf", lambda: pdf(ENGLISH)[:700], "could not be read: "),
    Bad("scanned pdf", "a.pdf", lambda: pdf(), "no text in the PDF (scanned?)"),
    Bad("empty pdf", "a.pdf", b"", "empty"),
    Bad("encrypted pdf", "a.pdf", lambda: pdf("x", password="pw"), "it is encrypted; save it without a password"),
    Bad("broken docx", "a.docx", b"PK\x03\x04", "could not be read: not a Word document (File is not a zip file)"),
    Bad("zip but no docx", "a.docx", lambda: archive({"a": b"x"}), "a zip archive, but no Word document in it"),
    Bad("docx without a document", "a.docx", lambda: archive({"[Content_Types].xml": b"<T/>"}), "could not be read: "),
    Bad("encrypted docx", "a.docx", b"\xd0\xcf\x11\xe0" + bytes(600), "it is encrypted, or an old .doc"),
    Bad("zip bomb", "a.docx", lambda: archive({"x": bytes(400_000_000)}), "bytes unpack to 400,000,000, "),
    Bad(
        "zip bomb with a lying directory", "a.docx", lambda: lying_archive(90_000_000), "could not be read: BadZipFile"
    ),
    Bad("table without rows", "a.csv", "id,text\n", "no rows"),
    Bad("empty table", "a.jsonl", b"\n\n", "no rows"),
    Bad("csv without a column", "a.csv", "key,text\n1,x\n", "no column 'id'; the columns are: key, text"),
    Bad("jsonl without a column", "a.jsonl", '{"id": 1, "body": "x"}\n', "no column 'text'; the columns are: id, body"),
    Bad("csv with a column twice", "a.csv", "id,text,id\n1,x,2\n", "two columns are named 'id'"),
    Bad("csv whose header is binary", "a.csv", b"\xfe\x00\x80\n", "its header cannot be read: not valid UTF-8"),
    Bad("broken utf-16 table", "a.csv", "id,text\n1,x\n".encode("utf-16") + b"\xd8", "not valid UTF-16 shortly before"),
    Bad("not parquet", "a.parquet", b"PAR1 no PAR1", "not a Parquet file that can be read: "),
)


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_a_file_without_text_is_quarantined_with_the_reason(case: Bad, parser: Parser, tmp_path: Path) -> None:
    content = case.content() if callable(case.content) else case.content
    document = parse(parser, tmp_path, case.name, content)[-1]
    assert document.status == "quarantined"
    assert case.says in (document.reason or "")
    assert (document.document_id, document.text, document.digest) == (case.name, "", None)
    assert len(document.source_digest) == 64


def test_every_suffix_has_the_format_people_expect() -> None:
    names = ["a.markdown", "a.HTM", "a.text", "a.ndjson", "a.tsv", "x.y/a.PDF", "a.csv.gz", "x.y/csv", "README.Debian"]
    assert [format_of(name) for name in names] == ["md", "html", "txt", "jsonl", "csv", "pdf", "csv", "txt", "txt"]
    assert [format_of(name) for name in ("a.parquet.gz", "a.zip", "a.so", "x.gz/y.z")] == [None] * 4


def test_what_the_source_calls_a_problem_is_quarantined_unread(parser: Parser, tmp_path: Path) -> None:
    file = SourceFile(path="gone.md", size=1, modified_ns=2, problem="the symlink is broken")
    (document,) = parser.parse(Source.at(tmp_path), file, {})
    assert (document.status, document.reason) == ("quarantined", "the symlink is broken")


def test_a_file_deleted_after_the_listing_is_quarantined(parser: Parser, tmp_path: Path) -> None:
    (document,) = parser.parse(Source.at(tmp_path), SourceFile(path="gone.md", size=1, modified_ns=2), {})
    assert document.reason == "could not be read: No such file or directory"


def test_a_file_over_the_limit_is_not_read_even_if_it_grew_after_the_listing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 2_000_000)
    with Parser(ParseLimits(max_bytes=1_000_000)) as parser:
        (listed,) = parse_file(parser, tmp_path, "a.txt")
        (grown,) = parser.parse(Source.at(tmp_path), SourceFile(path="a.txt", size=5, modified_ns=0), {})
    assert listed.reason == "the file has 2 MB; the limit is 1 MB"
    assert (grown.reason or "").endswith("the limit is 1 MB")


@pytest.mark.parametrize("name", ["a.txt", "a.html"])
def test_a_text_over_the_limit_is_quarantined_with_both_sizes(name: str, tmp_path: Path) -> None:
    with Parser(ParseLimits(max_characters=1_000)) as parser:
        (document,) = parse(parser, tmp_path, name, "x" * 1_001)
    assert document.reason == "1,001 characters of text; the limit is 1,000 (source.max_characters)"


# Tables


@dataclass(frozen=True)
class TableCase:
    id: str
    name: str
    content: bytes | str
    expected: Sequence[tuple[str, str]]
    """The part of the identifier after '#', and the text or the reason."""
    table: TableFormat = TABLE


LONG = TableFormat(key="id", text=("text, long",), title=None, partition=None)
ALL_TEXT = TableFormat(key="id", text=(), title=None, partition="day")
TWO = TableFormat(key="id", text=("title", "text"), title="title", partition=None)

TABLE_CASES = (
    TableCase("csv", "a.csv", 'id,text\n1,"a, b\nc"\n\n2,d\n', [("1", "a, b\nc"), ("2", "d")]),
    TableCase("tsv", "a.tsv", "id\ttext\n1\ta,b;c\n", [("1", "a,b;c")]),
    TableCase("semicolons", "a.csv", '"id";"text, long"\n1;a,b\n', [("1", "a,b")], LONG),
    TableCase("utf-16", "a.csv", "id,text\r\n1,é\r\n".encode("utf-16"), [("1", "é")]),
    TableCase("marked", "a.csv", b"\xef\xbb\xbfid,text\n1,x", [("1", "x")]),
    TableCase(
        "one bad row",
        "a.csv",
        "id,text\n1,äöüßäöüß\n2,b,c\n".encode() + b"3,\xff\n4,d\n",
        [
            ("1", "äöüßäöüß"),
            ("~", "line 3: 3 fields, but the header has 2"),
            ("~", "line 4: not valid UTF-8 at its byte 2"),
            ("4", "d"),
        ],
    ),
    TableCase(
        "a quote never closed",
        "a.csv",
        'id,text\n1,a\n2,"b\n3,c\n',
        [("1", "a"), ("~", "lines 3 to 4: unexpected end of data")],
    ),
    TableCase(
        "same key",
        "a.csv",
        "id,text\nk,a\nk,b\nk,c\n",
        [("k", "a"), ("k~2", "another row before it"), ("k~3", "another row before it")],
    ),
    TableCase(
        "same key beside a key that looks like ours",
        "a.csv",
        "id,text\nk,a\nk~2,b\nk,c\n",
        [("k", "a"), ("k~2", "b"), ("k~3", "another row before it")],
    ),
    TableCase("empty row", "a.csv", "id,text\n1,\n2,b\n", [("1", "empty"), ("2", "b")]),
    TableCase("no key", "a.csv", "id,text\n,a\n", [("c304795c0dc86ba5", "a")]),
    TableCase(
        "a text for a key",
        "a.csv",
        f"id,text\n{'k' * 501},a\n",
        [("~", "its key has 501 characters; the limit is 500. Is 'id'")],
    ),
    TableCase(
        "all text columns",
        "a.csv",
        "id,day,who,what,none\n1,2026-10-05,me,this,\n",
        [("1", "who: me\nwhat: this")],
        ALL_TEXT,
    ),
    TableCase(
        "two text columns", "a.csv", "id,title,text\n1,T,body\n2,,body\n", [("1", "T\n\nbody"), ("2", "body")], TWO
    ),
    TableCase("jsonl", "a.jsonl", '{"id": 1, "text": "a"}\n\n{"id": true, "text": 5}\n', [("1", "a"), ("true", "5")]),
    TableCase(
        "jsonl with bad lines",
        "a.jsonl",
        '{"id": 1, "text": "a"}\n[1]\n{"id"\n{"id": 2}\n{"id": 3, "text": NaN}\n{"id": 4, "text": "d"}',
        [
            ("1", "a"),
            ("~", "line 2: a list, not an object with columns"),
            ("~", "line 3: not valid JSON"),
            ("2", "empty"),
            ("3", "empty"),
            ("4", "d"),
        ],
    ),
    TableCase("jsonl of a lone surrogate", "a.jsonl", '{"id": 1, "text": "a\\ud800b"}', [("1", "a\ufffdb")]),
    TableCase(
        "jsonl nested deeply",
        "a.jsonl",
        '{"id": 1, "text": "a"}\n' + "[" * 100_000,
        [("1", "a"), ("~", "line 2: nested too deeply")],
    ),
    TableCase(
        "jsonl of a number without end", "a.jsonl", '{"id": 1, "text": 1e999}', [("~", "line 1: not valid JSON")]
    ),
    TableCase(
        "jsonl whose first row lacks a column",
        "a.jsonl",
        '{"id": 1}\n{"id": 2, "text": "b"}',
        [("1", "empty"), ("2", "b")],
    ),
)


@pytest.mark.parametrize("case", TABLE_CASES, ids=lambda case: case.id)
def test_each_row_is_judged_by_itself(case: TableCase, parser: Parser, tmp_path: Path) -> None:
    kind = format_of(case.name)
    assert kind is not None
    found = parse(parser, tmp_path, case.name, case.content, {kind: case.table})
    assert len(found) == len(case.expected)
    for row, (key, says) in zip(found, case.expected, strict=True):
        assert row.row_key == (key if key != "~" else row.source_digest[:16])
        assert row.document_id == f"{case.name}#{row.row_key}"
        assert says == row.text if row.status == "ok" else says in (row.reason or "")


def test_a_key_that_never_changes_is_no_slower_than_any_other(parser: Parser, tmp_path: Path) -> None:
    def parse_rows(rows: int) -> None:
        found = parse(parser, tmp_path, "a.csv", "id,text\n" + "k,a\n" * rows)
        assert found[-1].document_id == f"a.csv#k~{rows}"

    assert growth(parse_rows, 2_000, 16_000) < 24, "the time of a row grows with their number"


def test_the_title_column_and_the_partition_column_come_along(parser: Parser, tmp_path: Path) -> None:
    table = TableFormat(key="id", text=("text",), title="name", partition="day")
    content = "id,text,name,day\n1,body,The name,2026-10-05\n"
    (row,) = parse(parser, tmp_path, "a.csv", content, {"csv": table})
    assert (row.title, row.row_partition) == ("The name", "2026-10-05")


def test_only_the_rows_that_are_wanted_are_parsed(parser: Parser, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text,day\n1,a,mon\n2,b,tue\n2,c,mon\n")
    source = Source.at(tmp_path)
    (file,) = source.list((), ())
    table = TableFormat(key="id", text=("text",), title=None, partition="day")
    monday = parser.parse(source, file, {"csv": table}, lambda key, day: day == "mon")
    assert [row.row_key for row in monday] == ["1", "2~2"]
    assert list(parser.parse(source, file, {"csv": table}, lambda key, day: False)) == []


def parquet(folder: Path, **columns: pa.Array) -> None:
    pq.write_table(pa.table(columns), folder / "a.parquet")


def test_parquet_values_of_every_kind_become_text(parser: Parser, tmp_path: Path) -> None:
    parquet(
        tmp_path,
        id=pa.array([1, 2]),
        text=pa.array(["a", None]),
        day=pa.array([datetime.date(2026, 10, 5), None]),
        at=pa.array([1, None], pa.timestamp("ns", "UTC")),
        number=pa.array([float("nan"), 1.5]),
        raw=pa.array([b"\xff", b""]),
        tags=pa.array([["x", None], []]),
        exact=pa.array([1, 2]).cast(pa.decimal128(30, 2)),
        kind=pa.array(["k", "k"]).dictionary_encode(),
    )
    table = TableFormat(key="id", text=("text", "tags", "kind"), title="exact", partition="day")
    first, second = parse_file(parser, tmp_path, "a.parquet", {"parquet": table})
    assert (first.row_key, first.text, first.title, first.row_partition) == (
        "1",
        'a\n\n["x",null]\n\nk',
        "1.00",
        "2026-10-05",
    )
    assert (second.text, second.row_partition) == ("[]\n\nk", None)


def test_a_parquet_value_that_python_cannot_hold_costs_its_row_only(parser: Parser, tmp_path: Path) -> None:
    parquet(tmp_path, id=["1", "2", "3"], text=["a", "b", "c"], at=pa.array([0, 2**60, 0], pa.timestamp("us")))
    found = parse_file(parser, tmp_path, "a.parquet")
    assert [row.status for row in found] == ["ok", "quarantined", "ok"]
    assert "its column 'at' cannot be read" in (found[1].reason or "")


def test_a_parquet_page_that_is_damaged_leaves_the_rows_before_it(parser: Parser, tmp_path: Path) -> None:
    noise = Random(7)
    texts = [noise.randbytes(500).hex() for _ in range(200)]
    table = pa.table({"id": [str(n) for n in range(200)], "text": texts})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100, use_dictionary=False)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[len(data) * 3 // 4 : len(data) * 3 // 4 + 20_000] = b"\xff" * 20_000
    found = parse(parser, tmp_path, "a.parquet", bytes(data))
    assert [row.status for row in found[:100]] == ["ok"] * 100
    assert (found[-1].document_id, found[-1].status) == ("a.parquet", "quarantined")


records = st.lists(
    st.fixed_dictionaries({"id": st.text(max_size=3), "text": st.text(max_size=20)}), max_size=8, unique_by=str
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(records=records, data=st.data())
def test_a_row_without_a_key_keeps_its_name_wherever_it_stands(
    records: list[dict[str, str]], data: st.DataObject, parser: Parser, tmp_path: Path
) -> None:
    table = TableFormat(key=None, text=("text",), title=None, partition=None)
    shuffled = data.draw(st.permutations(records))

    def named(rows: Sequence[Mapping[str, str]]) -> set[tuple[str | None, str]]:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        return {(row.row_key, row.text) for row in parse(parser, tmp_path, "a.jsonl", lines, {"jsonl": table})}

    assert named(records) == named(shuffled)


# Any bytes at all


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.html", "a.pdf", "a.docx"]
)
def test_no_bytes_raise_and_all_give_a_document(name: str, content: bytes, parser: Parser, tmp_path: Path) -> None:
    tables = {kind: TableFormat(key=None, text=(), title=None, partition=None) for kind in TABLES}
    found = parse(parser, tmp_path, name, content, tables)
    assert found
    for document in found:
        assert (document.reason is None) == (document.status == "ok") == bool(document.text)
        document.text.encode()
    assert len({document.document_id for document in found}) == len(found)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(position=st.integers(0, 10_000), damage=st.binary(min_size=1, max_size=4))
def test_a_damaged_parquet_file_never_raises(position: int, damage: bytes, parser: Parser, tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["a", "b"], "n": [1, 2]}), file)
    data = bytearray(file.getvalue())
    position %= len(data)
    data[position : position + len(damage)] = damage
    assert parse(parser, tmp_path, "a.parquet", bytes(data))


@given(st.text(alphabet=st.characters(), max_size=60))
def test_normalised_text_stays_as_it_is(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once == unicodedata.normalize("NFC", once)
    assert not any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in once)
    assert once == once.strip()


def test_the_language_of_a_text_is_told_and_of_a_number_is_not() -> None:
    chinese = "本合同由双方签订并立即生效。" * 100
    assert (language_of(ENGLISH * 4), language_of(chinese), language_of("Invoice 2024")) == ("en", "zh", None)


@pytest.mark.parametrize(
    "text", ["Der schnelle braune Fuchs springt.", "これは日本語のテキストです。" * 3, "Ξεσκεπάζω την ψυχοφθόρα"]
)
def test_a_language_is_told_by_the_sums_of_the_library_to_the_bit(text: str) -> None:
    for sample in (text, f"{text} {text[::-1]}", text):  # features seen before, beside new ones
        assert language_model().identifier.classify(sample) == py3langid.classify(sample)
    assert language_of(text) == py3langid.classify(text)[0]


def test_letters_anywhere_in_the_sample_count() -> None:
    assert language_of("1234567890 " * 20 + "The letters of this document come late.") == "en"


# What it may cost


@dataclass(frozen=True)
class Measured:
    found: object
    seconds: float
    megabytes: float
    """How far the peak of memory rose."""


def measured(program: str, *arguments: str | Path) -> Measured:
    """Run it in a process of its own, as what it does to memory cannot be seen in ours."""
    preamble = """
        import json, sys, time
        from pathlib import Path
        from ai_assets.documents.parse import *
        from ai_assets.documents.source import Source
        def peak():
            return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
        folder = Path(sys.argv[1])
        table = TableFormat(key="id", text=("text",), title=None, partition=None)
        import pyarrow.parquet
        before, started = peak(), time.monotonic()
    """
    epilogue = """
        print(json.dumps({"found": found, "seconds": time.monotonic() - started, "megabytes": peak() - before}))
    """
    code = "\n".join(map(textwrap.dedent, (preamble, program, epilogue)))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=60
    )
    return Measured(**json.loads(done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.txt", "a.html"])
def test_a_line_of_500_mb_costs_neither_memory_nor_time_nor_its_neighbours(name: str, tmp_path: Path) -> None:
    rows = {
        "a.jsonl": ('{"id": "1", "text": "a"}\n', '{"id": "2", "text": "b"}\n'),
        "a.csv": ("id,text\n1,a\n", "2,b\n"),
        "a.tsv": ("id\ttext\n1\ta\n", '2\t"unclosed\n'),
        "a.txt": ("before\n", "after\n"),
        "a.html": ("<p>", "</p>"),
    }
    before, after = rows[name]
    with (tmp_path / name).open("wb") as file:  # sparse: 500 MB to the reader, nothing on the disk
        file.write(before.encode())
        file.seek(500_000_000, 1)
        file.write(b"\n" + after.encode())
    result = measured(
        """
        source = Source.at(folder)
        with Parser() as parser:
            (file,) = source.list((), ())
            rows = list(parser.parse(source, file, {kind: table for kind in ("csv", "jsonl")}))
        found = [row.reason or row.row_key for row in rows]
        """,
        tmp_path,
    )
    told = {
        "a.jsonl": ["1", "line 2: 500 MB long; the limit is 10 MB", "2"],
        "a.csv": ["1", "line 3: 500 MB long; the limit is 10 MB", "2"],
        "a.tsv": ["1", "line 3: 500 MB long; the limit is 10 MB", "line 4: unexpected end of data"],
    }
    assert result.found == told.get(name, ["the file has 500 MB; the limit is 50 MB"])
    assert result.megabytes < 100
    assert result.seconds < 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_quote_never_closed_is_given_up_within_the_limit(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w") as file:
        file.write('id,text\n1,"open\n')
        file.writelines(["2,swallowed by the quote\n"] * 1_000_000)
    result = measured(
        """
        source = Source.at(folder)
        (file,) = source.list((), ())
        rows = Parser(ParseLimits(max_line_bytes=1_000_000)).parse(source, file, {"csv": table})
        found = next(rows).reason
        """,
        tmp_path,
    )
    assert str(result.found).endswith("more than 1 MB between two quotes; one is never closed")
    assert result.megabytes < 50


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_parquet_bomb_is_read_in_small_pieces(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), pa.array(["x" * 8_000_000]))
    pq.write_table(pa.table({"id": [str(n) for n in range(2_000)], "text": text}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2_000_000  # it would unpack to 16 GB
    result = measured(
        """
        import itertools
        source = Source.at(folder)
        (file,) = source.list((), ())
        rows = Parser().parse(source, file, {"parquet": table})
        found = {row.reason for row in itertools.islice(rows, 40)}
        found = list(found)
        """,
        tmp_path,
    )
    assert result.found == ["8,000,000 characters of text; the limit is 5,000,000 (source.max_characters)"]
    assert result.megabytes < 600


# The process that converts


def slow_pdf() -> bytes:
    return pdf(*[ENGLISH] * 30, pages=60)


OURS = {
    "PYTHONPATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX", "ARROW_DEFAULT_MEMORY_POOL",
    "LC_CTYPE",
}  # fmt: skip
"""Variables that a process which reads files may have."""


def worker_of(parent: psutil.Process) -> psutil.Process:
    (worker,) = (child for child in parent.children() if "parse_worker.py" in " ".join(child.cmdline()))
    return worker


def test_a_conversion_that_takes_too_long_is_ended_and_the_next_one_works(tmp_path: Path) -> None:
    with Parser(ParseLimits(timeout_s=0.5)) as parser:
        started = time.monotonic()
        (slow,) = parse(parser, tmp_path, "a.pdf", slow_pdf())
        assert slow.reason == "took longer than 0.5 s"
        assert time.monotonic() - started < 60  # most of it is the start of the process
        (quick,) = parse(parser, tmp_path, "b.html", "<p>fine")
        assert quick.text == "fine"


def test_a_conversion_that_needs_too_much_memory_is_ended_and_the_next_one_works(tmp_path: Path) -> None:
    with Parser(ParseLimits(memory_bytes=64 << 20)) as parser:
        (big,) = parse(parser, tmp_path, "a.html", "<p>x" * 500_000)
        assert big.reason == "needed more than 64 MiB of memory"
        (small,) = parse(parser, tmp_path, "b.html", "<p>fine")
        assert small.text == "fine"


def test_a_converter_killed_in_the_middle_costs_one_document(parser: Parser, tmp_path: Path) -> None:
    parse(parser, tmp_path, "a.html", "<p>start")
    worker, content = worker_of(psutil.Process()), slow_pdf()
    killer = threading.Timer(0.3, worker.kill)
    killer.start()
    (lost,) = parse(parser, tmp_path, "b.pdf", content)
    killer.join()
    assert lost.reason == "could not be read: the converter died of it (SIGKILL)"
    (unhurt,) = parse(parser, tmp_path, "c.html", "<p>fine")
    assert unhurt.text == "fine"


def test_a_converter_killed_between_two_documents_costs_none(parser: Parser, tmp_path: Path) -> None:
    parse(parser, tmp_path, "a.html", "<p>start")
    worker = worker_of(psutil.Process())
    worker.kill()
    worker.wait(60)
    (document,) = parse(parser, tmp_path, "b.html", "<p>fine")
    assert document.text == "fine"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_the_converter_dies_with_its_parent_even_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(slow_pdf())
    program = """
import sys
from ai_assets.documents.parse import Parser
from ai_assets.documents.source import Source, SourceFile
from pathlib import Path
source = Source.at(sys.argv[1])
next(Parser().parse(source, next(source.list((), ())), {}))
"""
    parent = psutil.Popen([sys.executable, "-c", program, str(tmp_path)])
    try:
        while not parent.children():
            assert parent.poll() is None
            time.sleep(0.05)
        worker = worker_of(psutil.Process(parent.pid))
        time.sleep(0.3)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs([worker], timeout=60)
    assert not alive


def test_the_converter_is_not_started_for_text_and_ends_with_the_parser(tmp_path: Path) -> None:
    with Parser() as parser:
        parse(parser, tmp_path, "a.md", "# x")
        started = [child.pid for child in psutil.Process().children()]
        parse(parser, tmp_path, "a.html", "<p>x")
        (worker,) = (child for child in psutil.Process().children() if child.pid not in started)
    assert not worker.is_running()


def test_the_converter_sees_no_secret_and_reaches_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Parser() as parser:
        parse(parser, tmp_path, "a.html", "<p>x")
        worker = next(c for c in psutil.Process().children() if "parse_worker.py" in " ".join(c.cmdline()))
        assert set(worker.environ()) <= OURS
    program = """
import sys, socket, subprocess
from ai_assets.documents import parse_worker
parse_worker.confine(1 << 30)
for act in (lambda: socket.create_connection(("127.0.0.1", 9)), lambda: subprocess.run(["true"])):
    try:
        act()
    except parse_worker.FileRefused as refused:
        print(refused)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("it tried to reach outside") == 2


def test_a_converter_that_cannot_start_is_our_error_and_not_the_documents(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(Path(sys.executable).resolve()))
    monkeypatch.setattr("ai_assets.documents.parse_process.need", lambda *_: None)  # it is there, and is not found
    with Parser() as parser, pytest.raises(ParserUnavailable, match="No module named 'markitdown'"):
        parse(parser, tmp_path, "a.html", "<p>x")
