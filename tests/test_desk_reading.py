"""Claims about what the desk reads: only what a person may see, whole and in order, however much there is."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from conftest import STAGE, Project, text_of
from reading_desks import asked, current, decide, desk_of, document, somebody

from ai_assets.collection import Collection
from ai_assets.desk import candidate_reading, inbox, reading
from ai_assets.desk.context import Desk
from ai_assets.desk.document_view import evidence_in
from ai_assets.desk.reading import MomentInvalid, NotSeen, ViewUnknown
from ai_assets.desk.sight import moment
from ai_assets.settings import SlaSettings
from ai_assets.signoff import notes, people, proof, releases, requests
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.work import Stores
from resources.digest import digest
from resources.state import storable

DAY, NEXT_DAY = "2026-10-05", "2026-10-06"


@pytest.fixture
def collection(project: Project) -> Collection:
    """Two days with three labelled documents each, computed: two requests wait."""
    project.documents(per_day=3, days=2)
    declared = project.declare(stages=[dict(STAGE)])
    project.refresh(declared)
    return declared


@pytest.fixture
def desk(project: Project, collection: Collection) -> Desk:
    return desk_of(project)


@pytest.fixture
def stores(desk: Desk) -> Stores:
    return desk.stores


@pytest.fixture
def ann(stores: Stores) -> Person:
    return somebody(stores.state, "ann")


@pytest.fixture
def bare(project: Project) -> Desk:
    """A declared collection without a run."""
    project.declare(stages=[dict(STAGE)])
    return desk_of(project)


def request_id(desk: Desk, day: str = DAY) -> str:
    return current(desk.stores.state, day).request_id


def edit(project: Project, collection: Collection, name: str = f"{DAY}/0.txt", text: str | None = None) -> None:
    """Another text of a document, or none, and the partition refreshed."""
    path = project.root / "collections/notes/documents" / name
    path.unlink() if text is None else project.document(name, text)
    project.refresh(collection)


# Who sees what


def test_what_may_not_be_seen_looks_like_what_is_not_there(desk: Desk, project: Project) -> None:
    eve = somebody(desk.stores.state, "eve", "admin", "mail")
    known = request_id(desk)
    for name in (known, "0" * 16, "no\0where\ud800"):
        for ask in (
            lambda name=name: reading.request_view(desk, eve, name),
            lambda name=name: reading.request_state(desk, eve, name),
            lambda name=name: reading.document_page(desk, eve, name),
            lambda name=name: reading.document_view(desk, eve, name, f"{DAY}/0.txt"),
        ):
            with pytest.raises(NotSeen) as refused:
                ask()
            assert str(refused.value).startswith(f"There is no request '{name}' that you may see")
    for name in ("notes", "elsewhere"):
        for ask in (
            lambda name=name: reading.release_rows(desk, eve, name),
            lambda name=name: reading.live_at(desk, eve, name, "2026-11-21"),
            lambda name=name: reading.inbox(desk, eve, collection=name),
            lambda name=name: reading.audit_page(desk, eve, collection=name),
            lambda name=name: list(reading.audit_lines(desk, eve, collection=name)),
        ):
            with pytest.raises(NotSeen, match=f"There is no collection '{name}' that you may see"):
                ask()
    box = reading.inbox(desk, eve, status="all")
    assert (box.total, box.collections, set(box.counts.values())) == (0, [], {0})
    assert reading.audit_page(desk, eve) == ([], None)


def test_a_document_that_is_not_in_the_request_is_not_there(desk: Desk, ann: Person) -> None:
    with pytest.raises(NotSeen, match=r"no document '2026-10-06/3\.txt' in request"):
        reading.document_view(desk, ann, request_id(desk), f"{NEXT_DAY}/3.txt")


# The inbox


def test_the_inbox_has_a_row_per_request_with_what_it_would_change(desk: Desk, ann: Person) -> None:
    box = reading.inbox(desk, ann)
    assert {row.partition for row in box.rows} == {DAY, NEXT_DAY}
    row = next(row for row in box.rows if row.partition == DAY)
    assert (row.documents, row.added, row.changed, row.given, row.needed) == (3, 3, 0, 0, 1)
    assert (row.sla, row.may_decide, row.why_not) == ("fresh", True, None)
    assert row.expires_at is not None
    assert (box.total, box.pages, box.counts["open"], box.collections) == (2, 1, 2, ["notes"])


def test_closed_requests_come_after_open_ones_and_say_why_nobody_decides_them(
    desk: Desk, ann: Person, stores: Stores, collection: Collection
) -> None:
    decide(stores, collection, DAY, "reject", ann, "wrong")
    assert [row.partition for row in reading.inbox(desk, ann).rows] == [NEXT_DAY]
    assert [row.partition for row in reading.inbox(desk, ann, status="closed").rows] == [DAY]
    assert [row.partition for row in reading.inbox(desk, ann, status="rejected").rows] == [DAY]
    for sort in inbox.SORTS:
        both = reading.inbox(desk, ann, status="all", sort=sort)
        assert [row.partition for row in both.rows] == [NEXT_DAY, DAY]
        alone = [reading.inbox(desk, ann, status="all", sort=sort, page=n, per_page=1) for n in (1, 2, 3)]
        assert [box.rows[0].partition for box in alone] == [NEXT_DAY, DAY, DAY]
        assert [box.page for box in alone] == [1, 2, 2]
    row = both.rows[1]
    assert (row.may_decide, row.sla, row.expires_at) == (False, "none", None)
    assert row.why_not == "'ann' cannot decide this: it was rejected by ann."


def test_the_inbox_says_who_may_not_decide_and_why(desk: Desk, stores: Stores, project: Project) -> None:
    viewer = somebody(stores.state, "vic", "viewer", "notes")
    assert "takes the role approver in notes" in str(reading.inbox(desk, viewer).rows[0].why_not)
    project.declare(stages=[dict(STAGE)], signoff={"approvers": ["group:editors"]})
    desk = desk_of(project)
    assert "notes is signed by group:editors" in str(reading.inbox(desk, somebody(stores.state, "ben")).rows[0].why_not)
    editor = somebody(stores.state, "eddy", groups=["editors"])
    assert reading.inbox(desk, editor).rows[0].may_decide


def test_an_approval_of_several_shows_in_the_inbox(desk: Desk, ann: Person, stores: Stores, project: Project) -> None:
    strict = project.declare(stages=[dict(STAGE)], signoff={"approvals": 2})
    desk = desk_of(project)
    decide(stores, strict, DAY, "approve", ann)
    row = next(row for row in reading.inbox(desk, ann).rows if row.partition == DAY)
    assert (row.status, row.given, row.needed, row.may_decide) == ("open", 1, 2, False)
    assert "has their approval already" in str(row.why_not)


def test_the_inbox_is_searched_by_words_as_they_are(desk: Desk, ann: Person) -> None:
    wanted = {"05": 1, "NOTES": 2, "2026-10": 2, "nothing": 0, "%": 0, "_": 0, "": 2, "  ": 2, "a\0": 0}
    assert {text: reading.inbox(desk, ann, text=text, status="all").total for text in wanted} == wanted


def test_a_request_is_found_by_the_beginning_of_its_digest(desk: Desk, ann: Person, stores: Stores) -> None:
    box = reading.inbox(desk, ann, text=current(stores.state, DAY).digest[:12])
    assert [row.partition for row in box.rows] == [DAY]


def test_words_that_the_inbox_does_not_know_are_named(desk: Desk, ann: Person) -> None:
    with pytest.raises(ViewUnknown, match="'newest' is no order; known are risk, age, size, collection"):
        reading.inbox(desk, ann, sort="newest")
    with pytest.raises(ViewUnknown, match="'lost' is no state; known are open, closed, all"):
        reading.inbox(desk, ann, status="lost")
    with pytest.raises(ViewUnknown, match="'new' is no filter"):
        reading.document_page(desk, ann, request_id(desk), change="new")


def test_age_raises_risk_up_to_expiry_and_never_above_one() -> None:
    sla = SlaSettings()
    ages = [inbox.aged_risk(0.2, hours, sla) for hours in (0, 24, 200, 14 * 24, 99 * 24)]
    assert ages == sorted(ages)
    assert (ages[0], ages[-2]) == (0.2, ages[-1])
    assert inbox.aged_risk(1.0, 1e9, sla) == 1.0
    never = SlaSettings(remind_after_hours=None, escalate_after_hours=None, expire_after_days=None)
    assert inbox.aged_risk(0.2, 1e9, never) == 0.2


def test_an_old_request_is_ranked_above_a_new_one_and_is_near_expiry(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
    for day, risk in ((DAY, 0.1), (NEXT_DAY, 0.2)):
        asked(bare.stores, "notes", day, [document(1)], risk=risk)
    assert [row.partition for row in reading.inbox(bare, ann).rows] == [NEXT_DAY, DAY]
    with bare.stores.state.write() as connection:
        old = {"at": moment("2026-01-01"), "day": DAY}
        connection.execute(sa.text("UPDATE review_requests SET opened_at = :at WHERE partition = :day"), old)
    rows = reading.inbox(bare, ann).rows
    assert [(row.partition, row.sla) for row in rows] == [(DAY, "near expiry"), (NEXT_DAY, "fresh")]
    assert [row.partition for row in reading.inbox(bare, ann, sort="age").rows] == [DAY, NEXT_DAY]


def test_a_request_of_an_earlier_version_has_its_numbers_from_its_summary(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
    gates = [{"name": "accuracy", "passed": False, "message": "low", "waivable": True, "min": 1, "value": 0, "n": 1}]
    asked(bare.stores, "notes", DAY, [document(n) for n in range(3)], facts={}, gates=gates, quarantined=1)
    row = reading.inbox(bare, ann).rows[0]
    assert (row.documents, row.added, row.quarantined, row.failed_gates, row.low_confidence) == (3, 3, 1, 1, 0)


def test_ten_thousand_open_requests_are_one_page_of_small_columns(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
    template = asked(bare.stores, "notes", DAY, [document(1)])
    rows = [
        {**vars(template), "request_id": f"{n:016x}", "partition": f"p{n:05d}", "digest": digest([n]),
         "risk": n / 10_000, "summary": "this is no JSON, and nobody may read it"}
        for n in range(10_000)
    ]  # fmt: skip
    with bare.stores.state.write() as connection:
        connection.execute(sa.delete(requests.TABLE))
        connection.execute(sa.insert(requests.TABLE), rows)
    box = reading.inbox(bare, ann, page=2, per_page=50)
    assert (box.total, box.pages, box.counts["open"]) == (10_000, 200, 10_000)
    assert [row.partition for row in box.rows] == [f"p{n:05d}" for n in range(9_949, 9_899, -1)]


# A request


def test_a_request_shows_what_would_go_live_and_what_each_verdict_does(desk: Desk, ann: Person) -> None:
    view = reading.request_view(desk, ann, request_id(desk))
    assert (view.live_release, view.unchanged, list(view.removed), view.since_last) == (None, 0, [], None)
    assert (view.missing, view.signers, view.is_current, view.newer) == (["0 of 1 approvals"], [], True, None)
    assert [entry.action for entry in view.history] == ["requested"]
    assert view.publication.state == "not approved"
    assert {row.document_id for row in view.sample} == {f"{DAY}/{n}.txt" for n in range(3)}
    assert [row.risk for row in view.sample] == sorted((row.risk for row in view.sample), reverse=True)
    assert view.sentence["approve"] == (
        f"notes {DAY} goes live with the next release, within a minute while ai-assets up runs: documents 3 added."
    )
    assert set(view.sentence) == {"approve", "reject", "send back"}
    assert view.rules.startswith("One approval is needed; whoever launched the run")
    assert view.damaged is None


def test_the_first_of_two_approvals_is_said_to_publish_nothing(desk: Desk, ann: Person, project: Project) -> None:
    project.declare(stages=[dict(STAGE)], signoff={"approvals": 2, "needed_from": {"legal": 1}})
    view = reading.request_view(desk_of(project), ann, request_id(desk))
    assert view.missing == ["0 of 2 approvals", "0 of 1 from group legal"]
    assert (
        "it then has 1 of 2 approvals and 0 of 1 from group legal, and nothing is published yet"
        in (view.sentence["approve"])
    )
    assert view.rules.startswith("2 approvals are needed, of them 1 from group legal;")


def test_a_request_stands_beside_the_live_release_and_the_last_request(
    desk: Desk, ann: Person, stores: Stores, collection: Collection, project: Project
) -> None:
    for day in (DAY, NEXT_DAY):
        decide(stores, collection, day, "approve", ann)
    first = request_id(desk)
    assert reading.request_state(desk, ann, first).publication.state == "waiting"
    publish(collection, stores, by="test")
    done = reading.request_state(desk, ann, first)
    assert (done.status, done.publication.state, done.publication.release) == ("published", "published", 1)
    assert done.publication.said == "It is published: release 1 is live."
    project.document(f"{DAY}/9.txt", "A new one on the pump.")
    (project.root / f"collections/notes/documents/{DAY}/1.txt").unlink()
    edit(project, collection, text="A fire broke out; the cause of the accident was a leak.")
    view = reading.request_view(desk, ann, request_id(desk))
    assert (view.live_release, view.row.added, view.row.changed, list(view.removed)) == (1, 1, 1, [f"{DAY}/1.txt"])
    assert (view.unchanged, view.is_current) == (1, True)
    assert view.since_last is not None
    assert view.since_last["request_id"] == first
    old = reading.request_view(desk, ann, first)
    assert (old.is_current, old.newer) == (False, view.row.request_id)
    page = reading.document_page(desk, ann, view.row.request_id, sort="name")
    assert {row.document_id: row.change for row in page.rows} == {
        f"{DAY}/0.txt": "relabelled", f"{DAY}/1.txt": "removed", f"{DAY}/2.txt": "unchanged", f"{DAY}/9.txt": "added",
    }  # fmt: skip
    assert page.rows[0].before == {"kind": page.rows[1].headlines["kind"]}
    assert {name: page.counts[name] for name in ("all", "added", "changed", "relabelled", "removed", "unchanged")} == {
        "all": 4, "added": 1, "changed": 1, "relabelled": 1, "removed": 1, "unchanged": 1,
    }  # fmt: skip
    gone = reading.document_view(desk, ann, view.row.request_id, f"{DAY}/1.txt")
    assert (gone.row.change, gone.may_correct, "Note 1 on the" in gone.spans[0].text) == ("removed", False, True)
    moved = reading.document_view(desk, ann, view.row.request_id, f"{DAY}/0.txt")
    assert [stage.before for stage in moved.stages] == [page.rows[0].before["kind"]]


def test_a_published_request_says_so_when_another_release_is_live(
    desk: Desk, ann: Person, stores: Stores, collection: Collection
) -> None:
    for day in (DAY, NEXT_DAY):
        decide(stores, collection, day, "approve", ann)
        publish(collection, stores, by="test")
    second = request_id(desk, NEXT_DAY)
    assert reading.request_state(desk, ann, second).publication.release == 2
    releases.rollback(stores.state, "notes", 1, by=ann, reason="test")
    assert reading.request_state(desk, ann, second).publication.said == (
        "It is published in release 2; release 1 is live now."
    )


def test_what_was_sent_back_may_be_asked_again_by_a_reviewer(
    desk: Desk, ann: Person, stores: Stores, collection: Collection
) -> None:
    decide(stores, collection, DAY, "send back", ann, "the title is wrong")
    view = reading.request_view(desk, ann, request_id(desk))
    assert (view.may_ask_again, view.reason, view.closed_by) == (True, "the title is wrong", "ann")
    viewer = somebody(stores.state, "vic", "viewer", "notes")
    assert not reading.request_view(desk, viewer, request_id(desk)).may_ask_again


def test_scores_and_gates_stand_beside_those_of_the_live_release(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
    score = {"metric": "accuracy", "scope": "corpus", "stage": "kind", "value": 0.9, "n": 10}
    gate = {"name": "accuracy", "min": 0.95, "value": 0.9, "n": 10, "passed": False, "waivable": True, "message": "low"}
    request = asked(
        bare.stores, "notes", DAY, [document(1)], scores=[score, {**score, "metric": "mrr", "stage": None}],
        live_scores=[{**score, "value": 0.8}], gates=[gate],
    )  # fmt: skip
    view = reading.request_view(bare, ann, request.request_id)
    assert [(item.metric, item.value, item.live) for item in view.scores] == [
        ("accuracy", 0.9, 0.8),
        ("mrr", 0.9, None),
    ]
    assert [(item.name, item.minimum, item.passed, item.waived_because) for item in view.gates] == [
        ("accuracy", 0.95, False, None)
    ]
    assert "although the gates accuracy failed" in view.sentence["approve"]


def test_links_lead_to_the_run_and_the_asset_in_dagster(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
    run = "0b5b8f5e-6c1d-4f3a-9a52-3c1f4f0a7e11"
    request = asked(bare.stores, "notes", "a/b c", [document(1)], run_id=run)
    linked = replace(bare, dagster_url="http://dagster.test")
    view = reading.request_view(linked, ann, request.request_id)
    assert view.run_url == f"http://dagster.test/runs/{run}"
    assert view.asset_url == ("http://dagster.test/assets/notes/release_candidate?view=partitions&partition=a%2Fb+c")
    assert reading.request_view(bare, ann, request.request_id).asset_url is None


def test_a_dagster_that_does_not_answer_holds_no_page_up(
    desk: Desk, ann: Person, stores: Stores, collection: Collection
) -> None:
    import socket

    decide(stores, collection, DAY, "approve", ann)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never says a word
        away = replace(desk, dagster_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        said = [reading.request_state(away, ann, request_id(desk)).publication.state for _ in range(5)]
    assert said == ["waiting"] * 5
    assert time.monotonic() - started < 5


# Documents


def test_documents_are_filtered_searched_and_paged(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
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
    ann = somebody(bare.stores.state, "ann")
    request = asked(bare.stores, "notes", DAY, [document(n, text=f"{n}" * 2_000) for n in range(3_000)])
    columns: list[list[str] | None] = []
    read = pq.read_table

    def noted(path: Any, **options: Any) -> Any:
        columns.append(options.get("columns"))
        return read(path, **options)

    monkeypatch.setattr(pq, "read_table", noted)
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
    ann = somebody(bare.stores.state, "ann")
    recent = candidate_reading.Recent(most=25)
    for n in range(4):
        request = asked(bare.stores, "notes", f"2026-10-0{n + 1}", [document(k) for k in range(10)])
        reading.document_page(bare, ann, request.request_id)
        with bare.stores.state.read() as connection:
            kept = candidate_reading.candidate_of(bare, connection, request, bare.collections()["notes"])
        recent.put((str(n),), kept)
        recent.get(("0",))
    assert [recent.get((str(n),)) is not None for n in range(4)] == [True, False, False, True]


def test_evidence_is_marked_in_the_text_and_the_text_stays_whole(desk: Desk, ann: Person) -> None:
    view = reading.document_view(desk, ann, request_id(desk), f"{DAY}/0.txt")
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
    ann = somebody(bare.stores.state, "ann")
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
    ann = somebody(bare.stores.state, "ann")
    request = asked(bare.stores, "notes", DAY, [document(1, text="x" * 200_001), document(2)])
    view = reading.document_view(bare, ann, request.request_id, "00001.txt")
    assert (view.cut, sum(len(span.text) for span in view.spans)) == (True, 200_000)


def test_documents_follow_each_other_in_order_of_risk(bare: Desk) -> None:
    ann = somebody(bare.stores.state, "ann")
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
    ann = somebody(bare.stores.state, "ann")
    names = ["../../etc/passwd", "a b%20#?&.txt", "ünï\u202e.txt", storable("\udcff.txt") or "", "<b>'\""]
    request = asked(bare.stores, "notes", DAY, [document(n, document_id=name) for n, name in enumerate(names)])
    for name in names:
        assert reading.document_view(bare, ann, request.request_id, name).row.document_id == name


# What people left


def test_reviews_of_unchanged_documents_carry_over_to_the_next_request(
    desk: Desk, ann: Person, stores: Stores, collection: Collection, project: Project
) -> None:
    first = current(stores.state, DAY)
    ben = somebody(stores.state, "ben", "reviewer", "notes")
    rows = {row.document_id: row for row in reading.document_page(desk, ann, first.request_id).rows}
    for name in rows:
        leaf = reading.document_view(desk, ann, first.request_id, name).leaf
        notes.add(stores.state, first, name, leaf, "reviewed", "", by=ann)
        notes.add(stores.state, first, name, leaf, "second look", "sure?", by=ann)
    page = reading.document_page(desk, ann, first.request_id)
    assert (page.counts["reviewed"], page.counts["not reviewed"], page.counts["second look"]) == (3, 0, 3)
    assert not any(row.carried_over for row in page.rows)
    edit(project, collection, text="Another text on the pump.")
    later = current(stores.state, DAY)
    page = reading.document_page(desk, ann, later.request_id, sort="name")
    assert [(row.reviewed_by, row.carried_over, row.second_look) for row in page.rows] == [
        ((), False, False), (["ann"], True, True), (["ann"], True, True),
    ]  # fmt: skip
    assert reading.request_view(desk, ann, later.request_id).carried_over == 2
    view = reading.document_view(desk, ann, later.request_id, f"{DAY}/1.txt")
    assert [(note.action, note.actor, note.text) for note in view.notes] == [
        ("reviewed", "ann", ""), ("second look", "ann", "sure?"),
    ]  # fmt: skip
    notes.add(stores.state, later, f"{DAY}/1.txt", view.leaf, "looked again", "", by=ben)
    again = reading.document_page(desk, ann, later.request_id, sort="name").rows[1]
    assert (again.reviewed_by, again.carried_over, again.second_look) == (["ann", "ben"], False, False)


def test_a_correction_shows_with_its_author_until_the_text_changes(
    desk: Desk, ann: Person, stores: Stores, collection: Collection, project: Project
) -> None:
    from ai_assets.signoff import corrections

    request, name = current(stores.state, DAY), f"{DAY}/0.txt"
    label = next(row for row in reading.document_page(desk, ann, request.request_id).rows if row.document_id == name)
    other = "incident" if label.headlines["kind"] == "invoice" else "invoice"
    corrections.correct(
        stores, collection=collection, request=request, document_id=name, stage="kind", label=other, reason="look",
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
    project.refresh(collection)
    later = reading.document_view(desk, ann, request_id(desk), name)
    assert later.request.request_id != request.request_id
    assert later.stages[0].headline == other
    assert later.stages[0].correction is not None
    assert later.stages[0].correction["used"] == "yes"
    assert later.stages[0].provenance["corrected by"] == "ann"
    assert "corrected" in [entry.action for entry in later.history]
    edit(project, collection, name, "Something else entirely, on the pump in the hall.")
    after = reading.document_view(desk, ann, request_id(desk), name)
    assert (after.row.corrected, after.stages[0].correction) == (False, None)


def test_when_a_correction_is_used_is_said_as_it_is_declared(desk: Desk, ann: Person, project: Project) -> None:
    said = {}
    for kind, declared in {
        "by hand": {}, "watched": {"watch": True}, "nightly": {"schedule": {"cron": "0 3 * * *"}},
    }.items():  # fmt: skip
        project.declare(stages=[dict(STAGE)], **declared)
        view = reading.document_view(desk_of(project), ann, request_id(desk), f"{DAY}/0.txt")
        said[kind] = view.next_run
    assert "by the next run of this partition: ai-assets run notes" in said["by hand"]
    assert "starts within a minute" in said["watched"]
    assert "next scheduled run, at '0 3 * * *' (UTC)" in said["nightly"]


# Damage


@pytest.mark.parametrize("harm", ["gone", "garbage", "cut short"])
def test_a_damaged_file_is_told_and_the_rest_is_shown(desk: Desk, ann: Person, harm: str) -> None:
    damage(documents_file(desk), harm)
    view = reading.request_view(desk, ann, request_id(desk))
    assert "Not all of this request can be shown" in str(view.damaged)
    assert (view.row.added, len(view.sample), view.is_current) == (3, 3, True)
    page = reading.document_page(desk, ann, request_id(desk))
    assert {row.document_id: row.status for row in page.rows} == {f"{DAY}/{n}.txt": "unknown" for n in range(3)}
    one = reading.document_view(desk, ann, request_id(desk), f"{DAY}/0.txt")
    assert (one.damaged, one.spans, one.stages, one.leaf) == (view.damaged, [], [], "")


def test_a_file_that_is_lost_between_two_looks_is_told_too(desk: Desk, ann: Person) -> None:
    assert reading.document_page(desk, ann, request_id(desk)).damaged is None
    damage(documents_file(desk), "gone")
    view = reading.document_view(desk, ann, request_id(desk), f"{DAY}/0.txt")
    assert "Not all of this document can be shown" in str(view.damaged)
    assert view.row.headlines["kind"] is not None  # of what was read before


def test_a_file_that_was_brought_back_is_shown_again(desk: Desk, ann: Person) -> None:
    path = documents_file(desk)
    data = path.read_bytes()
    path.unlink()
    assert reading.document_page(desk, ann, request_id(desk)).damaged is not None
    path.write_bytes(data)
    assert reading.document_page(desk, ann, request_id(desk)).damaged is None


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


# Releases and the chain


def test_what_was_live_at_a_time_is_known_through_a_rollback(
    desk: Desk, ann: Person, stores: Stores, collection: Collection
) -> None:
    times = [tick()]
    for day in (DAY, NEXT_DAY):
        decide(stores, collection, day, "approve", ann)
        publish(collection, stores, by="test")
        times.append(tick())
    releases.rollback(stores.state, "notes", 1, by=ann, reason="test")
    times.append(tick())
    found = [reading.live_at(desk, ann, "notes", at) for at in times]
    assert [(row.number, row.live) if row else None for row in found] == [None, (1, True), (2, False), (1, True)]
    rows = reading.release_rows(desk, ann, "notes")
    assert [(row.number, row.live, row.partitions, row.documents, row.signers) for row in rows] == [
        (2, False, 2, 6, ["ann"]), (1, True, 1, 3, ["ann"]),
    ]  # fmt: skip


def tick() -> str:
    """A moment that lies clearly between what was before and what comes after."""
    from resources.state import now

    time.sleep(0.005)
    found = now()
    time.sleep(0.005)
    return found


@pytest.mark.parametrize(
    ("asked_for", "end", "found"),
    [
        ("2026-11-21", False, "2026-11-21T00:00:00.000+00:00"),
        ("2026-11-21", True, "2026-11-21T23:59:59.999+00:00"),
        ("2026-11-21T14:30", True, "2026-11-21T14:30:00.000+00:00"),
        (" 2026-11-21 14:30:05 ", False, "2026-11-21T14:30:05.000+00:00"),
        ("2026-11-21T14:30:05.5Z", False, "2026-11-21T14:30:05.500+00:00"),
        ("2026-11-21t14:30:05.123456789+02:00", False, "2026-11-21T12:30:05.123+00:00"),
        ("2026-12-31T23:59:60Z", False, "2026-12-31T23:59:59.000+00:00"),
        ("0001-01-01T00:00:00+14:00", False, "0001-01-01T00:00:00.000+00:00"),
        ("9999-12-31T23:59:59-14:00", False, "9999-12-31T23:59:59.999+00:00"),
    ],
)
def test_a_moment_is_read_as_the_tables_write_it(asked_for: str, end: bool, found: str) -> None:
    assert moment(asked_for, end=end) == found


@pytest.mark.parametrize(
    "asked_for",
    ["", "yesterday", "2026-02-30", "2026-13-01", "20261121", "2026-W01-1", "2026-11-21T25:00",
     "2026-11-21T14:30+99:00", "2026-11-21T1:30", "٢٠٢٦-١١-٢١", "2026-11-21\0", "1795000000"],
)  # fmt: skip
def test_what_is_no_moment_is_refused(asked_for: str) -> None:
    with pytest.raises(MomentInvalid, match="is no moment: write a date"):
        moment(asked_for)


def test_the_chain_is_read_page_by_page_and_by_filter(desk: Desk, ann: Person, stores: Stores) -> None:
    admin = somebody(stores.state, "root", "admin")
    everything, before = [], None
    while True:
        entries, before = reading.audit_page(desk, admin, before=before, limit=2)
        everything += entries
        if before is None:
            break
    assert [entry.seq for entry in everything] == list(range(len(everything), 0, -1))
    assert everything[0].text == "root: admin in all collections"
    assert {entry.action for entry in everything} == {"requested", "person added", "role given"}
    asked_, _ = reading.audit_page(desk, admin, action="requested", collection="notes", actor="ai-assets")
    assert {(entry.collection, entry.partition) for entry in asked_} == {("notes", DAY), ("notes", NEXT_DAY)}
    assert reading.audit_page(desk, admin, until="2026-01-01") == ([], None)
    assert reading.audit_page(desk, admin, since="2026-01-01")[0] == everything[:100]
    with pytest.raises(ViewUnknown, match="'praised' is no action"):
        reading.audit_page(desk, admin, action="praised")


def test_records_about_people_are_for_admins_of_everything(desk: Desk, ann: Person, stores: Stores) -> None:
    auditor = somebody(stores.state, "vic", "viewer", "*")
    reader = somebody(stores.state, "rea", "viewer", "notes")
    for person in (ann, auditor, reader):
        entries, _ = reading.audit_page(desk, person)
        assert {entry.action for entry in entries} == {"requested"}


def test_whoever_sees_everything_exports_a_chain_that_proves_itself(desk: Desk, stores: Stores, tmp_path: Path) -> None:
    auditor = somebody(stores.state, "vic", "viewer", "*")
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(reading.audit_lines(desk, auditor)) + "\n")
    assert proof.verify_file(file).records == proof.verify(stores.state).records


def test_whoever_sees_one_collection_exports_its_records_only(desk: Desk, stores: Stores) -> None:
    with stores.state.write() as connection:
        people.add(connection, "secret-person", email=None, password_hash=None, by="test")
    reader = somebody(stores.state, "rea", "viewer", "notes")
    lines = list(reading.audit_lines(desk, reader))
    heading = json.loads(lines[0])
    assert (heading["whole"], heading["records"]) == (False, 2)
    assert "secret-person" not in "".join(lines)
    some = list(reading.audit_lines(desk, somebody(stores.state, "vic", "viewer", "*"), actor="ai-assets"))
    assert json.loads(some[0])["whole"] is False
