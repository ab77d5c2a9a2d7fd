"""docs/story.md does what it says: its commands, as they stand, tell the story, and print what the page shows."""

import json
import os
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import WARM
from shown import missing
from test_first_hour import COMMANDS, bash

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "story.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Chapter:
    commands: str
    shown: str


def chapters() -> list[Chapter]:
    """Each block of commands with the output that stands below it."""
    found = BLOCK.findall(DOCUMENT.read_text(encoding="utf-8"))
    made: list[Chapter] = []
    for kind, text in found:
        if kind == "bash":
            made.append(Chapter(text, ""))
        elif made and not kind:
            made[-1] = Chapter(made[-1].commands, made[-1].shown + text)
    return made


def told(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = f"export COLUMNS=160 AI_ASSETS_REPOSITORY='{ROOT}' AI_ASSETS_PASSWORD='a walk in the autumn rain'\n"
    done = bash(f"set -euo pipefail\n{environment}exec 2>&1\n{text}", folder)
    assert done.returncode == 0, done.stdout[-3000:]
    return done


def spent_nusd(project: Path) -> int:
    with closing(sqlite3.connect(project / ".ai-assets" / "state.db")) as connection:
        return int(connection.execute("SELECT SUM(cost_nusd) FROM attempts").fetchone()[0])


def cents(nusd: int) -> int:
    return round(nusd / 10**7)


@pytest.mark.slow
def test_the_story_is_told_by_its_commands_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    goes_live, edit, shadow, rest, card = chapters()
    project = tmp_path / "story"

    def tell(chapter: Chapter) -> str:
        printed = told(chapter.commands, project if project.exists() else tmp_path).stdout
        assert missing(chapter.shown.splitlines(), printed) == [], printed
        return printed

    def asked(command: str) -> Any:
        environment = {"PATH": f"{COMMANDS}:{os.environ['PATH']}", "HOME": str(tmp_path), "LOGNAME": "ann"}
        done = WARM.run(command.split(), cwd=project, env=environment, timeout_s=300)
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    tell(goes_live)
    before = asked("evaluate post --json")
    tell(edit)
    broken = asked("evaluate post --json")
    was, became = (each["scores"][0] for each in (before, broken))
    assert was["metric"] == became["metric"] == "accuracy"
    assert was["value"] < became["value"], "the edit is better on average"
    cases = {case["name"]: case["outcome"] for case in broken["partitions"][0]["cases"]}
    assert cases["accuracy"] == "passed"
    assert cases["accuracy by language"] == "failed"
    assert cases["accuracy by language: language en"] == "passed"
    (status,) = asked("status post --json")
    assert status["live_release"] == 1

    tell(shadow)
    (compared,) = asked("shadow list post --json")
    assert compared["results"]["verdict"]["winner"] == compared["promoted"] == "plainer-and-german"

    price = asked("plan post --json")
    paid = spent_nusd(project)
    tell(rest)
    assert price["new_calls"] == 21
    likely = round(float(price["money"]["likely_usd"]) * 10**9)
    assert cents(spent_nusd(project) - paid) == cents(likely) > 0, "the price that was said, to the cent"
    with closing(sqlite3.connect(project / ".ai-assets" / "state.db")) as connection:
        calls, keys = connection.execute("SELECT COUNT(*), COUNT(DISTINCT call_key) FROM attempts").fetchone()
    assert (calls, keys) == (3 * 72, 3 * 72), "nothing is paid twice"

    tell(card)
    found = asked("card post --format json")
    newest = found["partitions"]["2026-11-16"]
    assert {each["slice"] for each in newest["slices"]} == {"language de", "language en"}
    assert {each["name"]: each["verdict"] for each in newest["gates"]}["accuracy by language"] == "passed"
    (said,) = found["compared"]
    assert (said["shadow"], said["promoted"], said["by"]) == ("triage-1", "plainer-and-german", "ann")
    assert "is better than what is live" in said["verdict"]


def test_the_page_shows_output_below_each_block_of_commands() -> None:
    found = chapters()
    assert len(found) == 5
    assert all(chapter.shown.strip() for chapter in found)
