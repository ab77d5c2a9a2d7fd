"""Claims about the desk's pages, over real HTTP: what they show, what they ask, and what they refuse."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import sqlalchemy as sa
from conftest import Project
from desk_stories import DAYS, ODD, Story, story
from desks import Visitor
from lineage_events import INSTALLED, events_in, needs_openlineage

from ai_assets.signoff import verification
from ai_assets.signoff.requests import SignoffRequest

SECRET = "a-key-that-nobody-may-read"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, as_told: Project) -> Iterator[Story]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LISTENER_API_KEY", SECRET)
        with story(tmp_path_factory.mktemp("pages"), as_told) as found:
            yield found


@pytest.fixture(scope="module")
def ann(told: Story) -> Visitor:
    return told.running.visitor("ann")


@pytest.fixture(scope="module")
def bob(told: Story) -> Visitor:
    return told.running.visitor("bob")


@pytest.fixture(scope="module")
def rita(told: Story) -> Visitor:
    return told.running.visitor("rita")


def decide(
    visitor: Visitor, request: SignoffRequest, verdict: str, confirmed: bool = True, **fields: str
) -> httpx.Response:
    told = {"digest": request.digest, "verdict": verdict, "confirmed": "yes" if confirmed else "", **fields}
    return visitor.submit(f"/requests/{request.request_id}/decision", **told)


def links(text: str) -> list[str]:
    return [html.unescape(found) for found in re.findall(r'href="([^"]+)"', text)]


# Looking


def test_the_inbox_shows_what_waits_and_filters_it(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[1])
    page = ann.get("/")
    assert f"/requests/{request.request_id}" in page.text
    assert f"{request.request_id}:{request.digest}" in page.text
    found = ann.get(f"/?collection=notes&text={DAYS[1]}").text
    assert f"/requests/{request.request_id}" in found
    assert told.latest(DAYS[2]).request_id not in found
    assert "No request matches" in ann.get("/?text=nothing-like-it").text


@pytest.mark.parametrize("query", ["page=x", "page=-1", "page=99999999999", "status=%00", "sort=%27", "text=%ED%A0%80%00", "collection=nowhere"])  # fmt: skip  # noqa: E501
def test_an_odd_address_of_the_inbox_is_no_mistake_of_the_desk(ann: Visitor, query: str) -> None:
    assert ann.get(f"/?{query}").status_code in (200, 404)


def test_a_request_says_what_would_go_live_and_of_what_an_approval_would_be(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[1])
    text = ann.get(f"/requests/{request.request_id}").text
    assert request.digest in text
    for said in ("What would go live", "Gates", "Evaluation", "Documents", "History"):
        assert said in text


def test_an_odd_document_id_leads_to_its_page_and_hostile_text_stays_text(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[0])
    page = ann.get(f"/requests/{request.request_id}").text
    address = next(link for link in links(page) if "ümlaut" in html.unescape(link) or "%C3%BCmlaut" in link)
    document = ann.get(address)
    assert document.status_code == 200
    assert ODD in html.unescape(document.text)
    for text in (page, document.text):
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "<i>c" not in text
        assert "&lt;script&gt;alert(1)" in text
    assert "{{ 7 * 7 }}" in document.text


def test_an_opened_request_is_recorded_for_approvers_only_and_once(told: Story, ann: Visitor, rita: Visitor) -> None:
    request = told.latest(DAYS[2])
    before = told.actions(request).count("viewed")
    rita.get(f"/requests/{request.request_id}")
    ann.get(f"/requests/{request.request_id}?change=added")
    ann.http.head(f"/requests/{request.request_id}")
    assert told.actions(request).count("viewed") == before
    ann.get(f"/requests/{request.request_id}")
    assert told.actions(request).count("viewed") == before + 1
    ann.get(f"/requests/{request.request_id}")
    assert told.actions(request).count("viewed") == before + 1


def test_what_one_may_not_see_looks_like_what_is_not_there(told: Story) -> None:
    nob = told.running.visitor("nob")
    hidden, missing = nob.get(f"/requests/{told.latest(DAYS[1]).request_id}"), nob.get("/requests/0123456789abcdef")
    assert (hidden.status_code, missing.status_code) == (404, 404)
    seen, unseen = f"{told.latest(DAYS[1]).request_id}:x", "0123456789abcdef:x"
    answers = [nob.submit("/decisions", choice=choice, verdict="approve") for choice in (seen, unseen)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert nob.get("/releases/notes").status_code == nob.get("/releases/nowhere").status_code == 404
    assert "You have no role in any collection yet" in nob.get("/").text


def test_errors_are_calm_pages_with_the_same_protection(told: Story, ann: Visitor) -> None:
    for answer in (ann.get("/nowhere"), ann.submit("/audit"), ann.get("/decisions")):
        assert answer.status_code in (404, 405)
        assert "Sign-off desk" in answer.text
        assert "Traceback" not in answer.text
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_a_mistake_of_ours_has_a_reference_that_leads_to_its_traceback(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[11])
    broken = sa.text("UPDATE review_requests SET summary = 'no JSON' WHERE request_id = :id")
    with told.stores.state.write() as connection:
        connection.execute(broken, {"id": request.request_id})
    answer = ann.submit(f"/requests/{request.request_id}/decision", digest="x", verdict="approve")
    assert answer.status_code == 500
    assert "Traceback" not in answer.text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    found = re.search(r"Reference <code>([0-9a-f]{8})</code>", answer.text)
    assert found
    assert f"(reference {found[1]})\nTraceback" in told.running.log.read_text()


# Deciding


def test_nothing_is_recorded_before_the_confirmation(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[1])
    asked = decide(ann, request, "approve", confirmed=False, reason="all read")
    assert asked.status_code == 200
    assert "Please confirm" in asked.text
    assert "all read" in asked.text
    assert request.digest in asked.text
    assert told.latest(DAYS[1]).status == "open"
    done = decide(ann, request, "approve", reason="all read")
    assert (done.status_code, done.history[0].status_code) == (200, 303)
    assert "publication is under way" in done.text
    assert '<noscript><meta http-equiv="refresh"' in done.text
    assert '<noscript><meta http-equiv="refresh"' not in ann.get(f"/requests/{told.latest(DAYS[2]).request_id}").text
    assert told.latest(DAYS[1]).status == "approved"


def test_a_rejection_without_a_reason_is_asked_for_one(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[2])
    refused = decide(ann, request, "reject", reason="  ")
    assert refused.status_code == 400
    assert "A rejection needs a reason; nothing was recorded." in refused.text
    assert told.latest(DAYS[2]).status == "open"
    assert "the scan is unreadable" in decide(ann, request, "reject", reason="the scan is unreadable").text
    assert told.latest(DAYS[2]).status == "rejected"


def test_who_comes_second_is_told_and_keeps_what_they_typed(told: Story, ann: Visitor, bob: Visitor) -> None:
    request = told.latest(DAYS[3])
    decide(ann, request, "send back", reason="leave out the draft")
    for confirmed in (False, True):
        late = decide(bob, request, "approve", confirmed=confirmed, reason="fine by me")
        assert late.status_code == 409
        assert "it was sent back by ann" in late.text
        assert "ai-assets signoff" not in late.text
    again = ann.submit(f"/requests/{request.request_id}/ask-again", reason="")
    assert again.status_code == 400
    opened = ann.submit(f"/requests/{request.request_id}/ask-again", reason="the draft is gone")
    assert told.latest(DAYS[3]).request_id in str(opened.url)
    assert "A newer candidate is there" in ann.get(f"/requests/{request.request_id}").text


def test_another_digest_is_another_question(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[4])
    answer = ann.submit(
        f"/requests/{request.request_id}/decision", digest="0" * 64, verdict="approve", confirmed="yes", reason="typed"
    )
    assert answer.status_code == 409
    assert "typed" in answer.text
    assert told.latest(DAYS[4]).status == "open"


@pytest.mark.parametrize("name", ["rita", "vic"])
def test_who_may_not_decide_sees_why_and_is_refused(told: Story, name: str) -> None:
    request, visitor = told.latest(DAYS[4]), told.running.visitor(name)
    page = visitor.get(f"/requests/{request.request_id}").text
    assert f"{name} cannot decide here: it takes the role approver" in page
    assert 'data-verdict="approve"' not in page
    for confirmed in (False, True):
        assert decide(visitor, request, "approve", confirmed=confirmed).status_code == 403
    assert told.latest(DAYS[4]).status == "open"


def test_several_are_decided_at_once_and_one_that_was_lost_holds_up_none(
    told: Story, ann: Visitor, bob: Visitor
) -> None:
    found = [told.latest(day) for day in DAYS[5:8]]
    choices = [f"{request.request_id}:{request.digest}" for request in found]
    asked = ann.submit("/decisions", choice=choices, verdict="approve")
    assert "Your approval of 3 candidates of notes is recorded" in asked.text
    decide(bob, found[2], "reject", reason="not this one")
    done = ann.submit("/decisions", choice=choices, verdict="approve", confirmed="yes")
    assert "2 requests approved; 1 left as it was." in done.text
    assert "it was rejected by bob" in done.text.casefold()
    assert [told.latest(day).status for day in DAYS[5:8]] == ["approved", "approved", "rejected"]
    nothing = ann.submit("/decisions", verdict="approve")
    assert (nothing.status_code, "Select at least one request first" in nothing.text) == (400, True)
    assert ann.submit("/decisions", choice="x", verdict="approve").status_code == 400


def test_a_failed_gate_is_waived_with_a_reason_or_not_at_all(told: Story, ann: Visitor) -> None:
    request = told.latest(DAYS[0], "strict")
    assert "An approver may waive it with a reason" in ann.get(f"/requests/{request.request_id}").text
    refused = decide(ann, request, "approve")
    assert refused.status_code == 400
    assert "Every failed gate needs the reason" in refused.text
    choice = f"{request.request_id}:{request.digest}"
    assert "a gate has failed" in ann.submit("/decisions", choice=choice, verdict="approve").text
    done = decide(ann, request, "approve", **{"waive.recall@1": "the golden question is about last year"})
    assert "the golden question is about last year" in done.text
    assert told.latest(DAYS[0], "strict").status == "approved"
    assert "waived" in told.actions(request)


# Documents


def test_a_label_is_corrected_and_the_correction_taken_back(told: Story, rita: Visitor) -> None:
    request = told.latest(DAYS[0])
    base = f"/requests/{request.request_id}"
    page = rita.get(f"{base}/document?id={DAYS[0]}/0.txt").text
    other = "incident" if ">invoice</p>" in page.replace("\n", "") else "invoice"
    fields = {"document": f"{DAYS[0]}/0.txt", "stage": "kind"}
    missing = rita.submit(f"{base}/correction", **fields, label="", reason="why")
    assert missing.status_code == 400
    assert "Choose the label that is right" in missing.text
    assert rita.submit(f"{base}/correction", **fields, label="nonsense", reason="typed here").status_code == 400
    done = rita.submit(f"{base}/correction", **fields, label=other, reason="it says so itself")
    assert "Your correction is recorded." in done.text
    assert f"Corrected to {other}" in done.text
    assert "it says so itself" in done.text
    back = rita.submit(f"{base}/correction", **fields, take_back="yes")
    assert "The correction is taken back." in back.text
    vic = told.running.visitor("vic")
    assert vic.submit(f"{base}/correction", **fields, label=other).status_code == 403
    assert "Correct the label" not in vic.get(f"{base}/document?id={DAYS[0]}/0.txt").text


def test_a_document_is_reviewed_commented_and_looked_at_again(told: Story, rita: Visitor, ann: Visitor) -> None:
    base = f"/requests/{told.latest(DAYS[0]).request_id}"

    def note(visitor: Visitor, kind: str, text: str = "", **more: str):  # type: ignore[no-untyped-def]
        return visitor.submit(f"{base}/notes", document=ODD, kind=kind, text=text, **more)

    assert "<b>odd</b>" not in note(rita, "comment", "an <b>odd</b> one").text
    assert note(rita, "comment").status_code == 400
    assert note(rita, "nonsense").status_code == 400
    assert "second look asked" in note(rita, "second look", "is it an incident?").text
    assert "you looked again" in note(ann, "looked again").text
    assert "reviewed by" in note(ann, "reviewed").text
    further = note(ann, "reviewed", next=f"{DAYS[0]}/1.txt")
    assert f"{DAYS[0]}%2F1.txt" in str(further.url)


def test_a_removed_and_a_missing_document_have_a_page_each(told: Story, ann: Visitor) -> None:
    base = f"/requests/{told.latest(DAYS[0]).request_id}"
    for address in ("document?id=nowhere", "document?id=", "document", "document?id=%00%ED%A0%80"):
        assert ann.get(f"{base}/{address}").status_code == 404


# Releases and audit


def test_a_release_is_rolled_back_with_a_reason(told: Story, ann: Visitor, rita: Visitor, tmp_path: Path) -> None:
    for day in DAYS[8:10]:
        decide(ann, told.latest(day), "approve")
        told.publish()
    page = ann.get("/releases/notes").text
    assert "Roll back" in page
    assert "Roll back" not in rita.get("/releases/notes").text
    file = tmp_path / "events.jsonl"
    (told.project.root / "openlineage.yml").write_text(
        json.dumps({"transport": {"type": "file", "log_file_path": str(file), "append": True}})
    )
    asked = ann.submit("/releases/notes/rollback", number="1")
    assert "Please confirm" in asked.text
    assert "instead of release 2" in asked.text
    assert ann.submit("/releases/notes/rollback", number="1", confirmed="yes").status_code == 400
    assert ann.submit("/releases/notes/rollback", number="9", confirmed="yes", reason="x").status_code == 400
    assert rita.submit("/releases/notes/rollback", number="1", confirmed="yes", reason="x").status_code == 403
    done = ann.submit("/releases/notes/rollback", number="1", confirmed="yes", reason="a wrong number in it")
    assert "Release 1 is live" in done.text
    if INSTALLED:
        (event,) = events_in(file)
        assert event["run"]["facets"]["ai_assets_rollback"].items() >= {"fromNumber": 2, "by": "ann"}.items()
        assert "It is live, but" not in done.text
    else:
        assert "It is live, but:</strong> Lineage takes the package openlineage, which is missing" in done.text
    (told.project.root / "openlineage.yml").write_text(
        json.dumps({"transport": {"type": "http", "url": "http://127.0.0.1:9", "timeout": 1, "retry": {"total": 0}}})
    )
    done = ann.submit("/releases/notes/rollback", number="2", confirmed="yes", reason="it was right")
    assert "Release 2 is live" in done.text
    (notice,) = re.findall(r"It is live, but:</strong> ([^<]*)", done.text)
    assert "ineage" in notice
    assert "It is live, but" not in ann.get("/releases/notes").text
    assert "It is live, but" not in ann.get("/releases/notes?told=not.sealed").text
    assert ann.submit("/releases/notes/rollback", number="1", confirmed="yes", reason="no").status_code == 200
    (told.project.root / "openlineage.yml").unlink()
    assert "nothing of notes was live" in ann.get("/releases/notes?at=2020-01-01T00:00").text
    assert "release 1</strong> was live" in ann.get("/releases?collection=notes&at=2100-01-01T00:00").text
    assert ann.get("/releases/notes?at=never").status_code == 400


@needs_openlineage
def test_the_address_after_a_rollback_holds_no_secret(told: Story, ann: Visitor) -> None:
    (told.project.root / "openlineage.yml").write_text(json.dumps({"transport": {"type": SECRET}}))
    done = ann.submit("/releases/notes/rollback", number="2", confirmed="yes", reason="it was right")
    (notice,) = re.findall(r"It is live, but:</strong> ([^<]*)", done.text)
    sealed, _, _ = parse_qs(urlsplit(str(done.url)).query)["told"][0].partition(".")
    address = base64.urlsafe_b64decode(sealed + "===").decode()
    for said in (notice, address):
        assert "***" in said
        assert SECRET not in said
    (told.project.root / "openlineage.yml").unlink()
    assert ann.submit("/releases/notes/rollback", number="1", confirmed="yes", reason="no").status_code == 200


def test_the_chain_is_filtered_and_its_export_proves_itself(told: Story, ann: Visitor) -> None:
    decide(ann, told.latest(DAYS[10]), "reject", reason="<em>no</em>")
    page = ann.get("/audit?action=rejected&actor=ann").text
    assert "&lt;em&gt;no&lt;" in page
    assert "<em>no" not in page
    assert "<strong>requested</strong>" not in page
    assert ann.get("/audit?since=never").status_code == 400
    assert ann.get("/audit?before=x").status_code == 400
    export = ann.get("/audit.jsonl")
    assert "attachment" in export.headers["Content-Disposition"]
    file = told.project.root / "audit.jsonl"
    file.write_text(export.text)
    verification.verify_file(file)


def test_a_session_is_ended_from_the_account(told: Story) -> None:
    here, there = told.running.visitor("bob"), told.running.visitor("bob")
    assert "approver" in here.get("/account").text
    assert "this one" in here.get("/account").text
    mine = hashlib.sha256(there.http.cookies["desk"].encode()).hexdigest()
    assert mine in here.get("/account").text
    here.submit("/account/sessions", session=mine)
    assert "/sign-in" in str(there.get("/account").url)
    assert "/sign-in" not in str(here.get("/account").url)
