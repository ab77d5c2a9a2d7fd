"""Claims about where the words of an answer stand: on which page, under which headings, in which passage."""

import json
from typing import Any

import pytest
from candidates import asked, document
from conftest import DAYS, STAGE, Project
from desks import Caller, Visitor, desk_of, request_id, served
from reportlab.platypus import PageBreak, Paragraph
from signing import decide as approve
from signing import known
from test_parse_pdf import PROSE, STYLES, written
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection.loading import Collection
from ai_assets.desk import reading
from ai_assets.desk.context import Desk
from ai_assets.desk.evidence import LONGEST_TEXT, part_of
from ai_assets.desk.views import DocumentView
from ai_assets.documents.places import FoundPassage, PageStart, TextPlaces
from ai_assets.run.explain import explain
from ai_assets.signoff.publication import publish
from ai_assets.stages.evidence import found_evidence, value_in

DAY = "2026-10-05"
REPORT = f"{DAY}/report.pdf"
TEXT = "# Report\nOne two three.\n## Findings\nFour five six. Seven eight.\n"
FINDINGS = TEXT.index("## Findings")
KRAKEN = "The invoice of the kraken is due."


def passage(start: int, end: int, page: int | None = None, page_end: int | None = None) -> FoundPassage:
    return FoundPassage(chunk_id=f"c{start}", start=start, end=end, page=page, page_end=page_end, kind="text")


# Places


@pytest.mark.parametrize(
    ("words", "page", "page_end", "headings", "number"),
    [
        ("One two", 1, 1, "Report", 1),
        ("Four five", 2, 2, "Report > Findings", 2),
        ("six. Seven", 2, 3, "Report > Findings", 2),
        ("Seven eight", 3, 3, "Report > Findings", 2),
    ],
)
def test_a_place_has_page_headings_and_passage(
    words: str, page: int, page_end: int, headings: str, number: int
) -> None:
    starts = [0, FINDINGS, TEXT.index("Seven")]
    places = TextPlaces(TEXT, [passage(FINDINGS, len(TEXT)), passage(0, FINDINGS)], starts)
    found = places.of(TEXT.index(words), TEXT.index(words) + len(words))
    assert (found.page, found.page_end, found.headings, found.passage) == (page, page_end, headings, number)
    assert places.pages() == [PageStart(page=n, start=start) for n, start in enumerate(starts, 1)]


@pytest.mark.parametrize(
    ("start", "end", "pages"),
    [
        (0, 5, (1, 1)),
        (12, 15, (1, 3)),  # within a passage that goes on to page 3: it may be on any of them
        (10, 11, (1, 1)),  # where that passage begins
        (20, 25, (3, 3)),  # after its end and before the next one
        (31, 33, (3, 3)),
        (99, 100, (3, 3)),
    ],
)
def test_without_exact_borders_the_passages_bound_the_page(start: int, end: int, pages: tuple[int, int]) -> None:
    places = TextPlaces("x" * 100, [passage(0, 10, 1, 1), passage(10, 20, 1, 3), passage(30, 40, 3, 3)])
    found = places.of(start, end)
    assert (found.page, found.page_end) == pages
    assert [page.page for page in places.pages()] == [1, 3]


def test_without_passages_the_text_alone_says_the_headings() -> None:
    found = TextPlaces(TEXT).of(FINDINGS + 15, FINDINGS + 20)
    assert (found.page, found.passage, found.said) == (None, None, "Report > Findings")


# Evidence and values


