"""Claims about starting runs from the desk: through a real `ai-assets up`, by people in a browser and by programs."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from conftest import CHROMIUM, Project, eventually, free_port, project_at
from desks import Visitor
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from provider import Provider
from signing import PASSWORD, current, known
from test_backfill import PRICED
from test_llm_stages import BILL
from test_stage_settings import KIND, declare

from ai_assets.ops.dagster_client import DagsterApi
from ai_assets.planning import backfills
from ai_assets.signoff import requests
from ai_assets.signoff.launches import TICKET_TAG, Launch
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow

DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
STAGE = {**KIND, "max_output_tokens": 100}
PATIENCE_MS = 180_000


@dataclass(frozen=True)
class Office:
    """A project with `ai-assets up` running on it, with people who may do different things."""

    project: Project
    port: int
    desk_url: str
    said: Path
    api: DagsterApi
    visitors: list[Visitor] = field(default_factory=list)

    @property
    def stores(self) -> Stores:
        return self.project.stores()

    def visitor(self, name: str) -> Visitor:
        found = Visitor(self.desk_url)
        found.sign_in(name)
        self.visitors.append(found)
        return found

    def launch(self, day: str) -> Launch:
        return requests.launch_of(current(self.stores.state, day))

    def quiet(self) -> None:
        """Until no run is under way."""
        eventually(lambda: all(run.done for run in self.api.runs("notes", 20)), 120)

    def write(self, day: str, text: str) -> None:
        self.project.document(f"{day}/bill.txt", BILL.format(n=7) + text)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with pytest.MonkeyPatch.context() as patch, Provider(latency_ms=5, price_input=10, price_output=20) as provider:
        patch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
        project = project_at(tmp_path_factory.mktemp("office"), patch)
        (project.root / "inference.yaml").write_text(PRICED)
        declare(project, [STAGE], partitions={"by": "day", "start": DAYS[0], "end": DAYS[-1]},
                signoff={"unknown_author": "refuse"})  # fmt: skip
        port, desk_port = free_port(), free_port()
        api = DagsterApi(f"http://127.0.0.1:{port}")
        office = Office(project, port, f"http://127.0.0.1:{desk_port}", project.root / "up.txt", api)
        for number, day in enumerate(DAYS):
            office.write(day, f"Number {number}.")
        for name, role in (("ann", "approver"), ("ben", "approver"), ("rita", "reviewer"), ("vera", "viewer")):
            known(office.stores.state, name, role)  # type: ignore[arg-type]
        command = [Path(sys.executable).parent / "ai-assets", "up", "--no-first-run"]
        with office.said.open("wb") as output:
            up = subprocess.Popen(
                [*command, "--port", str(port), "--desk-port", str(desk_port)], cwd=project.root,
                env={**os.environ}, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            eventually(lambda: "Stop it with Ctrl-C" in office.said.read_text() or up.poll() is not None, 180)
            assert up.poll() is None, office.said.read_text()
            with api:
                yield office
        finally:
            for visitor in office.visitors:
                visitor.http.close()
            up.send_signal(signal.SIGINT)
            up.wait(60)


@pytest.fixture(scope="module")
def chromium(skip_loudly_without_chromium: None) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def signed_in(chromium: Browser, office: Office, request: pytest.FixtureRequest) -> Iterator[Any]:
    contexts: list[BrowserContext] = []

    def open_page(name: str, **options: Any) -> Page:
        context = chromium.new_context(base_url=office.desk_url, **options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.goto("/sign-in")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="Inbox")).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()


def violations(page: Page) -> list[str]:
    page.evaluate(Axe().axe_script)
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [f"{v['id']}: {v['help']}: {[node['target'] for node in v['nodes'][:3]]}" for v in found["violations"]]


# People


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_reviewer_sees_the_price_and_starts_what_is_due(office: Office, signed_in: Any, scripts: bool) -> None:
    office.quiet()
    office.write(DAYS[0], f"Written for a run {'with' if scripts else 'without'} scripts.")
    page = signed_in("rita", java_script_enabled=scripts)
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("link", name="notes").click()
    page.get_by_role("button", name="Show the price").click()
    expect(page.get_by_text(re.compile(r"new call.*, likely \$"))).to_be_visible()
    expect(page.get_by_role("button", name="Start a backfill")).to_have_count(0)
    page.get_by_role("button", name="Run what is due").click()
    expect(page.get_by_role("status").filter(has_text="Started:")).to_be_visible()
    expect(page.get_by_text("rita, at the desk").first).to_be_visible()
    office.quiet()
    eventually(lambda: (office.launch(DAYS[0]).who, office.launch(DAYS[0]).proof) == ("rita", "desk"))
    page.goto("/runs/notes")
    expect(page.get_by_text("success").first).to_be_visible()
    expect(page.get_by_role("heading", name="notes")).to_be_visible()


def test_an_approver_starts_a_backfill_with_its_cap_and_is_its_known_author(office: Office, signed_in: Any) -> None:
    office.quiet()
    office.write(DAYS[1], "A text that a backfill is about.")
    page = signed_in("ann")
    page.goto("/runs/notes")
    page.get_by_label("From partition").fill(DAYS[1])
    page.get_by_role("button", name="Show the price").click()
    page.get_by_label("At most (US dollars)").fill("0.50")
    page.get_by_role("button", name="Start a backfill").click()
    expect(page.get_by_role("status").filter(has_text="Started: 1 partition")).to_be_visible()
    with office.stores.state.read() as connection:
        made = backfills.get(connection, "notes-1")
    assert (made.made_by, made.cap_nusd, list(made.partitions)) == ("ann", 500_000_000, [DAYS[1]])
    eventually(lambda: office.launch(DAYS[1]).who == "ann", 120)
    assert office.launch(DAYS[1]).in_words == "ann, at the desk"

    def over() -> bool:
        with office.stores.state.read() as connection:
            return backfills.get(connection, "notes-1").state == "done"

    eventually(over, 120)
    page.goto("/runs/notes")
    expect(page.get_by_role("row", name=re.compile("notes-1 done"))).to_be_visible()


def test_the_pages_shut_nobody_out(office: Office, signed_in: Any) -> None:
    page = signed_in("ann")
    found = {}
    for width in (1440, 360):
        page.set_viewport_size({"width": width, "height": 800})
        for address in ("/runs", "/runs/notes", f"/runs/notes?price=yes&first={DAYS[0]}&last={DAYS[2]}"):
            page.goto(address)
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                found[address, width, scheme] = violations(page)
            sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(sideways) <= 0, (address, width)
            if shots := os.environ.get("DESK_SHOTS"):
                name = address.strip("/").split("?")[0].replace("/", "-") + ("-price" if "?" in address else "")
                page.screenshot(path=f"{shots}/{name}-{width}.png", full_page=True)
    assert {name: said for name, said in found.items() if said} == {}


def test_a_run_that_somebody_starts_again_in_dagster_has_an_unknown_author(office: Office, signed_in: Any) -> None:
    office.quiet()
    office.write(DAYS[0], "Before the repetition.")
    (run_id,) = office.visitor("rita").post("/runs/notes/start", {"kind": "due"}).json()["run_ids"]
    eventually(lambda: office.api.run_status(run_id) == "SUCCESS", 120)
    assert office.launch(DAYS[0]).who == "rita"
    office.write(DAYS[0], "Somebody presses Re-execute in Dagster.")
    again = reexecuted(office, run_id)
    eventually(lambda: office.api.run_status(again) == "SUCCESS", 120)
    assert TICKET_TAG in next(run for run in office.api.runs("notes", 5) if run.run_id == again).tags
    found = office.launch(DAYS[0])
    assert (found.known, "somebody started it again in Dagster" in found.why) == (False, True)

    page = signed_in("ben")
    expect(page.get_by_text("unknown author").first).to_be_visible()
    page.goto(f"/requests/{current(office.stores.state, DAYS[0]).request_id}")
    expect(page.get_by_text("The author of this candidate is unknown.")).to_be_visible()
    expect(page.get_by_text(re.compile("ben cannot approve this: it is not known who started"))).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()
    if shots := os.environ.get("DESK_SHOTS"):
        page.screenshot(path=f"{shots}/unknown.png", full_page=True)
    page.goto(f"/runs/notes?price=yes&first={DAYS[0]}")
    page.get_by_role("button", name="Run 1 partition").click()
    eventually(lambda: office.launch(DAYS[0]).who == "ben", 120)
    office.quiet()
    page.goto(f"/requests/{current(office.stores.state, DAYS[0]).request_id}")
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Yes, approve").click()
    expect(page.get_by_text("publication is under way").or_(page.get_by_text("Published.")).first).to_be_visible()


def reexecuted(office: Office, run_id: str) -> str:
    """As the button of Dagster's page does it."""
    mutation = (
        "mutation($p: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $p) { __typename "
        "... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
    )
    given = {"p": {"parentRunId": run_id, "strategy": "ALL_STEPS"}}
    answer = httpx.post(
        f"{office.api.url}/graphql", json={"query": mutation, "variables": given}, trust_env=False, timeout=60
    ).json()
    return str(answer["data"]["launchRunReexecution"]["run"]["runId"])


