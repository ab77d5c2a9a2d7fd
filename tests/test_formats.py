"""Claims about formats that people have: what becomes of the text, of what is around it, and of what is inside it."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from random import Random

import pytest
from conftest import DAYS, Project

from ai_assets.documents.formats.kinds import ENDINGS, MODULES
from ai_assets.documents.parse import ParsedDocument, ParseLimits, Parser, TableFormat
from ai_assets.documents.source import Source

DAY = "2026-10-05"
BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


def parse(parser: Parser, folder: Path, name: str, content: bytes | str) -> list[ParsedDocument]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    source = Source.at(folder)
    (file,) = (file for file in source.list((), ()) if file.path == name)
    return list(parser.parse(source, file, {}))


# Samples


def archive(members: dict[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in members.items():
            writer.writestr(name, content)
    return file.getvalue()


def with_part(data: bytes, name: str, content: bytes) -> bytes:
    """The archive with one more part, or another one in its place."""
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        members: dict[str, bytes | str] = {each: found.read(each) for each in found.namelist()}
    return archive({**members, name: content})


def encrypted(data: bytes) -> bytes:
    """With the mark of encryption on each member, as tools that know a password set it."""
    changed = bytearray(data)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(mark)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(mark, at + 4)
    return bytes(changed)


def docx() -> bytes:
    from docx import Document

    document = Document()
    document.add_heading("Lease", 1)
    paragraph = document.add_paragraph("The rent is 900 EUR.")
    table = document.add_table(2, 2)
    for at, text in enumerate(("Month", "Paid", "May", "yes")):
        table.cell(at // 2, at % 2).text = text
    document.sections[0].header.paragraphs[0].text = "Confidential"
    document.sections[0].footer.paragraphs[0].text = "Version 3"
    document.add_comment(paragraph.runs, text="Is this with heating?", author="Ann")
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def pptx() -> bytes:
    from pptx import Presentation
    from pptx.util import Inches

    shown = Presentation()
    slide = shown.slides.add_slide(shown.slide_layouts[1])
    slide.shapes.title.text = "Results of May"
    slide.placeholders[1].text = "Sales went up\nCosts went down"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(4), Inches(4), Inches(1)).table
    for at, text in enumerate(("Site", "Sales", "Leeds", "40")):
        table.cell(at // 2, at % 2).text = text
    slide.notes_slide.notes_text_frame.text = "Thank the team."
    file = io.BytesIO()
    shown.save(file)
    return file.getvalue()


def xlsx() -> bytes:
    import datetime

    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Invoices"
    for row in (["Number", "Due", "Total"], [17, datetime.datetime(2026, 5, 3), 144.5], [], [18, None, 20.0]):
        sheet.append(row)
    book.create_sheet("Empty")
    book.properties.title = "Invoices of 2026"
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def odt(content: str = "", **more: str) -> bytes:
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "text", "table", "style")
    )
    body = content or (
        '<text:h text:outline-level="2">Minutes</text:h><text:p>We met<text:s/>at ten<text:note><text:note-citation>1'
        "</text:note-citation><text:note-body><text:p>In hall 7.</text:p></text:note-body></text:note>.</text:p>"
        "<text:list><text:list-item><text:p>Keys</text:p></text:list-item></text:list><table:table><table:table-row>"
        "<table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell>"
        "</table:table-row></table:table>"
    )
    return archive({
        "mimetype": "application/vnd.oasis.opendocument.text",
        "content.xml": f"<office:document-content {spaces}><office:body><office:text>{body}</office:text></office:body>"
        "</office:document-content>",
        "styles.xml": f"<office:document-styles {spaces}><style:header><text:p>Head</text:p></style:header>"
        "</office:document-styles>",
        **more,
    })  # fmt: skip


def epub(**more: str) -> bytes:
    return archive({
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="o.opf"/></rootfiles></container>',
        "o.opf": '<package xmlns:dc="d"><metadata><dc:title>The Book</dc:title></metadata><manifest>'
        '<item id="b" href="2.xhtml"/><item id="a" href="1.xhtml"/></manifest><spine><itemref idref="a"/>'
        '<itemref idref="b"/></spine></package>',
        "1.xhtml": "<html><body><h1>One</h1><p>It began.</p></body></html>",
        "2.xhtml": "<html><body><h1>Two</h1><p>It ended.</p></body></html>",
        **more,
    })  # fmt: skip


def eml(
    *attachments: tuple[str, bytes], html: str = "", text: str = "Please pay.\n", subject: str = "Invoice 17"
) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@example.org>", "bob@example.org", subject
    if text:
        message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, data in attachments:
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    return message.as_bytes()


@dataclass(frozen=True)
class Good:
    name: str
    content: bytes | str | Callable[[], bytes]
    text: str
    title: str | None
    id: str = ""


RST = "=====\nGuide\n=====\n\nIntro.\n\nSet-up\n------\n\nRun it::\n\n    make\n\nMore\n------\n\nEnd."
GOOD = (
    Good("README", "Read me first.\n\nThen go.", "Read me first.\n\nThen go.", "Read me first."),
    Good("changelog.Debian", "one (1.0)", "one (1.0)", "one (1.0)"),
    Good("a.rst", RST, "# Guide\n\nIntro.\n\n## Set-up\n\nRun it::\n\n    make\n\n## More\n\nEnd.", "Guide"),
    Good("a.json", '{"title": "T", "tags": ["x", "y"], "of": {"n": 1.5, "ok": true, "no": null}, "rows": [{"a": 1}]}',
         "title: T\ntags: x, y\nof:\n  n: 1.5\n  ok: true\n  no: \nrows:\n  - a: 1", "T"),
    Good("a.xml", "<?xml version='1.0' encoding='latin-1'?><r><title>Größe</title><p>One <b>two</b>.</p>"
         "<item id='7'><sum>3</sum></item></r>".replace("Größe", "Size"),
         "Size\n\nOne two.\n\nitem:\n  id: 7\n\nsum: 3", "Size"),
    Good("a.xml", "<r><t>Größe</t></r>".encode("cp1252"), "t: Größe", "t: Größe", id="xml without its encoding"),
    Good("a.txt.gz", gzip.compress(b"one") + gzip.compress(b" two"), "one two", "one two"),
    Good("a.md.gz", gzip.compress(b"# H\n\nx"), "# H\n\nx", "H"),
    Good("a.html.gz", gzip.compress(b"<h1>H</h1>"), "# H", "H"),
    Good("a.json.gz", gzip.compress(b'{"a": 1}'), "a: 1", "a: 1"),
    Good("a.docx", docx, "# Lease\n\nThe rent is 900 EUR.\n\n|  |  |\n| --- | --- |\n| Month | Paid |\n| May | yes |\n\n"  # noqa: E501
         "Header: Confidential\n\nFooter: Version 3\n\nComment by Ann: Is this with heating?", "Lease"),
    Good("a.pptx", pptx, "## Slide 1: Results of May\n\n- Sales went up\n- Costs went down\n\n| Site | Sales |\n"
         "| --- | --- |\n| Leeds | 40 |\n\nNotes: Thank the team.", "Results of May"),
    Good("a.xlsx", xlsx, "## Invoices\n\n| Number | Due | Total |\n| --- | --- | --- |\n| 17 | 2026-05-03 | 144.5 |\n"
         "| 18 |  | 20 |", "Invoices of 2026"),
    Good("a.odt", odt, "## Minutes\n\nWe met at ten.\n\nNote 1: In hall 7.\n\n- Keys\n\n| a | b |\n| --- | --- |\n\n"
         "Header: Head", "Minutes"),
    Good("a.epub", epub, "**Title:** The Book\n\n# One\n\nIt began.\n\n# Two\n\nIt ended.", "The Book"),
    Good("a.eml", eml, "From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: Invoice 17\n\nPlease pay.", "Invoice 17"),  # noqa: E501
    Good("a.eml", lambda: eml(text="", html="<p>Please <b>pay</b>.</p>"),
         "From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: Invoice 17\n\nPlease **pay**.", "Invoice 17", id="html"),  # noqa: E501
    Good("a.eml", b"From: a@b.c\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: 8bit\n\n"
         + "Größe".encode("cp1252"), "From: a@b.c\n\nGröße", "From: a@b.c", id="mail that lies about its charset"),
)  # fmt: skip


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.id or case.name)
def test_a_file_becomes_text(case: Good, parser: Parser, tmp_path: Path) -> None:
    content = case.content() if callable(case.content) else case.content
    (document,) = parse(parser, tmp_path, case.name, content)
    assert document.reason is None
    assert document.text == case.text
    assert document.title == case.title
    assert document.since == "2"


def test_every_format_has_its_sample() -> None:
    tried = {kind for case in GOOD if (kind := ENDINGS.get(Path(case.name.removesuffix(".gz")).suffix))}
    assert set(MODULES) <= tried


@dataclass(frozen=True)
class Bad:
    name: str
    content: bytes | str | Callable[[], bytes]
    says: str


BAD = (
    Bad("program", b"\x7fELF\x02\x01\x01" + bytes(90), "binary content"),
    Bad("a.json", '{"a": ', "not valid JSON"),
    Bad("a.json", '{"a": 1}\n{"a": 2}', "are a .jsonl file"),
    Bad("a.json", "[" * 100_000, "nested too deeply"),
    Bad("a.xml", "<a><b></a>", "not valid XML"),
    Bad("a.xml", BOMB, "it declares the entity 'b', which may unfold"),
    Bad("a.xml", "<a>" * 5_000 + "x" + "</a>" * 5_000, "nested too deeply"),
    Bad("a.txt.gz", b"no gzip", "could not be unpacked"),
    Bad("a.txt.gz", gzip.compress(b"x" * 999)[:-9], "it ends early"),
    Bad("a.txt.gz", gzip.compress(bytes(60_000_000)), "it unpacks to more than the limit of 50,000,000 bytes"),
    Bad("a.csv.gz", gzip.compress(b"a,b\n" + (b"1," + b"x" * 99_000 + b"\n") * 400), "it unpacks to more than 200 times its"),  # noqa: E501
    Bad("a.eml", b"just text", "not an e-mail"),
    Bad("a.eml", b"From: a@b.c\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nAAAA", "it is encrypted"),  # noqa: E501
    Bad("a.pptx", lambda: with_part(pptx(), "ppt/slides/slide1.xml", BOMB), "declares entities, which may unfold"),
    Bad("a.xlsx", lambda: with_part(xlsx(), "xl/sharedStrings.xml", BOMB), "declares entities, which may unfold"),
    Bad("a.docx", lambda: with_part(docx(), "word/comments.xml", BOMB), "declares entities, which may unfold"),
    Bad("a.odt", lambda: with_part(odt(), "content.xml", BOMB), "declares entities, which may unfold"),
    Bad("a.pptx", lambda: with_part(pptx(), "x.bin", bytes(400_000_000)), "zip bomb"),
    Bad("a.xlsx", lambda: with_part(xlsx(), "x.bin", bytes(400_000_000)), "zip bomb"),
    Bad("a.odt", lambda: with_part(odt(), "x.bin", bytes(400_000_000)), "zip bomb"),
    Bad("a.epub", lambda: with_part(epub(), "x.bin", bytes(400_000_000)), "zip bomb"),
    *(Bad(name, b"\xd0\xcf\x11\xe0" + bytes(600), "it is encrypted, or an old") for name in ("a.pptx", "a.xlsx")),
    Bad("a.epub", lambda: encrypted(epub()), "it is encrypted; save it without a password"),
    Bad("a.odt", lambda: encrypted(odt()), "it is encrypted; save it without a password"),
    Bad("a.odt", lambda: with_part(odt(), "META-INF/manifest.xml", b"<m><encryption-data/></m>"), "it is encrypted"),
    Bad("a.epub", lambda: with_part(epub(), "META-INF/encryption.xml", b'<e><m Algorithm="aes"/></e>'), "copy protection"),  # noqa: E501
    Bad("a.xlsx", lambda: archive({"a": b"x"}), "a zip archive, but no workbook of Excel in it"),
    Bad("a.pptx", b"PK\x03\x04", "could not be read: not a PowerPoint presentation"),
    Bad("a.odt", lambda: odt(content="<text:p/>", **{"styles.xml": "<a/>"}), "empty"),
)  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case.name} {case.says[:30]}")
def test_a_file_without_text_is_quarantined_with_the_reason(case: Bad, parser: Parser, tmp_path: Path) -> None:
    content = case.content() if callable(case.content) else case.content
    document = parse(parser, tmp_path, case.name, content)[-1]
    assert document.status == "quarantined"
    assert case.says in (document.reason or "")


@pytest.mark.parametrize("ending", sorted({*ENDINGS, ".txt.gz"} - {".pdf", ".parquet"}))
def test_noise_of_any_name_never_raises(ending: str, parser: Parser, tmp_path: Path) -> None:
    for seed in range(4):
        for found in parse(parser, tmp_path, f"a{ending}", Random(seed).randbytes(300)):
            assert (found.status == "ok") == bool(found.text)


def test_rows_of_a_packed_table_are_documents(parser: Parser, tmp_path: Path) -> None:
    found = parse(
        parser, tmp_path, "a.csv.gz", gzip.compress(b"id,text\n" + b"".join(b"%d,x\n" % n for n in range(999)))
    )
    assert [document.status for document in found] == ["ok"] * 999
    assert found[0].document_id.startswith("a.csv.gz#")


# Attachments


def test_attachments_are_documents_named_as_in_the_message(parser: Parser, tmp_path: Path) -> None:
    inner = eml(("deep.txt", b"deep text"), subject="Inner")
    content = eml(
        ("notes.txt", b"some notes"), ("lease.docx", docx()), ("inner.eml", inner), ("x.exe", b"MZ"),
        ("scan.txt", b"first"), ("scan.txt", b"second"), ("notes.txt", b"some notes"), ("data.csv", b"a,b\n1,2\n"),
    )  # fmt: skip
    found = {document.document_id: document for document in parse(parser, tmp_path, "m.eml", content)}
    one, two = (f"m.eml#scan.txt~{digest}" for digest in ("a7937b64", "16367aac"))
    assert [*found] == [
        "m.eml", "m.eml#notes.txt", "m.eml#lease.docx", "m.eml#inner.eml", "m.eml#inner.eml#deep.txt", "m.eml#x.exe",
        one, two, "m.eml#data.csv",
    ]  # fmt: skip
    assert found["m.eml#inner.eml#deep.txt"].text == "deep text"
    assert found["m.eml#lease.docx"].title == "Lease"
    assert "'.exe' is not read" in (found["m.eml#x.exe"].reason or "")
    assert {document.path for document in found.values()} == {"m.eml"}


def test_the_order_of_attachments_is_no_part_of_their_identity(parser: Parser, tmp_path: Path) -> None:
    parts = [("a.txt", b"one"), ("a.txt", b"two"), ("b.txt", b"three")]
    names = [
        {(each.document_id, each.text) for each in parse(parser, tmp_path, "m.eml", eml(*order))[1:]}
        for order in (parts, parts[::-1])
    ]
    assert names[0] == names[1]


def test_messages_within_messages_end(parser: Parser, tmp_path: Path) -> None:
    content = eml(subject="Innermost")
    for _ in range(6):
        content = eml(("m.eml", content))
    found = parse(parser, tmp_path, "a.eml", content)
    assert len(found) == 5
    assert "messages deep" in (found[-1].reason or "")


def test_an_attachment_goes_through_the_collection_like_any_document(project: Project) -> None:
    collection = project.declare(partitions={**DAYS, "end": DAY}, stages=[])
    file = project.document(f"{DAY}/m.eml", eml(("notes.txt", b"Some notes of ours."), ("copy.txt", b"The same.")))
    project.document(f"{DAY}/z.txt", "The same.")
    project.refresh(collection)
    lake = project.stores().lake

    def rows() -> dict[str, str]:
        manifest = lake.manifest("notes", "documents", DAY)
        assert manifest is not None
        return {row["document_id"].removeprefix(f"{DAY}/"): row["status"] for row in lake.rows(manifest)}

    assert rows() == {"m.eml": "ok", "m.eml#copy.txt": "ok", "m.eml#notes.txt": "ok", "z.txt": "duplicate"}
    file.unlink()
    project.refresh(collection)
    assert rows() == {"m.eml": "deleted", "m.eml#copy.txt": "deleted", "m.eml#notes.txt": "deleted", "z.txt": "ok"}


# Tables


def table(folder: Path, parser: Parser, content: str, fmt: TableFormat | None = None) -> list[ParsedDocument]:
    (folder / "a.csv").write_text(content)
    source = Source.at(folder)
    (file,) = source.list((), ())
    return list(parser.parse(source, file, {"csv": fmt} if fmt else {}))


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("ann,34\nbob,29\n", "column 1: ann\ncolumn 2: 34"),
        ("2026-05-01,paid\n2026-05-02,open\n", "column 1: 2026-05-01\ncolumn 2: paid"),
        ("name,age\nann,34\n", "name: ann\nage: 34"),
        ("country,2019,2020\nfr,1,2\n", "country: fr\n2019: 1\n2020: 2"),
        ("a,b\nc,d\n", "a: c\nb: d"),
    ],
)
def test_a_table_without_a_header_is_noticed(content: str, first: str, parser: Parser, tmp_path: Path) -> None:
    assert table(tmp_path, parser, content)[0].text == first


def test_a_declared_column_is_missed_where_there_is_no_header(parser: Parser, tmp_path: Path) -> None:
    declared = TableFormat(key="id", text=("text",), title=None, partition=None)
    (found,) = table(tmp_path, parser, "1,first\n2,second\n", declared)
    assert found.reason == "no column 'id': its first line is data and not a header (1, first)"


@pytest.mark.parametrize("by", [{"by": "shards", "count": 7}, {**DAYS, "column": "day", "end": DAY}])
def test_equal_rows_of_a_table_are_duplicates(by: dict[str, object], project: Project) -> None:
    collection = project.declare(partitions=by, stages=[])
    rows = "".join(f"{number},{DAY},Text {number % 5} of many\n" for number in range(5))
    project.document("t.csv", "id,day,text\n" + rows + rows)
    project.refresh(collection)
    lake = project.stores().lake
    found = {}
    for partition in collection.scheme.keys():
        manifest = lake.manifest("notes", "documents", partition)
        for row in lake.rows(manifest) if manifest else ():
            found[row["document_id"]] = (row["status"], row["duplicate_of"], partition)
    assert sorted(status for status, _, _ in found.values()) == ["duplicate"] * 5 + ["ok"] * 5
    for name, (status, original, partition) in found.items():
        assert (status == "duplicate") == ("~2" in name)
        assert status == "ok" or found[original] == ("ok", None, partition)


# Titles


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("A short heading\nand a text.", "A short heading"),
        ("NEAR MISS - FORM SF-3      Gdansk\nReported by: Paweł", "NEAR MISS - FORM SF-3 Gdansk"),
        ("The pump in hall 7 has been leaking since the\nstorm of last week. We have called for help.",
         "The pump in hall 7 has been leaking since the storm of last week. We have called for help."),
        ("The pump in hall 7, which Mr. Smith repaired in May, has been leaking since the storm of last\n"
         "week. We have called for help, and nobody has come so far.",
         "The pump in hall 7, which Mr. Smith repaired in May, has been leaking since the storm of last week."),
        ("word " * 60, "word " * 22 + "word word…"),
    ],
)  # fmt: skip
def test_a_title_is_a_heading_or_a_sentence(text: str, title: str, parser: Parser, tmp_path: Path) -> None:
    (document,) = parse(parser, tmp_path, "a.txt", text)
    assert document.title == title


def test_a_row_that_only_a_newer_version_makes_says_so(parser: Parser, tmp_path: Path) -> None:
    wrapped = "The pump in hall 7 has been leaking since the\nstorm of last week."
    assert [parse(parser, tmp_path, "a.txt", text)[0].since for text in ("As ever.", wrapped)] == ["1", "2"]


def test_the_limits_hold_for_every_format(tmp_path: Path) -> None:
    with Parser(ParseLimits(max_characters=10)) as parser:
        for name, content in (("a.json", json.dumps("x" * 11)), ("a.rst", "x" * 11), ("a.eml", eml())):
            (document,) = parse(parser, tmp_path, name, content)
            assert "characters of text; the limit is 10" in (document.reason or "")