@pytest.mark.parametrize(
    ("row", "data", "found"),
    [
        ({"s_evidence": "One two", "s_evidence_start": 9}, None, ["One two"]),
        ({"s_evidence": ["One two", "Seven", "nowhere"]}, None, ["One two", "Seven"]),
        ({}, {"evidence": "Four  five\nsix"}, ["Four five six"]),
        ({}, {"lines": [{"evidence": ["Seven"]}, {"evidence": "One two"}]}, ["Seven", "One two"]),
        ({"s_evidence": "Seven"}, {"evidence": "Seven"}, ["Seven"]),
        ({"s_evidence": "nowhere"}, {"evidence": ""}, []),
        ({}, "Seven", []),
    ],
)
def test_evidence_is_of_the_column_or_of_the_answer(row: dict[str, Any], data: Any, found: list[str]) -> None:
    assert [quote.text for quote in found_evidence(TEXT, row, "s", data)] == found


@pytest.mark.parametrize(
    ("value", "name", "found"),
    [
        ("Findings", "title", "Findings"),
        ("Finding", "title", None),  # a part of a word
        ("on", "title", None),  # too short
        (2026, "year", "2026"),
        (20, "day", None),
        (True, "paid", None),
        (None, "paid", None),
        ("of May", "month", "of May"),
        ("of   May", "evidence", "of May"),
    ],
)
def test_a_value_stands_where_its_words_do(value: object, name: str, found: str | None) -> None:
    text = f"{TEXT} Due on the 20th of May 2026."
    at = value_in(value, text, name)
    assert (None if at is None else text[slice(*at)]) == found


def test_parts_of_a_long_text_follow_each_other_and_end_with_a_line() -> None:
    text = "".join(f"line {n}\n" for n in range(70_000))
    parts, place = [], 0
    while place < len(text):
        start, end = part_of(text, place)
        assert (start, text[end - 1]) == (place, "\n")
        assert end - start <= LONGEST_TEXT
        parts.append(text[start:end])
        place = end
    assert "".join(parts) == text
    assert len(parts) > 2


# On the desk


@pytest.fixture
def reported(project: Project) -> Collection:
    content = written(
        Paragraph("The audit", STYLES["Title"]),
        Paragraph(PROSE, STYLES["Normal"]),
        PageBreak(),
        Paragraph("Findings", STYLES["Heading2"]),
        Paragraph(f"{PROSE} {KRAKEN}", STYLES["Normal"]),
    )
    project.document(REPORT, content)
    label = {"name": "invoice", "description": "the invoice of the kraken is due"}
    other = {"name": "weather", "description": "rain, sun and wind"}
    collection = project.declare(
        partitions={**DAYS, "end": DAY}, stages=[{**STAGE, "labels": [label, other]}], chunking={"max_characters": 300}
    )
    project.refresh(collection)
    return collection


