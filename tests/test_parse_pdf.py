"""Claims about PDFs: words, order, headings, lists and tables survive; what repeats on every page goes; a text that is
not sound is read by another library."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Flowable, Frame, PageTemplate, Paragraph, SimpleDocTemplate, Table
from reportlab.platypus.flowables import PageBreak

from ai_assets.documents.parse import ParsedDocument, Parser
from ai_assets.documents.parse_pdf import read_pdf, soundness
from ai_assets.documents.parse_pdf_pages import Extractor
from ai_assets.documents.source import Source

STYLES = getSampleStyleSheet()
LEFT = "The left column speaks of rivers, of their banks and of the boats that go down to the sea in spring. " * 12
RIGHT = "Mountains fill the right one: snow, scree, old paths, and shepherds who know every stone by its name. " * 12
PROSE = "A plain sentence that goes on for a while, so that the paragraph has several lines to be joined again. " * 5
GERMAN = (
    "Die Vertragsparteien vereinbaren für die Dauer der Zusammenarbeit, dass die "
    "Donaudampfschifffahrtsgesellschaft alle Unterlagen vertraulich behandelt und sie weder ganz noch in Teilen "
    "an Dritte weitergibt, es sei denn, dass das Gesetz oder ein Gericht sie dazu verpflichtet. "
)
SHIFTED = "".join(chr(ord(letter) + 1) if letter.isalpha() else letter for letter in PROSE * 6)
ORDER: tuple[Extractor, ...] = ("pdfium", "pdfminer")


def written(*flowables: Flowable, header: str = "", footer: str = "") -> bytes:
    """By reportlab's layout, with a running title and a footer with the number of the page."""
    file = io.BytesIO()

    def edges(canvas: Canvas, document: BaseDocTemplate) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(72, 810, header)
        canvas.drawString(72, 30, f"{footer}{document.page}" if footer else "")

    SimpleDocTemplate(file).build(list(flowables), onFirstPage=edges, onLaterPages=edges)
    return file.getvalue()


def in_columns() -> bytes:
    """Two columns, the second drawn after the first."""
    file = io.BytesIO()
    frames = [Frame(60, 100, 230, 650), Frame(310, 100, 230, 650)]
    document = BaseDocTemplate(file, pageTemplates=[PageTemplate(frames=frames)])
    document.build([Paragraph(LEFT, STYLES["Normal"]), Paragraph(RIGHT * 2, STYLES["Normal"])])
    return file.getvalue()


def lines_across(left: str, right: str, *, order: Callable[[int], int] = lambda number: number) -> bytes:
    """The same, drawn line by line across the page, or in another order."""
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.setFont("Helvetica", 9)
    lines = list(zip(_lines(left), _lines(right), strict=False))
    for number in sorted(range(len(lines)), key=order):
        canvas.drawString(60, 740 - 12 * number, lines[number][0])
        canvas.drawString(320, 740 - 12 * number, lines[number][1])
    canvas.save()
    return file.getvalue()


def _lines(text: str, words: int = 9) -> list[str]:
    found = text.split()
    return [" ".join(found[at : at + words]) for at in range(0, len(found), words)]


def drawn(*lines: tuple[float, float, str], font: str = "Helvetica", size: float = 10) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.setFont(font, size)
    for x, y, text in lines:
        canvas.drawString(x, y, text)
    canvas.save()
    return file.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("extractor", ORDER)
def test_two_columns_are_read_one_after_the_other(extractor: Extractor) -> None:
    text = flat(read_pdf(in_columns(), order=(extractor,)).text)
    assert flat(LEFT) in text
    assert flat(RIGHT) in text


@pytest.mark.parametrize("extractor", ORDER)
def test_two_columns_drawn_line_by_line_are_read_one_after_the_other(extractor: Extractor) -> None:
    text = flat(read_pdf(lines_across(LEFT, RIGHT), order=(extractor,)).text)
    assert flat(LEFT)[:900] in text
    assert flat(RIGHT)[:900] in text


def test_a_page_drawn_in_no_order_is_read_from_the_top() -> None:
    lines = [
        (72.0, 740.0 - 14 * number, f"Line number {number} of a page that is drawn in no order") for number in range(40)
    ]
    text = flat(read_pdf(drawn(*lines[::-1])).text)
    found = [text.index(f"Line number {number} ") for number in range(40)]
    assert found == sorted(found)


