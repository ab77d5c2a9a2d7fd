"""Claims about the desk's pages in a real browser: everybody can use them, at any width, light and dark, with the
keyboard alone, and without scripts."""

import re
from collections.abc import Callable, Iterator

import desk_gallery
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHROMIUM, Project
from desk_stories import DAYS, ODD, Story, story
from desks import Visitor
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from signing import PASSWORD, known

from ai_assets.signoff import people

pytestmark = pytest.mark.slow

WIDTHS = (360, 800, 1440)
# Landmarks, headings and the like are among axe's best practices; the rest is WCAG up to 2.2 AA.
AXE = {"resultTypes": ["violations"]}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, as_told: Project) -> Iterator[Story]:
    with story(tmp_path_factory.mktemp("accessible"), as_told) as found:
        known(found.stores.state, "ann", "admin")
        with found.stores.state.write() as connection:
            people.join(connection, "rita", "legal", by="test")
            people.give(connection, "group:legal", "approver", "strict", by="test")
            people.disable(connection, "nob", by="test")
        desk_gallery.spend(found)
        yield found


@pytest.fixture(scope="module")
def ann(told: Story) -> Visitor:
    return told.running.visitor("ann")


@pytest.fixture
def opened(chromium: Browser, told: Story, ann: Visitor) -> Iterator[Callable[..., Page]]:
    """A page of a browser in which ann is signed in."""
    contexts: list[BrowserContext] = []

    def open_page(**options: object) -> Page:
        context = chromium.new_context(base_url=told.running.url, **options)  # type: ignore[arg-type]
        context.add_cookies([{"name": "desk", "value": ann.http.cookies["desk"], "url": told.running.url}])
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def addresses(told: Story, ann: Visitor) -> dict[str, str]:
    """Every page of the desk that can be opened by its address, with something on it."""
    return desk_gallery.addresses(told, ann)


