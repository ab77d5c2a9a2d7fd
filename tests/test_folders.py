"""Claims about looking through folders while others make and remove subfolders."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ai_assets.base.folders import files_below
from ai_assets.base.home import Home
from ai_assets.retention.disk import usage


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Subfolders come and go in `root` by another thread."""
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            deep = root / f"new-{number % 50}" / "a" / "b"
            deep.mkdir(parents=True, exist_ok=True)
            (deep / "file").write_text("x")
            shutil.rmtree(root / f"new-{(number + 25) % 50}", ignore_errors=True)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_what_stays_is_found_while_other_folders_go(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"kept-{number}").mkdir()
        (tmp_path / f"kept-{number}" / "file").write_text("x")
    kept = set(files_below(tmp_path))
    with changing(tmp_path):
        assert all(kept <= set(files_below(tmp_path)) for _ in range(300))


def test_the_space_of_a_home_is_counted_while_runs_come_and_go(tmp_path: Path) -> None:
    home = Home(root=tmp_path, project=tmp_path)
    home.dagster.mkdir()
    with changing(home.dagster):
        assert all(len(usage(home)) == 9 for _ in range(100))


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "folder" / "again").symlink_to(tmp_path)
    assert list(files_below(tmp_path)) == [tmp_path / "folder" / "file"]
