"""Dagster's own pages in a real browser, while the real `ai-assets up` runs on a small generated project."""

import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import CHROMIUM, eventually, free_port
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright

from ai_assets.ops.dagster_client import DagsterApi

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parent.parent
BROWSER_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DAYS = [(datetime.date(2026, 9, 1) + datetime.timedelta(days=number)).isoformat() for number in range(30)]
CANDIDATE_ASSETS = ["documents", "chunks", "embeddings", "paper_kind", "evaluation_scores", "release_candidate"]
STRICT_ASSETS = ["documents", "chunks", "embeddings", "evaluation_scores", "release_candidate"]
PATIENCE_MS = 180_000
RUN_S = 180.0
BEFORE, AFTER = "what people spoke of and decided", "what people said there and decided"

PAPERS = f"""type: ai_assets.DocumentCollection
attributes:
  owners: ["team:office"]
  source: {{path: documents}}
  partitions: {{by: day, start: {DAYS[0]}, end: {DAYS[-1]}}}
  stages:
    - name: paper_kind
      kind: classify
      labels:
        - {{name: invoice, description: "An invoice: a demand for money, with an amount to pay and a date."}}
        - {{name: minutes, description: "Minutes of a meeting: {BEFORE}."}}
  golden: {{queries: golden/queries.jsonl, labels: golden/labels.jsonl}}
  gates:
    - {{metric: accuracy, min: 0.5}}
"""
STRICT = """type: ai_assets.DocumentCollection
attributes:
  source: {path: documents}
  partitions: {by: day, start: 2026-09-01, end: 2026-09-03}
  golden: {queries: golden/queries.jsonl}
  gates:
    - {metric: recall@1, min: 1.0}
  quality:
    documents:
      - {expect: expect_column_values_to_be_in_set, column: status, value_set: [ok]}
"""
STALE = """query($day: String!) { assetNodes(group: {groupName: "papers", repositoryName: "__repository__",
  repositoryLocationName: "definitions"}) { assetKey { path } staleCauses(partition: $day) { reason } } }"""
TICKS = """query($name: String!) { sensorOrError(sensorSelector: {sensorName: $name, repositoryName: "__repository__",
  repositoryLocationName: "definitions"}) { ... on Sensor { sensorState {
    ticks(limit: 5) { timestamp status } } } } }"""
LATEST = """query($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations(limit: 99) { partition metadataEntries { label
    ... on IntMetadataEntry { intValue } ... on TextMetadataEntry { text }
    ... on TableMetadataEntry { table { records } } } } } } }"""
RUNS = """query($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs { results {
  runId status assetSelection { path } } } } }"""


