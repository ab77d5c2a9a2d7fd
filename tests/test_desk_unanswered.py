"""Claims about documents without an answer on the desk: what was tried is shown, and a person may ask again."""

import re
from collections.abc import Iterator

import pytest
from conftest import CHROMIUM, Project
from desks import DeskProcess, Visitor, desk, desk_of, request_id
from playwright.sync_api import Browser, expect, sync_playwright
from provider import Provider
from signing import PASSWORD, known
from test_asking_again import NAME, due, known_retries, office, run, sicken, the_one  # noqa: F401 - a fixture
from test_llm_stages import DAY, rows
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection
from ai_assets.desk import reading
from ai_assets.desk.access import NotSeen
from ai_assets.signoff import audit, verification

pytestmark = pytest.mark.slow


@pytest.fixture
def refused(office: Project, provider: Provider) -> Collection:  # noqa: F811
    """One of six documents needs a person."""
    collection = declare(office, [{**KIND, "tries": 1}])
    sicken(provider)
    run(office, collection)
    for name, role in (("ann", "approver"), ("vic", "viewer")):
        known(office.stores().state, name, role)  # type: ignore[arg-type]
    known(office.stores().state, "nob", None)
    return collection


@pytest.fixture
def running(project: Project, refused: Collection) -> Iterator[DeskProcess]:
    with desk(project) as found:
        yield found


def document_address(project: Project) -> str:
    return f"/requests/{request_id(desk_of(project), DAY)}/document?id={NAME.replace('/', '%2F')}"


def test_the_inbox_the_request_and_the_document_say_that_it_needs_a_person(
    project: Project, running: DeskProcess
) -> None:
    ann = running.visitor("ann")
    inbox = ann.get("/").text
    assert "1 document needs a person" in inbox
    assert 'href="/unanswered"' in inbox
    request = ann.get(f"/requests/{request_id(desk_of(project), DAY)}").text
    assert "1 answer is missing, and 1 of them needs a person" in request
    document = ann.get(document_address(project)).text
    assert "Tried in 1 run, last" in document
    assert "It needs a person" in document
    listed = ann.get("/unanswered").text
    assert all(said in listed for said in (NAME, f"notes {DAY}", "garbled", "needs a person", "Ask again"))


def test_asking_again_is_on_record_and_makes_the_partition_due(
    project: Project, running: DeskProcess, refused: Collection
) -> None:
    ann = running.visitor("ann")
    assert due(project, refused) == []
    page = ann.submit(f"/requests/{request_id(desk_of(project), DAY)}/retry", document=NAME)
    assert page.status_code == 200
    assert "Recorded: it is asked about again." in page.text
    assert "The next run asks again" in page.text
    assert f"It is asked about by the next run of {DAY}." in page.text
    assert due(project, refused) == [DAY]
    state = project.stores().state
    with state.read() as connection:
        record = list(audit.records(connection))[-1]
    assert (record.actor, record.action, record.subject["document"]) == ("ann", "retry asked", NAME)
    verification.verify(state)
    history = ann.get(document_address(project)).text
    assert "retry asked" in history
    assert "needs a person" not in ann.get("/").text


def test_who_may_only_look_sees_no_button_and_is_refused(project: Project, running: DeskProcess) -> None:
    vic = running.visitor("vic")
    listed = vic.get("/unanswered").text
    assert NAME in listed
    assert "Ask again" not in listed
    before = the_one(project)
    place = {"collection": "notes", "partition": DAY, "document": NAME}
    answer = vic.submit("/unanswered", **place)
    assert answer.status_code == 403
    assert "takes the role reviewer in notes" in answer.text
    assert the_one(project) == before
    nob = running.visitor("nob")
    assert NAME not in nob.get("/unanswered").text
    assert nob.submit("/unanswered", **place).status_code == 404
    assert nob.get("/unanswered?collection=notes").status_code == 404


def test_a_form_without_its_token_changes_nothing(project: Project, running: DeskProcess) -> None:
    ann = running.visitor("ann")
    before = the_one(project)
    bare: Visitor = ann
    answer = bare.http.post("/unanswered", data={"collection": "notes", "partition": DAY, "document": NAME})
    assert answer.status_code == 403
    assert the_one(project) == before


def test_what_is_asked_about_by_itself_is_listed_only_where_all_is_shown(
    office: Project, provider: Provider  # noqa: F811
) -> None:  # fmt: skip
    collection = declare(office, [KIND])
    sicken(provider)
    run(office, collection)
    ann = known(office.stores().state, "ann")
    found = desk_of(office)
    assert reading.unanswered_page(found, ann).rows == []
    (row,) = reading.unanswered_page(found, ann, show="all").rows
    assert (row.document_id, row.error, row.needs_person) == (NAME, "garbled", False)
    assert row.next_at is not None
    with pytest.raises(NotSeen):
        reading.unanswered_page(found, ann, collection="elsewhere")


def test_the_api_says_what_was_tried(project: Project, running: DeskProcess) -> None:
    ann = running.visitor("ann")
    request = request_id(desk_of(project), DAY)
    (retry,) = ann.get(f"/api/requests/{request}").json()["without_result"]
    assert {name: retry[name] for name in ("asset", "document_id", "tries", "needs_person")} == {
        "asset": "kind", "document_id": NAME, "tries": 1, "needs_person": True,
    }  # fmt: skip
    assert ann.get("/api/inbox").json()["need_a_person"] == {"notes": 1}
    (listed,) = ann.get("/api/unanswered?collection=notes").json()["rows"]
    assert listed == retry
    asking = {"collection": "notes", "partition": DAY, "document_id": NAME, "reason": "It was fixed."}
    assert running.visitor("vic").post("/unanswered/ask-again", asking).status_code == 403
    answer = ann.post("/unanswered/ask-again", asking)
    assert (answer.status_code, answer.json()) == (200, {"assets": ["kind"]})
    assert the_one(project).tries == 0
    assert ann.get("/api/unanswered").json()["total"] == 0
    assert ann.post("/unanswered/ask-again", {**asking, "document_id": "nothing.txt"}).status_code == 400


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def test_in_a_browser_a_person_finds_it_presses_ask_again_and_the_next_run_has_the_answer(
    project: Project, provider: Provider, running: DeskProcess, chromium: Browser
) -> None:
    page = chromium.new_page(base_url=running.url)
    page.goto("/")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("1 document needs a person")).to_be_visible()
    page.get_by_role("link", name="See what was tried").click()
    row = page.get_by_role("row").filter(has_text=NAME)
    expect(row).to_contain_text("needs a person")
    row.get_by_role("button", name=re.compile("Ask again")).click()
    expect(page.get_by_text("The next run of its partition asks again")).to_be_visible()
    expect(page.get_by_text("No document needs a person.")).to_be_visible()
    page.get_by_label("Show", exact=True).select_option("all without an answer")
    page.get_by_role("search").get_by_role("button", name="Show").click()
    expect(page.get_by_role("row").filter(has_text=NAME)).to_contain_text("the next run")
    page.close()
    provider.script([])
    done = project.cli("run", "notes")
    assert done.returncode == 0, done.stderr
    assert rows(project, "kind")[NAME]["status"] == "ok"
    assert known_retries(project) == []