def test_headings_have_the_level_of_their_size_and_paragraphs_are_whole() -> None:
    content = written(
        Paragraph("The report", STYLES["Title"]),
        Paragraph("First part", STYLES["Heading2"]),
        Paragraph(PROSE, STYLES["Normal"]),
        Paragraph("Second part", STYLES["Heading2"]),
        Paragraph(PROSE, STYLES["Normal"]),
    )
    lines = read_pdf(content).text.split("\n\n")
    assert lines == ["# The report", "## First part", PROSE.strip(), "## Second part", PROSE.strip()]


def test_bold_lines_of_the_size_of_the_text_are_headings_too() -> None:
    content = written(
        Paragraph("<b>1. Scope</b>", STYLES["Normal"]),
        Paragraph(PROSE, STYLES["BodyText"]),
        Paragraph("<b>2. Terms</b>", STYLES["Normal"]),
        Paragraph(PROSE, STYLES["BodyText"]),
    )
    assert read_pdf(content).text.split("\n\n")[::2] == ["# 1. Scope", "# 2. Terms"]


def test_running_titles_and_page_numbers_are_dropped_and_pages_are_known() -> None:
    parts = [f"Part {number} has words of its own. {PROSE}" for number in range(1, 5)]
    flowables: list[Flowable] = []
    for part in parts:
        flowables += [Paragraph(part, STYLES["Normal"]), PageBreak()]
    found = read_pdf(written(*flowables, header="ACME Ltd, confidential", footer="Page "))
    assert "confidential" not in found.text
    assert "Page " not in found.text
    assert len(found.pages) == 4
    assert [found.text[start:].startswith(part[:30]) for start, part in zip(found.pages, parts, strict=True)] == [
        True
    ] * 4


def test_what_stands_at_the_edge_of_two_pages_only_stays() -> None:
    found = read_pdf(
        written(Paragraph(PROSE, STYLES["Normal"]), PageBreak(), Paragraph(PROSE, STYLES["Normal"]), header="Once more")
    )
    assert found.text.count("Once more") == 2


def test_a_paragraph_that_goes_on_over_a_page_is_whole() -> None:
    sentence = "the sentence goes on and on without an end that one could see from here, "
    found = read_pdf(written(Paragraph(f"Here {sentence * 90}done.", STYLES["Normal"])))
    assert found.text == f"Here {sentence * 90}done."
    assert len(found.pages) == 2
    assert 0 < found.pages[1] < len(found.text)


def test_a_table_is_a_table() -> None:
    rows = [
        ["Goods", "Pieces", "Price"],
        ["Screws", "120", "3.20"],
        ["Nuts of brass", "40", "11.00"],
        ["Washers", "7", "0.10"],
    ]
    content = written(Paragraph(PROSE, STYLES["Normal"]), Table(rows), Paragraph(PROSE, STYLES["Normal"]))
    for extractor in ORDER:
        blocks = read_pdf(content, order=(extractor,)).text.split("\n\n")
        assert blocks[1].splitlines() == [
            "| Goods | Pieces | Price |", "| --- | --- | --- |", "| Screws | 120 | 3.20 |",
            "| Nuts of brass | 40 | 11.00 |", "| Washers | 7 | 0.10 |",
        ]  # fmt: skip


@dataclass(frozen=True)
class NoTable:
    id: str
    lines: tuple[tuple[float, float, str], ...]


def side_by_side(*pairs: tuple[str, str], right: float = 250) -> tuple[tuple[float, float, str], ...]:
    return tuple(
        line for n, (a, b) in enumerate(pairs) for line in ((72.0, 700.0 - 14 * n, a), (right, 700.0 - 14 * n, b))
    )


NO_TABLES = (
    NoTable("contents", side_by_side(("Introduction", "1"), ("The law", "4"), ("Its history", "9"), ("Index", "31"))),
    NoTable("numbered lines", side_by_side(*((str(n), f"some words of the line {n}") for n in range(1, 9)), right=110)),
    NoTable("signatures", side_by_side(("For the buyer", "For the seller"), ("Ann Smith", "Bob Jones"))),
    NoTable("bullets", side_by_side(*(("-", f"the item number {n}") for n in range(5)), right=110)),
    NoTable("prose", side_by_side(*zip(_lines(LEFT, 6), _lines(RIGHT, 6), strict=False), right=320)),
)  # fmt: skip


