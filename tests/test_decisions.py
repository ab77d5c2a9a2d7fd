# ruff: noqa: E501  a refusal is a row, and a row is a line
"""Claims about who may decide what, bound to what they saw; about gates that may be waived; about asking again."""

import datetime
import json
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import DAYS as THREE_DAYS
from conftest import STAGE, Project
from signing import current, decide, made_known, somebody

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection
from ai_assets.collection.partitions import RANGE_END, RANGE_START
from ai_assets.run.refresh import refresh
from ai_assets.signoff import audit, decisions, people, releases, requests, verification
from ai_assets.signoff.audit_errors import AuditBroken, ExportUnreadable
from ai_assets.signoff.decisions import Choice
from ai_assets.signoff.errors import ApprovalInsufficient, DecisionRefused, DecisionTooLate, RequestUnknown
from ai_assets.signoff.launches import Launch, Launcher
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores

DAY, OTHER_DAY = "2026-10-05", "2026-10-06"
ONE_DAY = {**THREE_DAYS, "end": DAY}
REQUIRED = {"golden": {"labels": "golden.jsonl"}, "stages": [dict(STAGE)]}


def waiting(project: Project, **attributes: Any) -> tuple[Collection, Stores]:
    """Two days with two documents each, computed and asked about."""
    collection = project.declare(**{"partitions": {**THREE_DAYS, "end": OTHER_DAY}, **attributes})
    project.documents(per_day=2, days=2)
    project.refresh(collection)
    return collection, project.stores()


# Who


@dataclass(frozen=True, kw_only=True)
class Refused:
    id: str
    person: Person
    signoff: dict[str, Any]
    says: str


REFUSED = [
    Refused(id="no role", person=Person(name="eve"), signoff={}, says="they have no role in notes"),
    Refused(id="role elsewhere", person=Person(name="eve", roles={"other": "admin"}), signoff={}, says="no role in notes"),
    Refused(id="viewer", person=somebody("eve", "viewer"), signoff={}, says="takes the role approver in notes, and theirs is viewer"),
    Refused(id="reviewer", person=somebody("eve", "reviewer"), signoff={}, says="and theirs is reviewer"),
    Refused(id="not named", person=somebody("eve"), signoff={"approvers": ["ann"]}, says="notes is signed by ann"),
    Refused(id="not of the group", person=somebody("eve", "approver", "sales"), signoff={"approvers": ["group:legal"]}, says="signed by group:legal"),
]  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_who_may_not_decide_is_told_why_and_nothing_is_recorded(project: Project, case: Refused) -> None:
    collection, stores = waiting(project, signoff=case.signoff)
    made_known(stores.state, case.person)
    before = verification.verify(stores.state)
    with pytest.raises(DecisionRefused, match=case.says):
        decide(stores.state, collection, by=case.person)
    assert verification.verify(stores.state) == before


def test_a_name_or_a_group_admits(project: Project) -> None:
    collection, stores = waiting(project, signoff={"approvers": ["ann", "group:legal"]})
    decide(stores.state, collection, [DAY], by="ann")
    decide(stores.state, collection, [OTHER_DAY], by=somebody("ben", "approver", "legal"))
    assert {current(stores.state, day).status for day in (DAY, OTHER_DAY)} == {"approved"}


def test_a_role_of_one_collection_is_none_of_another(project: Project) -> None:
    collection, stores = waiting(project)
    person = Person(name="ann", roles={"notes": "approver", "*": "viewer"})
    assert (person.role_in("notes"), person.role_in("letters")) == ("approver", "viewer")
    decide(stores.state, collection, by=person)


def test_so_many_approvals_must_come_from_a_group(project: Project) -> None:
    collection, stores = waiting(project, signoff={"approvals": 2, "needed_from": {"legal": 1}})
    decide(stores.state, collection, [DAY], by="ann")
    decide(stores.state, collection, [DAY], by="ben")
    assert current(stores.state, DAY).status == "open"
    with pytest.raises(DecisionRefused, match="has their approval already"):
        decide(stores.state, collection, [DAY], by="ann")
    decide(stores.state, collection, [DAY], by=somebody("cleo", "approver", "legal"))
    assert current(stores.state, DAY).status == "approved"
    assert publish(collection, stores, by="test").release.parts[DAY].approved_by == ("ann", "ben", "cleo")


