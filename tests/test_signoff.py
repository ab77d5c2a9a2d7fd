# ruff: noqa: E501  a tampering is a row, and a row is a line
"""Claims about sign-off: only what was approved is published, exactly that, by whoever may, and every trace holds."""

import contextlib
import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from conftest import Project
from signing import decide, made_known, somebody

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.orchestration.published import sign_off_event
from ai_assets.run.explain import explain, search
from ai_assets.run.status import partition_states
from ai_assets.signoff import audit, releases, requests, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import (
    ApprovalInsufficient,
    CandidateChanged,
    DecisionRefused,
    IndexLost,
    NothingApproved,
    PublicationOvertaken,
    ReleaseUnknown,
    RequestUnknown,
)
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]


@pytest.fixture
def notes(project: Project) -> Collection:
    """Three days with two documents each, computed: three requests wait."""
    project.documents(per_day=2)
    collection = project.declare()
    project.refresh(collection)
    return collection


@pytest.fixture
def stores(project: Project, notes: Collection) -> Stores:
    return project.stores()


def approve(
    stores: Stores, collection: Collection, partitions: list[str] | None = None, by: str = "ann"
) -> list[SignoffRequest]:
    return decide(stores.state, collection, partitions, by=by)


def reject(
    stores: Stores, collection: Collection, partition: str, reason: str | None = "wrong"
) -> list[SignoffRequest]:
    return decide(stores.state, collection, [partition], "reject", by="bob", reason=reason)


def published(stores: Stores, collection: Collection) -> Release:
    return publish(collection, stores, by="test").release


def live(stores: Stores) -> Release | None:
    with stores.state.read() as connection:
        return releases.live(connection, "notes")


def all_requests(stores: Stores) -> list[tuple[str, str]]:
    with stores.state.read() as connection:
        return [(request.partition, request.status) for request in requests.find(connection, "notes")]


def found_by(stores: Stores, collection: Collection, text: str) -> set[str]:
    return {hit.document_id for hit in search(collection, stores, text, 20)[1]}


# Approval and publication


def test_a_release_counts_the_documents_that_readers_get(project: Project) -> None:
    project.documents(per_day=2, days=1)
    project.document(f"{DAYS[0]}/broken.pdf", b"no pdf")
    collection = project.declare()
    project.refresh(collection)
    stores = project.stores()
    approve(stores, collection, DAYS[:1])
    release = published(stores, collection)
    assert (release.documents, release.parts[DAYS[0]].documents, release.parts[DAYS[0]].quarantined) == (2, 3, 1)
    with stores.state.read() as connection:
        assert releases.get(connection, "notes", release.number) == release


def test_what_is_approved_is_published_and_nothing_else(stores: Stores, notes: Collection) -> None:
    approve(stores, notes, DAYS[:2])
    release = published(stores, notes)
    assert (release.number, list(release.parts), release.documents) == (1, DAYS[:2], 4)
    assert found_by(stores, notes, "hall") == {f"{DAYS[n // 2]}/{n}.txt" for n in range(4)}
    assert dict(all_requests(stores)) == {DAYS[0]: "published", DAYS[1]: "published", DAYS[2]: "open"}
    assert verification.verify(stores.state).records == 8


def test_a_release_keeps_what_the_one_before_had(stores: Stores, notes: Collection) -> None:
    for day in DAYS:
        approve(stores, notes, [day])
        release = published(stores, notes)
    assert (release.number, list(release.parts)) == (3, DAYS)
    assert len(found_by(stores, notes, "hall")) == 6


def test_nothing_is_published_without_an_approval(stores: Stores, notes: Collection) -> None:
    with pytest.raises(NothingApproved) as refused:
        published(stores, notes)
    assert str(refused.value).startswith("Nothing to publish: 3 partitions wait for sign-off in notes. Look with: ")


def test_an_identical_candidate_opens_no_second_request(project: Project, stores: Stores, notes: Collection) -> None:
    project.refresh(notes)
    assert all_requests(stores) == [(day, "open") for day in DAYS]
    approve(stores, notes)
    project.refresh(notes)
    assert all_requests(stores) == [(day, "approved") for day in DAYS]
    published(stores, notes)
    project.refresh(notes)
    assert all_requests(stores) == [(day, "published") for day in DAYS]