def test_evidence_leads_to_its_page_on_the_desk_in_the_api_and_by_the_command(
    reported: Collection, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(desk_of(project)) as desk:
        ann = Caller.of(desk, known(desk.stores.state, "ann"))
        answered = ann.get(f"/requests/{request_id(desk, DAY)}/document", id=REPORT).json()
        (at,) = answered["stages"][0]["evidence_at"]
        place = at["place"]
        assert (place["page"], place["page_end"], place["headings"]) == (2, 2, "The audit > Findings")
        assert at["shown"]
        text = "".join(span["text"] for span in answered["spans"])
        assert text[place["start"] : place["end"]] == at["text"]
        assert [span["page"] for span in answered["spans"] if span["page"]] == [1, 2]
        assert [span["text"] for span in answered["spans"] if at["anchor"] in span["anchors"]] == [at["text"]]
        approve(desk.stores.state, reported)
        publish(reported, desk.stores, by="test")
        released = ann.get("/releases/notes/1/document", id=REPORT).json()
    said = [{"text": at["text"], **place}]
    found = explain(reported, project.stores(), REPORT)
    assert found["current"]["kind.evidence_at"] == found["live"]["kind.evidence_at"] == said
    assert [{"text": each["text"], **each["place"]} for each in released["stages"][0]["evidence_at"]] == said
    assert (released["spans"], released["part_of_text"]) == (answered["spans"], answered["part"])
    monkeypatch.chdir(project.root)
    told = CliRunner().invoke(app, ["explain", "notes", REPORT], env={"COLUMNS": "240"})
    assert f"page 2, The audit > Findings, passage {place['passage']}" in told.output


def test_pages_are_known_by_the_passages_once_the_file_has_changed(reported: Collection, project: Project) -> None:
    desk = desk_of(project)
    ann = known(desk.stores.state, "ann")
    request = request_id(desk, DAY)
    exact = reading.document_view(desk, ann, request, REPORT)
    project.document(REPORT, written(Paragraph("Something else altogether.", STYLES["Normal"])))
    project.refresh(reported)
    bounded = reading.document_view(desk, ann, request, REPORT)
    assert [page.page for page in bounded.part.pages] == [1, 2]
    (before,), (after,) = exact.stages[0].evidence_at, bounded.stages[0].evidence_at
    assert before.place.page == after.place.page_end == 2
    assert (before.place.headings, before.place.chunk_id) == (after.place.headings, after.place.chunk_id)


LONG = "".join(f"## Part {n}\nIn part {n} nothing happens. {'So it goes. ' * 40}\n" for n in range(900))
NEEDLE = f"{LONG}## The end\nThe total is 4711.50 EUR.\n"


def needle(desk: Desk, at: int = 0) -> tuple[DocumentView, str]:
    """A long document whose evidence and values are at its end; without passages that could be read."""
    ann = known(desk.stores.state, "ann")
    data = {"total": "4711.50", "currency": "EUR", "evidence": "The total is 4711.50 EUR.", "due": "2026-11-01"}
    row = document(1, text=NEEDLE, facts_data=json.dumps(data), facts_model="m", facts_status="ok", kind_evidence=None)
    chunks = [
        {"document_id": "00001.txt", "chunk_id": f"c{n}", "start": n * 1000, "end": (n + 1) * 1000, "page": n + 1,
         "page_end": n + 1, "kind": "text"}
        for n in range(len(NEEDLE) // 1000 + 1)
    ]  # fmt: skip
    request = asked(desk.stores, "notes", DAY, [row], passages=chunks)
    return reading.document_view(desk, ann, request.request_id, "00001.txt", at=at), request.request_id


def test_values_and_quotes_of_an_answer_lead_to_a_part_that_is_not_shown(bare: Desk) -> None:
    view, _ = needle(bare)
    facts = next(stage for stage in view.stages if stage.stage == "facts")
    assert len(NEEDLE) > 2 * LONGEST_TEXT
    assert view.part.later is not None
    fields = {field.name: field for field in facts.fields}
    assert {name: field.at is not None for name, field in fields.items()} == {
        "total": True, "currency": True, "evidence": True, "due": False,
    }  # fmt: skip
    (quote,) = facts.evidence_at
    assert (fields["evidence"].at, quote.shown, quote.place.headings) == (quote, False, "The end")
    there, _ = needle(bare, at=quote.place.start)
    assert there.part.start <= quote.place.start < there.part.end == len(NEEDLE)
    marked = {span.text for span in there.spans if span.stages}
    assert "4711.50" in "".join(marked)
    assert [span.page for span in there.spans if span.page][-1] == view.part.pages[-1].page


def test_the_page_links_to_the_words_and_to_pages(bare: Desk) -> None:
    view, request = needle(bare)
    quote = next(stage for stage in view.stages if stage.stage == "facts").evidence_at[0]
    with served(bare) as desk:
        browser = Visitor(desk.url)
        browser.sign_in("ann")
        page = browser.get(f"/requests/{request}/document?id=00001.txt").text
        link = f"/requests/{request}/document?id=00001.txt&amp;at={quote.place.start}#{quote.anchor}"
        assert f'href="{link}"' in page
        assert f"Page {quote.place.page}, The end" in page
        assert 'href="#page-2"' in page
        there = browser.get(link.replace("&amp;", "&").split("#")[0]).text
        browser.http.close()
    assert f'<mark id="{quote.anchor}">' in there
    assert "Earlier text" in there