def test_after_an_escalation_the_other_group_may_decide_too(project: Project) -> None:
    rules = {"approvers": ["ann"], "sla": {"escalate_to": "board"}}
    collection, stores = waiting(project, signoff=rules)
    director = somebody("dora", "approver", "board")
    with pytest.raises(DecisionRefused):
        decide(stores.state, collection, [DAY], by=director)
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE review_requests SET sla_step = 2"))
    with pytest.raises(AuditBroken, match="the table says that it was escalated, the chain does not"):
        decide(stores.state, collection, [DAY], by=director)
    with stores.state.write() as connection:
        told = {**requests.subject(current(stores.state, DAY)), "age": "72 h"}
        audit.append(connection, people.SYSTEM, "escalated", told)
    assert decide(stores.state, collection, [DAY], by=director)[0].status == "approved"


# Views


def test_looking_at_a_request_is_one_record_per_person_and_hour(project: Project) -> None:
    _, stores = waiting(project)
    request, other = (current(stores.state, day) for day in (DAY, OTHER_DAY))
    ann, ben = somebody("ann"), somebody("ben")

    def views() -> list[tuple[str, object]]:
        with stores.state.read() as connection:
            found = reversed(audit.select(connection, actions=["viewed"]))
            return [(record.actor, record.subject["partition"]) for record in found]

    for seen, by in [(request, ann), (request, ann), (request, ben), (other, ann), (request, ann)]:
        decisions.record_view(stores.state, seen, by=by)
    assert views() == [("ann", DAY), ("ben", DAY), ("ann", OTHER_DAY)]
    with stores.state.write() as connection:
        ago = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=61)).isoformat(timespec="milliseconds")
        connection.execute(sa.text("UPDATE audit SET recorded_at = :ago"), {"ago": ago})
    decisions.record_view(stores.state, request, by=ann)
    assert views()[3:] == [("ann", DAY)]


def look(url: str, keys: Path, request: SignoffRequest, gate: Barrier) -> None:
    state = StateStore(url, keys=keys)
    gate.wait(60)
    for _ in range(5):
        decisions.record_view(state, request, by=somebody("ann"))


def test_two_desks_at_once_record_one_view(project: Project, store_url: str, processes: ForkServerContext) -> None:
    with closing(StateStore(store_url)) as state:
        with state.write() as connection:
            requests.open_request(connection, "notes", DAY, "d" * 64, summary={}, facts={}, risk=0.1, nothing_new=False)
        gate, request = processes.Barrier(4), current(state, DAY)
        running = [processes.Process(target=look, args=(store_url, state.keys, request, gate)) for _ in range(4)]
        for one in running:
            one.start()
        for one in running:
            one.join()
        with state.read() as connection:
            assert [record.actor for record in audit.select(connection, actions=["viewed"])] == ["ann"]


# The author


def launched(who: str, *changes: str) -> Launch:
    return Launch.of(Launcher(kind="person", who=who, proof="password"), changes)


def asked_about(project: Project, launch: Launch, **signoff: Any) -> tuple[Collection, StateStore]:
    """One day, made by a run that was started so."""
    collection = project.declare(partitions=ONE_DAY, signoff=signoff)
    project.documents(per_day=2, days=1)
    rerun(project, collection, launch)
    return collection, project.stores().state


def rerun(project: Project, collection: Collection, launch: Launch) -> None:
    with project.work(collection) as work:
        work.launch = launch
        list(refresh(work, [DAY]))


def test_who_only_started_the_run_may_approve(project: Project) -> None:
    collection, state = asked_about(project, launched("ann"))
    assert decide(state, collection, by="ann")[0].status == "approved"
    assert publish(collection, project.stores(), by="test").release.number == 1


@pytest.mark.parametrize(
    ("launch", "signoff"),
    [
        pytest.param(launched("Ann"), {"launcher_is_author": True}, id="always, where the collection says so"),
        pytest.param(launched("ann", "run config"), {}, id="of what they changed for the run"),
    ],
)
def test_a_launcher_who_is_an_author_may_reject_but_not_approve(
    project: Project, launch: Launch, signoff: dict[str, Any]
) -> None:
    collection, state = asked_about(project, launch, **signoff)
    with pytest.raises(DecisionRefused, match=r"they launched the run.*, and nobody signs what they made themselves"):
        decide(state, collection, by="ann")
    with pytest.raises(DecisionRefused, match="they launched the run"):
        decide(state, collection, by=somebody("a.smith", email="ANN"))
    decide(state, collection, verdict="reject", by="ann", reason="I know better by now")