def test_a_backfill_from_dagster_s_pages_has_an_unknown_author_whatever_it_is_tagged_with(office: Office) -> None:
    office.quiet()
    office.write(DAYS[2], "A backfill from Dagster's own page.")
    forged = {"ai_assets/launched_by": "ann", TICKET_TAG: json.dumps({"who": "ann"}), "ai_assets/backfill": "notes-1"}
    assets = [("notes", asset) for asset in ("documents", "chunks", "embeddings", "kind", "release_candidate")]
    made = office.api.launch_backfill(assets, [DAYS[2]], "by hand", {TICKET_TAG: forged[TICKET_TAG]})
    eventually(lambda: office.api.backfill_status(made).done, 120)
    assert not office.launch(DAYS[2]).known


# Programs


def test_a_form_that_is_sent_twice_starts_one_thing(office: Office) -> None:
    office.quiet()
    office.write(DAYS[0], "Sent twice.")
    rita, launch_id = office.visitor("rita"), uuid.uuid4().hex
    before = len(office.api.runs("notes", 50))
    first = rita.submit("/runs/notes", kind="due", launch=launch_id)
    second = rita.submit("/runs/notes", kind="due", launch=launch_id)
    assert (first.status_code, second.status_code) == (200, 409)
    assert "started this already" in second.text
    assert len(office.api.runs("notes", 50)) == before + 1


