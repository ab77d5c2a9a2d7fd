"""Claims about held documents on the desk: ranked, decided by keyboard, blind for the second reviewer, in the API."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHROMIUM, Project
from desks import DeskProcess, desk
from playwright.sync_api import expect, sync_playwright
from signing import PASSWORD, current, known
from test_certified_holds import CERTIFIED, label
from test_certified_holds import declare as declare_certified
from test_holds import DAY, FIRES, WEAK, office, refreshed  # noqa: F401 - a fixture

from ai_assets.collection.loading import Collection
from ai_assets.signoff import holds, verification

pytestmark = pytest.mark.slow


@pytest.fixture
def notes(office: Project) -> Collection:  # noqa: F811
    for name, role in (("ann", "reviewer"), ("bob", "approver"), ("cleo", "reviewer"), ("vic", "viewer")):
        known(office.stores().state, name, role)  # type: ignore[arg-type]
    return refreshed(office, {**FIRES, "reviewers": 2})


@pytest.fixture
def running(office: Project, notes: Collection) -> Iterator[DeskProcess]:  # noqa: F811
    with desk(office) as found:
        yield found


def fields_on(page: str) -> dict[str, str]:
    found = {name: re.search(rf'name="{name}" value="([^"]+)"', page)
             for name in ("document", "stage", "digest", "answer")}  # fmt: skip
    return {name: match[1] for name, match in found.items() if match}


def test_two_decide_blind_a_third_settles_it_and_the_page_says_how_far_they_agree(running: DeskProcess) -> None:
    ann, bob, cleo, vic = (running.visitor(name) for name in ("ann", "bob", "cleo", "vic"))
    assert "1 answer waits" in ann.get("/held").text
    assert "1 held document waits" in ann.get("/").text
    asked = current(running.project.stores().state, DAY)
    assert "held for a person</a>" in ann.get(f"/requests/{asked.request_id}").text
    assert [row["held"] for row in ann.get("/api/inbox").json()["rows"]] == [1]
    page = ann.get("/held/notes").text
    assert "kind says: <bdi>incident</bdi>" in page
    shown = fields_on(page)
    assert (
        "A further person is needed" in ann.submit("/held/notes", decision="accept", reason="ann is sure", **shown).text
    )
    blind = bob.get("/held/notes").text
    assert "Somebody has decided" in blind
    assert "ann is sure" not in blind
    bob.submit("/held/notes", label="invoice", reason="a bill", **shown)
    both = cleo.get("/held/notes").text
    assert "ann" in both
    assert "a bill" in both
    assert "It joins with the next request" in cleo.submit("/held/notes", label="invoice", **shown).text
    assert "How far reviewers of notes agree" in ann.get("/held").text
    assert "takes the role reviewer" in vic.get(f"/held/notes?id={shown['document']}&stage=kind").text
    refused = vic.submit("/held/notes", decision="accept", **shown)
    assert (refused.status_code, "reviewer" in refused.text) == (403, True)
    stale = ann.submit("/held/notes", decision="accept", **{**shown, "answer": "0" * 32})
    assert (stale.status_code, "Nothing was recorded" in stale.text) == (409, True)
    verification.verify(running.project.stores().state)


def test_programs_read_the_queue_and_decide(running: DeskProcess) -> None:
    ann = running.visitor("ann")
    found = ann.get("/api/held").json()
    [row] = found["rows"]
    assert (row["document_id"], row["kinds"], row["waits_for_me"]) == (WEAK, ["field"], True)
    asked: dict[str, Any] = {name: row[name] for name in ("document_id", "stage", "document_digest", "answer_digest")}
    assert ann.post("/held/notes", {**asked, "decision": "accept"}).json() == {"decided": False, "disagreed": False}
    refused = ann.post("/held/notes", {**asked, "decision": "reject"})
    assert "rejecting takes a reason" in refused.text
    assert ann.post("/held/notes", {**asked, "answer_digest": "other", "decision": "accept"}).status_code >= 400
    document = ann.get("/api/openapi.json").json()
    assert {"/held", "/held/{collection}"} <= set(document["paths"])


def test_a_reviewer_decides_by_keyboard_on_pages_that_are_accessible(
    running: DeskProcess,
    notes: Collection,
    office: Project,  # noqa: F811
) -> None:
    for number in range(60):
        office.document(f"{DAY}/{number:02d}.txt", f"Invoice {number}. The total due is {number}50.00 EUR in 30 days.")
    certified = declare_certified(office, {**CERTIFIED, **FIRES})
    office.refresh(certified, [DAY])
    label(office, range(50))
    office.refresh(certified, [DAY])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.goto(f"{running.url}/held")
        page.fill("input[name=name]", "ann")
        page.fill("input[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Held documents")).to_be_visible()
        expect(page.locator("svg.coverage")).to_be_visible()
        assert "error at most 5 % with 90 % confidence" in page.content()
        for scheme, width in (("light", 1200), ("dark", 390)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 900})
            assert Axe().run(page).violations_count == 0, Axe().run(page).generate_report()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(path=str(office.root / f"held-{scheme}.png"), full_page=True)
        page.keyboard.press("j")
        page.keyboard.press("o")
        expect(page.get_by_role("heading", name="kind says:")).to_be_visible()
        assert Axe().run(page).violations_count == 0, Axe().run(page).generate_report()
        page.screenshot(path=str(office.root / "held-document.png"), full_page=True)
        page.keyboard.press("a")
        expect(page.get_by_text("It joins with the next request of its partition")).to_be_visible()
        browser.close()
    with office.stores().state.read() as connection:
        [decided] = holds.decisions_of(connection, "notes").every
    assert (decided.author, decided.decision, decided.document_id) == ("ann", "accept", f"{DAY}/55.txt")
