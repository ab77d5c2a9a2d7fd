"""Claims about evidence: a passage that is found says on which page and under which headings it stands."""

import json

import pytest
from conftest import DAYS, STAGE, Project
from reportlab.platypus import PageBreak, Paragraph
from signing import decide as approve
from test_parse_pdf import PROSE, STYLES, written
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.collection.loading import Collection
from ai_assets.run.explain import explain, search
from ai_assets.signoff.publication import publish

DAY = "2026-10-05"
REPORT = f"{DAY}/report.pdf"


@pytest.fixture
def released(project: Project) -> Collection:
    content = written(
        Paragraph("The audit", STYLES["Title"]),
        Paragraph(PROSE, STYLES["Normal"]),
        PageBreak(),
        Paragraph("Findings", STYLES["Heading2"]),
        Paragraph(f"The kraken ate the backups of the archive. {PROSE}", STYLES["Normal"]),
    )
    project.document(REPORT, content)
    project.document(f"{DAY}/note.txt", "A note without pages about the harvest of apples.")
    collection = project.declare(partitions={**DAYS, "end": DAY}, stages=[dict(STAGE)])
    project.refresh(collection)
    approve(project.stores().state, collection)
    publish(collection, project.stores(), by="test")
    return collection


def test_a_hit_points_to_its_page_and_headings(released: Collection, project: Project) -> None:
    _, hits = search(released, project.stores(), "kraken backups", 1)
    assert [(hit.document_id, hit.page, hit.headings) for hit in hits] == [(REPORT, 2, "The audit > Findings")]
    _, hits = search(released, project.stores(), "harvest of apples", 1)
    assert [(hit.page, hit.headings) for hit in hits] == [(None, None)]


def test_the_command_shows_the_place(released: Collection, monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    monkeypatch.chdir(project.root)
    told = CliRunner().invoke(app, ["search", released.name, "kraken backups", "-k", "1"], env={"COLUMNS": "200"})
    assert "page 2, The audit > Findings" in told.output


def test_explain_names_the_library_and_each_passage(released: Collection, project: Project) -> None:
    current = explain(released, project.stores(), REPORT)["current"]
    assert (current["read_by"], current["pages"]) == ("pdfium", 2)
    passages = current["passages"]
    assert [passage["page"] for passage in passages] == sorted(passage["page"] for passage in passages)
    assert {passage["headings"] for passage in passages} == {"The audit", "The audit > Findings"}
    json.dumps(current)