def violations(page: Page, *rules: str) -> list[str]:
    """What axe finds on the page as it is now, by all its rules or by these."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    found = page.evaluate("options => axe.run(options)", {**AXE, **({"runOnly": list(rules)} if rules else {})})
    return [f"{v['id']}: {v['help']}: {[node['target'] for node in v['nodes'][:3]]}" for v in found["violations"]]


def test_no_page_shuts_anybody_out(opened: Callable[..., Page], addresses: dict[str, str]) -> None:
    page = opened(viewport={"width": 1440, "height": 900})
    found: dict[str, list[str]] = {}

    def look(name: str) -> None:
        page.emulate_media(color_scheme="light")
        found[name] = violations(page)
        page.emulate_media(color_scheme="dark")
        found[f"{name}, dark"] = violations(page, "color-contrast")  # all that the scheme changes

    for name, address in addresses.items():
        page.goto(address)
        look(name)
    page.goto(addresses["request"])
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_role("heading", name="Please confirm")).to_be_visible()
    look("confirmation")
    page.goto("/")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    look("keys")
    page.context.clear_cookies()
    page.goto("/sign-in")
    look("sign-in")
    assert {name: said for name, said in found.items() if said} == {}


def test_a_phone_shuts_nobody_out_either(opened: Callable[..., Page], addresses: dict[str, str]) -> None:
    page = opened(viewport={"width": 360, "height": 740}, has_touch=True)
    found = {}
    for name in (
        "inbox, all",
        "request",
        "document",
        "unanswered, all",
        "audit",
        "releases of one",
        "release, filtered",
        "released document",
        "answer",
        "people",
        "person",
        "costs",
        "account",
    ):
        page.goto(addresses[name])
        found[name] = violations(page)
        small = "e => { const r = e.getBoundingClientRect(); return r.height > 0 && r.height < 43.5 }"
        script = f"[...document.querySelectorAll('main button, main select, main .box')].filter({small}).map(e => e.outerHTML)"  # noqa: E501
        found[name] += [text for text in page.evaluate(script) if "needs-script" not in text]
    assert {name: said for name, said in found.items() if said} == {}


def test_no_page_needs_scrolling_sideways_or_breaks_the_policy(
    opened: Callable[..., Page], addresses: dict[str, str]
) -> None:
    page, said, wide = opened(), [], {}
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    for name, address in addresses.items():
        page.goto(address)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wide[f"{name} at {width}"] = page.evaluate(OVERFLOW)
    assert {name: beyond for name, beyond in wide.items() if beyond > 0} == {}
    assert [text for text in said if "404" not in text] == []  # the one page that is not there


def test_all_of_it_works_without_scripts(chromium: Browser, told: Story) -> None:
    context = chromium.new_context(base_url=told.running.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    request = told.latest(DAYS[3])
    page.get_by_role("link", name=f"notes {DAYS[3]}").click()
    page.get_by_label("Reason, or notes").fill("read without scripts")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="Please confirm")).to_be_visible()
    assert told.latest(DAYS[3]).status == "open"
    page.get_by_role("button", name="Yes, approve").click()
    expect(page.get_by_text("Approved; publication is under way.")).to_be_visible()
    assert page.url.endswith(f"/requests/{request.request_id}")
    told.publish()
    expect(page.get_by_text("Published.", exact=True)).to_be_visible(timeout=300_000)  # the page loads itself again
    context.close()


def test_the_keyboard_alone_walks_selects_and_decides(opened: Callable[..., Page], told: Story) -> None:
    page = opened()
    page.goto(f"/?text={DAYS[4][:9]}&sort=collection")
    lines = page.locator("tr[data-row]")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(lines.nth(0).locator("a[data-open]")).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_text("With 1 selected:")).to_be_visible()
    page.keyboard.press("x")
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.type("ajr?")  # typing is no command
    expect(page.get_by_label("Search")).to_have_value(re.compile(r"ajr\?$"))
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.goto(f"/?text={DAYS[4]}")
    page.keyboard.press("j")
    page.keyboard.press("o")
    expect(page).to_have_url(re.compile(told.latest(DAYS[4]).request_id))
    page.keyboard.press("r")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("not like this")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("rejected")
    assert told.latest(DAYS[4]).reason == "not like this"
    for keys, address in (("ga", "/audit"), ("gr", "/releases"), ("gc", "/costs"), ("gi", "/")):
        for key in keys:
            page.keyboard.press(key)
        expect(page).to_have_url(re.compile(f"{re.escape(address)}$"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_documents_are_walked_with_n_and_p(opened: Callable[..., Page], told: Story) -> None:
    page = opened()
    base = f"/requests/{told.latest(DAYS[5]).request_id}"
    page.goto(base)
    page.locator("#documents ~ .panel a[data-open]").first.click()
    page.wait_for_load_state()  # by then the script listens
    first = page.url
    page.keyboard.press("n")
    expect(page).not_to_have_url(first)
    page.wait_for_load_state()
    page.keyboard.press("p")
    expect(page).to_have_url(first)
    page.wait_for_load_state()
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(f"{base}$"))


def test_who_approves_sees_the_publication_appear_by_itself(opened: Callable[..., Page], told: Story) -> None:
    page = opened()
    request = told.latest(DAYS[6])
    page.goto(f"/requests/{request.request_id}")
    page.keyboard.press("a")
    page.get_by_role("button", name="Yes, approve").click()
    expect(page.locator("#publication")).to_contain_text("publication is under way")
    page.evaluate("window.same = true")
    told.publish()
    expect(page.locator("#publication")).to_contain_text("Published.")
    expect(page.locator("#status")).to_have_text("published")
    expect(page.locator("#publication").get_by_role("link", name="Release")).to_be_visible()
    assert page.evaluate("window.same")  # nothing was loaded again


def test_select_all_and_the_skip_link_do_what_they_say(opened: Callable[..., Page]) -> None:
    page = opened()
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    boxes = page.locator("input[name=choice]")
    page.get_by_label("Select all on this page").check()
    expect(page.get_by_text(f"With {boxes.count()} selected:")).to_be_visible()
    boxes.first.uncheck()
    expect(page.get_by_text(f"With {boxes.count() - 1} selected:")).to_be_visible()


def test_a_dear_document_is_one_click_away(opened: Callable[..., Page]) -> None:
    page = opened()
    page.goto("/costs")
    page.get_by_role("link", name=ODD).click()
    expect(page).to_have_url(re.compile("/requests/[0-9a-f]+/document"))
    expect(page.get_by_text(ODD).first).to_be_visible()


def test_the_plots_can_be_read_at_any_width_and_in_both_schemes(opened: Callable[..., Page]) -> None:
    """No letter shrinks with the plot or is cut off, and each part of a bar is seen against what is behind it."""
    page = opened()
    page.goto("/costs?by=asset")
    texts = """[...document.querySelectorAll('.chart text')].map(text => {
        const at = text.getBoundingClientRect(), size = parseFloat(getComputedStyle(text).fontSize)
        return [text.textContent, size >= 12 && at.left >= 0 && at.right <= innerWidth]
    })"""
    fills = "[...document.querySelectorAll('.chart pattern > rect')].map(part => getComputedStyle(part).fill)"
    behind = "getComputedStyle(document.querySelector('.panel')).backgroundColor"
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        found = page.evaluate(texts)
        assert len(found) > 15
        assert [text for text, readable in found if not readable] == []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours = set(page.evaluate(fills))
        assert len(colours) == 7
        assert min(contrast(fill, page.evaluate(behind)) for fill in colours) >= 3


def contrast(one: str, other: str) -> float:
    """As WCAG has it, of two colours as browsers write them."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