def test_a_rejection_needs_a_reason_and_stays_until_the_candidate_changes(
    project: Project, stores: Stores, notes: Collection
) -> None:
    for reason in (None, "", "  "):
        with pytest.raises(DecisionRefused, match="a rejection needs a reason"):
            reject(stores, notes, DAYS[0], reason)
    reject(stores, notes, DAYS[0])
    project.refresh(notes)
    assert partition_states(notes, stores)[DAYS[0]] == "rejected"
    project.document("2026-10-05/0.txt", "Mended: the pump in hall one.")
    project.refresh(notes)
    assert partition_states(notes, stores)[DAYS[0]] == "awaiting sign-off"


def test_going_back_to_what_was_rejected_asks_again(project: Project, stores: Stores, notes: Collection) -> None:
    file = project.root / "collections/notes/documents/2026-10-05/0.txt"
    text = file.read_text()
    reject(stores, notes, DAYS[0])
    for content in ("Mended: the pump in hall one.", text):
        project.document("2026-10-05/0.txt", content)
        project.refresh(notes)
    assert [status for day, status in all_requests(stores) if day == DAYS[0]] == ["rejected", "void", "open"]
    verification.verify(stores.state)


def test_going_back_to_what_is_live_leaves_nothing_to_decide(
    project: Project, stores: Stores, notes: Collection
) -> None:
    file = project.root / "collections/notes/documents/2026-10-05/0.txt"
    text = file.read_text()
    approve(stores, notes)
    published(stores, notes)
    project.document("2026-10-05/0.txt", "Edited: the pump in hall one.")
    project.refresh(notes)
    reject(stores, notes, DAYS[0])
    project.document("2026-10-05/0.txt", text)
    project.refresh(notes)
    assert partition_states(notes, stores) == dict.fromkeys(DAYS, "published")
    verification.verify(stores.state)


# Who may


def test_only_approvers_approve_each_once_and_as_many_as_are_asked_for(project: Project, notes: Collection) -> None:
    stores = project.stores()
    strict = project.declare(signoff={"approvals": 2, "approvers": ["ann", "ben"]})
    with pytest.raises(DecisionRefused, match="'eve' cannot decide this: notes is signed by ann, ben"):
        approve(stores, strict, by="eve")
    assert {request.status for request in approve(stores, strict, by="ann")} == {"open"}
    with pytest.raises(DecisionRefused, match="has their approval already"):
        approve(stores, strict, by="ann")
    with pytest.raises(NothingApproved):
        published(stores, strict)
    assert {request.status for request in approve(stores, strict, by="ben")} == {"approved"}
    assert published(stores, strict).parts[DAYS[0]].approved_by == ("ann", "ben")


def test_a_quorum_that_was_raised_after_an_approval_is_asked_for_and_can_be_reached(
    project: Project, stores: Stores, notes: Collection
) -> None:
    approve(stores, notes)
    strict = project.declare(signoff={"approvals": 2})
    with pytest.raises(ApprovalInsufficient, match="the audit chain holds 1 of 2 approvals"):
        published(stores, strict)
    approve(stores, strict, by="ben")
    assert published(stores, strict).number == 1
    verification.verify(stores.state)


def test_a_decision_is_made_on_all_that_was_named_or_on_nothing(stores: Stores, notes: Collection) -> None:
    approve(stores, notes, [DAYS[1]])
    with pytest.raises(RequestUnknown, match=r"notes 2026-10-06 has no open request .*its last request is approved"):
        approve(stores, notes, DAYS)
    assert dict(all_requests(stores))[DAYS[0]] == "open"


# Attacks


def publish_by_hand(project: Project, collection: Collection) -> str:
    """Press Materialize on `published`; why it failed, or an empty text."""
    with project.instance() as opened:
        result = project.execute(opened, collection, "notes__publish")
        failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    return failures[0].user_failure_data.description or "" if failures and failures[0].user_failure_data else ""


def rewrite(path: Path, column: str, value: object) -> None:
    table = pq.read_table(path)
    index = table.column_names.index(column)
    values = [value, *table[column].to_pylist()[1:]]
    pq.write_table(table.set_column(index, table.schema.field(index), [values]), path)


