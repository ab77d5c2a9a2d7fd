"""The whole story in a real browser on a real `ai-assets up`: from the printed password to the way back."""

import contextlib
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conftest import CHROMIUM, REPOSITORY, eventually, free_port
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from signing import PASSWORD

from ai_assets.collection.loading import load_collection
from ai_assets.signoff import sla
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

PATIENCE_MS = 180_000
DAYS = ("2026-10-05", "2026-10-06")
MISREAD = f"{DAYS[0]}/bell.txt"
DOCUMENTS = {
    f"{DAYS[0]}/bill.txt": "Invoice no. 12: subtotal 100.00, tax 20.00, total due 120.00 within 30 days.",
    MISREAD: "Invoice no. 13 for the church bell: 3 x 40.00 = 120.00, total due 120.00, payment within 30 days.",
    f"{DAYS[1]}/fire.txt": "At 14:20 a fire broke out in hall 7; the pump failed and two workers were injured.",
}
LETTERS = {
    "source": {"path": "documents"},
    "partitions": {"by": "day", "start": DAYS[0], "end": DAYS[1]},
    "schedule": None,
    "signoff": {"launcher_is_author": True},
    "stages": [
        {
            "name": "kind",
            "kind": "classify",
            "labels": [
                {"name": "invoice", "description": "A bill with amounts, tax, a total due and payment terms."},
                {"name": "incident", "description": "A report on an accident, a fire or an outage, and its cause."},
            ],
        }
    ],
}


@dataclass
class Office:
    """A project with `ai-assets up` running on it."""

    folder: Path
    port: int
    desk_port: int
    said: Path

    @property
    def desk(self) -> str:
        return f"http://localhost:{self.desk_port}"

    @property
    def password(self) -> str:
        found = re.search(r"Sign in there: +reviewer, password (\S+)", self.said.read_text())
        assert found, self.said.read_text()
        return found[1]

    def cli(self, *arguments: str, code: int = 0, typed: str | None = None, **variables: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).parent / "ai-assets", *arguments],
            cwd=self.folder,
            env={**os.environ, "AI_ASSETS_HOME": str(self.folder / "home"), **variables},
            input=typed,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    shutil.copy(REPOSITORY / "definitions.py", folder)
    for name, text in DOCUMENTS.items():
        file = folder / "collections/letters/documents" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    declared = {"type": "ai_assets.DocumentCollection", "attributes": LETTERS}
    (folder / "collections/letters/defs.yaml").write_text(yaml.safe_dump(declared))
    made = Office(folder=folder, port=free_port(), desk_port=free_port(), said=folder / "up.txt")
    command = [Path(sys.executable).parent / "ai-assets", "up"]
    with made.said.open("wb") as output:
        up = subprocess.Popen(
            [*command, "--port", str(made.port), "--desk-port", str(made.desk_port)],
            cwd=folder,
            env={**os.environ, "AI_ASSETS_HOME": str(folder / "home")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "for sign-off. Look and decide" in made.said.read_text() or up.poll() is not None, 180)
        assert up.poll() is None, made.said.read_text()
        yield made
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)


@pytest.fixture(scope="module")
def browser(
    office: Office, tmp_path_factory: pytest.TempPathFactory, skip_loudly_without_chromium: None
) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu"],
            base_url=office.desk,
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield context
        context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    opened = browser.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if is_problem(message) else None)
    yield opened
    opened.close()
    assert problems == []


def is_problem(message: ConsoleMessage) -> bool:
    """Such as a script that the content security policy refused; a refused sign-in is none."""
    return message.type == "error" and not message.text.startswith("Failed to load resource")


def test_the_story_from_the_printed_password_to_the_way_back(office: Office, page: Page) -> None:
    sign_in(page, office)
    correct_a_label(page)
    assert "1 of 2 partitions run" in office.cli("run", "letters")
    approve_what_came_of_it(page, office)
    assert "2026-10-05/bell.txt" in office.cli("search", "letters", "church bell", "-k", "1")
    approve_the_other_in_bulk(page)
    roll_back(page, office)
    read_the_trail(page, office)


def sign_in(page: Page, office: Office) -> None:
    page.goto("/audit")
    expect(page).to_have_url(re.compile(r"/sign-in\?next=/audit"))
    page.get_by_label("Name").fill("reviewer")
    page.get_by_label("Password").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Name").fill("reviewer")
    page.get_by_label("Password").fill(office.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("Audit"))


def correct_a_label(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("2 candidates wait for a decision")).to_be_visible()
    page.get_by_role("link", name=DAYS[0]).click()
    page.get_by_role("link", name=re.compile("church bell")).click()
    expect(page.locator("mark").first).to_contain_text("for the church bell")
    page.get_by_text("Correct the label").click()
    page.get_by_label("Right label").select_option("incident")
    page.get_by_label("Why").fill("It came with the damage report on the bell.")
    page.get_by_role("button", name="Record the correction").click()
    expect(page.get_by_text("Corrected to incident by reviewer")).to_be_visible()


