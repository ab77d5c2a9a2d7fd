"""docs/first-hour.md does what it says: its commands, as they stand, lead from a folder to a published collection."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "docs" / "first-hour.md"
SOURCE = Path("/usr/share/doc")
COMMANDS = Path(sys.executable).parent
FEWEST = 200


def script() -> str:
    """All commands of the document, in order."""
    return "set -euo pipefail\n" + "\n".join(re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.S))


def bash(text: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": f"{COMMANDS}:{os.environ['PATH']}", "HOME": str(folder), "USER": "ann", "LOGNAME": "ann"}
    return subprocess.run(
        ["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.mark.slow
def test_the_commands_lead_from_a_folder_to_a_published_collection(
    tmp_path: Path, skip_loudly: Callable[[str], None]
) -> None:
    files = sum(len(names) for _, _, names in os.walk(SOURCE))
    if files < 7 * FEWEST:
        skip_loudly(f"{SOURCE} has only {files} files here")
    done = bash(script(), tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = " ".join(done.stdout.split())
    assert re.search(r"Stage classification asks route default; labels proposed from \d+ documents: \w+, \w+", said)
    assert "Release 1 of library is live" in said
    assert re.search(r"drawn: \d+ wait for a label", said)
    assert "Everything that was looked at is as it was written" in said
    project = tmp_path / "first-hour"
    (found,) = json.loads(bash("ai-assets status library --json", project).stdout)
    assert set(found["partitions"].values()) == {"published"}
    assert found["documents"]["quarantined"] < 0.1 * found["documents"]["ok"]
    hits = json.loads(bash("ai-assets search library 'how are bugs reported' --json", project).stdout)["hits"]
    assert hits


@pytest.mark.slow
def test_every_step_of_the_table_of_times_is_a_command_of_the_document() -> None:
    text, commands = DOCUMENT.read_text(), script()
    rows = [row for row in text.splitlines() if re.match(r"\| .*`.*\| \d+ \|", row)]
    named = [name for row in rows for name in re.findall(r"`([a-z ]+)`", row)]
    assert len(named) >= 8
    assert all(f"ai-assets {name}" in commands for name in named)
    seconds = [int(row.split("|")[-2]) for row in rows]
    total = re.search(r"\| all of it.*\| (\d+) \|", text)
    assert total is not None
    assert sum(seconds) == int(total[1])
