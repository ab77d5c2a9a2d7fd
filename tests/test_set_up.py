"""Claims about `setup.sh`: a machine with too little is told before anything is made or downloaded."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parent.parent / "setup.sh"
BENCHMARKS = SETUP.parent / "docs" / "benchmarks.md"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("AI_ASSETS_NEED_DISK_MB", "MB of disk left, and 999999999 MB are needed"),
        ("AI_ASSETS_NEED_MEMORY_MB", "MB of memory available, and 999999999 MB are needed"),
    ],
)
def test_a_machine_with_too_little_is_told_in_one_sentence_before_anything_is_made(
    tmp_path: Path, variable: str, said: str
) -> None:
    done = subprocess.run(
        ["sh", SETUP, tmp_path / "venv"], cwd=SETUP.parent, env={**os.environ, variable: "999999999"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert variable in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "venv").exists()


def test_the_memory_that_is_asked_for_is_what_was_measured() -> None:
    asked = re.search(r"AI_ASSETS_NEED_MEMORY_MB:-(\d+)", SETUP.read_text())
    row = re.search(r"\| 487; ([\d,]+) MiB \| set-up asks for ([\d,]+) MB \|", BENCHMARKS.read_text())
    assert asked is not None
    assert row is not None
    measured, held_to = (int(number.replace(",", "")) for number in row.groups())
    assert int(asked[1]) == held_to
    assert 1.0 < held_to / measured < 1.2
