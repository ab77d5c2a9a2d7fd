"""Claims about held documents: the others go on, none is published unseen, and what people decided stays."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import STAGE, Project
from signing import current, decide, somebody

from ai_assets.collection.errors import CollectionInvalid
from ai_assets.collection.loading import Collection
from ai_assets.run.errors import PartitionsFailed
from ai_assets.run.status import partition_states
from ai_assets.signoff import corrections, holds, verification
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import DecisionRefused, HeldDecisionRefused
from ai_assets.signoff.frozen_candidate import current_candidate
from ai_assets.signoff.held_sla import advance_held
from ai_assets.signoff.holds import HeldDocument, HoldRuling, Verdict
from ai_assets.signoff.people import Person
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import live
from ai_assets.storage.digest import digest
from ai_assets.storage.lake import read_rows

DAY = "2026-10-05"
BILL = "Invoice {n}. Amounts with tax: the total due is {n}50.00 EUR, and the payment terms are 30 days."
FIRE = "Report {n} on an accident. A fire broke out beside pump {n}. The cause was a leak of oil. Nobody was hurt."
FIRES = {"fields": {"label": ["incident"]}}
WEAK, STRONG = f"{DAY}/fire.txt", f"{DAY}/bill.txt"


@pytest.fixture
def office(project: Project) -> Project:
    project.document(STRONG, BILL.format(n=1))
    project.document(WEAK, FIRE.format(n=1))
    return project


def declare(project: Project, hold: Mapping[str, Any] | None = None, **attributes: Any) -> Collection:
    held = {"hold": dict(hold)} if hold else {}
    return project.declare(**{"stages": [{**STAGE, **held}], **attributes})


def refreshed(project: Project, hold: Mapping[str, Any] | None = FIRES, **attributes: Any) -> Collection:
    found = declare(project, hold, **attributes)
    project.refresh(found, [DAY])
    return found


def queue(project: Project) -> list[HeldDocument]:
    with project.stores().state.read() as connection:
        return holds.queue(connection, "notes")


def say(
    project: Project, collection: Collection, verdict: Verdict = "accept", *, by: Person | None = None, **more: Any
) -> HoldRuling:
    [held] = queue(project)
    who = by or somebody("rita", "reviewer")
    return holds.decide(project.stores().state, collection, held, verdict, by=who, **more)


def publish_all(project: Project, collection: Collection) -> None:
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="ann")


def released(project: Project) -> dict[str, dict[str, Any]]:
    stores = project.stores()
    with stores.state.read() as connection:
        found = live(connection, "notes")
    assert found is not None
    folder = stores.lake.root / "notes/release_snapshots" / DAY
    return {row["document_id"]: row for row in read_rows(folder / found.parts[DAY].documents_file)}


def asked(project: Project) -> dict[str, Any]:
    return current(project.stores().state, DAY).changes


def test_the_others_go_on_without_it_and_decided_it_joins_in_a_request_that_shows_it_alone(office: Project) -> None:
    notes = refreshed(office)
    [held] = queue(office)
    assert (held.document_id, held.kinds, held.answer) == (WEAK, ("field",), "incident")
    assert asked(office)["added"] == [STRONG]
    publish_all(office, notes)
    assert list(released(office)) == [STRONG]
    say(office, notes)
    assert partition_states(notes, office.stores())[DAY] == "stale"
    office.refresh(notes, [DAY])
    request = asked(office)
    assert (request["added"], request["changed"], request["removed"]) == ([WEAK], [], [])
    assert queue(office) == []
    publish_all(office, notes)
    assert sorted(released(office)) == [STRONG, WEAK]
    assert partition_states(notes, office.stores())[DAY] == "published"
    verification.verify(office.stores().state)


def test_no_passage_of_a_held_document_is_released(office: Project) -> None:
    notes = refreshed(office)
    candidate = current_candidate(office.stores().lake, "notes", DAY)
    assert candidate is not None
    _, chunks = candidate.paths(office.stores().lake)
    assert {row["document_id"] for row in read_rows(chunks)} == {STRONG}
    publish_all(office, notes)


def test_the_digest_covers_what_is_held_and_why(office: Project) -> None:
    found = []
    for hold in (FIRES, {"below": 1.0, "release": "marked", **FIRES}):
        refreshed(office, hold)
        candidate = current_candidate(office.stores().lake, "notes", DAY)
        assert candidate is not None
        summary = asked(office)
        assert candidate.code_versions[holds.HELD] == digest(summary["held"])
        found.append((candidate.digest, [each[:3] for each in summary["held"]]))
    assert found[0][1] == [[WEAK, "kind", ["field"]]]
    assert [WEAK, "kind", ["field", "confidence"]] in found[1][1]
    assert found[0][0] != found[1][0]


def test_what_is_decided_while_people_look_at_the_others_does_not_void_their_request(office: Project) -> None:
    notes = refreshed(office)
    before = current(office.stores().state, DAY)
    say(office, notes)
    assert partition_states(notes, office.stores())[DAY] == "awaiting sign-off"
    office.refresh(notes, [DAY])
    assert current(office.stores().state, DAY) == before
    publish_all(office, notes)
    assert partition_states(notes, office.stores())[DAY] == "stale"
    office.refresh(notes, [DAY])
    assert asked(office)["added"] == [WEAK]


def test_where_the_request_is_void_anyway_all_that_was_decided_joins_at_once(office: Project) -> None:
    notes = refreshed(office)
    say(office, notes)
    office.document(f"{DAY}/more.txt", BILL.format(n=7))
    office.refresh(notes, [DAY])
    assert asked(office)["added"] == [STRONG, WEAK, f"{DAY}/more.txt"]
    assert partition_states(notes, office.stores())[DAY] == "awaiting sign-off"


def test_a_decision_stays_while_text_and_answer_do_and_no_longer(office: Project) -> None:
    notes = refreshed(office)
    say(office, notes)
    publish_all(office, notes)
    office.document(f"{DAY}/more.txt", BILL.format(n=7))
    office.refresh(notes, [DAY])
    assert queue(office) == []
    office.document(WEAK, FIRE.format(n=9))
    office.refresh(notes, [DAY])
    assert [held.document_id for held in queue(office)] == [WEAK]
    assert WEAK not in asked(office)["added"]


def test_a_rejected_document_is_published_as_one_without_text_with_the_reason(office: Project) -> None:
    notes = refreshed(office)
    with pytest.raises(HeldDecisionRefused, match="rejecting takes a reason"):
        say(office, notes, "reject")
    say(office, notes, "reject", reason="a drill, no fire")
    publish_all(office, notes)
    office.refresh(notes, [DAY])
    publish_all(office, notes)
    row = released(office)[WEAK]
    assert (row["status"], row["text"], row["title"]) == ("quarantined", None, None)
    assert row["reason"] == "rejected by rita: a drill, no fire"
    declare(office, {"below": 0.001})
    office.refresh(refreshed(office, {"below": 0.001}), [DAY])
    with office.stores().state.read() as connection:
        assert holds.queue(connection, "notes") == []
    assert released(office)[WEAK]["status"] == "quarantined"


def test_a_correction_is_final_for_the_text_and_joins(office: Project) -> None:
    notes = refreshed(office)
    publish_all(office, notes)
    with pytest.raises(HeldDecisionRefused, match="'incidnt' is no label of 'kind'; did you mean 'incident'"):
        say(office, notes, "correct", label="incidnt")
    say(office, notes, "correct", label="invoice", reason="it only mentions one")
    office.refresh(notes, [DAY])
    publish_all(office, notes)
    row = released(office)[WEAK]
    assert (row["kind_label"], row["kind_model_label"], row["kind_corrected_by"]) == ("invoice", "incident", "rita")
    with office.stores().state.read() as connection:
        assert corrections.current(connection, "notes")["kind", WEAK].label == "invoice"
    verification.verify(office.stores().state)


def test_a_correction_on_the_page_of_a_request_is_a_decision_too(office: Project) -> None:
    notes = refreshed(office, {**FIRES, "release": "marked"})
    stores = office.stores()
    corrections.correct(
        stores, collection=notes, request=current(stores.state, DAY), document_id=WEAK, stage="kind",
        label="incident", reason="it is one", by=somebody("rita", "reviewer"),
    )  # fmt: skip
    office.refresh(notes, [DAY])
    assert queue(office) == []


def test_what_is_live_with_this_text_and_answer_does_not_wait(office: Project) -> None:
    notes = refreshed(office, None)
    publish_all(office, notes)
    notes = refreshed(office, FIRES)
    assert queue(office) == []
    office.document(WEAK, FIRE.format(n=5))
    office.refresh(notes, [DAY])
    assert [held.document_id for held in queue(office)] == [WEAK]
    assert asked(office)["removed"] == [WEAK]


def test_marked_it_is_released_with_the_reason_and_waits_all_the_same(office: Project) -> None:
    notes = refreshed(office, {**FIRES, "release": "marked"})
    publish_all(office, notes)
    assert released(office)[WEAK]["held"] == "kind: label is as declared under 'fields'"
    assert released(office)[STRONG]["held"] is None
    office.refresh(notes, [DAY])
    assert [held.document_id for held in queue(office)] == [WEAK]
    say(office, notes)
    office.refresh(notes, [DAY])
    assert asked(office)["changed"] == [WEAK]
    publish_all(office, notes)
    assert "held" not in released(office)[WEAK]


def test_of_two_reviewers_who_differ_a_third_decides(office: Project) -> None:
    notes = refreshed(office, {**FIRES, "reviewers": 2})
    ann, ben, cleo = (somebody(name, "reviewer") for name in ("ann", "ben", "cleo"))
    assert say(office, notes, by=ann).decided is None
    assert say(office, notes, by=ann).decided is None
    second = say(office, notes, "correct", label="invoice", by=ben)
    assert second.decided is None
    assert second.disagreed
    with office.stores().state.read() as connection:
        assert corrections.current(connection, "notes") == {}
    third = say(office, notes, "correct", label="invoice", by=cleo)
    assert third.decided is not None
    assert third.decided.author == "cleo"
    with office.stores().state.read() as connection:
        assert corrections.current(connection, "notes")["kind", WEAK].author == "cleo"


def test_two_who_say_the_same_are_enough(office: Project) -> None:
    notes = refreshed(office, {**FIRES, "reviewers": 2})
    assert say(office, notes, by=somebody("ann", "reviewer")).decided is None
    assert say(office, notes, by=somebody("ben", "reviewer")).decided is not None


def test_who_may_not_and_what_was_not_looked_at_is_refused(office: Project) -> None:
    notes = refreshed(office)
    with pytest.raises(DecisionRefused, match="takes the role reviewer in notes"):
        say(office, notes, by=somebody("eve", "viewer"))
    [held] = queue(office)
    office.document(WEAK, FIRE.format(n=3))
    office.refresh(notes, [DAY])
    with pytest.raises(HeldDecisionRefused, match="has changed since it was shown"):
        holds.decide(office.stores().state, notes, held, "accept", by=somebody("rita", "reviewer"))
    refreshed(office, {"below": 0.001})
    with pytest.raises(HeldDecisionRefused, match="does not wait for anybody"):
        holds.decide(office.stores().state, notes, held, "accept", by=somebody("rita", "reviewer"))


def test_a_decision_that_the_chain_does_not_know_is_found(office: Project) -> None:
    notes = refreshed(office)
    say(office, notes)
    stores = office.stores()
    with stores.state.write() as connection:
        connection.execute(sa.text("UPDATE hold_decisions SET decision = 'reject'"))
    with pytest.raises(AuditBroken, match="decision 1 of rita about"):
        verification.verify(stores.state)


RULES = """
def odd(row, word="fire"):
    if word == "raise":
        return row["nothing"]
    return f"it says {word}" if row["label"] == "incident" else None
