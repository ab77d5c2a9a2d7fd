"""`--until`, with which CI ends on a slow machine: what was left out is said, and is no failure."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_what_did_not_begin_in_time_is_named_and_fails_nothing() -> None:
    command = [sys.executable, "-m", "pytest", "tests/test_plural.py", "--until", "1", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "TESTS WERE NOT RUN" in ended.stdout
    assert "tests/test_plural.py (" in ended.stdout
    assert "passed" not in ended.stdout
