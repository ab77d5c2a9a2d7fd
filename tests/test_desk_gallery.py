"""Claims about how every page of the desk looks with content as real collections have it: long names, forty labels,
right-to-left text, a document of 300 pages, tables, Markdown and records, on a phone and on a desk, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CHROMIUM, Project
from desk_gallery import HEIGHT, WIDTHS, Gallery, gallery
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_desk_accessible import OVERFLOW, violations

from ai_assets.desk.pages.routing import routes

pytestmark = pytest.mark.slow

STYLES = Path(__file__).parent.parent / "ai_assets/desk/static"
NO_PAGES = {
    "/audit.jsonl", "/costs/{name}.csv", "/releases/{collection}/{number}/card.md",
    "/releases/{collection}/{number}/card.json", "/explain/{collection}/provenance.json",
    "/explain/{collection}/statement.json",
}  # fmt: skip
"""Downloads."""
BROKEN_WORDS = """() => {
  const found = [], cut = (node, from, to) => {
    const range = document.createRange();
    range.setStart(node, from);
    range.setEnd(node, to);
    return new Set([...range.getClientRects()].filter(r => r.width > 0).map(r => Math.round(r.top))).size > 1;
  };
  for (const cell of document.querySelectorAll("main table td, main table th, main .tile, main .count")) {
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const node = walk.currentNode, parent = node.parentElement;
      if (!parent.checkVisibility() || parent.closest(".id, .visually-hidden, code, .wrap")) continue;
      for (const word of node.data.matchAll(/\\$?\\d[\\d.,]*|\\p{L}[\\p{L}\\p{M}]*/gu)) {
        if (word[0].length <= 20 && cut(node, word.index, word.index + word[0].length)) found.push(word[0]);
      }
    }
  }
  return found;
}"""
CLIPPED = """() => [...document.querySelectorAll("main .number, main .figure, main time, main .count, main .amount")]
  .filter(each => each.checkVisibility() && !each.closest(".visually-hidden, svg, .tabs"))
  .filter(each => {
    const around = each.closest("td, th, .tile, .panel, li, section, main"), box = each.getBoundingClientRect();
    return box.width > 0 && (each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0
      || box.right > around.getBoundingClientRect().right + 1);
  })
  .map(each => each.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, as_told: Project) -> Iterator[Gallery]:
    with gallery(tmp_path_factory.mktemp("gallery"), as_told) as found:
        yield found


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def page(chromium: Browser, shown: Gallery) -> Iterator[Page]:
    context = shown.context(chromium, viewport={"width": WIDTHS[0], "height": HEIGHT})
    yield context.new_page()
    context.close()


def test_every_page_of_the_desk_is_in_the_gallery(shown: Gallery) -> None:
    """Routes without a page in it would be looked at by nobody."""
    seen = [opened.address.split("?")[0] for opened in shown.pages.values()]
    pages = [route for route in routes() if "GET" in route.methods and route.path not in NO_PAGES]  # type: ignore[attr-defined]
    missing = [route.path for route in pages if not any(route.path_regex.match(address) for address in seen)]  # type: ignore[attr-defined]
    assert missing == []


def test_pages_fit_any_width_and_break_no_word_and_no_number(page: Page, shown: Gallery) -> None:
    found: dict[str, object] = {}
    for name, opened in shown.pages.items():
        if opened.signed_out:
            continue
        shown.show(page, opened)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            found[f"{name} at {width}: beyond the side"] = max(0, page.evaluate(OVERFLOW))
            found[f"{name} at {width}: broken words"] = page.evaluate(BROKEN_WORDS)
            found[f"{name} at {width}: clipped"] = page.evaluate(CLIPPED)
    assert {where: what for where, what in found.items() if what} == {}


def test_evidence_of_a_long_document_is_one_click_away_and_in_view(page: Page, shown: Gallery) -> None:
    page.goto(shown.pages["book"].address)
    page.get_by_role("link", name="Page 283, Chapter 29").click()
    page.wait_for_url("**&at=*#passage-1")  # in a further part of the text
    words = page.locator("mark", has_text="Page 283 of the manual.")
    expect(words).to_be_visible()
    expect(words).to_be_in_viewport()
    assert page.locator(".page-edge#page-283").count() == 1
    page.locator(".page-list > summary").click()
    page.locator(".page-list").get_by_role("link", name="Page 3", exact=True).click()
    expect(page.locator("#page-3")).to_be_in_viewport()


def test_on_a_phone_documents_come_before_the_decision_and_filters_are_folded(page: Page, shown: Gallery) -> None:
    shown.show(page, shown.pages["claims"])
    tops = [page.locator(part).first.bounding_box() for part in ("#documents", "#decide")]
    assert tops[0] is not None
    assert tops[1] is not None
    assert tops[0]["y"] < tops[1]["y"]
    for name in ("inbox", "claims", "audit", "costs"):
        shown.show(page, shown.pages[name])
        expect(page.locator("main form.filters").first).to_be_hidden()
        page.locator(".fold-filters > summary").first.click()
        expect(page.locator("main form.filters").first).to_be_visible()


def test_style_sheets_close_what_they_open() -> None:
    """A block that is not closed takes all rules after it along, and no browser says so."""
    for sheet in STYLES.glob("*.css"):
        text, depth = sheet.read_text(), 0
        for number, line in enumerate(text.splitlines(), 1):
            depth += line.count("{") - line.count("}")
            assert depth >= 0, f"{sheet.name}:{number}"
            assert depth == 0 or not line.startswith("/* "), f"{sheet.name}:{number} begins a part within a block"
        assert depth == 0, sheet.name


def test_pages_with_real_content_shut_nobody_out(page: Page, shown: Gallery) -> None:
    found: dict[str, list[str]] = {}
    for name, opened in shown.pages.items():
        if opened.signed_out or opened.bare:
            continue
        for width in (WIDTHS[0], WIDTHS[2]):
            page.set_viewport_size({"width": width, "height": HEIGHT})
            page.emulate_media(color_scheme="light")
            shown.show(page, opened)
            found[f"{name} at {width}"] = violations(page)
            page.emulate_media(color_scheme="dark")
            found[f"{name} at {width}, dark"] = violations(page, "color-contrast")
    assert {name: said for name, said in found.items() if said} == {}