"""


def test_a_rule_of_ones_own_holds_and_one_that_raises_is_named_with_its_line(office: Project) -> None:
    (office.root / "odd_rules.py").write_text(RULES)
    refreshed(office, {"rule": "odd_rules:odd", "options": {"word": "fire"}})
    assert [(held.document_id, held.why) for held in queue(office)] == [(WEAK, ("it says fire",))]
    failing = declare(office, {"rule": "odd_rules:odd", "options": {"word": "raise"}})
    said = r"hold rule odd_rules:odd failed: KeyError: 'nothing' .*odd_rules\.py:4"
    with pytest.raises(PartitionsFailed, match=said):
        office.refresh(failing, [DAY])


def test_a_second_model_that_says_something_else_holds(office: Project) -> None:
    swapped = [dict(label) for label in STAGE["labels"]]
    for label, other in zip(swapped, reversed(STAGE["labels"]), strict=True):
        label["description"] = other["description"]
    second = {**STAGE, "name": "second", "labels": swapped}
    notes = declare(office, stages=[{**STAGE, "hold": {"disagrees_with": "second"}}, second])
    office.refresh(notes, [DAY])
    assert {held.kinds for held in queue(office)} == {("disagreement",)}


def test_the_audit_draws_by_document_and_text_the_same_whenever_it_is_asked(office: Project) -> None:
    for number in range(30):
        office.document(f"{DAY}/{number}.txt", BILL.format(n=number))
    drawn = []
    for _ in range(2):
        refreshed(office, {"audit": 0.3})
        drawn.append({held.document_id for held in queue(office)})
        refreshed(office, {"below": 0.001})
    assert drawn[0] == drawn[1]
    assert 2 <= len(drawn[0]) <= 20


def test_what_waits_is_ranked_by_expected_error(office: Project) -> None:
    refreshed(office, {"below": 1.0})
    found = queue(office)
    assert len(found) == 2
    assert [held.value for held in found] == sorted((held.value for held in found), reverse=True)
    assert found[0].value == pytest.approx(1 - (found[0].confidence or 0), abs=1e-8)


@pytest.mark.parametrize(
    ("hold", "attributes", "line_of", "said"),
    [
        pytest.param({"belw": 0.5}, {}, "belw", "unknown key 'belw'", id="an unknown key"),
        pytest.param({"release": "marked"}, {}, "hold", "holds nothing", id="nothing that holds"),
        pytest.param({"fields": {"colour": ["red"]}}, {}, "colour", "no column 'colour'", id="an unknown column"),
        pytest.param({"fields": {"label": ["fire"]}}, {}, "fields:", "unknown label 'fire'", id="an unknown label"),
        pytest.param({"certified": {"error": 0}}, {}, "error:", "more than 0", id="an error of 0"),
        pytest.param({"certified": {"error": 1}}, {}, "error:", "less than 1", id="an error of 1"),
        pytest.param({"certified": {"error": 0.05}}, {}, "certified", "declare golden", id="no golden labels"),
        pytest.param({"below": 0.5, "certified": {"error": 0.05}}, {"golden": {"review": True}}, "below", "not both",
                     id="two thresholds"),
        pytest.param({"certified": {"error": 0.05, "suspended_by": ["drift"]}}, {"golden": {"review": True}},
                     "- drift", "no gate 'drift'", id="an unknown gate"),
        pytest.param({"disagrees_with": "secnd"}, {}, "disagrees_with", "no other stage", id="an unknown stage"),
        pytest.param({"rule": "nowhere:odd"}, {}, "rule", "importing nowhere failed", id="a rule that is not there"),
        pytest.param({"below": 0.5, "use": "label"}, {}, "use:", "no column 'label' of numbers", id="use by a text"),
        pytest.param({"below": 0.5, "escalate_after_hours": 2}, {}, "escalate", "later than", id="out of order"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_its_line(
    office: Project, hold: dict[str, Any], attributes: dict[str, Any], line_of: str, said: str
) -> None:
    with pytest.raises(CollectionInvalid) as refused:
        declare(office, hold, **attributes)
    path = office.root / "collections/notes/defs.yaml"
    assert said in str(refused.value)
    assert any(place in str(refused.value) for place in _lines(path, line_of))


def _lines(path: Path, key: str) -> list[str]:
    """The place that is named: that of the key, or of what begins below it."""
    lines = path.read_text().splitlines()
    last = max(number for number, line in enumerate(lines, start=1) if f"{key}" in line)
    return [f"{path}:{last}:", f"{path}:{last + 1}:"]


def test_confidence_rules_need_a_column_of_confidence(office: Project) -> None:
    stages = [{"name": "brief", "kind": "summarise", "route": "default", "hold": {"below": 0.5}}]
    with pytest.raises(CollectionInvalid, match="stage 'brief' gives no confidence"):
        declare(office, stages=stages)


def test_a_collection_that_holds_nothing_has_the_digests_it_always_had(office: Project) -> None:
    refreshed(office, None)
    candidate = current_candidate(office.stores().lake, "notes", DAY)
    assert candidate is not None
    assert holds.HELD not in candidate.code_versions
    assert "held" not in json.loads(current(office.stores().state, DAY).summary)


def told(project: Project) -> list[tuple[str, str]]:
    with project.stores().state.read() as connection:
        return [(row.kind, row.title) for row in connection.execute(sa.text("SELECT * FROM notices ORDER BY made_at"))]


def test_who_waits_is_told_of_once_a_step_and_decided_ones_are_not(office: Project) -> None:
    notes = refreshed(office, FIRES, signoff={"notify": ["team"], "sla": {"remind_after_hours": None,
                      "escalate_after_hours": None, "expire_after_days": None}})  # fmt: skip
    state, [held] = office.stores().state, queue(office)
    began = datetime.fromisoformat(held.held_at)
    for hours, kinds in ((23, []), (25, ["hold reminded"]), (26, ["hold reminded"]),
                         (73, ["hold reminded", "hold escalated"])):  # fmt: skip
        advance_held(state, [notes], (began + timedelta(hours=hours)).isoformat(timespec="milliseconds"))
        assert [kind for kind, _ in told(office)] == kinds
    assert told(office)[0][1] == "notes: 1 document waits for a person in kind, for 24 hours or longer"
    assert WEAK not in str(told(office))
    office.refresh(notes, [DAY])
    assert advance_held(state, [notes], (began + timedelta(hours=99)).isoformat(timespec="milliseconds")) == 0
    verification.verify(state)


def test_nobody_is_reminded_of_what_is_decided(office: Project) -> None:
    notes = refreshed(office, FIRES, signoff={"notify": ["team"]})
    [held] = queue(office)
    say(office, notes)
    late = (datetime.fromisoformat(held.held_at) + timedelta(hours=80)).isoformat(timespec="milliseconds")
    assert advance_held(office.stores().state, [notes], late) == 0