def test_a_manual_run_without_approval_publishes_nothing(project: Project, stores: Stores, notes: Collection) -> None:
    assert publish_by_hand(project, notes).startswith("Nothing to publish: 3 partitions wait for sign-off in notes.")
    assert live(stores) is None


def test_a_forged_dagster_event_publishes_nothing(project: Project, stores: Stores, notes: Collection) -> None:
    with stores.state.read() as connection:
        request = requests.find(connection, "notes")[0]
    with project.instance() as opened:
        opened.report_runless_asset_event(sign_off_event(notes, request.partition, request.digest, "the director"))
    assert publish_by_hand(project, notes).startswith("Nothing to publish:")
    assert live(stores) is None


def test_an_edit_after_approval_is_not_published(project: Project, stores: Stores, notes: Collection) -> None:
    """Whoever can write the lake changes the very file that was approved."""
    approve(stores, notes)
    manifest = stores.lake.manifest("notes", "release_candidate", DAYS[0])
    assert manifest is not None
    folder = stores.lake.folder("notes", "release_snapshots", DAYS[0])
    rewrite(folder / manifest.stats["documents_file"], "text", "Something nobody has read.")
    told = publish_by_hand(project, notes)
    assert told.startswith(
        f"notes {DAYS[0]}: approved was {manifest.stats['digest'][:12]}, but its file {manifest.stats['documents_file']} "
        "now has the SHA-256 "
    )
    assert live(stores) is None


def test_a_redraft_voids_the_approval(project: Project, stores: Stores, notes: Collection) -> None:
    approve(stores, notes, [DAYS[0]])
    project.document("2026-10-05/0.txt", "Another text, drafted after the approval.")
    project.refresh(notes)
    assert publish_by_hand(project, notes).startswith("Nothing to publish:")
    assert [status for day, status in all_requests(stores) if day == DAYS[0]] == ["void", "open"]
    with stores.state.read() as connection:
        assert [r.action for r in audit.records(connection)][-2:] == ["voided", "requested"]


def test_an_approval_written_into_the_table_publishes_nothing(
    project: Project, stores: Stores, notes: Collection
) -> None:
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE review_requests SET status = 'approved', closed_by = 'the director'"))
    assert "the audit chain holds 0 of 1 approval" in publish_by_hand(project, notes)
    assert live(stores) is None


def test_a_manifest_pointed_at_other_files_publishes_nothing(
    project: Project, stores: Stores, notes: Collection
) -> None:
    approve(stores, notes, [DAYS[0]])
    manifests = [stores.lake.manifest("notes", "release_candidate", day) for day in DAYS[:2]]
    assert manifests[0] is not None
    assert manifests[1] is not None
    folders = [stores.lake.folder("notes", "release_snapshots", day) for day in DAYS[:2]]
    for name in ("documents_file", "chunks_file"):
        shutil.copy(folders[1] / manifests[1].stats[name], folders[0])
    path = stores.lake.folder("notes", "release_candidate", DAYS[0]) / "manifest.json"
    found = json.loads(path.read_text())
    for name in ("documents_file", "chunks_file"):
        found["stats"][name] = manifests[1].stats[name]
    path.write_text(json.dumps(found))
    with pytest.raises(CandidateChanged, match="its files now amount to"):
        published(stores, notes)


# Tampering with what is recorded


@dataclass(frozen=True, kw_only=True)
class Tampering:
    id: str
    statements: tuple[str, ...]
    names: str
    """How `audit verify` begins to name the first bad record."""


