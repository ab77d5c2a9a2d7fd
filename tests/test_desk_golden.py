"""Claims about labelling on the desk: quick, blind, resumable, and open to everybody who may review."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHROMIUM, Project
from desks import DeskProcess, Visitor, desk
from playwright.sync_api import Browser, Page, expect, sync_playwright
from signing import PASSWORD, known
from test_golden import GATED, asked, computed, office  # noqa: F401 - a fixture

from ai_assets.collection.loading import Collection
from ai_assets.signoff import golden_labels, verification
from ai_assets.signoff.golden_status import golden_status

pytestmark = pytest.mark.slow

ARABIC = "فاتورة رقم ٧: المبلغ الإجمالي المستحق مع الضريبة."


@pytest.fixture
def notes(office: Project) -> Collection:  # noqa: F811
    office.document("2026-10-05/arabic-invoice-with-a-name-that-is-longer-than-a-phone-is-wide.txt", ARABIC)
    collection = computed(office, **GATED)
    for name, role in (("ann", "reviewer"), ("bob", "approver"), ("vic", "viewer")):
        known(office.stores().state, name, role)  # type: ignore[arg-type]
    known(office.stores().state, "nob", None)
    return collection


@pytest.fixture
def running(office: Project, notes: Collection) -> Iterator[DeskProcess]:  # noqa: F811
    with desk(office) as found:
        yield found


def drawn(visitor: Visitor, **fields: Any) -> str:
    given = {"collection": "notes", "size": "4", "random_percent": "50", "opinions": "1", **fields}
    return visitor.submit("/golden", **given).text


def task_on(page: str) -> dict[str, str]:
    """The document that a page asks about."""
    found = {name: re.search(rf'name="{name}" value="([^"]+)"', page) for name in ("document", "digest")}
    return {name: match[1] for name, match in found.items() if match}


def given(project: Project, person: str) -> list[golden_labels.GivenLabel]:
    with project.stores().state.read() as connection:
        return [item for item in golden_labels.newest(connection, "notes", "kind") if item.author == person]


def test_a_reviewer_draws_labels_and_goes_on_where_they_were(running: DeskProcess, notes: Collection) -> None:
    ann = running.visitor("ann")
    overview = ann.get("/golden").text
    assert "no labels yet: at least 14 more decide it, if all of them are right" in overview
    page = drawn(ann)
    assert "0 answered by you, 4 to go" in page
    first = task_on(page)
    page = ann.submit("/golden/notes", label="invoice", note="a bill", **first).text
    assert f"Recorded: {first['document']} is invoice." in page
    assert "1 answered by you, 3 to go" in page
    second = task_on(page)
    assert second["document"] != first["document"]
    assert task_on(ann.get("/golden/notes").text) == second, "it goes on with the document that waits"
    page = ann.submit("/golden/notes", answer="unsure", **second).text
    assert f"you cannot tell what {second['document']} is" in page
    revisited = ann.get(f"/golden/notes?id={first['document']}").text
    assert task_on(revisited) == first
    assert "You answered: <strong>invoice</strong>" in revisited
    ann.submit("/golden/notes", label="incident", **first)
    found = {item.document_id: item for item in given(running.project, "ann")}
    assert (found[first["document"]].label, found[first["document"]].number) == ("incident", 2)
    assert found[second["document"]].answer == "unsure"
    assert {item.stratum for item in found.values()} <= {"random", "uncertain"}
    verification.verify(running.project.stores().state)


def test_the_page_does_not_say_what_the_model_said(running: DeskProcess, notes: Collection) -> None:
    page = drawn(running.visitor("ann"))
    assert "confidence" not in page.lower()
    assert 'class="chosen"' not in page
    assert "random" not in page.lower(), "nor how the document was chosen"


def test_nobody_is_asked_about_what_another_has_labelled(running: DeskProcess, notes: Collection) -> None:
    ann, bob = running.visitor("ann"), running.visitor("bob")
    task = task_on(drawn(ann, size="1", random_percent="100"))
    assert task_on(bob.get("/golden/notes").text) == task
    ann.submit("/golden/notes", label="invoice", **task)
    assert "Nothing waits for you" in bob.get("/golden/notes").text
    task = task_on(drawn(ann, size="1", random_percent="100", opinions="2"))
    ann.submit("/golden/notes", label="invoice", **task)
    assert task_on(bob.get("/golden/notes").text) == task


def test_a_document_that_changed_meanwhile_is_not_labelled_by_its_old_text(
    running: DeskProcess,
    office: Project,  # noqa: F811
    notes: Collection,
) -> None:
    ann = running.visitor("ann")
    task = task_on(drawn(ann))
    refused = ann.submit("/golden/notes", label="invoice", **{**task, "digest": "0" * 64})
    assert (refused.status_code, "Nothing was recorded" in refused.text) == (409, True)
    office.edit(notes, task["document"], "A text of another day.")
    assert task_on(ann.get("/golden/notes").text)["document"] != task["document"]
    assert not given(office, "ann")


def test_a_viewer_looks_and_a_stranger_does_not(running: DeskProcess, notes: Collection) -> None:
    ann, vic, nob = (running.visitor(name) for name in ("ann", "vic", "nob"))
    task = task_on(drawn(ann))
    overview = vic.get("/golden").text
    assert "Labelling takes the role reviewer in notes." in overview
    assert "Draw a sample" not in overview
    refused = vic.submit("/golden/notes", label="invoice", **task)
    assert (refused.status_code, "takes the role reviewer" in refused.text) == (403, True)
    assert "takes the role reviewer" in drawn(vic)
    assert "notes" not in nob.get("/golden").text
    assert nob.get("/golden/notes").status_code == 404
    assert ann.http.post("/golden/notes", data={"label": "invoice", **task}).status_code == 403, "without its token"
    assert not given(running.project, "vic")


@pytest.mark.parametrize(
    ("field", "value"), [("size", "0"), ("size", "x"), ("random_percent", "101"), ("opinions", "9")]
)
def test_a_draw_that_cannot_be_says_why(running: DeskProcess, notes: Collection, field: str, value: str) -> None:
    said = drawn(running.visitor("ann"), **{field: value})
    assert "No golden label of 'notes' was recorded" in said or "Not done." in said
    assert not asked(running.project, notes)


# In a browser


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def opened(chromium: Browser, running: DeskProcess) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_page(**options: Any) -> Page:
        context = chromium.new_context(base_url=running.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.goto("/sign-in")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Inbox").wait_for()
        page.wait_for_load_state()  # before it, no script hears a key
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_one_key_labels_a_document(opened: Callable[..., Page], notes: Collection, office: Project) -> None:  # noqa: F811
    page = opened()
    page.keyboard.press("g")
    page.keyboard.press("l")
    expect(page.get_by_role("heading", name="Golden labels")).to_be_visible()
    page.get_by_label("Documents").fill("3")
    page.get_by_role("button", name="Draw").click()
    for key, said in (("1", "is invoice"), ("s", "cannot tell"), ("2", "is incident")):
        page.wait_for_load_state()
        page.locator("#note").focus()
        page.keyboard.press(key)
        expect(page.locator("#note")).to_have_value(key)
        page.keyboard.press("Escape")
        page.keyboard.press(key)
        expect(page.get_by_role("status")).to_contain_text(said)
    expect(page.get_by_text("Nothing waits for you")).to_be_visible()
    assert sorted(item.answer for item in given(office, "ann")) == ["label", "label", "unsure"]
    found = golden_status(notes, office.stores())
    assert (found.waiting, found.unsure) == (0, 1)


def test_it_works_without_scripts(opened: Callable[..., Page], office: Project) -> None:  # noqa: F811
    page = opened(java_script_enabled=False)
    page.goto("/golden")
    page.get_by_role("button", name="Draw").click()
    page.get_by_role("button", name="invoice").click()
    expect(page.get_by_role("status")).to_contain_text("is invoice")
    assert len(given(office, "ann")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nobody_is_shut_out(opened: Callable[..., Page], width: int, scheme: str) -> None:
    page = opened(viewport={"width": width, "height": 900}, color_scheme=scheme)
    axe = Axe()
    for step in ("overview", "label", "done"):
        if step == "overview":
            page.goto("/golden")
        elif step == "label":
            page.get_by_label("Documents").fill("1")
            page.get_by_role("button", name="Draw").click()
        else:
            page.get_by_role("button", name="invoice").click()
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert not [each["id"] for each in found], (step, found)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, step
