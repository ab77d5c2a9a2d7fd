"""Claims about documents without an answer: the next run asks again when that is due, and no more than a few times.

Real answers that are garbage come from a rehearsal provider; clocks are moved by writing what is due into the store.
"""

import datetime
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Project
from provider import Provider
from signing import PASSWORD, current, decide, known, somebody
from test_llm_stages import BILL, DAY, FIRE, PRICED, rows
from test_stage_settings import BRIEF, KIND, declare

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.documents import retries
from ai_assets.documents.retries import DELAYS_S, Retry, RetrySummary, failed_again, first
from ai_assets.inference.load import load_inference
from ai_assets.planning.plan import Plan, plan
from ai_assets.run.context import Outcome, Work
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.refresh import refresh
from ai_assets.run.status import collection_status, due_partitions, partition_states, watched_partitions
from ai_assets.signoff import audit, corrections, verification
from ai_assets.signoff.asking_again import ask_again
from ai_assets.signoff.errors import DecisionRefused, NothingToAskAgain
from ai_assets.storage.stores import Stores

SICK = "fire broke out beside pump 1"
NAME = f"{DAY}/fire-0.txt"
LONG_AGO = "2020-01-01T00:00:00.000+00:00"


@pytest.fixture
def office(project: Project, provider: Provider) -> Project:
    """Six documents on one day; the provider may be told to fail for one of them."""
    (project.root / "inference.yaml").write_text(
        PRICED.replace("retries: {all: {", "retries: {all: {garbled: {attempts: 1}, ")
    )
    for n in range(3):
        project.document(f"{DAY}/bill-{n}.txt", BILL.format(n=n + 1))
        project.document(f"{DAY}/fire-{n}.txt", FIRE.format(n=n + 1))
    return project


def sicken(provider: Provider, fault: str = "garbage", match: str = SICK) -> None:
    provider.script([{"match": match, "fault": fault, "times": None}])


def run(project: Project, collection: Collection, *, patient: bool = True) -> dict[str, Outcome]:
    """By default as `ai-assets run` without partitions: what is not due is left alone."""
    with project.work(collection) as work:
        work.patient = patient
        found = [event for event in refresh(work, [DAY]) if isinstance(event, Outcome)]
    return {outcome.manifest.asset: outcome for outcome in found}


def known_retries(project: Project) -> list[Retry]:
    with project.stores().state.read() as connection:
        return retries.find(connection, "notes")


def the_one(project: Project) -> Retry:
    (found,) = known_retries(project)
    return found


def waiting(project: Project, collection: Collection) -> RetrySummary:
    return collection_status(collection, project.stores()).waiting.get(DAY, RetrySummary())


def let_time_pass(project: Project) -> None:
    """As if every back-off were over."""
    with project.stores().state.write() as connection:
        connection.execute(sa.text("UPDATE document_retries SET next_at = :at"), {"at": LONG_AGO})


def due(project: Project, collection: Collection) -> list[str]:
    return due_partitions(collection, project.stores(), [DAY])


def calls(provider: Provider) -> int:
    return int(provider.stats()["calls"])


# When