CHAIN = "The audit trail does not verify. First bad record: number "
TABLES = "The audit trail does not verify. First bad record: "
TAMPERINGS = [
    Tampering(id="actor", statements=("UPDATE audit SET actor = 'eve' WHERE seq = 6",), names=f"{CHAIN}6 (approved by eve"),
    Tampering(id="moment", statements=("UPDATE audit SET recorded_at = '2020' WHERE seq = 2",), names=f"{CHAIN}2 ("),
    Tampering(id="subject", statements=("UPDATE audit SET subject = replace(subject, '10-05', '10-06') WHERE seq = 1",), names=f"{CHAIN}1 ("),
    Tampering(id="subject that is no JSON", statements=("UPDATE audit SET subject = '{' WHERE seq = 3",), names=f"{CHAIN}3"),
    Tampering(id="hash", statements=("UPDATE audit SET hash = previous_hash WHERE seq = 7",), names=f"{CHAIN}7 ("),
    Tampering(id="hidden from questions about it", statements=("UPDATE audit SET request_id = NULL WHERE seq = 6",), names=f"{CHAIN}6"),
    Tampering(id="first removed", statements=("DELETE FROM audit WHERE seq = 1",), names=f"{CHAIN}2 ("),
    Tampering(id="removed", statements=("DELETE FROM audit WHERE seq = 6",), names=f"{CHAIN}7 ("),
    Tampering(id="removed and closed up", statements=("DELETE FROM audit WHERE seq = 6", "UPDATE audit SET seq = seq - 1 WHERE seq > 6"), names=f"{CHAIN}6 ("),
    Tampering(id="last removed", statements=("DELETE FROM audit WHERE seq = 11",), names=f"{TABLES}request "),
    Tampering(id="inserted", statements=("INSERT INTO audit SELECT 12, recorded_at, 'eve', action, subject, hash, hash, collection, request_id, key_id, signature FROM audit WHERE seq = 11",), names=f"{CHAIN}12 ("),
    Tampering(id="reordered", statements=("UPDATE audit SET seq = -6 WHERE seq = 6", "UPDATE audit SET seq = 6 WHERE seq = 7", "UPDATE audit SET seq = 7 WHERE seq = -6"), names=f"{CHAIN}6 ("),
    Tampering(id="all removed", statements=("DELETE FROM audit",), names=f"{TABLES}request "),
    Tampering(id="request status", statements=("UPDATE review_requests SET status = 'approved' WHERE partition = '2026-10-07'",), names=f"{TABLES}request "),
    Tampering(id="request partition", statements=("UPDATE review_requests SET partition = '2026-10-09' WHERE partition = '2026-10-07'",), names=f"{TABLES}request "),
    Tampering(id="request digest", statements=("UPDATE review_requests SET digest = 'd' WHERE partition = '2026-10-07'",), names=f"{TABLES}request "),
    Tampering(id="who closed a request", statements=("UPDATE review_requests SET closed_by = 'eve' WHERE partition = '2026-10-05'",), names=f"{TABLES}request "),
    Tampering(id="what people are shown", statements=("UPDATE review_requests SET summary = replace(summary, 'removed', 'added') WHERE partition = '2026-10-07'",), names=f"{TABLES}request "),
    Tampering(id="request removed", statements=("DELETE FROM review_requests WHERE partition = '2026-10-05'",), names=f"{TABLES}request "),
    Tampering(id="release digest", statements=("UPDATE releases SET digest = 'd'",), names=f"{TABLES}release 1 of notes"),
    Tampering(id="files of a release", statements=("UPDATE releases SET manifest = replace(manifest, '.parquet', '.parquets')",), names=f"{TABLES}release 1 of notes"),
    Tampering(id="who signed a release", statements=("UPDATE releases SET manifest = replace(manifest, '\"ann\"', '\"eve\"')",), names=f"{TABLES}release 1 of notes"),
    Tampering(id="index of a release", statements=("UPDATE releases SET index_version = 1",), names=f"{TABLES}release 1 of notes"),
    Tampering(id="release removed", statements=("DELETE FROM releases",), names=f"{TABLES}release 1 of notes"),
    Tampering(id="pointer", statements=("UPDATE live_releases SET number = 2",), names=f"{TABLES}live pointer of notes: it says release 2, the chain 1"),
    Tampering(id="pointer removed", statements=("DELETE FROM live_releases",), names=f"{TABLES}live pointer of notes: it says release None, the chain 1"),
]  # fmt: skip


