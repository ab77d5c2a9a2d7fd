"""Claims about documents as the desk shows them: filtered, with evidence and what people left on them, or damaged."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from candidates import asked, document
from conftest import STAGE, Project, text_of
from desks import desk_of, request_id
from provider import Provider
from signing import current, known
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.desk import candidate_query, reading
from ai_assets.desk.context import Desk
from ai_assets.signoff import notes
from ai_assets.signoff.people import Person
from ai_assets.stages.evidence import evidence_in
from ai_assets.storage.state import storable

PRICED = """\
endpoints:
  small: {base_url: rehearsal, model: mini, prices: [{from: 2026-01-01, input: 1, output: 2}]}
routes:
  default: {endpoints: [small]}
"""
DAY, NEXT_DAY = "2026-10-05", "2026-10-06"


# Documents


def test_documents_are_filtered_searched_and_paged(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    request = asked(bare.stores, "notes", DAY, [document(n) for n in range(250)])
    page = reading.document_page(bare, ann, request.request_id, page=3, per_page=100)
    assert (page.total, page.page, page.pages, len(page.rows)) == (250, 3, 3, 50)
    assert reading.document_page(bare, ann, request.request_id, page=9, per_page=100).rows == page.rows
    low = reading.document_page(bare, ann, request.request_id, change="low confidence", sort="confidence", per_page=500)
    assert low.total == low.counts["low confidence"] == sum(row.confidence is not None for row in low.rows) > 0
    assert [row.confidence for row in low.rows] == sorted(row.confidence or 0 for row in low.rows)
    found = reading.document_page(bare, ann, request.request_id, text="NOTE 24", sort="name")
    assert [row.document_id for row in found.rows] == ["00024.txt", *(f"00{n}.txt" for n in range(240, 250))]
    assert reading.document_page(bare, ann, request.request_id, text="nowhere").rows == []


def test_a_page_of_a_large_request_reads_no_text(bare: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = known(bare.stores.state, "ann")
    request = asked(bare.stores, "notes", DAY, [document(n, text=f"{n}" * 2_000) for n in range(3_000)])
    columns: list[list[str] | None] = []
    read = pq.ParquetFile.read

    def noted(file: pq.ParquetFile, of: list[str] | None = None, **options: Any) -> Any:
        columns.append(of)
        return read(file, of, **options)

    monkeypatch.setattr(pq.ParquetFile, "read", noted)
    first = reading.document_page(bare, ann, request.request_id)
    assert first.total == 3_000
    assert len(columns) == 1
    assert columns[0] is not None
    assert not {"text", "kind_evidence", "path"} & set(columns[0])
    reading.document_page(bare, ann, request.request_id, page=40, sort="confidence")
    reading.request_view(bare, ann, request.request_id)
    reading.document_view(bare, ann, request.request_id, "02999.txt")
    assert len(columns) == 1  # it was kept, and one document is a piece of the file


def test_what_was_looked_at_last_is_kept_up_to_a_number_of_documents(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    recent = candidate_query.CandidateCache(most=25)
    for n in range(4):
        request = asked(bare.stores, "notes", f"2026-10-0{n + 1}", [document(k) for k in range(10)])
        reading.document_page(bare, ann, request.request_id)
        with bare.stores.state.read() as connection:
            kept = candidate_query.candidate_of(bare, connection, request, bare.collections()["notes"])
        recent.put((str(n),), kept)
        recent.get(("0",))
    assert [recent.get((str(n),)) is not None for n in range(4)] == [True, False, False, True]


def test_evidence_is_marked_in_the_text_and_the_text_stays_whole(desk: Desk, ann: Person) -> None:
    view = reading.document_view(desk, ann, request_id(desk, DAY), f"{DAY}/0.txt")
    stage = view.stages[0]
    assert (stage.stage, stage.kind, stage.labels) == ("kind", "classify", ["invoice", "incident"])
    assert "".join(span.text for span in view.spans) == text_of(0)
    assert [span.text for span in view.spans if "kind" in span.stages] == [stage.evidence]
    assert stage.provenance["model"].startswith("builtin/")
    assert (view.cut, view.may_correct, view.path, view.language) == (False, True, f"{DAY}/0.txt", "en")
    assert view.row.document_id == f"{DAY}/0.txt"


@pytest.mark.parametrize(
    ("evidence", "start", "found"),
    [
        ("cd", 2, (2, 4)),
        ("cd", 0, (2, 4)),  # the place is wrong, the words are there
        ("cd", None, (2, 4)),
        ("cd", -3, (2, 4)),
        ("xy", 2, None),
        ("", 0, None),
        (None, None, None),
    ],
)
def test_evidence_is_where_it_says_or_where_its_words_are_or_nowhere(
    evidence: str | None, start: int | None, found: tuple[int, int] | None
) -> None:
    assert evidence_in("abcdef", {"kind_evidence": evidence, "kind_evidence_start": start}, "kind") == found


def test_evidence_of_several_stages_may_overlap(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    row = document(
        1, text="one two three", kind_evidence="one two", kind_evidence_start=0, tone_label="calm", tone_model="m",
        tone_confidence=0.2, tone_evidence="two three", tone_evidence_start=4,
    )  # fmt: skip
    request = asked(bare.stores, "notes", DAY, [row])
    view = reading.document_view(bare, ann, request.request_id, "00001.txt")
    assert [(span.text, tuple(span.stages)) for span in view.spans] == [
        ("one ", ("kind",)), ("two", ("kind", "tone")), (" three", ("tone",)),
    ]  # fmt: skip
    assert [(stage.stage, stage.kind, list(stage.labels)) for stage in view.stages] == [
        ("kind", "classify", ["invoice", "incident"]), ("tone", "classify", []),
    ]  # fmt: skip
    assert view.row.confidence == 0.01


def test_a_very_long_text_is_cut_and_says_so(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    request = asked(bare.stores, "notes", DAY, [document(1, text="x" * 200_001), document(2)])
    view = reading.document_view(bare, ann, request.request_id, "00001.txt")
    assert (view.cut, sum(len(span.text) for span in view.spans)) == (True, 200_000)


def test_documents_follow_each_other_in_order_of_risk(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    request = asked(bare.stores, "notes", DAY, [document(n) for n in range(5)])
    names = [row.document_id for row in reading.document_page(bare, ann, request.request_id).rows]
    walked, name = [], names[0]
    while name is not None:
        walked.append(name)
        view = reading.document_view(bare, ann, request.request_id, name)
        assert view.previous == (walked[-2] if len(walked) > 1 else None)
        name = view.next  # type: ignore[assignment]
    assert walked == names


def test_odd_names_are_names(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
    names = ["../../etc/passwd", "a b%20#?&.txt", "ünï\u202e.txt", storable("\udcff.txt") or "", "<b>'\""]
    request = asked(bare.stores, "notes", DAY, [document(n, document_id=name) for n, name in enumerate(names)])
    for name in names:
        assert reading.document_view(bare, ann, request.request_id, name).row.document_id == name


def test_an_answer_of_a_model_says_which_call_it_was_and_what_it_cost(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.root / "inference.yaml").write_text(PRICED)
    project.document(f"{DAY}/bill.txt", "Invoice 1. Amounts with tax: the total due is 50.00 EUR in 30 days.")
    with Provider() as provider:
        monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        collection = declare(project, [KIND])
        project.refresh(collection, [DAY])
    desk = desk_of(project)
    ann = known(desk.stores.state, "ann")
    stage = reading.document_view(desk, ann, request_id(desk, DAY), f"{DAY}/bill.txt").stages[0]
    assert {"model", "prompt", "call", "endpoint", "dollars"} <= set(stage.provenance)
    assert stage.provenance["endpoint"] == "small"
    assert float(stage.provenance["dollars"].removeprefix("$")) > 0
    with desk.stores.state.write() as connection:
        for table in ("answers", "attempts", "calls"):
            connection.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608
    stage = reading.document_view(desk, ann, request_id(desk, DAY), f"{DAY}/bill.txt").stages[0]
    assert "call" in stage.provenance
    assert "dollars" not in stage.provenance  # unknown, and not nothing


# What people left


def test_reviews_of_unchanged_documents_carry_over_to_the_next_request(
    desk: Desk, ann: Person, labelled: Collection, project: Project
) -> None:
    first = current(desk.stores.state, DAY)
    ben = known(desk.stores.state, "ben", "reviewer", "notes")
    rows = {row.document_id: row for row in reading.document_page(desk, ann, first.request_id).rows}
    for name in rows:
        leaf = reading.document_view(desk, ann, first.request_id, name).leaf
        notes.add(desk.stores.state, first, name, leaf, "reviewed", "", by=ann)
        notes.add(desk.stores.state, first, name, leaf, "second look", "sure?", by=ann)
    page = reading.document_page(desk, ann, first.request_id)
    assert (page.counts["reviewed"], page.counts["not reviewed"], page.counts["second look"]) == (3, 0, 3)
    assert not any(row.carried_over for row in page.rows)
    project.edit(labelled, f"{DAY}/0.txt", "Another text on the pump.")
    later = current(desk.stores.state, DAY)
    page = reading.document_page(desk, ann, later.request_id, sort="name")
    assert [(row.reviewed_by, row.carried_over, row.second_look) for row in page.rows] == [
        ((), False, False), (["ann"], True, True), (["ann"], True, True),
    ]  # fmt: skip
    assert reading.request_view(desk, ann, later.request_id).carried_over == 2
    view = reading.document_view(desk, ann, later.request_id, f"{DAY}/1.txt")
    assert [(note.action, note.actor, note.text) for note in view.notes] == [
        ("reviewed", "ann", ""), ("second look", "ann", "sure?"),
    ]  # fmt: skip
    notes.add(desk.stores.state, later, f"{DAY}/1.txt", view.leaf, "looked again", "", by=ben)
    again = reading.document_page(desk, ann, later.request_id, sort="name").rows[1]
    assert (again.reviewed_by, again.carried_over, again.second_look) == (["ann", "ben"], False, False)


def test_a_correction_shows_with_its_author_until_the_text_changes(
    desk: Desk, ann: Person, labelled: Collection, project: Project
) -> None:
    from ai_assets.signoff import corrections

    request, name = current(desk.stores.state, DAY), f"{DAY}/0.txt"
    label = next(row for row in reading.document_page(desk, ann, request.request_id).rows if row.document_id == name)
    other = "incident" if label.headlines["kind"] == "invoice" else "invoice"
    corrections.correct(
        desk.stores, collection=labelled, request=request, document_id=name, stage="kind", label=other, reason="look",
        by=ann,
    )  # fmt: skip
    view = reading.document_view(desk, ann, request.request_id, name)
    assert view.row.corrected
    assert view.stages[0].correction is not None
    assert {k: view.stages[0].correction[k] for k in ("label", "author", "reason", "used")} == {
        "label": other, "author": "ann", "reason": "look", "used": "no",
    }  # fmt: skip
    assert [entry.action for entry in view.history] == ["requested", "corrected"]
    assert f"'{other}' in place of" in view.history[1].text
    project.refresh(labelled)
    later = reading.document_view(desk, ann, request_id(desk, DAY), name)
    assert later.request.request_id != request.request_id
    assert later.stages[0].headline == other
    assert later.stages[0].correction is not None
    assert later.stages[0].correction["used"] == "yes"
    assert later.stages[0].provenance["corrected by"] == "ann"
    assert "corrected" in [entry.action for entry in later.history]
    project.edit(labelled, name, "Something else entirely, on the pump in the hall.")
    after = reading.document_view(desk, ann, request_id(desk, DAY), name)
    assert (after.row.corrected, after.stages[0].correction) == (False, None)


def test_when_a_correction_is_used_is_said_as_it_is_declared(desk: Desk, ann: Person, project: Project) -> None:
    said = {}
    for kind, declared in {
        "by hand": {}, "watched": {"watch": True}, "nightly": {"schedule": {"cron": "0 3 * * *"}},
    }.items():  # fmt: skip
        project.declare(stages=[dict(STAGE)], **declared)
        view = reading.document_view(desk_of(project), ann, request_id(desk, DAY), f"{DAY}/0.txt")
        said[kind] = view.next_run
    assert "A correction is used by the next run of" in said["by hand"]
    assert "starts within a minute" in said["watched"]
    assert "next scheduled run, at '0 3 * * *' (UTC)" in said["nightly"]


# Damage


@pytest.mark.parametrize("harm", ["gone", "garbage", "cut short"])
def test_a_damaged_file_is_told_and_the_rest_is_shown(desk: Desk, ann: Person, harm: str) -> None:
    damage(documents_file(desk), harm)
    view = reading.request_view(desk, ann, request_id(desk, DAY))
    assert "Not all of this request can be shown" in str(view.damaged)
    assert (view.row.added, len(view.sample), view.is_current) == (3, 3, True)
    page = reading.document_page(desk, ann, request_id(desk, DAY))
    assert {row.document_id: row.status for row in page.rows} == {f"{DAY}/{n}.txt": "unknown" for n in range(3)}
    one = reading.document_view(desk, ann, request_id(desk, DAY), f"{DAY}/0.txt")
    assert (one.damaged, one.spans, one.stages, one.leaf) == (view.damaged, [], [], "")


def test_a_file_that_is_lost_between_two_looks_is_told_too(desk: Desk, ann: Person) -> None:
    assert reading.document_page(desk, ann, request_id(desk, DAY)).damaged is None
    damage(documents_file(desk), "gone")
    view = reading.document_view(desk, ann, request_id(desk, DAY), f"{DAY}/0.txt")
    assert "Not all of this document can be shown" in str(view.damaged)
    assert view.row.headlines["kind"] is not None  # of what was read before


def test_a_file_that_was_brought_back_is_shown_again(desk: Desk, ann: Person) -> None:
    path = documents_file(desk)
    data = path.read_bytes()
    path.unlink()
    assert reading.document_page(desk, ann, request_id(desk, DAY)).damaged is not None
    path.write_bytes(data)
    assert reading.document_page(desk, ann, request_id(desk, DAY)).damaged is None


def documents_file(desk: Desk) -> Path:
    name = current(desk.stores.state, DAY).changes["files"]["documents_file"]
    return next(desk.stores.lake.root.rglob(name))


def damage(path: Path, harm: str) -> None:
    match harm:
        case "gone":
            path.unlink()
        case "garbage":
            path.write_bytes(b"no Parquet at all")
        case _:
            path.write_bytes(path.read_bytes()[:-40])


COUNTING = """
from ai_assets import stage

@stage(columns={"words": int, "short": bool, "first": list[str]})
def counted(document):
    words = document.text.split()
    return {"words": len(words), "short": len(words) < 9, "first": words[:2]}
"""


def test_every_column_of_a_function_is_on_the_page_of_its_document(project: Project) -> None:
    """Also where none of them is text."""
    project.document(f"{DAY}/a.txt", "The pump in hall 7 leaks.")
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(COUNTING)
    collection = project.declare(stages=[{"name": "counted", "kind": "function", "function": "./own.py:counted"}])
    project.refresh(collection)
    desk = desk_of(project, collection)
    ann = known(desk.stores.state, "ann")
    (stage,) = reading.document_view(desk, ann, request_id(desk, DAY), f"{DAY}/a.txt").stages
    assert (stage.stage, stage.kind, stage.headline) == ("counted", "function", "ok")
    assert stage.columns == {"words": "6", "short": "true", "first": "The, pump"}
    (row,) = reading.document_page(desk, ann, request_id(desk, DAY)).rows
    assert row.headlines == {"counted": "ok"}