def test_an_author_s_approval_under_looser_rules_is_not_published_under_stricter_ones(project: Project) -> None:
    loose = {"launcher_is_author": True, "author_may_approve": True}
    collection, state = asked_about(project, launched("ann"), **loose)
    decide(state, collection, by="ann")
    strict = project.declare(partitions=ONE_DAY, signoff={"launcher_is_author": True})
    with pytest.raises(ApprovalInsufficient, match="ann approved it, and they launched the run"):
        publish(strict, project.stores(), by="test")


def test_the_author_may_approve_where_the_collection_says_so(project: Project) -> None:
    collection, state = asked_about(project, launched("ann"), launcher_is_author=True, author_may_approve=True)
    assert decide(state, collection, by="ann")[0].status == "approved"


def test_an_unknown_author_takes_two_approvals_where_the_collection_says_so(project: Project) -> None:
    collection, state = asked_about(project, Launch(), unknown_author="two")
    assert decide(state, collection, by="ann")[0].status == "open"
    with pytest.raises(DecisionRefused, match="has their approval already"):
        decide(state, collection, by="ann")
    assert decide(state, collection, by="ben")[0].status == "approved"
    assert publish(collection, project.stores(), by="test").release.number == 1


def test_a_known_launcher_takes_one(project: Project) -> None:
    schedule = Launch.of(Launcher(kind="schedule", who="notes__nightly", proof="itself"))
    collection, state = asked_about(project, schedule, unknown_author="two")
    assert decide(state, collection, by="ann")[0].status == "approved"


def test_one_approval_of_an_unknown_author_is_not_published_under_the_stricter_rule(project: Project) -> None:
    collection, state = asked_about(project, Launch())
    decide(state, collection, by="ann")
    strict = project.declare(partitions=ONE_DAY, signoff={"unknown_author": "two"})
    with pytest.raises(ApprovalInsufficient, match=re.escape("1 of 2 approvals (its author is unknown)")):
        publish(strict, project.stores(), by="test")
    refusing = project.declare(partitions=ONE_DAY, signoff={"unknown_author": "refuse"})
    with pytest.raises(ApprovalInsufficient, match="no known author"):
        publish(refusing, project.stores(), by="test")


def test_a_refused_unknown_author_is_approved_after_a_run_with_a_known_one(project: Project) -> None:
    collection, state = asked_about(project, Launch(), unknown_author="refuse")
    first = current(state, DAY)
    with pytest.raises(DecisionRefused, match=f"ai-assets run notes --partition {DAY} --by NAME"):
        decide(state, collection, by="ann")
    rerun(project, collection, Launch.unknown("somebody pressed Re-execute"))
    assert current(state, DAY).request_id == first.request_id  # nothing new was learnt
    rerun(project, collection, launched("ben"))
    second = current(state, DAY)
    assert (second.digest, second.number, second.status) == (first.digest, 2, "open")
    assert decide(state, collection, by="ann")[0].status == "approved"
    rerun(project, collection, Launch())
    assert current(state, DAY).request_id == second.request_id  # an unknown run takes nothing back
    assert publish(collection, project.stores(), by="test").release.number == 1


def test_a_request_whose_launch_was_edited_in_the_store_is_not_published(project: Project) -> None:
    collection, state = asked_about(project, Launch(), unknown_author="two")
    decide(state, collection, by="ann")
    request = current(state, DAY)
    changed = {**request.changes, "launch": launched("ben").as_data()}
    forge = "UPDATE review_requests SET summary = :summary, status = 'approved'"
    with state.write() as connection:
        connection.execute(sa.text(forge), {"summary": json.dumps(changed)})
    with pytest.raises(ApprovalInsufficient):
        publish(collection, project.stores(), by="test")


def test_a_rule_that_one_named_approver_could_never_meet_is_refused(project: Project) -> None:
    with pytest.raises(UserError, match="asked of only 1 approver"):
        project.declare(signoff={"approvers": ["ann"], "unknown_author": "two"})


def test_the_last_editor_of_a_prompt_is_known_by_name_and_address_from_git(tmp_path: Path) -> None:
    from ai_assets.signoff.authors import authors

    prompt = tmp_path / "triage.md"
    prompt.write_text("Sort it.")
    assert authors([prompt]) == []

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    git("init")
    git("-c", "user.name=Ann Smith", "-c", "user.email=ann@example.org", "commit", "--allow-empty", "-m", "none")
    git("add", "triage.md")
    git("-c", "user.name=Ben", "-c", "user.email=ben@example.org", "commit", "-m", "prompt")
    assert authors([prompt]) == [
        {"who": "Ben", "did": "edited triage.md last"},
        {"who": "ben@example.org", "did": "edited triage.md last"},
    ]


