"""Claims about the desk's page of a run: picture and table of its spans, bounded, escaped, for whoever may see it."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import CHROMIUM, Project, free_port
from desks import Visitor, desk_of, served
from playwright.sync_api import Browser, Page, expect, sync_playwright
from signing import PASSWORD, known
from test_charts import HOSTILE
from test_spans import DAY, ended, written

from ai_assets.desk.spans_query import MOST_LANES, MOST_SPANS
from ai_assets.run.events import StageEnded

RUN, LARGE, MIXED = "11111111-run", "22222222-large", "33333333-mixed"
ASSETS = ("documents", "chunks", "embeddings", "kind", "summary", "evaluation_scores", "release_candidate")
MANY = 1000


def moment(seconds: float) -> str:
    return f"{DAY}T12:{int(seconds // 60) % 60:02}:{seconds % 60:06.3f}+00:00"


def span(run_id: str, asset: str, partition: str, began: float, seconds: float, **other: Any) -> StageEnded:
    times = {"began_at": moment(began), "at": moment(began + seconds), "seconds": seconds}
    return ended(asset, partition, run_id=run_id, **times, **other)


def small_run() -> Iterator[StageEnded]:
    """Two partitions side by side; one of them fails at a model."""
    for number, day in enumerate((DAY, "2026-10-06")):
        yield span(RUN, "documents", day, number, 4)
        yield span(RUN, "chunks", day, 5 + number, 2, documents_out=9)
        yield span(RUN, "embeddings", day, 8 + number, 0, unchanged=True)
    yield span(RUN, "kind", DAY, 5, 40, calls=2)
    yield span(RUN, "kind", "2026-10-06", 6, 20, calls=1, documents_out=0, error=f"No budget is left. {HOSTILE}")


def large_run() -> Iterator[StageEnded]:
    for number in range(MANY):
        for place, asset in enumerate(ASSETS):
            error = "a late one failed" if (number, asset) == (MANY - 1, "kind") else None
            yield span(LARGE, asset, f"folder-{number:04}", number * 2 + place * 5, 4.5, calls=1, error=error)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A desk beside which no Dagster runs, over runs of any size."""
    from conftest import project_at

    with pytest.MonkeyPatch.context() as patch:
        project: Project = project_at(tmp_path_factory.mktemp("spans"), patch)
        for name in ("notes", "letters"):
            project.declare(name)
        desk = desk_of(project, dagster_url=f"http://127.0.0.1:{free_port()}")
        known(desk.stores.state, "ann")
        known(desk.stores.state, "vera", "viewer", "letters")
        written(desk.stores.state, *small_run(), *large_run())
        written(desk.stores.state, span(MIXED, "documents", HOSTILE, 0, 1))
        with served(desk) as running:
            yield running.url


@pytest.fixture(scope="module")
def ann(url: str) -> Iterator[Visitor]:
    yield from visiting(url, "ann")


def visiting(url: str, name: str) -> Iterator[Visitor]:
    visitor = Visitor(url)
    visitor.sign_in(name)
    yield visitor
    visitor.http.close()


def test_the_page_has_every_span_in_a_table_and_what_was_computed_in_a_picture(ann: Visitor) -> None:
    page = ann.get(f"/runs/notes/{RUN}")
    assert page.status_code == 200
    assert page.text.count('<tr role="row" data-row>') == 8
    assert page.text.count("<title>") - 1 == 6  # bars: what was unchanged has none
    assert "45 s from the first asset to the last; 2 partitions, 3 calls." in page.text
    assert "1 asset of a partition failed. Most of the time went into kind: 1 min over all partitions." in page.text
    assert "2 assets of partitions were unchanged." in page.text
    assert "By asset" not in page.text


def test_a_large_run_is_bounded_says_how_many_more_and_shows_the_failed_one(ann: Visitor) -> None:
    page = ann.get(f"/runs/notes/{LARGE}")
    assert page.text.count('<tr role="row" data-row>') == len(ASSETS) + MOST_SPANS
    assert f"{MANY * len(ASSETS) - MOST_SPANS:,} more are not shown." in page.text
    assert "a late one failed" in page.text
    assert "1,000 partitions, 1 failed" in page.text
    assert len(page.text) < 300_000