def test_the_api_says_the_price_starts_and_lists(office: Office) -> None:
    office.quiet()
    ann = office.visitor("ann")
    priced = ann.get(f"/api/runs/notes/price?first={DAYS[0]}&last={DAYS[1]}").json()
    assert (priced["partitions"], priced["asks_models"]) == (DAYS[:2], True)
    started = ann.post("/runs/notes/start", {"kind": "again", "first": DAYS[0]}).json()
    assert (started["partitions"], len(started["run_ids"])) == ([DAYS[0]], 1)
    listed = ann.get("/api/runs/notes").json()
    assert (listed["runs"][0]["run_id"], listed["runs"][0]["started_by"]) == (started["run_ids"][0], "ann, at the desk")
    assert [row["collection"] for row in ann.get("/api/runs").json()] == ["notes"]
    assert ann.post("/runs/notes/stop", {}).json() == {"backfill": None}
    office.quiet()
    nothing = ann.post("/runs/notes/start", {"kind": "due"})
    assert (nothing.status_code, "Nothing of notes is due" in nothing.json()["error"]) == (400, True)


def test_a_reviewer_who_names_partitions_runs_only_those_that_are_due(office: Office) -> None:
    rita = office.visitor("rita")
    if office.api.runs("notes", 1) == [] or rita.get("/api/runs/notes").json()["due"]:
        rita.post("/runs/notes/start", {"kind": "due"})
    office.quiet()
    nothing = rita.post("/runs/notes/start", {"kind": "due", "first": DAYS[0]})
    assert (nothing.status_code, "Nothing of notes is due" in nothing.json()["error"]) == (400, True)
    office.write(DAYS[0], "Changed, so that it is due.")
    started = rita.post("/runs/notes/start", {"kind": "due", "first": DAYS[0], "last": DAYS[1]}).json()
    assert started["partitions"] == [DAYS[0]]
    office.quiet()


REFUSED = [
    ("vera", {"kind": "due"}, 403, "it takes the role reviewer in notes"),
    ("rita", {"kind": "again", "first": DAYS[0]}, 403, "it takes the role approver in notes"),
    ("rita", {"kind": "backfill"}, 403, "it takes the role approver in notes"),
    ("ann", {"kind": "again"}, 400, "say which partitions of notes"),
    ("ann", {"kind": "again", "first": "2001-01-01"}, 400, "2001-01-01"),
    ("ann", {"kind": "backfill", "first": DAYS[0], "max_usd": 1e15}, 400, "is not an amount"),
    ("ann", {"kind": "everything"}, 422, "kind"),
    ("ann", {"kind": "due", "launch_id": "x"}, 422, "launch_id"),
]


@pytest.mark.parametrize(("person", "body", "status", "says"), REFUSED)
def test_what_may_not_be_started_is_not(office: Office, person: str, body: Any, status: int, says: str) -> None:
    before = len(office.api.runs("notes", 50))
    answer = office.visitor(person).post("/runs/notes/start", body)
    assert (answer.status_code, says in answer.json()["error"]) == (status, True), answer.text
    assert len(office.api.runs("notes", 50)) == before


def test_no_other_site_starts_a_run(office: Office) -> None:
    rita = office.visitor("rita")
    fields = {"kind": "due", "launch": uuid.uuid4().hex}
    assert rita.http.post("/runs/notes", data=fields).status_code == 403
    assert rita.http.post("/runs/notes", data={**fields, "csrf": "0" * 64}).status_code == 403
    assert rita.http.post("/api/runs/notes/start", json={"kind": "due"}).status_code == 403


# Dagster away


def test_without_dagster_the_page_says_what_to_do_and_nothing_is_started(project: Project) -> None:
    from desks import desk

    project.documents(per_day=1)
    project.declare()
    known(project.stores().state)
    with desk(project, AI_ASSETS_DAGSTER_URL=f"http://127.0.0.1:{free_port()}") as running:
        ann = running.visitor("ann")
        page = ann.get("/runs/notes?price=yes")
        assert page.status_code == 200
        assert "Nothing can be started from here now." in page.text
        assert "Start it with <code>ai-assets up</code>" in page.text
        assert "Run what is due" not in page.text
        refused = ann.submit("/runs/notes", kind="due", launch=uuid.uuid4().hex)
        assert (refused.status_code, "does not answer" in refused.text) == (409, True)
        answer = ann.post("/runs/notes/start", {"kind": "due"})
        assert (answer.status_code, "ai-assets up" in answer.json()["error"]) == (409, True)
    with project.stores().state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM desk_launches")).scalar_one() == 0