# What was seen


def test_a_decision_on_what_is_no_longer_there_is_refused(project: Project) -> None:
    collection, stores = waiting(project)
    seen = current(stores.state, DAY)
    choice = [Choice(seen.request_id, seen.digest)]

    def approve(choices: list[Choice]) -> list[SignoffRequest]:
        rules = collection.settings.signoff
        return decisions.decide(
            stores.state,
            "notes",
            choices,
            "approve",
            by=made_known(stores.state, somebody("ann")),
            reason=None,
            rules=rules,
        )

    with pytest.raises(DecisionTooLate, match="what was seen was 000000000000, not this"):
        approve([replace(choice[0], digest="0" * 64)])
    project.document(f"{DAY}/0.txt", "Another text, drafted while somebody was reading.")
    project.refresh(collection)
    with pytest.raises(DecisionTooLate, match="it was void by ai-assets"):
        approve(choice)
    with pytest.raises(RequestUnknown):
        approve([Choice("nothing", "of the kind")])
    newer = current(stores.state, DAY)
    approve([Choice(newer.request_id, newer.digest)])
    with pytest.raises(DecisionTooLate, match="it was approved by ann"):  # the form is sent once more
        approve([Choice(newer.request_id, newer.digest)])


def test_a_new_candidate_tells_how_it_differs_from_the_last_one(project: Project) -> None:
    collection, stores = waiting(project)
    before = current(stores.state, DAY)
    assert before.changes["since_last"] is None
    project.document(f"{DAY}/0.txt", "Another text, drafted while somebody was reading.")
    project.document(f"{DAY}/new.txt", "A third text.")
    project.refresh(collection)
    told = current(stores.state, DAY).changes
    assert sorted(told["added"]) == [f"{DAY}/0.txt", f"{DAY}/1.txt", f"{DAY}/new.txt"]
    since = told["since_last"]
    assert (since["request_id"], since["status"]) == (before.request_id, "open")
    assert (since["added"], since["changed"], since["unchanged"]) == ([f"{DAY}/new.txt"], [f"{DAY}/0.txt"], 1)


# Gates


def gated(project: Project, *, waivable: bool) -> tuple[Collection, Stores]:
    """One day; the golden labels are the other way round, so the accuracy is low."""
    folder = project.root / "collections" / "notes"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"document": f"{DAY}/bill.txt", "label": "incident"}, {"document": f"{DAY}/fire.txt", "label": "invoice"}]
    (folder / "golden.jsonl").write_text("\n".join(map(json.dumps, lines)))
    gates = [{"metric": "accuracy", "min": 0.9, "waivable": waivable}]
    collection = project.declare(partitions=ONE_DAY, gates=gates, **REQUIRED)
    project.document(f"{DAY}/bill.txt", "Invoice no. 12: subtotal 100.00, tax 20.00, total due 120.00 within 30 days.")
    project.document(f"{DAY}/fire.txt", "At 14:20 a fire broke out in hall 7; the pump failed and two were injured.")
    return collection, project.stores()


def test_no_candidate_is_made_below_a_gate_that_nobody_can_waive(project: Project) -> None:
    collection, stores = gated(project, waivable=False)
    with pytest.raises(Exception, match="accuracy 0 is below the minimum"):
        project.refresh(collection)
    with stores.state.read() as connection:
        assert requests.find(connection, "notes") == []


def test_a_gate_is_waived_with_a_reason_that_is_recorded_or_nothing_is_approved(project: Project) -> None:
    collection, stores = gated(project, waivable=True)
    project.refresh(collection)
    (gate,) = current(stores.state, DAY).verdicts
    assert (gate.name, gate.verdict, gate.waivable) == ("accuracy", "failed", True)
    for waivers in ({}, {"accuracy": "  "}, {"recall@5": "why not"}):
        with pytest.raises(DecisionRefused, match=r"the gate 'accuracy' failed .* say why it may be waived"):
            decide(stores.state, collection, waivers=waivers)
    decide(stores.state, collection, waivers={"accuracy": "the golden labels are known to be wrong"})
    with stores.state.read() as connection:
        (waiver,) = [record for record in audit.records(connection) if record.action == "waived"]
    assert waiver.actor == "ann"
    assert waiver.subject["reason"] == "the golden labels are known to be wrong"
    assert publish(collection, stores, by="test").release.number == 1