def test_a_name_or_an_error_does_not_break_out_of_the_page(ann: Visitor) -> None:
    for run_id in (RUN, MIXED):
        page = ann.get(f"/runs/notes/{run_id}")
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert(1)" in page.text


def test_without_dagster_the_page_says_so_and_the_runs_are_listed_from_their_spans(ann: Visitor) -> None:
    assert "Dagster could not be asked who started it" in ann.get(f"/runs/notes/{RUN}").text
    listed = ann.get("/runs/notes").text
    assert f'href="/runs/notes/{LARGE}"' in listed
    assert f"{DAY} to 2026-10-06" in listed
    assert "unknown author" not in listed


def test_the_api_has_the_same(ann: Visitor) -> None:
    found = ann.get(f"/api/runs/notes/run/{RUN}").json()
    assert (found["total"], found["failed"], found["unchanged"], found["calls"]) == (8, 1, 2, 3)
    kind = next(line for line in found["spans"] if line["error"])
    assert (kind["asset"], kind["partition"], kind["seconds"]) == ("kind", "2026-10-06", 20.0)
    assert [line["asset"] for line in found["assets"]] == ["documents", "chunks", "kind", "embeddings"]
    large = ann.get(f"/api/runs/notes/run/{LARGE}").json()
    assert (large["total"], len(large["spans"])) == (MANY * len(ASSETS), MOST_SPANS)
    assert large["total"] > MOST_LANES


@pytest.mark.parametrize("path", ["/runs/notes/{}", "/api/runs/notes/run/{}"])
def test_a_run_of_a_collection_that_one_may_not_see_does_not_exist(url: str, path: str) -> None:
    for vera in visiting(url, "vera"):
        hidden, none = vera.get(path.format(RUN)), vera.get("/runs/nonesuch/x")
        assert (hidden.status_code, none.status_code) == (404, 404)
        assert vera.get(f"/runs/letters/{RUN}").status_code == 404
        assert "No budget is left" not in hidden.text


@pytest.mark.parametrize("run_id", ["nonesuch", "%00", "a" * 101, "%F0%9F%92%A9"])
def test_a_run_that_is_not_known_is_said_to_be(ann: Visitor, run_id: str) -> None:
    assert ann.get(f"/runs/notes/{run_id}").status_code == (400 if run_id == "%00" else 404)
    assert ann.get(f"/api/runs/notes/run/{run_id}").status_code in (400, 404, 422)
    json.dumps(ann.get(f"/api/runs/notes/run/{run_id}").json())


# In a browser


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


def violations(page: Page) -> list[str]:
    page.evaluate(Axe().axe_script)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{v['id']}: {v['help']}: {[node['target'] for node in v['nodes'][:3]]}" for v in found["violations"]]


@pytest.mark.slow
def test_everybody_can_read_the_page_of_a_run_at_any_width_light_and_dark(url: str, chromium: Browser) -> None:
    page = chromium.new_page(base_url=url)
    page.set_default_timeout(300_000)
    page.goto("/sign-in")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Inbox")).to_be_visible()
    page.goto("/runs/notes")
    page.get_by_role("link", name=f"{DAY} to 2026-10-06").click()
    picture = page.get_by_role("img", name="When notes was computed")
    expect(picture).to_be_visible()
    failed, whole = picture.locator("rect.failed").bounding_box(), picture.bounding_box()
    assert failed is not None
    assert whole is not None
    assert 0.4 < failed["width"] / whole["width"] < 0.5  # 20 of 45 seconds
    found = {}
    for run_id in (RUN, LARGE, MIXED):
        for width in (1440, 360):
            page.set_viewport_size({"width": width, "height": 800})
            page.goto(f"/runs/notes/{run_id}")
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                found[run_id, width, scheme] = violations(page)
                if shots := os.environ.get("DESK_SHOTS"):
                    page.screenshot(path=f"{shots}/{run_id}-{width}-{scheme}.png", full_page=run_id != LARGE)
            sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(sideways) <= 0, (run_id, width)
    page.close()
    assert {name: said for name, said in found.items() if said} == {}