def test_a_garbled_answer_makes_its_partition_due_after_five_minutes(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    assert (the_one(office).document_id, the_one(office).error, the_one(office).tries) == (NAME, "garbled", 1)
    assert due(office, collection) == []
    assert partition_states(collection, office.stores())[DAY] == "awaiting sign-off"
    let_time_pass(office)
    assert due(office, collection) == [DAY]
    assert partition_states(collection, office.stores())[DAY] == "ask again"


def test_once_it_is_answered_there_is_a_new_candidate_and_nothing_more_to_do(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    before = current(office.stores().state, DAY)
    provider.script([])
    let_time_pass(office)
    asked = calls(provider)
    outcomes = run(office, collection)
    assert calls(provider) == asked + 1
    assert (outcomes["kind"].reused, outcomes["kind"].quarantined) == (5, 0)
    assert rows(office, "kind")[NAME]["label"] == "incident"
    assert current(office.stores().state, DAY).digest != before.digest
    assert known_retries(office) == []
    assert due(office, collection) == []


@pytest.mark.parametrize("fault", ["garbage", "server_error", "content_filter"])
def test_asking_again_without_success_changes_no_byte_and_voids_no_request(
    office: Project, provider: Provider, fault: str
) -> None:
    collection = declare(office, [KIND, BRIEF])
    sicken(provider)
    first_run = run(office, collection)
    request = current(office.stores().state, DAY)
    decide(office.stores().state, collection)
    sicken(provider, fault)
    let_time_pass(office)
    again = run(office, collection)
    assert {name: item.manifest.version for name, item in again.items()} == {
        name: item.manifest.version for name, item in first_run.items()
    }
    after = current(office.stores().state, DAY)
    assert (after.request_id, after.digest, after.status) == (request.request_id, request.digest, "approved")
    found = {retry.asset: retry for retry in known_retries(office)}
    assert {retry.tries for retry in found.values()} == {2}
    assert found["kind"].error == {"garbage": "garbled", "content_filter": "refused"}.get(fault, fault)
    assert rows(office, "kind")[NAME]["reason"].startswith("garbled: ")


def test_before_it_is_due_a_run_asks_nothing_even_where_something_else_changed(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    asked = calls(provider)
    run(office, collection)
    assert calls(provider) == asked
    office.document(f"{DAY}/bill-9.txt", BILL.format(n=9))
    outcomes = run(office, collection)
    assert calls(provider) == asked + 1, "the new document alone"
    assert (outcomes["kind"].documents_in, outcomes["kind"].quarantined) == (7, 1)
    assert the_one(office).tries == 1


def test_a_run_that_a_person_names_asks_at_once_and_counts(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    asked = calls(provider)
    run(office, collection, patient=False)
    assert calls(provider) == asked + 1
    assert the_one(office).tries == 2


def test_after_the_last_try_it_needs_a_person_and_nothing_asks_by_itself(office: Project, provider: Provider) -> None:
    collection = declare(office, [{**KIND, "tries": 3}])
    sicken(provider)
    for tries in range(1, 4):
        run(office, collection)
        assert the_one(office).tries == tries
        let_time_pass(office)
    asked = calls(provider)
    assert due(office, collection) == []
    run(office, collection)
    assert calls(provider) == asked
    found = waiting(office, collection)
    assert (found.people, found.due, found.later) == (1, 0, 0)
    assert found.in_words == "1 document needs a person (garbled)"
    more = declare(office, [{**KIND, "tries": 4}])
    assert more.code_versions == collection.code_versions
    assert more.settings_digest == collection.settings_digest
    assert due(office, more) == [DAY], "a higher number counts at once"


@pytest.mark.parametrize(("fault", "error"), [("content_filter", "refused"), ("context_too_long", "context_too_long")])
def test_what_does_not_pass_is_not_asked_again_by_itself(
    office: Project, provider: Provider, fault: str, error: str
) -> None:
    collection = declare(office, [KIND])
    sicken(provider, fault)
    run(office, collection)
    let_time_pass(office)
    asked = calls(provider)
    assert due(office, collection) == []
    run(office, collection)
    assert calls(provider) == asked
    assert waiting(office, collection).in_words == f"1 document needs a person ({error})"


def test_another_question_begins_the_count_again(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    run(office, collection, patient=False)
    assert the_one(office).tries == 2
    office.document(NAME, FIRE.format(n=1) + " It was a Monday.")
    run(office, collection)
    assert the_one(office).tries == 1


def test_a_document_that_is_gone_is_counted_no_more(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    (office.root / "collections/notes/documents" / NAME).unlink()
    run(office, collection)
    assert known_retries(office) == []


def test_a_stage_that_is_gone_makes_nothing_due(office: Project, provider: Provider) -> None:
    sicken(provider)
    run(office, declare(office, [KIND, BRIEF]))
    without = declare(office, [KIND])
    run(office, without)
    with office.stores().state.write() as connection:
        connection.execute(sa.text("DELETE FROM document_retries WHERE asset = 'kind'"))
        connection.execute(sa.text("UPDATE datasets SET stats = '{}', unanswered = 0 WHERE asset = 'kind'"))
    let_time_pass(office)
    assert waiting(office, without).in_words == ""


def test_a_call_that_is_held_is_due_once_a_person_says_what_became_of_it(office: Project, provider: Provider) -> None:
    collection = declare(office, [{**KIND, "on_ambiguous": "hold"}])
    provider.script([{"match": SICK, "fault": "reset_after", "times": 1}])
    run(office, collection)
    assert the_one(office).error == "held"
    let_time_pass(office)
    assert due(office, collection) == []
    assert waiting(office, collection).people == 1
    done = office.cli("ledger", "resolve", the_one(office).call, "--not-billed")
    assert done.returncode == 0, done.stderr
    assert due(office, collection) == [DAY]
    run(office, collection)
    assert rows(office, "kind")[NAME]["status"] == "ok"
    assert due(office, collection) == []


def test_a_dataset_of_an_earlier_version_is_asked_about_once_and_then_counted(
    office: Project, provider: Provider
) -> None:
    """It has rows without an answer, and nothing says how often they were asked about."""
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    with office.stores().state.write() as connection:
        connection.execute(sa.text("DELETE FROM document_retries"))
    assert due(office, collection) == [DAY]
    assert waiting(office, collection).in_words == "1 document to ask again, now"
    run(office, collection)
    assert the_one(office).tries == 1
    assert due(office, collection) == []


def test_a_correction_of_an_earlier_text_does_not_keep_a_document_from_being_asked_about(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [KIND])
    run(office, collection)
    stores, ann = office.stores(), known(office.stores().state, "ann")
    corrections.correct(
        stores, collection=collection, request=current(stores.state, DAY), document_id=NAME, stage="kind",
        label="invoice", reason="", by=ann,
    )  # fmt: skip
    office.document(NAME, FIRE.format(n=1) + " It was a Monday.")
    sicken(provider)
    run(office, collection)
    assert the_one(office).document_id == NAME
    provider.script([])
    let_time_pass(office)
    run(office, collection)
    assert rows(office, "kind")[NAME]["label"] == "incident"
    assert due(office, collection) == []


# The back-off


def a_retry(**changes: Any) -> Retry:
    made = first("notes", "kind", DAY, NAME, question="q", error="garbled", message="")
    return replace(made, **changes)


def test_each_try_waits_longer_than_the_one_before() -> None:
    found: Retry | None = None
    waits = []
    for _ in range(7):
        found = failed_again(found, a_retry(last_at=LONG_AGO))
        waits.append((_seconds(found.next_at)) - _seconds(LONG_AGO))
    assert waits == [*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]]
    assert failed_again(found, a_retry(question="another")).tries == 1


def _seconds(at: str) -> float:
    return datetime.datetime.fromisoformat(at).timestamp()


@dataclass(frozen=True, kw_only=True)
class Moment:
    id: str
    at: str
    due: bool


MOMENTS = (
    Moment(id="too early", at="2026-11-26T12:00:00.000+00:00", due=False),
    Moment(id="just then", at="2026-11-26T12:05:00.000+00:00", due=True),
    Moment(id="another machine's clock is behind", at="2026-11-26T11:55:00.000+00:00", due=False),
    Moment(id="the clock was set back by a year", at="2025-11-26T12:00:00.000+00:00", due=True),
)


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.id)
def test_a_clock_that_was_set_back_keeps_nothing_waiting(moment: Moment) -> None:
    retry = a_retry(tries=1, last_at="2026-11-26T12:00:00.000+00:00", next_at="2026-11-26T12:05:00.000+00:00")
    assert retry.is_due(moment.at, most=5) is moment.due


# A person says so


def test_a_person_may_say_to_ask_again_which_is_on_record(office: Project, provider: Provider) -> None:
    collection = declare(office, [{**KIND, "tries": 1}])
    sicken(provider, "content_filter")
    run(office, collection)
    state, ann = office.stores().state, known(office.stores().state, "ann")
    assert due(office, collection) == []
    ask_again(state, collection, by=ann, partitions=[DAY], reason="The filter was changed.")
    assert due(office, collection) == [DAY]
    with state.read() as connection:
        record = list(audit.records(connection))[-1]
    assert (record.actor, record.action) == ("ann", "retry asked")
    assert {name: record.subject[name] for name in ("collection", "partition", "documents", "assets")} == {
        "collection": "notes", "partition": DAY, "documents": 1, "assets": ["kind"],
    }  # fmt: skip
    verification.verify(state)
    provider.script([])
    run(office, collection)
    assert rows(office, "kind")[NAME]["status"] == "ok"


def test_who_has_no_role_may_not_say_so(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    with pytest.raises(DecisionRefused, match="takes the role reviewer in notes"):
        ask_again(office.stores().state, collection, by=somebody("vic", "viewer"))


@pytest.mark.parametrize(
    ("fault", "says"),
    [("schema_violation", "is in the ledger, and the same question gets it again"), (None, "nothing without a result")],
)
def test_there_is_nothing_to_ask_again_where_the_answer_would_be_the_same(
    office: Project, provider: Provider, fault: str | None, says: str
) -> None:
    collection = declare(office, [KIND])
    if fault:
        sicken(provider, fault)
    run(office, collection)
    with pytest.raises(NothingToAskAgain, match=says):
        ask_again(office.stores().state, collection, by=somebody(), document_id=NAME)


# Commands


@pytest.mark.slow
def test_run_and_status_say_what_waits_and_json_has_it(office: Project, provider: Provider) -> None:
    declare(office, [KIND])
    sicken(provider)
    done = office.cli("run", "notes")
    assert done.returncode == 0, done.stderr
    assert f"{DAY}: 1 document to ask again (garbled), next at 20" in done.stdout
    assert f"ai-assets run notes --partition {DAY}" in done.stdout
    done = office.cli("run", "notes")
    assert "Every partition of notes is up to date" in done.stdout
    assert "1 document to ask again (garbled)" in done.stdout
    assert "1 document to ask again (garbled)" in office.cli("status", "notes").stdout
    (said,) = json.loads(office.cli("status", "notes", "--json").stdout)
    assert said["waiting"][DAY]["to_ask_again"] == 1
    assert said["waiting"][DAY]["errors"] == {"garbled": 1}
    let_time_pass(office)
    provider.script([])
    report = json.loads(office.cli("run", "notes", "--json").stdout)
    assert (report["due"], report["waiting"], report["failures"]) == ([DAY], {}, [])


@pytest.mark.slow
def test_status_names_the_documents_that_need_a_person_with_what_was_tried(office: Project, provider: Provider) -> None:
    collection = declare(office, [{**KIND, "tries": 1}])
    sicken(provider, "content_filter")
    run(office, collection)
    said = office.cli("status", "notes").stdout
    assert "Need a person" in said
    assert all(word in said for word in (NAME, "kind", "refused: HTTP 400"))
    (found,) = json.loads(office.cli("status", "notes", "--json").stdout)
    (retry,) = found["need_a_person"]
    assert (retry["document_id"], retry["error"], retry["tries"]) == (NAME, "refused", 1)


@pytest.mark.slow
def test_ask_again_on_the_command_line_takes_a_password_and_runs_what_needs_a_person(
    office: Project, provider: Provider
) -> None:
    collection = declare(office, [{**KIND, "tries": 1}])
    sicken(provider)
    run(office, collection)
    known(office.stores().state, "ann")
    refused = office.cli("run", "notes", "--ask-again", "--by", "ann")
    assert refused.returncode == 2
    assert "takes their password" in refused.stderr
    provider.script([])
    done = office.cli("run", "notes", "--ask-again", "--by", "ann", AI_ASSETS_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert "Asking again about 1 document of notes." in done.stdout
    assert rows(office, "kind")[NAME]["status"] == "ok"


def planned(project: Project, collection: Collection, partitions: Sequence[str] | None = None) -> Plan:
    return plan(collection, project.stores(), load_inference(project.home.inference), partitions=partitions)


def test_a_plan_counts_the_calls_that_a_run_would_make(office: Project, provider: Provider) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    assert planned(office, collection).planned == []
    assert planned(office, collection, [DAY]).stages[0].calls.likely == 1
    let_time_pass(office)
    found = planned(office, collection)
    assert (list(found.planned), found.stages[0].calls.likely) == ([DAY], 1)
    asked = calls(provider)
    run(office, collection)
    assert calls(provider) == asked + 1


# Death, and two at once


class DiesBeforeItsStageIsCommitted(Work):
    def commit(self, asset: str, *given: Any, **more: Any) -> Outcome:
        if asset == "kind":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().commit(asset, *given, **more)


def run_and_die(root: str, home: Home, url: str) -> None:
    os.environ["AI_ASSETS_REHEARSAL_URL"] = url  # that of the process it is forked from may be another test's
    collection = load_collection(Path(root) / "collections", "notes")
    with DiesBeforeItsStageIsCommitted(collection, Stores.at(home), "dies", patient=True) as work:
        list(refresh(work, [DAY]))


@pytest.mark.parametrize("healed", [True, False], ids=["answered", "still garbled"])
def test_a_run_that_is_killed_between_its_count_and_its_dataset_loses_nothing(
    office: Project, provider: Provider, processes: ForkServerContext, healed: bool
) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    let_time_pass(office)
    if healed:
        provider.script([])
    process = processes.Process(target=run_and_die, args=(str(office.root), office.home, provider.url))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    answered = calls(provider)
    if healed:
        assert due(office, collection) == [DAY], "its answer is in the ledger, its row is not in the dataset"
        run(office, collection)
        assert rows(office, "kind")[NAME]["status"] == "ok"
    else:
        assert the_one(office).tries == 2
        assert due(office, collection) == []
        run(office, collection)
        assert the_one(office).tries == 2
    assert calls(provider) == answered
    assert (known_retries(office) == []) is healed


def run_in_another_process(root: str, home: Home, url: str) -> None:
    os.environ["AI_ASSETS_REHEARSAL_URL"] = url
    collection = load_collection(Path(root) / "collections", "notes")
    with Work(collection, Stores.at(home), f"run-{os.getpid()}", patient=True) as work:
        list(refresh(work, [DAY]))


def test_two_runs_of_a_partition_that_is_due_ask_once(
    office: Project, provider: Provider, processes: ForkServerContext
) -> None:
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    let_time_pass(office)
    asked = calls(provider)
    both = [
        processes.Process(target=run_in_another_process, args=(str(office.root), office.home, provider.url))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert calls(provider) == asked + 1
    assert the_one(office).tries == 2


# What fails as a whole, and what cannot be read


def watched(project: Project, collection: Collection) -> list[str]:
    found = collection_status(collection, project.stores())
    return watched_partitions(found.partitions, found.waiting)


@pytest.mark.parametrize(("fault", "passes"), [("garbage", True), ("content_filter", False)])
def test_a_partition_whose_vectors_failed_is_watched_again_only_where_that_may_pass(
    project: Project, provider: Provider, fault: str, passes: bool
) -> None:
    (project.root / "inference.yaml").write_text(
        "endpoints: {small: {base_url: rehearsal, model: embed-a, prices: [{from: 2026-01-01, input: 1}]}}\n"
        "retries: {embed: {garbled: {attempts: 1}}}\n"
    )
    project.document(f"{DAY}/a.txt", "The pump in hall 1 leaks.")
    declared = {"route": "small", "dimensions": 256, "without_vectors_at_most": 0}
    collection = project.declare(embedding=declared)
    provider.script([{"fault": fault, "times": None}])
    for tries in (1, 2):
        with pytest.raises(PartitionsFailed):
            run(project, collection)
        assert the_one(project).tries == tries
        assert due(project, collection) == [DAY], "whoever runs it themselves need not wait"
        assert watched(project, collection) == []
        let_time_pass(project)
        assert watched(project, collection) == ([DAY] if passes else [])
    provider.script([])
    run(project, collection)
    assert known_retries(project) == []


@pytest.fixture
def moved_away(project: Project) -> tuple[Project, Collection]:
    """A file that was listed and could then not be read."""
    collection = project.declare()
    file = project.document(f"{DAY}/a.txt", "The pump in hall 1 leaks.")
    hidden = project.root / "hidden.txt"
    with project.work(collection) as work:
        assert work.listing.by_partition[DAY]
        file.rename(hidden)
        list(refresh(work, [DAY]))
    hidden.rename(file)
    return project, collection


def test_a_file_that_could_not_be_read_is_read_again_when_that_is_due(moved_away: tuple[Project, Collection]) -> None:
    project, collection = moved_away
    assert rows(project, "documents")[f"{DAY}/a.txt"]["reason"] == "could not be read: No such file or directory"
    assert (the_one(project).asset, the_one(project).error) == ("documents", "unread")
    assert due(project, collection) == []
    run(project, collection)
    assert rows(project, "documents")[f"{DAY}/a.txt"]["status"] == "quarantined"
    let_time_pass(project)
    assert due(project, collection) == [DAY]
    run(project, collection)
    assert rows(project, "documents")[f"{DAY}/a.txt"]["status"] == "ok"
    assert known_retries(project) == []
    assert due(project, collection) == []


def test_a_run_that_a_person_names_reads_it_at_once(moved_away: tuple[Project, Collection]) -> None:
    project, collection = moved_away
    run(project, collection, patient=False)
    assert rows(project, "documents")[f"{DAY}/a.txt"]["status"] == "ok"


def test_a_broken_file_is_not_read_again(project: Project) -> None:
    project.document(f"{DAY}/a.txt", b"\xff\xfe\xff")
    collection = project.declare()
    run(project, collection)
    assert rows(project, "documents")[f"{DAY}/a.txt"]["status"] == "quarantined"
    assert known_retries(project) == []
