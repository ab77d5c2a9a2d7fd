"""Claims about scanned pages: read by tesseract where that is declared, in their places, at a cost that is recorded."""

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import DAYS, STAGE, Project
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from ai_assets.base.errors import OcrUnavailable
from ai_assets.collection.errors import CollectionInvalid
from ai_assets.documents.parse import ParsedDocument, ParseLimits, Parser
from ai_assets.documents.parse_ocr import OcrLimits
from ai_assets.documents.source import Source

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None,
    reason="TESSERACT IS MISSING, so nothing is tested that reads scanned pages: apt-get install tesseract-ocr",
)
ENGLISH = OcrLimits(languages=("eng",), page_timeout_s=120, max_pages=3)
DAY = "2026-10-05"
LETTER = ("The harvest of apples was good this year.", "We sold twelve tons of them to the brewery.")


def picture(lines: Sequence[str]) -> Image.Image:
    found = Image.new("L", (1700, 2200), 255)
    draw, font = ImageDraw.Draw(found), ImageFont.load_default(size=48)
    for number, line in enumerate(lines):
        draw.text((150, 200 + 90 * number), line, fill=0, font=font)
    return found


def pdf(*pages: str | Sequence[str]) -> bytes:
    """A page that is a text is written, one that is a list of lines is scanned."""
    file = io.BytesIO()
    canvas = Canvas(file, pagesize=(612, 792))
    for page in pages:
        if isinstance(page, str):
            canvas.drawString(72, 700, page)
        else:
            canvas.drawImage(ImageReader(picture(page)), 0, 0, 612, 792)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def parsed(folder: Path, content: bytes, ocr: OcrLimits | None) -> ParsedDocument:
    (folder / "a.pdf").write_bytes(content)
    source = Source.at(folder)
    with Parser(ParseLimits(ocr=ocr)) as parser:
        (document,) = parser.parse(source, next(iter(source.list((), ()))), {})
    return document


def lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


@needs_tesseract
def test_a_scanned_letter_is_read(tmp_path: Path) -> None:
    document = parsed(tmp_path, pdf(LETTER), ENGLISH)
    assert (document.status, document.read_by, document.pages) == ("ok", "tesseract", (0,))
    assert lines(document.text) == list(LETTER)


@needs_tesseract
def test_a_scanned_page_between_written_ones_stands_in_its_place(tmp_path: Path) -> None:
    first, last = "The first page is written by a program.", "The last page is written by a program, too."
    document = parsed(tmp_path, pdf(first, LETTER, last), ENGLISH)
    assert lines(document.text) == [first, *LETTER, last]
    assert [document.text[start:][:12] for start in document.pages] == ["The first pa", "The harvest ", "The last pag"]
    assert document.read_by == "pdfium+tesseract"


def test_nothing_is_read_from_pictures_unless_that_is_declared(tmp_path: Path) -> None:
    assert parsed(tmp_path, pdf(LETTER), None).reason == "no text in the PDF (scanned?); source.ocr reads it"


@needs_tesseract
def test_an_empty_page_is_no_scan_and_costs_nothing(tmp_path: Path) -> None:
    assert (parsed(tmp_path, pdf(""), ENGLISH).reason or "").startswith("no text in the PDF")


def test_a_document_of_too_many_scanned_pages_names_the_key(tmp_path: Path) -> None:
    document = parsed(tmp_path, pdf(*[LETTER] * 4), ENGLISH)
    assert document.reason == "4 scanned pages; the limit is 3 (source.ocr.max_pages)"


@needs_tesseract
def test_a_page_that_takes_too_long_is_tried_again_and_names_the_key(tmp_path: Path) -> None:
    limits = OcrLimits(languages=("eng",), page_timeout_s=0.001, max_pages=3)
    document = parsed(tmp_path, pdf(LETTER), limits)
    assert document.reason == ("reading the scanned page 1 took longer than 0.001 s (source.ocr.page_timeout_s)")


def test_a_missing_program_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = pdf(LETTER)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OcrUnavailable, match=r"takes the program tesseract, which is missing: apt-get install tesser"):
        parsed(tmp_path, content, ENGLISH)


@needs_tesseract
def test_a_missing_language_is_one_sentence(tmp_path: Path) -> None:
    limits = OcrLimits(languages=("eng", "chi_sim"), page_timeout_s=60, max_pages=3)
    with pytest.raises(
        OcrUnavailable, match=r"language 'chi_sim', which is missing: apt-get install tesseract-ocr-chi-"
    ):
        parsed(tmp_path, pdf(LETTER), limits)


@needs_tesseract
def test_a_run_records_what_it_cost(project: Project) -> None:
    project.document(f"{DAY}/scan.pdf", pdf(LETTER, LETTER))
    project.document(f"{DAY}/note.txt", "A note about nothing.")
    source = {"path": "documents", "ocr": {"languages": ["eng"]}}
    collection = project.declare(partitions={**DAYS, "end": DAY}, stages=[dict(STAGE)], source=source)
    project.refresh(collection)
    manifest = project.stores().lake.manifest(collection.name, "documents", DAY)
    assert manifest is not None
    assert manifest.stats["ocr_pages"] == 2
    assert manifest.stats["ocr_seconds"] > 0
    again = {outcome.manifest.asset: outcome for outcome in project.refresh(collection)}
    assert again["documents"].unchanged


def test_declaring_it_makes_documents_stale_and_nothing_else_does(project: Project) -> None:
    plain = project.declare(partitions={**DAYS, "end": DAY}, stages=[dict(STAGE)])
    declared = project.declare(
        partitions={**DAYS, "end": DAY},
        stages=[dict(STAGE)],
        source={"path": "documents", "ocr": {"languages": ["eng"]}},
    )
    assert {name for name in plain.code_versions if plain.code_versions[name] != declared.code_versions[name]} == {
        "documents"
    }
    with pytest.raises(CollectionInvalid, match=r"source.ocr.languages"):
        project.declare(partitions={**DAYS, "end": DAY}, source={"path": "documents", "ocr": {"languages": ["-x"]}})