def write_project(root: Path) -> None:
    """`papers`: 30 days of two to four documents, all well. `strict`: three days that its own rules refuse."""
    shutil.copy(REPOSITORY / "definitions.py", root)
    queries, labels = [], []
    for number, day in enumerate(DAYS):
        for place in range(2 + number % 3):
            kind = ("invoice", "minutes")[(number + place) % 2]
            name = f"{day}/{kind}-{place}.txt"
            text = {
                "invoice": f"Invoice {number}-{place}. Please pay {100 + number} euro for carriage of {place} pallets.",
                "minutes": f"Minutes of meeting {number}-{place}. We spoke of the rota and the lift in hall {number}.",
            }[kind]
            _write(root / "collections/papers/documents" / name, text)
            if place == 0 and number % 10 == 0:
                labels.append({"document": name, "label": kind})
                queries.append({"query": f"rota, lift, pallets {number}", "documents": [name]})
    _write(root / "collections/papers/defs.yaml", PAPERS)
    _write(root / "collections/papers/golden/labels.jsonl", "\n".join(map(json.dumps, labels)))
    _write(root / "collections/papers/golden/queries.jsonl", "\n".join(map(json.dumps, queries)))
    strict = root / "collections/strict"
    for number in (1, 2, 3):
        _write(strict / f"documents/2026-09-0{number}/note.txt", f"Note {number}: the gate of the yard is green.")
    _write(strict / "documents/2026-09-03/whales.txt", "Whales are mammals of the sea.")
    _write(strict / "documents/2026-09-02/broken.pdf", "not a pdf")
    _write(strict / "golden/queries.jsonl", '{"query": "green gate", "documents": ["2026-09-03/whales.txt"]}')
    _write(strict / "defs.yaml", STRICT)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A project, and `ai-assets up` on it."""

    project: Path
    home: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> DagsterApi:
        return DagsterApi(self.url)

    def ask(self, query: str, **variables: object) -> Any:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=60
            ).json()
        assert "errors" not in answer, answer
        return next(iter(answer["data"].values()))

    def runs(self, **wanted: object) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask(RUNS, filter=wanted)["results"]
        return found

    def materializations(self, asset: str) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = self.ask(LATEST, key={"path": asset.split("/")})["assetMaterializations"]
        return found

    def stale(self, day: str) -> dict[str, list[str]]:
        """Why assets of `papers` are out of date for a day; nothing for those that are not."""
        nodes = self.ask(STALE, day=day)
        causes = {node["assetKey"]["path"][-1]: [cause["reason"] for cause in node["staleCauses"]] for node in nodes}
        return {asset: reasons for asset, reasons in causes.items() if reasons}

    def finished(self, backfill_id: str) -> Any:
        eventually(lambda: self.api.backfill_status(backfill_id).done, RUN_S)
        return self.api.backfill_status(backfill_id)

    def sign(self, *arguments: str, by: str) -> str:
        """A command of somebody who may decide; they are made known here."""
        password = "a walk in the autumn rain"
        self.cli("reviewers", "add", by, "--role", "approver", "--password-stdin", typed=password)
        return self.cli(*arguments, "--by", by, AI_ASSETS_PASSWORD=password)

    def cli(self, *arguments: str, typed: str | None = None, **variables: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).parent / "ai-assets", *arguments],
            cwd=self.project,
            env={**os.environ, "AI_ASSETS_HOME": str(self.home), **variables},
            input=typed,
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, skip_loudly_without_chromium: None) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ui")
    project = folder / "project"
    project.mkdir()
    write_project(project)
    port, desk_port = free_port(), free_port()
    made = Site(project=project, home=folder / "home", port=port)
    said = folder / "up.txt"
    with said.open("wb") as output:
        up = subprocess.Popen(
            [
                Path(sys.executable).parent / "ai-assets",
                "up",
                "--port",
                str(port),
                "--desk-port",
                str(desk_port),
                "--no-first-run",
            ],
            cwd=project,
            env={**os.environ, "AI_ASSETS_HOME": str(made.home)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "Dagster is up" in said.read_text() or up.poll() is not None, 120)
        assert up.poll() is None, said.read_text()
        yield made
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=CHROMIUM,
            args=BROWSER_ARGUMENTS,
            viewport={"width": 2400, "height": 1300},
            base_url=site.url,
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    opened = browser.new_page()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def materialized(site: Site, browser: BrowserContext) -> tuple[str, float]:
    """The backfill that one press of "Materialize all" on the page of the group started, and its seconds; finished."""
    page = browser.new_page()
    page.goto("/locations/definitions/asset-groups/papers/lineage")
    page.get_by_role("button", name="Materialize all (6)").click()
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.get_by_role("dialog").get_by_text("30 partitions", exact=True)).to_be_visible()
    started = time.monotonic()
    page.get_by_role("button", name="Launch backfill").click()
    told = page.get_by_text("Created backfill")
    expect(told).to_be_visible()
    backfill_id = told.inner_text().split()[2]
    page.close()
    site.finished(backfill_id)
    return backfill_id, time.monotonic() - started


@pytest.fixture(scope="module")
def refused(site: Site, materialized: object) -> str:
    """A finished backfill of `strict`."""
    days = ["2026-09-01", "2026-09-02", "2026-09-03"]
    backfill_id = site.api.launch_backfill([["strict", asset] for asset in STRICT_ASSETS], days, "strict")
    site.finished(backfill_id)
    return backfill_id


def test_the_page_of_a_group_shows_the_chain_with_kinds_and_the_gate_behind_it(page: Page) -> None:
    page.goto("/locations/definitions/asset-groups/papers/lineage")
    for asset in ("source_files", *CANDIDATE_ASSETS, "sign_off"):
        expect(shown(page, asset)).to_be_visible()
    expect(shown(page, "published")).to_be_visible()
    expect(shown(page, "wordllama")).to_be_visible()
    expect(page.get_by_text("Parquet", exact=True)).to_have_count(len(CANDIDATE_ASSETS))
    shown(page, "embeddings").click()
    expect(page.get_by_text("Backfills in multiple runs, with a maximum of 25 partitions per run")).to_be_visible()
    expect(page.get_by_text("A row is the vector of a chunk.")).to_be_visible()


def shown(page: Page, text: str) -> Locator:
    return page.get_by_text(text, exact=True).locator("visible=true").first


def test_materialize_all_reaches_every_candidate_in_a_few_runs_and_ends_green(
    page: Page, site: Site, materialized: tuple[str, float]
) -> None:
    backfill_id, seconds = materialized
    done = site.api.backfill_status(backfill_id)
    assert (done.status, done.materialized, done.failed) == ("COMPLETED_SUCCESS", 6 * 30, 0)
    runs = site.runs(tags=[{"key": "dagster/backfill", "value": backfill_id}])
    assert len(runs) == 2
    assert not any(key["path"][-1] == "published" for run in runs for key in run["assetSelection"])
    page.goto(f"/runs/b/{backfill_id}")
    expect(page.get_by_text("100% completed")).to_have_count(6)
    expect(page.get_by_text("Status").locator("..")).to_have_text("StatusSucceeded")
    print(f"30 partitions in {len(runs)} runs: {seconds:.1f} s")


def test_every_partition_has_a_materialization_with_metadata_of_its_own(site: Site, materialized: object) -> None:
    for asset in CANDIDATE_ASSETS:
        events = site.materializations(f"papers/{asset}")
        assert sorted(event["partition"] for event in events) == DAYS
        counts = {event["partition"]: number(event, "documents") for event in events}
        assert counts == {day: 2 + index % 3 for index, day in enumerate(DAYS)}, asset


def number(event: dict[str, Any], label: str) -> int:
    return next(int(entry["intValue"]) for entry in event["metadataEntries"] if entry["label"] == label)


def test_the_page_of_a_partition_shows_its_health_and_sample_rows(page: Page, materialized: object) -> None:
    page.goto("/assets/papers/documents?view=partitions&partition=2026-09-03")
    expect(page.get_by_text("Materialized (30)")).to_be_visible()
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    sample = page.get_by_role("row").filter(has_text="2026-09-03/invoice-0.txt").locator("visible=true").last
    expect(sample).to_contain_text("Please pay 102 euro")


def test_a_sample_has_five_rows(site: Site, materialized: object) -> None:
    events = site.materializations("papers/evaluation_scores")
    samples = [entry for event in events for entry in event["metadataEntries"] if entry["label"] == "sample"]
    assert [len(sample["table"]["records"]) for sample in samples] == [5] * 30


@pytest.mark.parametrize(
    ("asset", "plotted"),
    [
        ("documents", ["documents", "seconds", "statuses/quarantined"]),
        ("evaluation_scores", ["corpus/recall@5", "corpus/accuracy"]),
    ],
)
def test_numbers_are_plotted_over_partitions(page: Page, materialized: object, asset: str, plotted: list[str]) -> None:
    page.goto(f"/assets/papers/{asset}?view=overview")
    page.get_by_role("button", name="Plots").click()
    for name in plotted:
        expect(shown(page, name)).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_a_gate_shows_its_verdict_per_partition(page: Page, materialized: object) -> None:
    open_check(page, "papers/evaluation_scores")
    expect(page.get_by_text("Passed (30)")).to_be_visible()


def open_check(page: Page, asset: str) -> None:
    page.goto(f"/assets/{asset}?view=checks")
    expect(page.get_by_text("This is a blocking asset check.")).to_be_visible()
    page.get_by_role("tab", name="Partitions").last.click()


def open_partition(page: Page, key: str) -> None:
    """In the list; the first and the last one stand below the bar too, above the list."""
    page.get_by_text(key, exact=True).locator("visible=true").last.click()


def test_a_failed_gate_and_a_refused_suite_say_why(page: Page, refused: str) -> None:
    open_check(page, "strict/evaluation_scores")
    expect(page.get_by_text("Failed (2)", exact=True)).to_be_visible()
    open_partition(page, "2026-09-01")
    expect(shown(page, "recall@1 0 is below the minimum 1 (n = 1)")).to_be_visible()
    open_check(page, "strict/documents")
    expect(page.get_by_text("Failed (1)", exact=True)).to_be_visible()
    open_partition(page, "2026-09-02")
    expect(page.get_by_text("2026-09-02/broken.pdf").locator("visible=true").first).to_be_visible()


def test_a_failed_run_opens_with_our_sentence_and_one_traceback(page: Page, site: Site, refused: str) -> None:
    (run,) = site.runs(tags=[{"key": "dagster/backfill", "value": refused}])
    page.goto(f"/runs/{run['runId']}")
    failure = page.get_by_text("3 of 3 partitions of strict failed").locator("visible=true").first
    expect(failure).to_be_visible()
    page.get_by_text("View full message").locator("visible=true").last.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2026-09-02: the quality suite of documents refuses it")
    expect(dialog).to_contain_text("No release candidate was made.")
    expect(dialog).not_to_contain_text("The above exception")


def test_the_automation_page_shows_what_is_on_and_when(page: Page, site: Site) -> None:
    page.goto("/automation")
    for name, on in (("papers__nightly", True), ("papers__publication", True), ("papers__source_changes", False)):
        row = page.locator("div").filter(has_text=re.compile(f"^{name}")).filter(has=page.get_by_role("checkbox")).last
        expect(row.get_by_role("switch").or_(row.get_by_role("checkbox")).last).to_be_checked(checked=on)
    expect(page.get_by_text("Scheduled At 02:00 AM UTC")).to_have_count(2)


def test_a_tick_on_an_unchanged_source_says_so_and_asks_for_nothing(page: Page, materialized: object) -> None:
    page.goto("/locations/definitions/sensors/papers__source_changes")
    page.get_by_role("button", name="Preview tick result").click()
    page.get_by_role("button", name="Continue").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Requested runs (0)")
    expect(dialog).to_contain_text("the source is unchanged")


def test_looking_at_an_unchanged_source_makes_nothing_stale(page: Page, site: Site, materialized: object) -> None:
    page.goto("/assets/papers/source_files")
    page.get_by_role("button", name="Observe").click()
    job = {"pipelineName": "__ASSET_JOB"}
    observed = lambda: [r for r in site.runs(**job) if r["assetSelection"] == [{"path": ["papers", "source_files"]}]]  # noqa: E731
    eventually(lambda: [run for run in observed() if run["status"] == "SUCCESS"], RUN_S)
    assert site.stale(DAYS[4]) == {}


def test_an_edited_label_shows_its_stage_and_only_that_as_unsynced(
    page: Page, site: Site, materialized: object
) -> None:
    declared = site.project / "collections/papers/defs.yaml"
    declared.write_text(PAPERS.replace(BEFORE, AFTER))
    try:
        reload_definitions(page)
        eventually(lambda: site.stale(DAYS[4]) == {"paper_kind": ["has a new code version"]}, 30)
        page.goto(f"/assets/papers/paper_kind?view=partitions&partition={DAYS[4]}")
        unsynced = page.get_by_text("Unsynced (1)").locator("visible=true").first
        expect(unsynced).to_be_visible()
        unsynced.hover()
        expect(page.get_by_text("1 code version change", exact=True)).to_be_visible()
        page.goto(f"/assets/papers/chunks?view=partitions&partition={DAYS[4]}")
        expect(shown(page, "Latest materialization")).to_be_visible()
        expect(page.get_by_text("Unsynced")).to_have_count(0)
        site.finished(site.api.launch_backfill([["papers", "paper_kind"]], [DAYS[4]], "only the stage"))
        assert set(site.stale(DAYS[4])) == {"evaluation_scores", "release_candidate"}
    finally:
        declared.write_text(PAPERS)
        reload_definitions(page)
    everything = [["papers", asset] for asset in CANDIDATE_ASSETS]
    site.finished(site.api.launch_backfill(everything, [DAYS[4]], "as it was"))
    assert site.stale(DAYS[4]) == {}


def reload_definitions(page: Page) -> None:
    page.goto("/locations/definitions/asset-groups/papers/lineage")
    button = page.get_by_role("button", name="Reload definitions")
    button.click()
    expect(page.get_by_text("Definitions reloaded").locator("visible=true").first).to_be_visible()


def test_without_approval_materialize_fails_and_a_forged_sign_off_changes_nothing(
    page: Page, site: Site, materialized: object
) -> None:
    waiting = json.loads(site.cli("signoff", "list", "papers", "--json"))
    forged_at = time.time()
    for request in waiting:
        forged = {
            "partition": request["partition"],
            "data_version": request["digest"],
            "metadata": {"approved_by": "me"},
        }
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{site.url}/report_asset_materialization/papers/sign_off", json=forged, timeout=300)
        assert answer.ok
    page.goto("/assets/papers/published")
    page.get_by_role("button", name="Materialize").first.click()
    failed = page.get_by_text(re.compile("Failed in")).locator("visible=true").first
    expect(failed).to_be_visible()
    run = next(run for run in site.runs() if run["assetSelection"] == [{"path": ["papers", "published"]}])
    page.goto(f"/runs/{run['runId']}")
    message = page.get_by_text("Nothing to publish: 30 partitions wait for sign-off in papers").locator("visible=true")
    expect(message.first).to_be_visible()
    eventually(lambda: skipped_since(site, forged_at), 60)
    assert site.materializations("papers/published") == []
    assert site.runs(pipelineName="papers__publish") == []
    assert json.loads(site.cli("releases", "list", "papers", "--json")) == []


def skipped_since(site: Site, moment: float) -> bool:
    """Whether the publication sensor has looked since, and left it at that."""
    ticks = site.ask(TICKS, name="papers__publication")["sensorState"]["ticks"]
    return any(tick["timestamp"] > moment and tick["status"] == "SKIPPED" for tick in ticks)


def test_an_approval_is_mirrored_and_published_within_a_minute(page: Page, site: Site, materialized: object) -> None:
    site.sign("signoff", "approve", "papers", DAYS[0], DAYS[1], by="ada")
    approved_at = time.monotonic()
    eventually(lambda: site.materializations("papers/published"), 60)
    print(f"published {time.monotonic() - approved_at:.1f} s after the approval")
    page.goto("/assets/papers/published")
    values = page.get_by_role("row")
    expect(values.filter(has_text="approved_by").first).to_contain_text("ada")
    expect(values.filter(has_text=re.compile("^partitions(?!_)")).first).to_contain_text("2")
    mirrored = [event for event in site.materializations("papers/sign_off") if texts(event).get("approved_by") == "ada"]
    assert sorted(event["partition"] for event in mirrored) == DAYS[:2]


def texts(event: dict[str, Any]) -> dict[str, str]:
    return {entry["label"]: entry["text"] for entry in event["metadataEntries"] if "text" in entry}


def test_checks_asked_for_alone_say_how_they_are_made(page: Page, site: Site, refused: str) -> None:
    page.goto("/assets/strict/documents?view=checks")
    page.get_by_role("button", name="Execute all").click()
    eventually(lambda: site.runs()[0]["status"] == "FAILURE" and not site.runs()[0]["assetSelection"], 60)
    page.goto(f"/runs/{site.runs()[0]['runId']}")
    expect(page.get_by_text("Press Materialize on the asset").locator("visible=true").first).to_be_visible()
