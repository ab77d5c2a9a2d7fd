"""Claims about what the desk reads: only what a person may see, whole and in order, however much there is."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from candidates import asked, document
from conftest import STAGE, Project
from desks import desk_of, request_id
from signing import current, decide, known

from ai_assets.collection.loading import Collection
from ai_assets.collection.settings import SlaSettings
from ai_assets.desk import inbox_order, publication_query, reading
from ai_assets.desk.context import Desk
from ai_assets.desk.inbox import SORTS
from ai_assets.desk.reading import AuditFilter, NotSeen, ViewUnknown
from ai_assets.signoff import people, releases, requests, verification
from ai_assets.signoff.errors import MomentInvalid
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.signoff.timestamps import moment
from ai_assets.storage.digest import digest

DAY, NEXT_DAY = "2026-10-05", "2026-10-06"


# Who sees what


def test_what_may_not_be_seen_looks_like_what_is_not_there(desk: Desk, project: Project) -> None:
    eve = known(desk.stores.state, "eve", "admin", "mail")
    there = request_id(desk, DAY)
    for name in (there, "0" * 16, "no\0where\ud800"):
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
            lambda name=name: reading.audit_page(desk, eve, AuditFilter(collection=name)),
            lambda name=name: list(reading.audit_lines(desk, eve, AuditFilter(collection=name))),
        ):
            with pytest.raises(NotSeen, match=f"There is no collection '{name}' that you may see"):
                ask()
    box = reading.inbox(desk, eve, status="all")
    assert (box.total, box.collections, set(box.counts.values())) == (0, [], {0})
    assert reading.audit_page(desk, eve) == ([], None)


def test_a_document_that_is_not_in_the_request_is_not_there(desk: Desk, ann: Person) -> None:
    with pytest.raises(NotSeen, match=r"no document '2026-10-06/3\.txt' in request"):
        reading.document_view(desk, ann, request_id(desk, DAY), f"{NEXT_DAY}/3.txt")


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
    desk: Desk, ann: Person, labelled: Collection
) -> None:
    decide(desk.stores.state, labelled, [DAY], "reject", by=ann, reason="wrong")
    assert [row.partition for row in reading.inbox(desk, ann).rows] == [NEXT_DAY]
    assert [row.partition for row in reading.inbox(desk, ann, status="closed").rows] == [DAY]
    assert [row.partition for row in reading.inbox(desk, ann, status="rejected").rows] == [DAY]
    for sort in SORTS:
        both = reading.inbox(desk, ann, status="all", sort=sort)
        assert [row.partition for row in both.rows] == [NEXT_DAY, DAY]
        alone = [reading.inbox(desk, ann, status="all", sort=sort, page=n, per_page=1) for n in (1, 2, 3)]
        assert [box.rows[0].partition for box in alone] == [NEXT_DAY, DAY, DAY]
        assert [box.page for box in alone] == [1, 2, 2]
    row = both.rows[1]
    assert (row.may_decide, row.sla, row.expires_at) == (False, "none", None)
    assert row.why_not == "'ann' cannot decide this: it was rejected by ann."


def test_the_inbox_says_who_may_not_decide_and_why(desk: Desk, project: Project) -> None:
    viewer = known(desk.stores.state, "vic", "viewer", "notes")
    assert "takes the role approver in notes" in str(reading.inbox(desk, viewer).rows[0].why_not)
    project.declare(stages=[dict(STAGE)], signoff={"approvers": ["group:editors"]})
    desk = desk_of(project)
    assert "notes is signed by group:editors" in str(
        reading.inbox(desk, known(desk.stores.state, "ben")).rows[0].why_not
    )
    editor = known(desk.stores.state, "eddy", groups=["editors"])
    assert reading.inbox(desk, editor).rows[0].may_decide


def test_an_approval_of_several_shows_in_the_inbox(desk: Desk, ann: Person, project: Project) -> None:
    strict = project.declare(stages=[dict(STAGE)], signoff={"approvals": 2})
    desk = desk_of(project)
    decide(desk.stores.state, strict, [DAY], by=ann)
    row = next(row for row in reading.inbox(desk, ann).rows if row.partition == DAY)
    assert (row.status, row.given, row.needed, row.may_decide) == ("open", 1, 2, False)
    assert "has their approval already" in str(row.why_not)


def test_the_inbox_is_searched_by_words_as_they_are(desk: Desk, ann: Person) -> None:
    wanted = {"05": 1, "NOTES": 2, "2026-10": 2, "nothing": 0, "%": 0, "_": 0, "": 2, "  ": 2, "a\0": 0}
    assert {text: reading.inbox(desk, ann, text=text, status="all").total for text in wanted} == wanted


def test_a_request_is_found_by_the_beginning_of_its_digest(desk: Desk, ann: Person) -> None:
    box = reading.inbox(desk, ann, text=current(desk.stores.state, DAY).digest[:12])
    assert [row.partition for row in box.rows] == [DAY]


def test_words_that_the_inbox_does_not_know_are_named(desk: Desk, ann: Person) -> None:
    with pytest.raises(ViewUnknown, match="'newest' is no order; known are risk, age, size, collection"):
        reading.inbox(desk, ann, sort="newest")
    with pytest.raises(ViewUnknown, match="'lost' is no state; known are open, closed, all"):
        reading.inbox(desk, ann, status="lost")
    with pytest.raises(ViewUnknown, match="'new' is no filter"):
        reading.document_page(desk, ann, request_id(desk, DAY), change="new")


def test_age_raises_risk_up_to_expiry_and_never_above_one() -> None:
    sla = SlaSettings()
    ages = [inbox_order.aged_risk(0.2, hours, sla) for hours in (0, 24, 200, 14 * 24, 99 * 24)]
    assert ages == sorted(ages)
    assert (ages[0], ages[-2]) == (0.2, ages[-1])
    assert inbox_order.aged_risk(1.0, 1e9, sla) == 1.0
    never = SlaSettings(remind_after_hours=None, escalate_after_hours=None, expire_after_days=None)
    assert inbox_order.aged_risk(0.2, 1e9, never) == 0.2


def test_an_old_request_is_ranked_above_a_new_one_and_is_near_expiry(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
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
    ann = known(bare.stores.state, "ann")
    gates = [{"name": "accuracy", "passed": False, "message": "low", "waivable": True, "min": 1, "value": 0, "n": 1}]
    asked(bare.stores, "notes", DAY, [document(n) for n in range(3)], facts={}, gates=gates, quarantined=1)
    row = reading.inbox(bare, ann).rows[0]
    assert (row.documents, row.added, row.quarantined, row.failed_gates, row.low_confidence) == (3, 3, 1, 1, 0)


def test_ten_thousand_open_requests_are_one_page_of_small_columns(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
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
    view = reading.request_view(desk, ann, request_id(desk, DAY))
    assert (view.live_release, view.unchanged, list(view.removed), view.since_last) == (None, 0, [], None)
    assert (view.missing, view.signers, view.is_current, view.newer) == (["0 of 1 approval"], [], True, None)
    assert [entry.action for entry in view.history] == ["requested"]
    assert view.publication.state == "not approved"
    assert {row.document_id for row in view.sample} == {f"{DAY}/{n}.txt" for n in range(3)}
    assert [row.risk for row in view.sample] == sorted((row.risk for row in view.sample), reverse=True)
    assert view.sentence["approve"] == (
        f"notes {DAY} goes live with the next release, within a minute while ai-assets up runs: documents 3 added."
    )
    assert set(view.sentence) == {"approve", "reject", "send back"}
    assert view.rules.startswith("One approval is needed; who changed something for the run that they started")
    assert view.damaged is None


def test_the_first_of_two_approvals_is_said_to_publish_nothing(desk: Desk, ann: Person, project: Project) -> None:
    project.declare(stages=[dict(STAGE)], signoff={"approvals": 2, "needed_from": {"legal": 1}})
    view = reading.request_view(desk_of(project), ann, request_id(desk, DAY))
    assert view.missing == ["0 of 2 approvals", "0 of 1 from group legal"]
    assert (
        "it then has 1 of 2 approvals and 0 of 1 from group legal, and nothing is published yet"
        in (view.sentence["approve"])
    )
    assert view.rules.startswith("2 approvals are needed, of them 1 from group legal;")


def test_a_request_stands_beside_the_live_release_and_the_last_request(
    desk: Desk, ann: Person, labelled: Collection, project: Project
) -> None:
    for day in (DAY, NEXT_DAY):
        decide(desk.stores.state, labelled, [day], by=ann)
    first = request_id(desk, DAY)
    assert reading.request_state(desk, ann, first).publication.state == "waiting"
    publish(labelled, desk.stores, by="test")
    done = reading.request_state(desk, ann, first)
    assert (done.status, done.publication.state, done.publication.release) == ("published", "published", 1)
    assert done.publication.said == "It is published: release 1 is live."
    project.document(f"{DAY}/9.txt", "A new one on the pump.")
    (project.root / f"collections/notes/documents/{DAY}/1.txt").unlink()
    project.edit(labelled, f"{DAY}/0.txt", "A fire broke out; the cause of the accident was a leak.")
    view = reading.request_view(desk, ann, request_id(desk, DAY))
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
    desk: Desk, ann: Person, labelled: Collection
) -> None:
    for day in (DAY, NEXT_DAY):
        decide(desk.stores.state, labelled, [day], by=ann)
        publish(labelled, desk.stores, by="test")
    second = request_id(desk, NEXT_DAY)
    assert reading.request_state(desk, ann, second).publication.release == 2
    releases.rollback(desk.stores.state, "notes", 1, by=ann, reason="test")
    assert reading.request_state(desk, ann, second).publication.said == (
        "It is published in release 2; release 1 is live now."
    )


def test_what_was_sent_back_may_be_asked_again_by_a_reviewer(desk: Desk, ann: Person, labelled: Collection) -> None:
    decide(desk.stores.state, labelled, [DAY], "send back", by=ann, reason="the title is wrong")
    view = reading.request_view(desk, ann, request_id(desk, DAY))
    assert (view.may_ask_again, view.reason, view.closed_by) == (True, "the title is wrong", "ann")
    viewer = known(desk.stores.state, "vic", "viewer", "notes")
    assert not reading.request_view(desk, viewer, request_id(desk, DAY)).may_ask_again


def test_scores_and_gates_stand_beside_those_of_the_live_release(bare: Desk) -> None:
    ann = known(bare.stores.state, "ann")
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
    ann = known(bare.stores.state, "ann")
    run = "0b5b8f5e-6c1d-4f3a-9a52-3c1f4f0a7e11"
    request = asked(bare.stores, "notes", "a/b c", [document(1)], run_id=run)
    linked = replace(bare, dagster_url="http://dagster.test")
    view = reading.request_view(linked, ann, request.request_id)
    assert view.run_url == f"http://dagster.test/runs/{run}"
    assert view.asset_url == ("http://dagster.test/assets/notes/release_candidate?view=partitions&partition=a%2Fb+c")
    assert reading.request_view(bare, ann, request.request_id).asset_url is None


def test_a_dagster_that_does_not_answer_holds_no_page_up(desk: Desk, ann: Person, labelled: Collection) -> None:
    import socket

    decide(desk.stores.state, labelled, [DAY], by=ann)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection, and never says a word
        away = replace(desk, dagster_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        said = [reading.request_state(away, ann, request_id(desk, DAY)).publication.state for _ in range(5)]
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # after the first page it was waited for no more
            silent.accept()
    assert said == ["waiting"] * 5


# Publication, as Dagster tells of it


@pytest.mark.parametrize(
    ("status", "made_s", "state", "said"),
    [
        ("STARTED", 60, "waiting", "is being published now"),
        ("FAILURE", 60, "failed", "The publication run failed; nothing was published"),
        ("CANCELED", 60, "failed", "was cancelled"),
        ("FAILURE", -60, "waiting", "within a minute"),  # a run from before the approval
        (None, 0, "waiting", "within a minute"),
        (None, 0, "not loaded", "no code location that Dagster has loaded has the collection notes"),
    ],
)
def test_the_publication_run_is_followed(bare: Desk, status: str | None, made_s: float, state: str, said: str) -> None:
    ann = known(bare.stores.state, "ann")
    asked(bare.stores, "notes", DAY, [document(1)])
    decide(bare.stores.state, bare.collections()["notes"], [DAY], by=ann)
    runs = [{"runId": "r1", "status": status, "creationTime": time.time() + made_s}] if status else []
    with dagster(runs, loaded=state != "not loaded") as url:
        found = reading.request_state(replace(bare, dagster_url=url), ann, request_id(bare, DAY)).publication
    assert (found.state, said in found.said) == (state, True)
    assert found.run_url == (f"{url}/runs/r1" if status and made_s > 0 else None)


@contextlib.contextmanager
def dagster(runs: list[dict[str, Any]], *, loaded: bool) -> Iterator[str]:
    """A server that answers the two questions as Dagster would."""

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked_for = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "keys" in asked_for["variables"]:
                assert {"path": ["notes", "published"]} in asked_for["variables"]["keys"]
                data: dict[str, Any] = {"assetNodes": [{"jobNames": ["notes__publish"]}] if loaded else []}
            else:
                assert asked_for["variables"] == {"filter": {"pipelineName": "notes__publish"}}
                data = {"runsOrError": {"__typename": "Runs", "results": runs}}
            answer = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_said: object) -> None:
            return None

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_dagster_understands_the_question_about_its_runs() -> None:
    import graphql
    from dagster_graphql.schema import create_schema

    asked_for = graphql.parse(publication_query.LATEST)
    assert graphql.validate(create_schema().graphql_schema, asked_for) == []


# Releases and the chain


def test_what_was_live_at_a_time_is_known_through_a_rollback(desk: Desk, ann: Person, labelled: Collection) -> None:
    times = [tick()]
    for day in (DAY, NEXT_DAY):
        decide(desk.stores.state, labelled, [day], by=ann)
        publish(labelled, desk.stores, by="test")
        times.append(tick())
    releases.rollback(desk.stores.state, "notes", 1, by=ann, reason="test")
    times.append(tick())
    found = [reading.live_at(desk, ann, "notes", at) for at in times]
    assert [(row.number, row.live) if row else None for row in found] == [None, (1, True), (2, False), (1, True)]
    rows = reading.release_rows(desk, ann, "notes")
    assert [(row.number, row.live, row.partitions, row.documents, row.signers) for row in rows] == [
        (2, False, 2, 6, ["ann"]), (1, True, 1, 3, ["ann"]),
    ]  # fmt: skip


def tick() -> str:
    """A moment that lies clearly between what was before and what comes after."""
    from ai_assets.storage.state import now

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
    with pytest.raises(MomentInvalid, match="is not a valid date or time: write a date"):
        moment(asked_for)


def test_the_chain_is_read_page_by_page_and_by_filter(desk: Desk, ann: Person) -> None:
    admin = known(desk.stores.state, "root", "admin")
    everything, before = [], None
    while True:
        entries, before = reading.audit_page(desk, admin, before=before, limit=2)
        everything += entries
        if before is None:
            break
    assert [entry.seq for entry in everything] == list(range(len(everything), 0, -1))
    assert everything[0].text == "root: admin in all collections"
    assert {entry.action for entry in everything} == {"requested", "person added", "role given"}
    asked_, _ = reading.audit_page(desk, admin, AuditFilter(action="requested", collection="notes", actor="ai-assets"))
    assert {(entry.collection, entry.partition) for entry in asked_} == {("notes", DAY), ("notes", NEXT_DAY)}
    assert reading.audit_page(desk, admin, AuditFilter(until="2026-01-01")) == ([], None)
    assert reading.audit_page(desk, admin, AuditFilter(since="2026-01-01"))[0] == everything[:100]
    with pytest.raises(ViewUnknown, match="'praised' is no action"):
        reading.audit_page(desk, admin, AuditFilter(action="praised"))


def test_records_about_people_are_for_whoever_sees_everything(desk: Desk, ann: Person) -> None:
    """Any role in all collections will do, the least one too; the highest one in some collections will not."""
    about_people = {"person added", "role given"}
    for person in (ann, known(desk.stores.state, "vic", "viewer", "*")):
        entries, _ = reading.audit_page(desk, person)
        assert {entry.action for entry in entries} == {"requested", *about_people}
    reader = known(desk.stores.state, "rea", "viewer", "notes")
    owner = known(desk.stores.state, "ola", "admin", "notes")
    for person in (reader, owner):
        entries, _ = reading.audit_page(desk, person)
        assert {entry.action for entry in entries} == {"requested"}
        assert reading.audit_page(desk, person, AuditFilter(action="role given")) == ([], None)


def test_whoever_sees_everything_exports_a_chain_that_proves_itself(desk: Desk, tmp_path: Path) -> None:
    auditor = known(desk.stores.state, "vic", "viewer", "*")
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(reading.audit_lines(desk, auditor)) + "\n")
    assert verification.verify_file(file).records == verification.verify(desk.stores.state).records


def test_whoever_sees_one_collection_exports_its_records_only(desk: Desk) -> None:
    with desk.stores.state.write() as connection:
        people.add(connection, "secret-person", email=None, password_hash=None, by="test")
    reader = known(desk.stores.state, "rea", "viewer", "notes")
    lines = list(reading.audit_lines(desk, reader))
    heading = json.loads(lines[0])
    assert (heading["whole"], heading["records"]) == (False, 2)
    assert "secret-person" not in "".join(lines)
    some = list(
        reading.audit_lines(desk, known(desk.stores.state, "vic", "viewer", "*"), AuditFilter(actor="ai-assets"))
    )
    assert json.loads(some[0])["whole"] is False
