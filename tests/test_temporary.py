"""Claims about temporary folders: what a killed process leaves is removed by the next one, and nobody else's is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engines import REPOSITORY

from ai_assets.base.temporary import TemporaryFolder, abandoned, remove_abandoned, sweep

HOLD = """
import sys, time
from pathlib import Path
from ai_assets.base.temporary import TemporaryFolder
folder = TemporaryFolder("batch", Path(sys.argv[1]))
(folder.path / "a.jsonl").write_text("the text of a document")
print(folder.path, flush=True)
time.sleep(600)
"""


def holding(place: Path) -> "tuple[subprocess.Popen[str], Path]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def killed(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_the_folder_of_a_killed_process_goes_with_the_next_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    dead, left = holding(tmp_path)
    alive, kept = holding(tmp_path)
    try:
        killed(dead)
        assert (left / "a.jsonl").exists()
        assert abandoned(tmp_path) == [left]
        with TemporaryFolder("state", tmp_path) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([kept, mine])
            remove_abandoned(mine)
            assert mine.exists()
            assert mine.stat().st_mode & 0o077 == 0
        assert list(tmp_path.iterdir()) == [kept]
        assert (kept / "a.jsonl").exists()
    finally:
        killed(alive)


def test_one_that_is_closed_or_forgotten_is_gone(tmp_path: Path) -> None:
    folder = TemporaryFolder("batch", tmp_path)
    (folder.path / "below").mkdir()
    folder.close()
    folder.close()
    folder = TemporaryFolder("batch", tmp_path)
    del folder
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["ai-assets.demo", "ai-assets-batch-01234567", "ai-assets.batch.x.01234567", "ai-assets"]
)
def test_a_folder_that_is_called_alike_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "state.db").write_text("x")
    os.utime(tmp_path / name / "state.db", (0, 0))
    os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path)
    assert (tmp_path / name / "state.db").exists()


def test_a_link_to_somewhere_else_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").write_text("x")
    (tmp_path / "ai-assets.batch.1.01234567").symlink_to(tmp_path / "mine")
    sweep(tmp_path)
    assert (tmp_path / "mine" / "text").exists()


def test_what_an_earlier_version_left_goes_a_day_later(tmp_path: Path) -> None:
    for name, age_s in (("ai-assets-batch-0123456_", 25 * 3600), ("ai-assets-batch-abcdefgh", 3600)):
        (tmp_path / name).mkdir()
        for path in (tmp_path / name / "b.jsonl", tmp_path / name):
            if path.suffix:
                path.write_text("the text of a document")
            os.utime(path, (time.time() - age_s,) * 2)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ai-assets-batch-abcdefgh"]
