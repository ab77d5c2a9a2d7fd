"""Makes the pictures of the documents anew: `make pictures`. Needs chromium; works in a folder of its own.

A copy of the samples is run, most of it signed and published, then edited, so that there is something to decide, and
run on several days, so that there is something to have cost; the desk is started on it and photographed.
"""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import requests
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COMMAND = Path(sys.executable).with_name("ai-assets")
PASSWORD = "a walk in the autumn rain"
DAYS_AGO = ((13, 12, 9, 8), (6, 4, 1, 0))
WIDTH, HEIGHT = 1280, 820
EDITS = {
    "2026-10-05/dock-incident.md": "\nThe dock door was repaired on 17 October.\n",
    "2026-10-07/fuel-notice.txt": "Please note that the fuel surcharge is now invoiced together with the freight.\n",
    "2026-10-12/night-shift-handover.txt": "\nReminder: ask Ben about the new desk.\n",
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder:
        project = Path(folder) / "project"
        project.mkdir()
        for name in ("definitions.py", "inference.yaml"):
            shutil.copy(ROOT / name, project)
        for name in ("handbook", "reports"):
            shutil.copytree(ROOT / "collections" / name, project / "collections" / name)
        environment = {
            **os.environ,
            "AI_ASSETS_HOME": str(Path(folder) / "home"),
            "AI_ASSETS_PASSWORD": PASSWORD,
            "LOGNAME": "pipeline",
        }
        run = partial(command, project, environment)
        run("reviewers", "add", "maria", "--role", "approver", "--password-stdin", typed=PASSWORD)
        spend(project, environment)
        prepare(project, environment)
        port = free_port()
        desk = subprocess.Popen([COMMAND, "desk", "--port", str(port)], cwd=project, env=environment)
        try:
            photograph(f"http://127.0.0.1:{port}")
        finally:
            desk.terminate()
            desk.wait()


def prepare(project: Path, environment: dict[str, str]) -> None:
    run = partial(command, project, environment)
    run("run", "handbook")
    days = [f"2026-10-{day:02d}" for day in range(5, 14)]
    run("signoff", "approve", "handbook", *days, "--by", "maria")
    run("publish", "handbook")
    for name, text in EDITS.items():
        with (project / "collections/handbook/documents" / name).open("a", encoding="utf-8") as file:
            file.write(text)
    (project / "collections/handbook/documents/2026-10-05/leeds-standup.txt").unlink()
    run("run", "handbook")


def spend(project: Path, environment: dict[str, str]) -> None:
    """`reports` run with two versions of its prompts, as if on eight days of the last fortnight."""
    run = partial(command, project, environment)
    store = Path(environment["AI_ASSETS_HOME"]) / "state.db"
    run("run", "reports")
    run("signoff", "approve", "reports", "--all", "--by", "maria")
    run("publish", "reports")
    age(store, DAYS_AGO[0])
    for prompt in (project / "collections/reports/prompts").glob("*.md"):
        text = re.sub("version: .*", "version: 2", prompt.read_text(encoding="utf-8"))
        prompt.write_text(f"{text}Be brief.\n", encoding="utf-8")
    run("run", "reports")
    age(store, DAYS_AGO[1])
    run("cost")


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


def command(project: Path, environment: dict[str, str], *arguments: str, typed: str | None = None) -> None:
    subprocess.run([COMMAND, *arguments], cwd=project, env=environment, input=typed, text=True, check=True)


def photograph(url: str) -> None:
    wait_for(f"{url}/health")
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, base_url=url)
        page.goto("/sign-in")
        page.get_by_label("Name").fill("maria")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("heading", name="Inbox").wait_for()
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
        browser.close()


def picture(page: Page, name: str) -> None:
    page.screenshot(path=HERE / f"{name}.png")
    print(f"docs/pictures/{name}.png")


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            requests.get(url, timeout=1)
            return
        except requests.RequestException:
            time.sleep(0.1)
    sys.exit(f"{url} does not answer")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
