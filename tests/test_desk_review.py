"""Claims about reviewing in a real browser, with long names, many labels, text from right to left and a long document:
what is hostile stays text, nothing is decided by accident, and every page can be used at any width, light and dark."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pytest
from axe_playwright_python.sync_playwright import Axe
from candidates import asked, document
from conftest import CHROMIUM, STAGE, Project, project_at
from desks import DeskProcess, Visitor, desk
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from signing import known

from ai_assets.signoff import claims
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.storage.lake import write_parquet
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow

LONG = "instandhaltungsprotokolle_und_dienstanweisungen"
TITLE = (
    "Protokoll über die Instandhaltungsrücklagenverordnung, Fassung 2026-10 (Entwurf zur Abstimmung mit Beteiligten)"
)
ARABIC = "عقد إيجار المعدات: تبلغ القيمة الإجمالية 12,400 يورو تُدفع خلال ثلاثين يومًا من تاريخ الفاتورة."
HOSTILE = (
    "# <script>alert(1)</script>\n\n<img src=x onerror=alert(2)> [a](javascript:alert(3)) ![b](/static/icon.svg)\n\n"
    "**bold**, `</code><svg onload=alert(4)>`\n\n| a |\n|---|\n| <iframe srcdoc='<script>alert(5)</script>'> |"
)
DATA: dict[str, Any] = {
    "parties": [{"name": "Bauer & Söhne Instandhaltungsgesellschaft mbH", "address": {"city": "<b>München</b>"}}],
    "days": 45, "signed": True, "note": None,
}  # fmt: skip
BOOK = [f"Line {number} of the handbook on pumps and valves, its {number % 37} checks.\n" for number in range(13_500)]
NAMES = {
    "arabic": "contracts/ايجار-2026.pdf", "book": "manuals/handbook-of-the-pumping-station-volume-2.pdf",
    "lost": "scan/broken.pdf", "unreadable": "scan/new.pdf", "gone": "old/gone.txt",
}  # fmt: skip


def row(name: str, text: str | None, leaf: str, **more: Any) -> dict[str, Any]:
    blank = dict.fromkeys(
        f"{stage}_{column}"
        for stage, columns in {"summary": ("text",), "terms": ("data",)}.items()
        for column in (*columns, "status", "reason", "model", "call", "prompt_version")
    )
    kind = {"kind_label": "a_label_with_a_rather_long_name_07", "kind_evidence": None, "reason": None}
    return {**document(1), **blank, **kind, "document_id": name, "path": name, "title": TITLE, "text": text,
            "leaf": leaf, **more}  # fmt: skip


def answers(text: str, data: object) -> dict[str, Any]:
    told = {"status": "ok", "model": "m", "prompt_version": "3"}
    return {"summary_text": text, "terms_data": json.dumps(data, ensure_ascii=False),
            **{f"{stage}_{name}": value for stage in ("summary", "terms") for name, value in told.items()}}  # fmt: skip


UNFOLD = "for (const fold of document.querySelectorAll('main details')) fold.open = true"
BROKEN = {"status": "quarantined", "title": None, "kind_label": None, "kind_confidence": None}


def request_with_everything(stores: Stores) -> str:
    book = [*BOOK]
    for number in range(0, len(book), 500):
        book[number] = book[number].replace("pumps", "compressors")
    new = [
        row(NAMES["arabic"], ARABIC.replace("ثلاثين", "أربعين"), "1", **answers(HOSTILE, {**DATA, "days": 60})),
        row(NAMES["book"], "".join(book), "2", **answers(HOSTILE, DATA)),
        row(NAMES["lost"], None, "3", reason="the file is encrypted, and no password is known", **BROKEN),
        row(NAMES["unreadable"], None, "4", reason="14 pages of pictures and no text", **BROKEN),
    ]
    live = [
        row(NAMES["arabic"], ARABIC, "1-", **answers(HOSTILE.replace("bold", "thin"), DATA)),
        row(NAMES["book"], "".join(BOOK), "2-", **answers(HOSTILE, DATA)),
        row(NAMES["lost"], "Delivery note 4711.", "3-"),
        row(NAMES["gone"], "How to vent the tank room. " * 40, "5-"),
    ]
    folder = snapshot_folder(stores.lake.root, "notes", "2026-10-05")
    name = write_parquet(folder, pa.Table.from_pylist(live)).name
    facts = {
        "documents": 4, "added": 0, "changed": 2, "removed": 2, "relabelled": 0, "quarantined": 2, "unreadable": 1,
        "low_confidence": 1, "failed_gates": 0, "gates": 2, "passed_gates": 1, "cost_usd": 1234.5,
    }  # fmt: skip
    made = asked(
        stores, "notes", "2026-10-05", new, facts=facts, added=[], changed=[NAMES["arabic"], NAMES["book"]],
        removed=[NAMES["lost"], NAMES["gone"]], unreadable=[NAMES["unreadable"]], live_release=3, quarantined=2,
        live_files={"documents_file": name, "chunks_file": "none"},
    )  # fmt: skip
    return made.request_id


class Office:
    def __init__(self, running: DeskProcess, request: str) -> None:
        self.running, self.request = running, request
        self.ann: Visitor = running.visitor("ann")

    def document(self, name: str) -> str:
        return f"/requests/{self.request}/document?{urlencode({'id': NAMES[name]})}"

    @property
    def addresses(self) -> dict[str, str]:
        pages = {name: self.document(name) for name in NAMES}
        return {**pages, "inbox": "/", "mine": "/?claim=mine", "request": f"/requests/{self.request}"}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    labels = [
        {"name": f"a_label_with_a_rather_long_name_{number:02d}", "description": f"Texts about subject {number}."}
        for number in range(40)
    ]
    folder: Path = tmp_path_factory.mktemp("review")
    with pytest.MonkeyPatch.context() as patch:
        project: Project = project_at(folder, patch)
        for name in ("notes", LONG):
            project.declare(name, partitions={"by": "folder"}, stages=[{**STAGE, "labels": labels}])
        with project.stores() as stores:
            ann = known(stores.state, "ann")
            request = request_with_everything(stores)
            far = asked(stores, LONG, "Außenstelle Süd-West / Abteilung für Instandhaltung", [document(1)])
            claims.take(stores.state, far, by=ann)
            with desk(project) as running:
                found = Office(running, request)
                found.ann.submit("/filters", name="Instandhaltung, the riskiest first", collection=LONG)
                yield found


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def opened(chromium: Browser, office: Office) -> Iterator[Callable[..., Page]]:
    contexts: list[BrowserContext] = []

    def open_page(width: int = 1280, **options: Any) -> Page:
        context = chromium.new_context(
            base_url=office.running.url, viewport={"width": width, "height": 900}, **options
        )  # fmt: skip
        context.add_cookies([{"name": "desk", "value": office.ann.http.cookies["desk"], "url": office.running.url}])
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


def test_every_page_can_be_used_at_every_width_light_and_dark(office: Office, opened: Callable[..., Page]) -> None:
    page, axe, found = opened(), Axe(), {}
    for name, address in office.addresses.items():
        page.goto(address)
        for width in (390, 800, 1280, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            found[name, width, "overflow"] = over
        page.evaluate(UNFOLD)
        for width, scheme in ((390, "dark"), (1280, "light")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            result = axe.run(page, options={"resultTypes": ["violations"]})
            wrong = result.response["violations"]
            found[name, width, scheme] = [(each["id"], each["nodes"][0]["html"][:200]) for each in wrong]
    assert {key: said for key, said in found.items() if said} == {}


def test_no_answer_runs_a_script_or_loads_anything(office: Office, opened: Callable[..., Page]) -> None:
    page = opened()
    said: list[str] = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: said.append(message.text) if "Content Security" in message.text else None)
    page.on(
        "request",
        lambda sent: said.append(sent.url) if sent.resource_type == "image" and "?v=" not in sent.url else None,
    )
    for name in ("arabic", "book"):
        page.goto(office.document(name))
        page.evaluate(UNFOLD)
        expect(page.locator(".prose strong").first).to_have_text("bold")
        assert page.locator("main :is(img, svg[onload], iframe, script, .prose a)").count() == 0
        assert page.locator(".prose").first.inner_text().startswith("<script>alert(1)</script>")
    assert page.locator(".fields b").count() == 0
    assert said == []


def test_a_text_from_right_to_left_shows_its_change_and_keeps_its_direction(
    office: Office, opened: Callable[..., Page]
) -> None:
    page = opened()
    page.goto(office.document("arabic"))
    text = page.locator(".text .difference")
    expect(text.locator("del")).to_have_text("ثلاثين")
    expect(text.locator("ins")).to_have_text("أربعين")
    box, first = (
        text.bounding_box(),
        text.evaluate("""(node) => {
        const range = document.createRange(); range.setStart(node.firstChild, 0); range.setEnd(node.firstChild, 1);
        return range.getBoundingClientRect().x; }"""),
    )
    assert box is not None
    assert first > box["x"] + box["width"] / 2, "the first letter stands on the right"


def test_of_a_long_document_only_what_changed_is_there_to_be_read(office: Office, opened: Callable[..., Page]) -> None:
    page = opened()
    page.goto(office.document("book"))
    text = page.locator(".text .difference")
    assert text.locator("del").count() == text.locator("ins").count() == 27
    assert text.locator(".fold").count() == 27
    assert len(text.inner_text()) < 20_000
    expect(page.get_by_text("in 27 places")).to_be_visible()


def test_nothing_is_approved_while_nothing_is_selected(office: Office, opened: Callable[..., Page]) -> None:
    page = opened()
    page.goto("/")
    bulk = page.locator("#bulk [data-verdict]")
    for button in bulk.all():
        expect(button).to_be_disabled()
    page.locator("input[name=choice]").first.check()
    for button in bulk.all():
        expect(button).to_be_enabled()
    page.locator("input[name=choice]").first.uncheck()
    expect(bulk.first).to_be_disabled()
    page.keyboard.press("Escape")
    page.locator("a[data-open]").first.focus()
    page.keyboard.press("a")  # selects the line that has the focus
    expect(page.get_by_role("heading", name="Please confirm")).to_be_visible()
    expect(page.get_by_text("Quarantined").first).to_be_visible()


def test_without_scripts_an_approval_of_nothing_is_refused_in_a_sentence(
    office: Office, opened: Callable[..., Page]
) -> None:
    page = opened(java_script_enabled=False)
    page.goto("/")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Select at least one request first; nothing was recorded.")).to_be_visible()


def test_on_a_phone_documents_come_before_the_decision_and_filters_are_folded(
    office: Office, opened: Callable[..., Page]
) -> None:
    page = opened(390)
    page.goto(f"/requests/{office.request}")

    def top(selector: str) -> float:
        box = page.locator(selector).first.bounding_box()
        assert box is not None
        return box["y"]

    assert top("#gates") < top("#documents") < top("#decide") < top("#history")
    expect(page.locator("#search")).to_be_hidden()
    page.get_by_role("link", name="Go to the decision").click()
    expect(page.locator("#decide")).to_be_in_viewport()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"/requests/{office.request}")
    expect(page.locator("#search")).to_be_visible()
    assert abs(top("#decide") - top("#what")) < 60, "beside each other where there is room"
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto("/")
    expect(page.locator("#search")).to_be_hidden()
    page.get_by_text("Filter and sort").click()
    expect(page.locator("#search")).to_be_visible()


def test_numbers_are_not_broken_into_lines(office: Office, opened: Callable[..., Page]) -> None:
    page = opened()
    for address in ("/", f"/requests/{office.request}"):
        page.goto(address)
        for width in (390, 800, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            broken = page.evaluate("""() => {
                const lines = (node) => {
                    const text = [...node.childNodes].find((each) => each.nodeType === 3 && each.data.trim());
                    if (!text) return 0;
                    const range = document.createRange();
                    range.selectNodeContents(text);
                    return [...range.getClientRects()].filter((box) => box.width > 1).length;
                };
                const found = [...document.querySelectorAll(".number, .figure, .changes > span")];
                return found.filter((node) => lines(node) > 1).map((node) => node.outerHTML);
            }""")
            assert broken == [], (address, width)


def test_the_plan_of_a_partition_is_shown_before_it_runs(office: Office, opened: Callable[..., Page]) -> None:
    page = opened()
    page.goto(office.document("arabic"))
    page.get_by_text("Correct the label").first.click()
    page.get_by_label("Right label").first.select_option("a_label_with_a_rather_long_name_03")
    page.get_by_role("button", name="Record the correction").first.click()
    link = page.get_by_role("link", name="Run this partition now")
    assert "first=2026-10-05" in str(link.get_attribute("href"))
    assert "ai-assets run" not in page.locator(".correction").first.inner_text()