def approve_what_came_of_it(page: Page, office: Office) -> None:
    """The correction made a new candidate, which says how it differs; its approval appears as a release by itself."""
    before = page.url
    page.goto(before.partition("/document")[0])
    page.get_by_role("link", name="Open the newest request").click()
    expect(page.get_by_text(re.compile("Since the request before"))).to_contain_text("1 relabelled")
    page.get_by_role("link", name=re.compile("church bell")).click()
    expect(page.get_by_text("This candidate has it.")).to_be_visible()
    page.go_back()
    page.wait_for_load_state()
    page.keyboard.press("a")
    expect(page.get_by_role("heading", name="Please confirm")).to_be_visible()
    page.get_by_role("button", name="Yes, approve").click()
    expect(page.get_by_text("publication is under way")).to_be_visible()
    expect(page.get_by_text(re.compile("Release 1"))).to_be_visible(timeout=300_000)  # the page loads itself again
    assert json.loads(office.cli("releases", "list", "letters", "--json"))[0]["number"] == 1


def approve_the_other_in_bulk(page: Page) -> None:
    page.goto("/")
    page.get_by_label(re.compile(f"Select letters {DAYS[1]}")).check()
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("button", name="Yes, approve").click()
    expect(page.get_by_text("approved").first).to_be_visible()

    def published() -> bool:
        page.goto("/?status=published")
        return page.get_by_role("link", name=DAYS[1]).count() > 0

    eventually(published, 90)


def roll_back(page: Page, office: Office) -> None:
    page.goto("/releases/letters")
    page.get_by_role("button", name="Roll back to release 1").click()
    page.get_by_label("Reason").fill("The report on the fire was not meant for readers.")
    page.get_by_role("button", name=re.compile("Yes")).click()
    expect(page.get_by_text("Release 1 is live")).to_be_visible()
    assert "fire.txt" not in office.cli("search", "letters", "fire in hall 7")


def read_the_trail(page: Page, office: Office) -> None:
    page.goto("/audit?collection=letters")
    for action in ("requested", "viewed", "corrected", "approved", "published", "rolled back"):
        expect(page.get_by_role("cell", name=action, exact=True).first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("JSON", re.IGNORECASE)).first.click()
    assert len(download.value.path().read_text().splitlines()) > 6
    assert "The audit chain verifies" in office.cli("audit", "verify")


def test_the_desk_and_dagster_lead_to_each_other(office: Office, page: Page) -> None:
    page.goto("/?status=all")
    page.get_by_role("link", name=DAYS[1]).first.click()
    request = page.url.partition("?")[0]
    page.get_by_role("link", name="the run").click()
    expect(page).to_have_url(re.compile(rf"127\.0\.0\.1:{office.port}/runs/"))
    page.goto(f"http://127.0.0.1:{office.port}/assets/letters/release_candidate?view=partitions&partition={DAYS[1]}")
    expect(page.locator(f'a[href="{request}"]').first).to_be_visible()


def test_who_may_not_decide_or_comes_too_late_is_told_in_the_browser(office: Office, page: Page) -> None:
    """Wrong role, the author, a candidate that was replaced while somebody was reading, a request out of time."""
    for name, role in (("rita", "reviewer"), ("pipeline", "approver"), ("maria", "approver")):
        office.cli("reviewers", "add", name, "--role", role, "--password-stdin", typed=PASSWORD)
    redraft(office, "Another fire broke out in hall 8; nobody was injured.")

    waiting(page, office, "rita")
    expect(page.get_by_text("rita cannot decide here: it takes the role approver")).to_be_visible()

    waiting(page, office, "pipeline")
    expect(page.get_by_text("pipeline cannot approve this: they launched the run")).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_be_disabled()

    waiting(page, office, "maria")
    redraft(office, "A third fire broke out in hall 9.")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("alert").or_(page.get_by_role("status")).first).to_contain_text(re.compile("newer|void"))
    page.get_by_role("link", name="Open the newest request").click()
    expire_all(office)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text(re.compile("expired")).first).to_be_visible()
    assert '"status": "expired"' in office.cli("signoff", "show", "letters", DAYS[1], "--json")
    page.goto("/?status=expired")
    page.get_by_role("link", name=DAYS[1]).click()
    page.get_by_label("Ask again").fill("The report is wanted after all.")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#status")).to_have_text("open")


def redraft(office: Office, text: str) -> None:
    """A new candidate of the second day, from a run that `pipeline` started."""
    (office.folder / "collections/letters/documents" / DAYS[1] / "fire.txt").write_text(text)
    office.cli("run", "letters", "--by", "pipeline", AI_ASSETS_PASSWORD=PASSWORD)


def waiting(page: Page, office: Office, name: str) -> None:
    """Somebody else signs in and opens what waits."""
    page.context.clear_cookies()
    page.goto("/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name=DAYS[1]).click()
    expect(page.locator("#status")).to_have_text("open")


def expire_all(office: Office) -> None:
    """Two weeks go by, as the deadlines sensor will see it."""
    with contextlib.closing(StateStore(f"sqlite:///{office.folder / 'home' / 'state.db'}")) as state:
        moment = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=15)).isoformat(timespec="milliseconds")
        sla.advance(state, [load_collection(office.folder / "collections", "letters")], moment)


def test_the_same_holds_on_the_command_line(office: Office) -> None:
    refused = office.cli("signoff", "approve", "letters", "--all", "--by", "reviewer", code=2, AI_ASSETS_PASSWORD="no")
    assert "no open request" in refused or "password" in refused
    office.cli("releases", "rollback", "letters", "--to", "2", "--by", "reviewer", AI_ASSETS_PASSWORD=office.password)
    assert "fire.txt" in office.cli("search", "letters", "fire in hall 7", "-k", "1")