def test_a_gate_that_was_made_unwaivable_after_the_approval_stops_the_publication(project: Project) -> None:
    collection, stores = gated(project, waivable=True)
    project.refresh(collection)
    decide(stores.state, collection, waivers={"accuracy": "known"})
    strict = project.declare(partitions=ONE_DAY, gates=[{"metric": "accuracy", "min": 0.9}], **REQUIRED)
    with pytest.raises(ApprovalInsufficient, match="a gate that nobody can waive has failed"):
        publish(strict, stores, by="test")


def test_hiding_a_failed_gate_from_the_table_publishes_nothing(project: Project) -> None:
    collection, stores = gated(project, waivable=True)
    project.refresh(collection)
    with stores.state.write() as connection:
        hide = sa.text("UPDATE review_requests SET summary = replace(summary, :bad, :good)")
        connection.execute(hide, {"bad": '"holds":true', "good": '"holds":false'})
        connection.execute(hide, {"bad": '"verdict":"failed"', "good": '"verdict":"passed"'})
    assert all(gate.passed for gate in current(stores.state, DAY).verdicts)
    decide(stores.state, collection)
    with pytest.raises(ApprovalInsufficient, match="what people were shown is not what was recorded"):
        publish(collection, stores, by="test")


# Sent back, expired, asked again


def test_what_is_sent_back_stays_until_it_changes_or_is_asked_for_again(project: Project) -> None:
    collection, stores = waiting(project)
    with pytest.raises(DecisionRefused, match="sending back needs notes"):
        decide(stores.state, collection, [DAY], "send back")
    decide(stores.state, collection, [DAY], "send back", reason="please mend the first note")
    project.refresh(collection)
    assert (current(stores.state, DAY).status, current(stores.state, DAY).reason) == (
        "sent back",
        "please mend the first note",
    )
    with pytest.raises(RequestUnknown, match="its last request is sent back"):
        decide(stores.state, collection, [DAY])
    again = decisions.ask_again(stores.state, "notes", DAY, by=somebody("rita", "reviewer"), reason="it is fine")
    assert (again.number, again.status, again.digest) == (2, "open", current(stores.state, DAY).digest)
    decide(stores.state, collection, [DAY])
    assert publish(collection, stores, by="test").partitions == [DAY]
    verification.verify(stores.state)


def test_asking_again_takes_a_reviewer_a_reason_and_an_answer_before(project: Project) -> None:
    _, stores = waiting(project)
    reviewer = somebody("rita", "reviewer")
    with pytest.raises(RequestUnknown, match="its last request is open"):
        decisions.ask_again(stores.state, "notes", DAY, by=reviewer, reason="again")
    with pytest.raises(DecisionRefused, match="takes the role reviewer"):
        decisions.ask_again(stores.state, "notes", DAY, by=somebody("vic", "viewer"), reason="again")
    with pytest.raises(DecisionRefused, match="needs a reason"):
        decisions.ask_again(stores.state, "notes", DAY, by=reviewer, reason=" ")


def test_what_expired_cannot_be_approved_and_asks_again_when_it_is_run_again(project: Project) -> None:
    collection, stores = waiting(project)
    with stores.state.write() as connection:
        requests.close(connection, current(stores.state, DAY), "expired", people.SYSTEM, "nobody decided in 14 days")
    with pytest.raises(RequestUnknown, match="its last request is expired"):
        decide(stores.state, collection, [DAY])
    assert publishable(collection, stores) == []
    project.refresh(collection, [DAY])
    assert (current(stores.state, DAY).number, current(stores.state, DAY).status) == (2, "open")
    verification.verify(stores.state)


def publishable(collection: Collection, stores: Stores) -> list[str]:
    with stores.state.read() as connection:
        return [request.partition for request in requests.find(connection, collection.name, statuses=("approved",))]


# From Dagster


