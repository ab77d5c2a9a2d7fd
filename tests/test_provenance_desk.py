"""Claims about the pages that say where a row comes from and what a prompt published: for whom, and that links lead."""

import html
import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHROMIUM, DAYS, Project, project_at
from desks import Visitor, desk_of, served
from explained import CHANGED, SAME, asked_and_published
from playwright.sync_api import sync_playwright
from provider import Provider
from signing import known

from ai_assets.collection.loading import load_collection
from ai_assets.desk.context import Desk
from ai_assets.forgetting.erasing import forget
from ai_assets.retention import holds
from ai_assets.signoff import attestation, people

HERE = f"/explain/notes?{urlencode({'id': CHANGED})}"
LINK = re.compile(r'<a [^>]*href="([^"]+)"')
WIDTHS = (390, 1280)
PICTURES = os.environ.get("AI_ASSETS_PICTURES")
"""A folder, for who wants to look."""


@pytest.fixture(scope="module")
def made(rehearsal: Provider, tmp_path_factory: pytest.TempPathFactory) -> Project:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", rehearsal.url)
        project = project_at(tmp_path_factory.mktemp("explained"), patch)
        asked_and_published(project)
        project.declare("others", stages=[], partitions=dict(DAYS))
        known(project.stores().state, "eve", "viewer", "others")
        return project


@pytest.fixture(scope="module")
def opened(made: Project) -> Iterator[Desk]:
    with served(desk_of(made)) as found:
        yield found


@pytest.fixture(scope="module")
def ann(opened: Desk) -> Iterator[Visitor]:
    visitor = Visitor(opened.url)
    visitor.sign_in("ann")
    yield visitor
    visitor.http.close()


def links(page: str) -> list[str]:
    main = page[page.index("<main") : page.index("</main>")]
    return [html.unescape(found) for found in LINK.findall(main)]


def test_every_step_is_a_link_and_every_link_leads_somewhere(ann: Visitor) -> None:
    page = ann.get(HERE)
    assert page.status_code == 200
    parts = page.text.split('<li class="panel" id="step-')[1:]
    assert len(parts) >= 13
    assert [part[:40] for part in parts if not links(f"<main{part}</main>")] == []
    found = {address: ann.get(address).status_code for address in dict.fromkeys(links(page.text))}
    assert {address: status for address, status in found.items() if status != 200} == {}
    assert "the total due is 750.00 EUR" in page.text


def test_pages_of_a_document_lead_to_it(ann: Visitor) -> None:
    asked = urlencode({"id": CHANGED, "release": 1})
    released = ann.get(f"/releases/notes/1/document?{urlencode({'id': CHANGED})}").text
    assert f"/explain/notes?{asked}" in links(released)
    assert "as it is in release 1" in ann.get(f"/explain/notes?{asked}").text
    searched = ann.get("/releases/notes/2?search=fire").text
    assert f"/explain/notes?{urlencode({'id': SAME, 'release': 2})}" in links(searched)


def test_what_a_prompt_published_leads_to_a_priced_backfill(ann: Visitor) -> None:
    [address] = [each for each in links(ann.get(HERE).text) if "by=prompt" in each and "stage=kind" in each]
    page = ann.get(address).text
    assert "2 rows live" in page
    assert "ai-assets backfill notes --partition 2026-10-05 --stage kind" in page
    [price] = [each for each in links(page) if "price=yes" in each]
    assert price == "/runs/notes?price=yes&first=2026-10-05&last=2026-10-05#price"
    assert ann.get(price).status_code == 200
    assert ann.get("/touched/notes?by=model&value=mimi").status_code == 404
    assert ann.get("/touched/notes?by=colour&value=red").status_code == 400


def test_it_can_be_had_as_json_and_as_a_statement(ann: Visitor) -> None:
    asked = urlencode({"id": CHANGED})
    told = ann.get(f"/explain/notes/provenance.json?{asked}").json()
    assert (told["document"], told["standing"]) == (CHANGED, "live")
    envelope = ann.get(f"/explain/notes/statement.json?{asked}").json()
    assert attestation.statement_in(envelope)["predicate"]["provenance"]["row"] == told["row"]


def test_to_who_may_not_see_the_collection_it_does_not_exist(opened: Desk) -> None:
    eve = Visitor(opened.url)
    eve.sign_in("eve")
    asked = urlencode({"id": CHANGED})
    for address in (
        f"/explain/notes?{asked}", f"/explain/notes/provenance.json?{asked}", f"/explain/notes/statement.json?{asked}",
        "/touched/notes?by=prompt&value=1", f"/explain/nothing?{asked}",
    ):  # fmt: skip
        answer = eve.get(address)
        assert answer.status_code == 404, address
        assert CHANGED not in answer.text.replace(quote(CHANGED), "")
    eve.http.close()


def test_a_forgotten_document_and_a_legal_hold_say_so(made: Project, project: Project, provider: Provider) -> None:
    project.copy(made)
    stores, collection = project.stores(), load_collection(project.root / "collections", "notes")
    admin = known(stores.state, "ada", "admin")
    forget(stores, collection, CHANGED, by=admin, reason="erasure request 17")
    with stores.state.read() as connection:
        ann = people.find(connection, "ann")
    assert ann is not None
    holds.place(stores.state, "notes", 3, by=ann, reason="a lawsuit")
    with served(desk_of(project)) as found:
        visitor = Visitor(found.url)
        visitor.sign_in("ann")
        page = visitor.get(HERE)
        assert page.status_code == 200
        assert "forgotten by ada on " in page.text
        assert "Under a legal hold by ann" in page.text
        assert "750.00" not in page.text
        assert "750.00" not in json.dumps(visitor.get(f"/explain/notes/provenance.json?id={quote(CHANGED)}").json())
        refused = visitor.get(f"/explain/notes/statement.json?id={quote(CHANGED)}")
        assert refused.status_code == 400
        assert "forgotten by ada" in refused.text
        published = visitor.get("/touched/notes?by=prompt&value=1").text
        assert published.count("Its files are removed: counted by its model card.") == 2
        visitor.http.close()


@pytest.mark.slow
def test_both_pages_shut_nobody_out_and_fit(opened: Desk, ann: Visitor, skip_loudly_without_chromium: None) -> None:
    found: dict[str, object] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(base_url=opened.url)
        context.add_cookies([{"name": "desk", "value": ann.http.cookies["desk"], "url": opened.url}])
        page = context.new_page()
        shown = {"Where it comes from": HERE, "What this prompt published": "/touched/notes?by=prompt&value=1"}
        for name, address in shown.items():
            page.goto(address)
            assert page.locator("h1").inner_text() == name
            page.evaluate("document.querySelectorAll('main details').forEach(each => { each.open = true })")
            page.evaluate(Axe().axe_script)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                found[f"{name} at {width}"] = max(0, page.evaluate(over))
                said = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
                if PICTURES:
                    page.screenshot(path=f"{PICTURES}/{name.replace(' ', '-')}-{width}.png", full_page=True)
                found[f"{name} at {width}, axe"] = [(each["id"], each["nodes"][0]["target"]) for each in said]
        browser.close()
    assert {where: what for where, what in found.items() if what} == {}
