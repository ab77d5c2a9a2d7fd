"""Claims about processes that a run starts: they end with the program, and not with the thread that started them."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

import ai_assets
from ai_assets.documents.parse_process import FileProcess
from ai_assets.run.text_process import TextProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to a thread")
Made = TypeVar("Made")


def _by_a_thread_that_ends(make: Callable[[], Made]) -> Made:
    """When this returns, the kernel has told the thread's children that it is gone."""
    made: list[Made] = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    task = Path(f"/proc/self/task/{thread.native_id}")
    thread.join()
    deadline = time.monotonic() + 300
    while task.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return made[0]


def test_the_process_for_texts_outlives_the_thread_that_started_it() -> None:
    texts = ["Die Pumpe in Halle 7 tropft."]

    def started() -> TextProcess:
        process = TextProcess()
        assert process.ask("languages", texts).result() == ["de"]
        return process

    process = _by_a_thread_that_ends(started)
    try:
        assert process.ask("languages", texts).result() == ["de"]
    finally:
        process.close()


def test_a_process_that_reads_files_outlives_the_thread_that_started_it() -> None:
    limits = (2**30, 1_000_000)
    parser = FileProcess(
        "parse_worker.py", limits=limits, timeout_s=60, name="the parser", reading="a page", package="markitdown"
    )

    def pid_after_a_page() -> int:
        parser.ask("html", b"<html><body><p>A page.</p></body></html>", largest=2**20)
        assert parser._process is not None
        return parser._process.pid

    try:
        assert _by_a_thread_that_ends(pid_after_a_page) == pid_after_a_page()
    finally:
        parser.close()


def test_a_fork_starts_children_of_its_own() -> None:
    code = (
        "import os\n"
        "from subprocess import DEVNULL\n"
        "from ai_assets.base.children import start_child\n"
        "def end() -> int:\n"
        "    return start_child(['true'], stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env={}).wait()\n"
        "assert end() == 0\n"
        "if (pid := os.fork()) == 0:\n"
        "    os._exit(end())\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("package", ["run", "documents", "embedding", "local_models", "stages"])
def test_what_a_thread_of_a_run_may_start_is_started_so(package: str) -> None:
    """But tesseract, which a thread waits for."""
    files = (Path(ai_assets.__file__).parent / package).rglob("*.py")
    alone = [file.name for file in files if "subprocess.Popen(" in file.read_text(encoding="utf-8")]
    assert alone == (["parse_ocr.py"] if package == "documents" else [])
