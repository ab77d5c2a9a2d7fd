"""Claims about what a request shows of changed, lost and unreadable documents, what its risk is made of, and that an
answer which is shown as Markdown brings no script with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from candidates import asked, document
from conftest import STAGE, Project
from desks import desk_of, request_id
from signing import decide, known

from ai_assets.desk import reading
from ai_assets.desk.answer_fields import Field, fields_of
from ai_assets.desk.context import Desk
from ai_assets.desk.markup import LONGEST, markdown
from ai_assets.desk.pages.wording import by_person, commands, in_short, level
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.publication import publish
from ai_assets.signoff.risk import document_risk, document_risk_parts, request_risk, request_risk_parts
from ai_assets.storage.lake import write_parquet

DAY = "2026-10-05"
FACTS: Mapping[str, Any] = {
    "documents": 5, "quarantined": 0, "added": 0, "changed": 0, "removed": 0, "relabelled": 0, "unreadable": 0,
    "low_confidence": 0, "failed_gates": 0, "gates": 0, "passed_gates": 0, "cost_usd": 0.0,
}  # fmt: skip


# A real run


def test_a_live_document_that_cannot_be_read_any_more_is_lost_with_its_reason(project: Project) -> None:
    project.document(f"{DAY}/0.txt", "A fire broke out in the hall; the cause was a leak in the pump.")
    project.document(f"{DAY}/1.txt", "The invoice of the total due is 12.00.")
    collection = project.declare(stages=[dict(STAGE)])
    project.refresh(collection, [DAY])
    with project.stores() as stores:
        ann = known(stores.state, "ann")
        decide(stores.state, collection, [DAY], by=ann)
        publish(collection, stores, by="test")
        (project.root / f"collections/notes/documents/{DAY}/0.txt").write_bytes(b"\xff\xfe\x00\x00\xd8\x00" * 7)
        (project.root / f"collections/notes/documents/{DAY}/9.txt").write_bytes(b"")
        project.refresh(collection, [DAY])
        desk = desk_of(project)
        view = reading.request_view(desk, ann, request_id(desk, DAY))
        assert (view.row.added, view.row.changed, view.row.removed, view.row.relabelled) == (0, 0, 1, 0)
        assert (view.row.quarantined, view.row.unreadable, view.row.gates) == (2, 1, 0)
        rows = {row.document_id: row for row in reading.document_page(desk, ann, view.row.request_id).rows}
        lost, unreadable = rows[f"{DAY}/0.txt"], rows[f"{DAY}/9.txt"]
        assert (lost.change, lost.status, bool(lost.reason), lost.before) == (
            "removed", "quarantined", True, {"kind": "incident"},
        )  # fmt: skip
        assert (unreadable.change, unreadable.status, bool(unreadable.reason), unreadable.asked) == (
            "unreadable", "quarantined", True, (),
        )  # fmt: skip
        shown = reading.document_view(desk, ann, view.row.request_id, lost.document_id)
        assert (shown.lost, "A fire broke out" in "".join(span.text for span in shown.spans)) == (True, True)
        assert (shown.reason, shown.stages[0].headline) == (lost.reason, "incident")
        assert shown.total == 3


# Candidates of every kind


def shown_by(bare: Desk, new: Sequence[dict[str, Any]], old: Sequence[dict[str, Any]], **told: Any) -> str:
    folder = snapshot_folder(bare.stores.lake.root, "notes", DAY)
    live = write_parquet(folder, pa.Table.from_pylist(list(old))).name
    live_files = {"documents_file": live, "chunks_file": "none"}
    request = asked(bare.stores, "notes", DAY, new, added=[], live_files=live_files, **told)
    return request.request_id


@pytest.fixture
def bare(project: Project) -> Desk:
    project.declare(stages=[dict(STAGE)])
    return desk_of(project)


def test_a_changed_document_is_compared_with_the_live_one_in_text_and_answers(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    old = document(1, text="The seal of pump 7 leaks.", kind_label="invoice", kind_confidence=0.95)
    new = document(1, text="The seal of pump 9 leaks.", kind_label="incident", kind_confidence=0.6, leaf="other")
    moves = {"00001.txt": [{"stage": "kind", "from": "invoice", "to": "incident"}]}
    found = shown_by(bare, [document(0), new], [document(0), old], changed=["00001.txt"], relabelled=moves)
    view = reading.document_view(bare, ann, found, "00001.txt")
    assert view.difference is not None
    assert [(piece.kind, piece.text) for piece in view.difference.pieces if piece.kind in ("added", "removed")] == [
        ("removed", "7"), ("added", "9"),
    ]  # fmt: skip
    (stage,) = view.stages
    assert (stage.headline, stage.before) == ("incident", "invoice")
    assert ("confidence", "0.6", "0.95") in [(field.name, field.value, field.before) for field in stage.changes]
    same = reading.document_view(bare, ann, found, "00000.txt")
    assert (same.difference, same.lost, same.stages[0].changes) == (None, False, ())


def test_a_removed_document_shows_what_is_lost_and_its_place_among_the_others(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    found = shown_by(bare, [document(0)], [document(0), document(1, text="Gone by now.")], removed=["00001.txt"])
    view = reading.document_view(bare, ann, found, "00001.txt")
    assert (view.lost, "".join(span.text for span in view.spans), view.words) == (True, "Gone by now.", 3)
    assert (view.position, view.total, view.difference) == (1, 2, None)


def test_data_is_shown_as_fields_beside_the_live_ones(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    extra = {"terms_model": "m", "terms_status": "ok"}
    old = document(1, terms_data=json.dumps({"sum": 3, "who": ["a", "b"]}), **extra)
    new = document(1, terms_data=json.dumps({"sum": 4, "who": ["a", "b"]}), leaf="other", **extra)
    view = reading.document_view(bare, ann, shown_by(bare, [new], [old], changed=["00001.txt"]), "00001.txt")
    terms = next(stage for stage in view.stages if stage.stage == "terms")
    assert [(field.name, field.value, field.before, field.change) for field in terms.fields] == [
        ("sum", "4", "3", "changed"), ("who", "a, b", None, "same"),
    ]  # fmt: skip


def test_a_stage_that_was_not_asked_is_not_listed_among_the_answers(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    columns = {"terms_data": None, "terms_model": None, "terms_status": None}
    request = asked(bare.stores, "notes", DAY, [document(1, **columns)])
    (row,) = reading.document_page(bare, ann, request.request_id).rows
    assert row.asked == ("kind",)
    assert {name: name in row.headlines for name in ("kind", "terms")} == {"kind": True, "terms": True}
    view = reading.document_view(bare, ann, request.request_id, "00001.txt")
    assert {stage.stage: stage.asked for stage in view.stages} == {"kind": True, "terms": False}


# Fields


def test_fields_are_a_tree_that_says_what_changed_in_it() -> None:
    now = {"a": {"b": [1, 2], "c": None}, "d": [{"e": "x"}], "f": True, "g": 1}
    before = {"a": {"b": [1], "c": None}, "d": [{"e": "x"}], "f": True, "h": "old", "g": 1.0}

    def flat(fields: Sequence[Field], above: str = "") -> dict[str, tuple[str | None, str | None, str]]:
        found = {}
        for field in fields:
            name = f"{above}{field.name}"
            found[name] = (field.value, field.before, field.change)
            found |= flat(field.fields, f"{name}.")
        return found

    assert flat(fields_of(now, before)) == {
        "a": (None, None, "changed"), "a.b": ("1, 2", "1", "changed"), "a.c": (None, None, "same"),
        "d": (None, None, "same"), "d.1": (None, None, "same"), "d.1.e": ("x", None, "same"),
        "f": ("yes", None, "same"), "g": ("1", "1.0", "changed"), "h": (None, "old", "removed"),
    }  # fmt: skip
    assert {field.change for field in fields_of(now)} == {"same"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"sum": 12, "who": {"name": "A \\"b\\""}, "tags": ["x"', 'sum: 12, who: …, name: A "b", tags: …'),
        ("plain text", "plain text"),
        ("{not json", "{not json"),
        ("# Title\n\nIt **pays** `12` | [here](http://x)", "Title It pays 12 here"),
        ("3 * 4 is 12", "3 * 4 is 12"),
    ],
)
def test_an_answer_in_a_list_is_read_without_brackets_and_signs(text: str, expected: str) -> None:
    assert in_short(text) == expected


def test_a_sentence_shows_its_commands_and_nothing_that_a_stranger_put_into_it() -> None:
    said = commands("Start `ai-assets up`; <b>x</b> was `<i>found`, and one ` alone")
    assert said == (
        "Start <code>ai-assets up</code>; &lt;b&gt;x&lt;/b&gt; was <code>&lt;i&gt;found</code>, and one ` alone"
    )


# Risk


@dataclass(frozen=True, kw_only=True)
class Risk:
    id: str
    facts: Mapping[str, int]
    level: str
    most: str
    """The part that adds most."""


RISKS = (
    Risk(id="no file can be read", facts={"quarantined": 5, "unreadable": 5}, level="high",
         most="files that cannot be read"),
    Risk(id="all is lost to broken files", facts={"quarantined": 5, "removed": 5}, level="high",
         most="files that cannot be read"),
    Risk(id="all is removed", facts={"documents": 0, "removed": 5}, level="medium",
         most="live documents that readers lose"),
    Risk(id="five sure new documents", facts={"added": 5}, level="low", most="documents that change at all"),
    Risk(id="one of five broken", facts={"quarantined": 1, "unreadable": 1, "added": 4}, level="low",
         most="documents that change at all"),
)  # fmt: skip


@pytest.mark.parametrize("case", RISKS, ids=lambda case: case.id)
def test_a_risk_is_the_sum_of_its_parts_and_unreadable_candidates_are_red(case: Risk) -> None:
    facts = {**FACTS, **case.facts}
    parts = request_risk_parts(facts, ())
    assert request_risk(facts, ()) == pytest.approx(min(1.0, sum(part.points for part in parts)), abs=1e-4)
    assert (level(request_risk(facts, ())), max(parts, key=lambda part: part.points).name) == (case.level, case.most)


def test_a_documents_risk_names_its_parts() -> None:
    parts = document_risk_parts("relabelled", "quarantined", [0.5, 0.9])
    assert [(part.name, round(part.points, 2)) for part in parts] == [
        ("it is relabelled", 0.4), ("its least sure answer", 0.3), ("it is quarantined", 0.3),
    ]  # fmt: skip
    assert document_risk("relabelled", "quarantined", [0.5, 0.9]) == 1.0


def test_a_request_shows_the_parts_only_where_they_make_the_risk_it_was_given(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    ours = asked(bare.stores, "notes", DAY, [document(1)], facts=FACTS, risk=request_risk(FACTS, ()))
    earlier = asked(bare.stores, "notes", "2026-10-06", [document(1)], risk=0.9)
    assert reading.request_view(bare, ann, ours.request_id).risk_parts
    assert reading.request_view(bare, ann, earlier.request_id).risk_parts == []


# Words


def test_one_author_is_shown_once_with_all_they_did() -> None:
    told = [(who, f"edited {name} last") for name in ("a.md", "b.md") for who in ("Maria", "maria@example.org")]
    authors = [{"who": who, "did": did} for who, did in [*told, ("Bob", "edited c.md last")]]
    assert by_person(authors) == [
        ("Maria (maria@example.org)", ["edited a.md last", "edited b.md last"]), ("Bob", ["edited c.md last"]),
    ]  # fmt: skip


# Markdown


def test_markdown_becomes_html_without_headings_of_the_page() -> None:
    made = markdown(
        "# Title\n\n**bold** and `code`\n\n- one\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n\n<https://example.org>"
    )
    for expected in ('<p class="heading">Title</p>', "<strong>bold</strong>", "<li>one</li>", "<td>2</td>"):
        assert expected in made
    assert 'href="https://example.org" rel="noopener noreferrer nofollow"' in made
    assert "<h1" not in made


HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox)",
    "![x](https://evil.example/pixel.png)",
    '[x](https://e.example "onmouseover=alert(1)")',
    "<svg/onload=alert(1)>",
    "[x](/releases/notes)",
    "[x](//evil.example)",
    '<a href="javascript:alert(1)">x</a>',
    "```\n</code></pre><script>alert(1)</script>\n```",
    "# <iframe src=//evil.example>",
    "| <style>*{display:none}</style> |\n|---|\n| <form action=//evil><input> |",
    "[x]: javascript:alert(1)\n\n[x]",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<p class=heading style=position:fixed>x</p>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_answer_brings_markup_of_its_own(text: str) -> None:
    made = markdown(text).lower()
    assert 'href="/' not in made
    for forbidden in ("<script", "<img", "<svg", "<iframe", "<style", "<form", "<input", "<a href=\"javascript",
                      "<a href=\"data", "<a href=\"vbscript", "style=\"", "onmouseover=\"alert"):  # fmt: skip
        assert forbidden not in made, made
    assert "<p class=heading" not in made


def test_a_text_too_long_to_be_rendered_is_shown_as_it_is() -> None:
    made = markdown("<b>" + "x" * LONGEST)
    assert made.startswith("<pre>&lt;b&gt;x")
