"""Makes the pictures of the documents anew: `make pictures`. Needs chromium; works in a folder of its own.

A copy of the samples is run, most of it signed and published, then edited, so that there is something to decide, and
run on several days, so that there is something to have cost; the desk is started on it and photographed. Beside it
the story of docs/story.md takes its course, in a process and a home of its own.
"""

import io
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import yaml
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PREPARE, STORY = "prepare", "story"
PASSWORD = "a walk in the autumn rain"
DAYS_AGO = ((13, 12, 9, 8), (6, 4, 1, 0))
WIDTH, HEIGHT = 1280, 820
EDITS = {
    "2026-10-05/dock-incident.md": "\nThe dock door was repaired on 17 October.\n",
    "2026-10-07/fuel-notice.txt": "Please note that the fuel surcharge is now invoiced together with the freight.\n",
    "2026-10-12/night-shift-handover.txt": "\nReminder: ask Ben about the new desk.\n",
}


def main() -> None:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        for name in ("definitions.py", "inference.yaml"):
            shutil.copy(ROOT / name, project)
        for name in ("handbook", "reports"):
            shutil.copytree(ROOT / "collections" / name, project / "collections" / name)
            without_suites(project / "collections" / name / "defs.yaml")
        os.environ |= {
            "AI_ASSETS_HOME": str(Path(folder) / "home"),
            "AI_ASSETS_PASSWORD": PASSWORD,
            "LOGNAME": "pipeline",
        }
        os.chdir(project)
        told = Path(folder) / "story"
        shutil.copytree(ROOT / "examples" / "story", told)
        story = subprocess.Popen(
            [sys.executable, HERE, STORY], cwd=told, env={**os.environ, "AI_ASSETS_HOME": str(Path(folder) / "told")}
        )
        command("reviewers", "add", "maria", "--role", "approver", "--password-stdin", typed=PASSWORD)
        beside = subprocess.Popen([sys.executable, HERE, PREPARE], cwd=project)
        spend(project)
        if beside.wait():
            sys.exit(beside.returncode)
        with desk() as url:
            photograph(url)
        if story.wait():
            sys.exit(story.returncode)
    print(f"in {time.perf_counter() - began:.0f} s")


def without_suites(declared: Path) -> None:
    """No picture shows the checks of data quality, and they take as long as all the rest."""
    found = yaml.safe_load(declared.read_text(encoding="utf-8"))
    found["attributes"].pop("quality", None)
    declared.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")


def prepare(project: Path) -> None:
    """`handbook`, mostly signed and published, with something to decide; in a process of its own beside `reports`."""
    command("run", "handbook")
    days = [f"2026-10-{day:02d}" for day in range(5, 14)]
    command("signoff", "approve", "handbook", *days, "--by", "maria")
    command("publish", "handbook")
    for name, text in EDITS.items():
        with (project / "collections/handbook/documents" / name).open("a", encoding="utf-8") as file:
            file.write(text)
    (project / "collections/handbook/documents/2026-10-05/leeds-standup.txt").unlink()
    command("run", "handbook")


def spend(project: Path) -> None:
    """`reports` run with two versions of its prompts, as if on eight days of the last fortnight."""
    store = Path(os.environ["AI_ASSETS_HOME"]) / "state.db"
    command("run", "reports")
    command("signoff", "approve", "reports", "--all", "--by", "maria")
    command("publish", "reports")
    age(store, DAYS_AGO[0])
    for prompt in (project / "collections/reports/prompts").glob("*.md"):
        text = re.sub("version: .*", "version: 2", prompt.read_text(encoding="utf-8"))
        prompt.write_text(f"{text}Be brief.\n", encoding="utf-8")
    command("run", "reports")
    age(store, DAYS_AGO[1])
    command("cost")


