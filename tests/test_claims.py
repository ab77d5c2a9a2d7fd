"""Claims about who looks at a request: one winner, a record, no right given or taken; and about filters people keep."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Project
from desk_stories import DAYS, Story, story
from desks import Visitor
from signing import current, known

from ai_assets.desk import saved_filters
from ai_assets.desk.saved_filters import FilterRefused
from ai_assets.signoff import audit, claims, people, requests, verification
from ai_assets.signoff.errors import ClaimRefused, ClaimTaken, PersonUnknown
from ai_assets.signoff.people import Person
from ai_assets.signoff.requests import SignoffRequest
from ai_assets.storage.state import StateStore

FACTS = {"documents": 1, "added": 1, "changed": 0, "removed": 0, "relabelled": 0, "low_confidence": 0}
SUMMARY: dict[str, Any] = {"added": ["a.txt"], "gates": []}


@pytest.fixture
def request_(state: StateStore) -> SignoffRequest:
    with state.write() as connection:
        requests.open_request(
            connection, "notes", "2026-10-05", "d" * 64, summary=SUMMARY, facts=FACTS, risk=0.1, nothing_new=False
        )
    return current(state, "2026-10-05")


def holder(state: StateStore, request: SignoffRequest) -> str | None:
    with state.read() as connection:
        found = claims.of(connection, [request.request_id])
    return found[request.request_id].person if found else None


def recorded(state: StateStore) -> list[tuple[str, str, object]]:
    with state.read() as connection:
        found = audit.select(connection, actions=["assigned", "unassigned"])
    return [(record.actor, record.action, record.subject["assignee"]) for record in reversed(found)]


def test_of_many_who_claim_at_once_one_has_it_and_the_others_learn_who(
    state: StateStore, request_: SignoffRequest
) -> None:
    crowd = [known(state, f"person{number}", "reviewer", "notes") for number in range(6)]
    ready, won, lost = threading.Barrier(len(crowd)), list[str](), list[str]()

    def rush(person: Person) -> None:
        ready.wait()
        try:
            won.append(claims.take(state, request_, by=person).person)
        except ClaimTaken as error:
            lost.append(str(error))

    threads = [threading.Thread(target=rush, args=(person,)) for person in crowd]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(won), len(lost)) == (1, 5)
    assert all(f"is claimed by {won[0]}," in said for said in lost)
    assert (holder(state, request_), recorded(state)) == (won[0], [(won[0], "assigned", won[0])])
    verification.verify(state)


def test_claiming_again_changes_nothing_and_giving_up_frees_it(state: StateStore, request_: SignoffRequest) -> None:
    rita, bob = known(state, "rita", "reviewer", "notes"), known(state, "bob", "reviewer", "notes")
    first = claims.take(state, request_, by=rita)
    assert claims.take(state, request_, by=rita) == first
    with pytest.raises(ClaimRefused, match="rita has it; ending their claim takes the role approver"):
        claims.give_up(state, request_, by=bob)
    assert claims.give_up(state, request_, by=rita)
    assert not claims.give_up(state, request_, by=rita)
    assert claims.take(state, request_, by=bob).person == "bob"
    assert recorded(state) == [("rita", "assigned", "rita"), ("rita", "unassigned", "rita"), ("bob", "assigned", "bob")]


def test_an_approver_assigns_it_to_whoever_may_review(state: StateStore, request_: SignoffRequest) -> None:
    ann, rita = known(state, "ann", "approver", "notes"), known(state, "rita", "reviewer", "notes")
    known(state, "vic", "viewer", "notes")
    claims.take(state, request_, by=rita)
    claim = claims.assign(state, request_, "Ann", by=ann)
    assert (claim.person, claim.given_by, holder(state, request_)) == ("ann", "ann", "ann")
    assert claims.assign(state, request_, "rita", by=ann).person == "rita"
    with pytest.raises(ClaimRefused, match="vic does not have the role reviewer in notes"):
        claims.assign(state, request_, "vic", by=ann)
    with pytest.raises(PersonUnknown):
        claims.assign(state, request_, "stranger", by=ann)
    with pytest.raises(ClaimRefused, match="takes the role approver in notes"):
        claims.assign(state, request_, "rita", by=rita)
    with state.read() as connection:
        assert claims.candidates(connection, "notes", by=rita) == ["ann", "rita"]
    with state.write() as connection:
        people.disable(connection, "rita", by="test")
    with pytest.raises(ClaimRefused, match="rita does not have"):
        claims.assign(state, request_, "rita", by=ann)
    assert holder(state, request_) == "rita"


def test_what_is_decided_already_is_not_claimed(state: StateStore, request_: SignoffRequest) -> None:
    rita = known(state, "rita", "reviewer", "notes")
    with state.write() as connection:
        requests.close(connection, request_, "rejected", "ann", "no")
    with pytest.raises(ClaimRefused, match="it is rejected already"):
        claims.take(state, request_, by=rita)
    assert holder(state, request_) is None


def test_a_person_keeps_filters_of_their_own_up_to_a_number(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob = known(state, "ann"), known(state, "bob")
    monkeypatch.setattr(saved_filters, "MOST", 2)
    saved_filters.save(state, ann, "  urgent  ones ", {"sort": "age", "text": "a&b=ü", "next": "https://evil.example"})
    saved_filters.save(state, ann, "mine", {"claim": "mine"})
    saved_filters.save(state, ann, "mine", {"claim": "mine", "collection": "notes"})
    with pytest.raises(FilterRefused, match="you have 2 already"):
        saved_filters.save(state, ann, "third", {})
    with pytest.raises(FilterRefused, match="1 to 60 characters"):
        saved_filters.save(state, bob, " ", {})
    with state.read() as connection:
        kept = {each.name: saved_filters.chosen_in(each.query) for each in saved_filters.of(connection, ann)}
        assert saved_filters.of(connection, bob) == []
    assert kept == {
        "mine": {"claim": "mine", "collection": "notes"}, "urgent ones": {"sort": "age", "text": "a&b=ü"},
    }  # fmt: skip
    saved_filters.remove(state, bob, "mine")
    saved_filters.remove(state, ann, "mine")
    with state.read() as connection:
        assert [each.name for each in saved_filters.of(connection, ann)] == ["urgent ones"]


# On the desk


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, as_told: Project) -> Iterator[Story]:
    with story(tmp_path_factory.mktemp("claims"), as_told) as found:
        yield found


@pytest.fixture(scope="module")
def ann(told: Story) -> Visitor:
    return told.running.visitor("ann")


@pytest.fixture(scope="module")
def rita(told: Story) -> Visitor:
    return told.running.visitor("rita")


def test_a_claim_is_shown_found_and_does_not_keep_others_from_deciding(
    told: Story, ann: Visitor, rita: Visitor
) -> None:
    request = told.latest(DAYS[1])
    address = f"/requests/{request.request_id}"
    assert "You</strong>, since" in rita.submit(f"{address}/claim", act="take").text
    assert "with rita" in ann.get("/").text
    assert address in rita.get("/?claim=mine").text
    assert address not in ann.get("/?claim=mine").text
    assert address not in ann.get("/?claim=unclaimed").text
    assert "Nothing is claimed by you" in ann.get("/?claim=mine").text
    taken = ann.submit(f"{address}/claim", act="take")
    assert (taken.status_code, "is claimed by rita" in taken.text) == (409, True)
    fields = {"verdict": "approve", "confirmed": "yes", "digest": request.digest}
    assert ann.submit(f"{address}/decision", **fields).status_code == 200
    assert told.latest(DAYS[1]).status == "approved"
    assert "assigned" in told.actions(request)


def test_the_api_claims_assigns_and_gives_up(told: Story, ann: Visitor, rita: Visitor) -> None:
    request = told.latest(DAYS[2])
    claim, unclaim = f"/requests/{request.request_id}/claim", f"/requests/{request.request_id}/unclaim"
    assert rita.post(claim, {}).json()["person"] == "rita"
    assert rita.post(claim, {"person": "ann"}).status_code == 403
    assert ann.post(claim, {"person": "bob"}).json() | {"made_at": ""} == {
        "person": "bob", "given_by": "ann", "made_at": "",
    }  # fmt: skip
    found = ann.get("/api/inbox?collection=notes").json()
    row = next(row for row in found["rows"] if row["request_id"] == request.request_id)
    assert (row["claimed_by"], found["claims"]["mine"]) == ("bob", 0)
    assert rita.post(unclaim, {}).status_code == 403
    assert ann.post(unclaim, {}).json()["person"] is None
    assert told.running.visitor("vic").post(claim, {}).status_code == 403


@pytest.mark.parametrize(
    ("fields", "status"), [({"act": "assign"}, 400), ({"act": "steal"}, 400), ({"act": "take", "csrf": "0" * 64}, 403)]
)
def test_a_form_about_a_claim_that_makes_no_sense_records_nothing(
    told: Story, ann: Visitor, fields: dict[str, str], status: int
) -> None:
    request = told.latest(DAYS[3])
    answer = ann.http.post(f"/requests/{request.request_id}/claim", data={"csrf": ann.csrf, **fields})
    assert (answer.status_code, "assigned" in told.actions(request)) == (status, False)


def test_a_filter_is_kept_opened_and_removed(ann: Visitor, rita: Visitor) -> None:
    name = '<b>"mine" & old'
    page = ann.submit("/filters", name=name, claim="unclaimed", sort="age", status="open", collection="notes")
    assert page.status_code == 200
    assert "&lt;b&gt;" in page.text
    assert "<b>" not in page.text
    assert "collection=notes&amp;status=open&amp;sort=age&amp;claim=unclaimed" in page.text
    assert "Your filters" not in rita.get("/").text
    ann.submit("/filters", remove=name)
    assert "Your filters" not in ann.get("/").text


# Deciding on several


def test_nothing_selected_is_refused_with_a_sentence_and_selected_ones_show_what_to_look_at(
    told: Story, ann: Visitor
) -> None:
    nothing = ann.submit("/decisions", verdict="approve")
    assert (nothing.status_code, "Select at least one request first" in nothing.text) == (400, True)
    chosen = [told.latest(day) for day in DAYS[4:6]]
    page = ann.submit("/decisions", verdict="approve", choice=[f"{r.request_id}:{r.digest}" for r in chosen]).text
    for label in ("Gates", "Unsure", "Quarantined"):
        assert page.count(f"<dt>{label}</dt>") == 2
    strict = told.latest(DAYS[0], "strict")
    alone = ann.submit("/decisions", verdict="approve", choice=f"{strict.request_id}:{strict.digest}").text
    assert "1 failed" in alone