def test_tampering_with_any_record_is_found_and_the_first_bad_one_named(stores: Stores, notes: Collection) -> None:
    approve(stores, notes, DAYS[:2])
    published(stores, notes)
    reject(stores, notes, DAYS[2])
    sound = stores.home.root / "sound.db"
    with contextlib.closing(sqlite3.connect(stores.home.root / "state.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(sound)])
    assert verification.verify(stores.state).records == 11
    found = {}
    for tampering in TAMPERINGS:
        copy = stores.home.root / "tampered.db"
        shutil.copy(sound, copy)
        state = StateStore(f"sqlite:///{copy}")
        with state.write() as attacked:
            for statement in tampering.statements:
                attacked.execute(sa.text(statement))
        try:
            verification.verify(state)
            found[tampering.id] = "verified"
        except AuditBroken as error:
            found[tampering.id] = str(error)
        state.close()
    assert {t.id: found[t.id][: len(t.names)] for t in TAMPERINGS} == {t.id: t.names for t in TAMPERINGS}


# Rollback


def test_rollback_and_the_way_forward_move_readers_and_are_recorded(
    project: Project, stores: Stores, notes: Collection
) -> None:
    approve(stores, notes)
    published(stores, notes)
    project.document("2026-10-05/0.txt", "Zeppelins, of all things.")
    project.refresh(notes)
    approve(stores, notes)
    published(stores, notes)
    assert "2026-10-05/0.txt" in found_by(stores, notes, "zeppelins")
    for number, text in ((1, "Note 0"), (2, "Zeppelins")):
        by = made_known(stores.state, somebody("ann"))
        assert releases.rollback(stores.state, "notes", number, by=by, reason="test").release.number == number
        hits = search(notes, stores, "note zeppelins", 20)[1]
        assert next(hit.text for hit in hits if hit.document_id == "2026-10-05/0.txt").startswith(text)
        assert (explain(notes, stores, "2026-10-05/0.txt")["live"] or {})["release"] == number
        verification.verify(stores.state)
    with pytest.raises(ReleaseUnknown, match=r"notes has no release 3 \(they are 1 to 2\)"):
        releases.rollback(stores.state, "notes", 3, by=made_known(stores.state, somebody("ann")), reason=None)


def test_after_a_rollback_the_next_release_builds_on_what_is_live(
    project: Project, stores: Stores, notes: Collection
) -> None:
    approve(stores, notes, [DAYS[0]])
    published(stores, notes)
    approve(stores, notes, [DAYS[1]])
    published(stores, notes)
    releases.rollback(stores.state, "notes", None, by=made_known(stores.state, somebody("ann")), reason=None)
    approve(stores, notes, [DAYS[2]])
    release = published(stores, notes)
    assert (release.number, list(release.parts)) == (3, [DAYS[0], DAYS[2]])
    assert {name[:10] for name in found_by(stores, notes, "hall")} == {DAYS[0], DAYS[2]}


def test_a_rollback_during_a_publication_is_not_undone_by_it(stores: Stores, notes: Collection) -> None:
    for day in DAYS[:2]:
        approve(stores, notes, [day])
        published(stores, notes)
    approve(stores, notes, [DAYS[2]])

    def roll_back(line: str) -> None:
        if line.startswith("writing the index"):
            releases.rollback(
                stores.state, "notes", 1, by=made_known(stores.state, somebody("ann")), reason="an emergency"
            )

    with pytest.raises(PublicationOvertaken, match="release 1 of notes became live; nothing was published"):
        publish(notes, stores, by="test", say=roll_back)
    release = live(stores)
    assert release is not None
    assert release.number == 1
    verification.verify(stores.state)


# At once


def at_once(
    processes: ForkServerContext, project: Project, first: Callable[..., Any], second: Callable[..., Any]
) -> list[str]:
    """Run both in processes of their own, from the same moment; what each said."""
    gate = processes.Barrier(2)
    pipes, started = [], []
    for action in (first, second):
        ours, theirs = processes.Pipe()
        started.append(processes.Process(target=_act, args=(action, project.home, gate, theirs)))
        pipes.append(ours)
    for process in started:
        process.start()
    said = [pipe.recv() for pipe in pipes]
    for process in started:
        process.join()
    return said


def _act(action: Callable[..., Any], home: Home, gate: Any, pipe: Connection) -> None:
    collection = load_collection(home.project / "collections", "notes")
    stores = Stores.at(home)
    gate.wait()
    try:
        action(stores, collection)
        pipe.send("done")
    except UserError as error:
        pipe.send(type(error).__name__)


def approve_first_day(stores: Stores, collection: Collection) -> None:
    approve(stores, collection, [DAYS[0]])


def reject_first_day(stores: Stores, collection: Collection) -> None:
    reject(stores, collection, DAYS[0])


def test_of_an_approval_and_a_rejection_at_once_one_counts_and_the_other_is_told(
    project: Project, stores: Stores, notes: Collection, processes: ForkServerContext
) -> None:
    said = at_once(processes, project, approve_first_day, reject_first_day)
    assert sorted(said) in (["DecisionTooLate", "done"], ["RequestUnknown", "done"])
    assert dict(all_requests(stores))[DAYS[0]] == ("approved" if said[0] == "done" else "rejected")
    verification.verify(stores.state)


def test_two_publishers_at_once_make_one_release(
    project: Project, stores: Stores, notes: Collection, processes: ForkServerContext
) -> None:
    approve(stores, notes)
    assert sorted(at_once(processes, project, published, published)) == ["NothingApproved", "done"]
    with stores.state.read() as connection:
        assert [release.number for release in releases.find(connection, "notes")] == [1]
    verification.verify(stores.state)


# Killed


def publish_when_told(home: Home, pipe: Connection) -> None:
    import lancedb  # noqa: F401  the moments to be killed at are those after the imports

    collection = load_collection(home.project / "collections", "notes")
    stores = Stores.at(home)
    pipe.send("ready")
    pipe.recv()
    publish(collection, stores, by="test")
    pipe.send("done")


@pytest.mark.slow
def test_a_publisher_killed_anywhere_leaves_the_old_release_or_the_new_one(
    project: Project, stores: Stores, notes: Collection, processes: ForkServerContext
) -> None:
    def start(draft: int) -> tuple[BaseProcess, Connection]:
        """A publisher that waits for its word, with a candidate to publish."""
        project.document("2026-10-06/2.txt", f"Draft {draft} on the pump, which is new each time.")
        project.refresh(notes, [DAYS[1]])
        approve(stores, notes, [DAYS[1]])
        ours, theirs = processes.Pipe()
        publisher = processes.Process(target=publish_when_told, args=(project.home, theirs))
        publisher.start()
        assert ours.recv() == "ready"
        return publisher, ours

    def draft_found() -> str:
        hits = {hit.document_id: hit.text for hit in search(notes, stores, "draft pump", 20)[1]}
        return hits["2026-10-06/2.txt"].partition(" on ")[0]

    publisher, pipe = start(0)
    started = time.monotonic()
    pipe.send("go")
    assert pipe.recv() == "done"
    longest_s = time.monotonic() - started
    publisher.join()
    moments, number = random.Random(7), 1
    for draft in range(1, 13):
        publisher, pipe = start(draft)
        pipe.send("go")
        pipe.poll(moments.uniform(0, 1.1 * longest_s))
        publisher.kill()
        publisher.join()
        release = live(stores)
        assert release is not None
        assert release.number in (number, number + 1)
        assert draft_found() == f"Draft {draft - (release.number == number)}"
        verification.verify(stores.state)
        if release.number == number:
            release = published(stores, notes)
        assert draft_found() == f"Draft {draft}"
        number = release.number
    assert number == 13


def test_a_live_release_that_lost_its_index_is_searchable_again_after_publishing(project: Project) -> None:
    collection = project.declare()
    project.documents(per_day=2)
    stores = project.stores()
    project.refresh(collection)
    decide(stores.state, collection, by="ada")
    first = publish(collection, stores, by="test").release
    shutil.rmtree(stores.home.index / "notes")
    with pytest.raises(IndexLost, match="ai-assets publish notes"):
        search(collection, stores, "pump in hall 0", 1)
    second = publish(collection, stores, by="test").release
    assert (second.number, second.digest, second.parts) == (first.number + 1, first.digest, first.parts)
    assert search(collection, stores, "pump in hall 0", 1)[1][0].document_id == "2026-10-05/0.txt"
    releases.rollback(stores.state, "notes", first.number, by=made_known(stores.state, somebody("ada")), reason=None)
    with pytest.raises(IndexLost):
        search(collection, stores, "pump in hall 0", 1)
    verification.verify(stores.state)