def tell() -> None:
    """docs/story.md from its beginning to its end, photographed on the way."""
    for name, role in (("ann", "viewer"), ("maria", "approver")):
        command("reviewers", "add", name, "--role", role, "--password-stdin", typed=PASSWORD)
    command("run", "post", "--by", "ann")
    publish("post")
    shutil.copy("edits/plainer.md", "collections/post/prompts/triage.md")
    command("run", "post", "--by", "ann", ends_with=1)
    with desk() as url, signed_in(url) as page:
        page.goto("/evaluation/post")
        page.get_by_role("heading", name="Right labels by slice").wait_for()
        picture(page, "story-stopped")
    compared = ("--prompt", "edits/plainer-and-german.md", "--sample", "10")
    command("shadow", "start", "post", "--stage", "triage", *compared, "--by", "ann", "--yes", "--promote")
    command("backfill", "post", "--stage", "triage", "--by", "ann", "--yes")
    command("run", "post", "--by", "ann")
    publish("post")
    with desk() as url, signed_in(url) as page:
        page.goto("/shadows/post/1")
        page.get_by_role("heading", name="triage-1").wait_for()
        picture(page, "story-shadow")
        page.goto("/releases/post/2/card")
        page.get_by_role("heading", name="Compared before").scroll_into_view_if_needed()
        page.get_by_role("heading", name="Compared before").evaluate("each => each.scrollIntoView()")
        picture(page, "story-card")


def publish(name: str) -> None:
    command("signoff", "approve", name, "--all", "--by", "maria")
    command("publish", name)


def age(store: Path, days: tuple[int, ...]) -> None:
    """What was asked today was asked so many days ago, on the later days more than on the earlier ones."""
    weighed = [day for weight, day in enumerate(days, start=1) for _ in range(weight)]
    with closing(sqlite3.connect(store)) as connection, connection:
        for table, key, columns in (
            ("attempts", "attempt_id", ("ended_at", "sent_at")),
            ("reuses", "reuse_id", ("reused_at",)),
        ):
            rows = connection.execute(f"SELECT {key} FROM {table} WHERE {columns[0]} >= date('now')")  # noqa: S608
            for number, (row,) in enumerate(rows.fetchall()):
                moved = [f"{name} = strftime('%Y-%m-%dT%H:%M:%f+00:00', {name}, :then)" for name in columns]
                connection.execute(
                    f"UPDATE {table} SET {', '.join(moved)} WHERE {key} = :row",  # noqa: S608
                    {"then": f"-{weighed[number % len(weighed)]} days", "row": row},
                )


def command(*arguments: str, typed: str = "", ends_with: int = 0) -> None:
    """`ai-assets` in this process: to import it takes longer than most commands."""
    from ai_assets.cli.app import app

    kept, sys.stdin = sys.stdin, io.StringIO(typed)
    try:
        code = app(list(arguments), standalone_mode=False)
    finally:
        sys.stdin = kept
    if (code or 0) != ends_with:
        sys.exit(f"ai-assets {' '.join(arguments)} ended with {code}")


@contextmanager
def desk() -> Iterator[str]:
    """The desk on the home, in a thread of this process; its address."""
    import uvicorn

    from ai_assets.base.home import Home
    from ai_assets.desk.app import create_app
    from ai_assets.desk.context import Desk
    from ai_assets.desk.settings import DeskSettings
    from ai_assets.storage.stores import Stores

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stores = Stores.at(Home.from_environment())
        app = create_app(Desk(stores=stores, settings=DeskSettings(), url=url, dagster_url=None))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def signed_in(url: str) -> Iterator[Page]:
    """The inbox of maria, in a browser."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, base_url=url)
        page.goto("/sign-in")
        page.get_by_label("Name").fill("maria")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Inbox").wait_for()
        yield page
        browser.close()


def photograph(url: str) -> None:
    with signed_in(url) as page:
        picture(page, "inbox")
        page.get_by_role("link", name="2026-10-05").click()
        page.locator("#decide").wait_for()
        picture(page, "request")
        page.locator("tr[data-row]", has_text="dock-incident").locator("a[data-open]").click()
        page.locator("#text").wait_for()
        page.get_by_text("Correct the label").first.click()
        picture(page, "document")
        page.goto("/costs?by=asset")
        page.get_by_role("heading", name="Spend over time").wait_for()
        picture(page, "costs")


def picture(page: Page, name: str) -> None:
    page.screenshot(path=HERE / f"{name}.png")
    print(f"docs/pictures/{name}.png")


if __name__ == "__main__":
    if sys.argv[1:] == [PREPARE]:
        prepare(Path.cwd())
    elif sys.argv[1:] == [STORY]:
        tell()
    else:
        main()