def test_a_candidate_leads_to_its_request_and_no_run_fails_for_that_link(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_DESK_URL", "http://desk.example")
    collection = project.declare(partitions=ONE_DAY)
    project.documents(per_day=1, days=1)

    def link() -> Any:
        with project.instance() as opened:
            result = project.execute(opened, collection, "notes", **{RANGE_START: DAY, RANGE_END: DAY})
        assert result.success
        (event,) = result.asset_materializations_for_node("notes__segment")[-1:]
        return event.metadata.get("sign_off")

    assert link().value == f"http://desk.example/requests/{current(project.stores().state, DAY).request_id}"
    (project.root / "desk.yaml").write_text("colour: green\n")
    assert link() is None


# The trail outside of the store


def exported(stores: Stores, folder: Path) -> Path:
    path = folder / "chain.jsonl"
    with stores.state.read() as connection:
        path.write_text("".join(line + "\n" for line in verification.export(connection)))
    return path


EDITS: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "changed": (lambda lines: [*lines[:5], lines[5].replace('"approved"', '"rejected"'), *lines[6:]], "number 5 ("),
    "removed": (lambda lines: [*lines[:5], *lines[6:]], "number 5 is missing before it"),
    "inserted": (lambda lines: [*lines[:5], lines[5], *lines[5:]], "number 5 (approved by ann"),
    "reordered": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "number 2 ("),
    "cut off": (lambda lines: lines[:-1], "the end: the heading promises 7 records, and 6 are there"),
    "no record left": (lambda lines: lines[:1], "the end: the heading promises 7 records, and 0 are there"),
    "broken": (lambda lines: [*lines[:5], lines[5][:20], *lines[6:]], "number 5: its line cannot be read"),
}


def test_an_export_verifies_from_the_file_alone_and_shows_what_was_done_to_it(project: Project) -> None:
    collection, stores = waiting(project)
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    path = exported(stores, project.root)
    assert verification.verify_file(path) == verification.verify(stores.state)
    lines = path.read_text().splitlines()
    for edit, says in EDITS.values():
        path.write_text("\n".join(edit(lines)))
        with pytest.raises(AuditBroken, match=re.escape(says)):
            verification.verify_file(path)
    for text in ("", "{}", "[]", "not JSON", '{"format": 1, "whole": false}'):
        path.write_text(text)
        with pytest.raises(ExportUnreadable):
            verification.verify_file(path)


def test_a_chain_that_publishes_what_was_not_approved_does_not_verify(project: Project) -> None:
    """Somebody who can compute hashes writes a publication of their own."""
    _, stores = waiting(project)
    request = current(stores.state, DAY)
    told = {"collection": "notes", "release": 1, "digest": "d", "record": "r", "partitions": [DAY]}
    with stores.state.write() as connection:
        audit.append(connection, "eve", "published", {**told, "requests": [request.request_id]})
    with pytest.raises(AuditBroken, match=f"request {request.request_id} was not approved"):
        verification.verify(stores.state)


def test_a_role_written_into_the_table_is_found(project: Project) -> None:
    _, stores = waiting(project)
    with stores.state.write() as connection:
        people.add(connection, "Eve", email=None, password_hash=None, by="test")
        people.give(connection, "eve", "viewer", "notes", by="test")
    verification.verify(stores.state)
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE grants SET role = 'admin'"))
    with pytest.raises(AuditBroken, match="role of eve in notes: the table says admin, the chain viewer"):
        verification.verify(stores.state)


def test_the_time_of_the_chain_never_goes_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    collection, stores = waiting(project)
    monkeypatch.setattr(audit, "now", lambda: "2001-01-01T00:00:00.000+00:00")
    decide(stores.state, collection)
    with stores.state.read() as connection:
        times = [record.recorded_at for record in audit.records(connection)]
    assert times == sorted(times)
    verification.verify(stores.state)


def test_what_was_live_at_a_time_is_what_readers_saw_then(project: Project) -> None:
    collection, stores = waiting(project)
    seen = []
    for day in (DAY, OTHER_DAY):
        decide(stores.state, collection, [day])
        seen.append(publish(collection, stores, by="test").release.number)
    releases.rollback(stores.state, "notes", 1, by=made_known(stores.state, somebody("ann")), reason="a mistake")
    with stores.state.read() as connection:
        moments = [r.recorded_at for r in audit.records(connection) if r.action in ("published", "rolled back")]
        found = [releases.live_at(connection, "notes", moment) for moment in ("2020-01-01", *moments)]
    assert [release.number if release else None for release in found] == [None, 1, 2, 1]
    with pytest.raises(DecisionRefused, match="rolling back takes the role approver"):
        releases.rollback(
            stores.state, "notes", 2, by=made_known(stores.state, somebody("rita", "reviewer")), reason=None
        )


@pytest.mark.parametrize("name", ["", "  ", "ai-assets", "group:legal", "a b", "-x", "é", "a" * 121, "a\0b", "<b>"])
def test_a_name_that_could_mislead_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be a person's name"):
        people.known_as(name)