@pytest.mark.parametrize("case", NO_TABLES, ids=lambda case: case.id)
def test_what_only_stands_side_by_side_is_no_table(case: NoTable) -> None:
    assert "|" not in read_pdf(drawn(*case.lines)).text


def test_lists_are_lists_and_their_items_are_whole() -> None:
    items = [
        "first of the things that we need",
        "second, which is longer than the line has room for it to be " * 3,
        "third",
    ]
    content = written(*(Paragraph(f"<bullet>\u2022</bullet>{item}", STYLES["Bullet"]) for item in items))
    assert read_pdf(content).text == "\n".join(f"- {item.strip()}" for item in items)


def test_a_program_keeps_its_lines_and_indents() -> None:
    code = ["def area(side):", "    if side < 0:", "        raise ValueError(side)", "    return side * side"]
    lines = [(72.0, 700.0 - 12 * number, line) for number, line in enumerate(code)]
    file = io.BytesIO()
    canvas = Canvas(file)
    canvas.setFont("Helvetica", 10)
    for number, line in enumerate(_lines(PROSE * 2, 12)):
        canvas.drawString(72, 780 - 12 * number, line) if number < 5 else canvas.drawString(72, 600 - 12 * number, line)
    canvas.setFont("Courier", 10)
    for x, y, line in lines:
        canvas.drawString(x, y, line)
    canvas.save()
    assert "\n".join(["```", *code, "```"]) in read_pdf(file.getvalue()).text


def test_a_word_parted_at_the_end_of_a_line_is_whole_and_a_compound_keeps_its_hyphen() -> None:
    lines = [
        "The state-of-the-art machine is well-known to all of us and to many more than us, and its manu-",
        "facture is described in the handbook of the makers, who say that it is indeed a rather well-",
        "known one, and that nothing like it was ever made before in any of the works of the company.",
    ]
    for extractor in ORDER:
        text = read_pdf(drawn(*((72.0, 700.0 - 12 * n, line) for n, line in enumerate(lines))), order=(extractor,)).text
        assert "its manufacture is" in flat(text)
        assert "a rather well-known one" in flat(text)


@dataclass(frozen=True)
class Text:
    id: str
    text: str
    sound: bool


SOUND = (
    Text("prose", PROSE * 5, sound=True),
    Text("german", GERMAN * 8, sound=True),
    Text("chinese", "本合同由双方签订并立即生效。" * 60, sound=True),
    Text("glued", PROSE.replace(" ", "") * 5 + " and so on" * 50, sound=False),
    Text("parted letters", " ".join(PROSE.replace(" ", "")) * 3, sound=False),
    Text("codes of glyphs", "(cid:12)(cid:99)(cid:7) " * 100, sound=False),
    Text("private letters", "\ue001\ue002\ue003 \ue004 " * 100, sound=False),
    Text("letters that stand for others", SHIFTED, sound=False),
    Text("nothing", "", sound=False),
)  # fmt: skip


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.id)
def test_a_text_that_is_not_made_of_words_is_not_sound(case: Text) -> None:
    assert (soundness(case.text) >= 0.75) == case.sound


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


def parsed(parser: Parser, folder: Path, content: bytes) -> ParsedDocument:
    (folder / "a.pdf").write_bytes(content)
    source = Source.at(folder)
    (document,) = parser.parse(source, next(iter(source.list((), ()))), {})
    return document


def test_a_row_says_which_library_read_it(parser: Parser, tmp_path: Path) -> None:
    content = written(Paragraph(PROSE, STYLES["Normal"]))
    document = parsed(parser, tmp_path, content)
    assert (document.read_by, document.pages, document.text) == ("pdfium", (0,), PROSE.strip())


def test_what_one_library_cannot_open_another_one_reads(parser: Parser, tmp_path: Path) -> None:
    content = written(Paragraph(PROSE, STYLES["Normal"])).replace(b"%PDF-1.", b"%XYZ-1.", 1)
    document = parsed(parser, tmp_path, content)
    assert (document.read_by, document.text) == ("pdfminer", PROSE.strip())


def test_pages_are_places_in_the_text_of_the_row(parser: Parser, tmp_path: Path) -> None:
    content = written(
        Paragraph("One.", STYLES["Normal"]), PageBreak(), Paragraph("Two \u00a0 there.", STYLES["Normal"])
    )
    document = parsed(parser, tmp_path, content)
    assert [document.text[start:][:3] for start in document.pages] == ["One", "Two"]
