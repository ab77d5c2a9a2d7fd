"""Claims about the process that tells languages and makes built-in vectors: the same answers, with it or without."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Project

from ai_assets.embedding.builtin import BuiltinEmbedder
from ai_assets.run.text_process import ENOUGH, TextProcess, TextWork, computed
from ai_assets.storage.lake import Manifest

TEXTS = [
    "The pump in hall 7 leaks, and the total due is 40 euros.",
    "Die Pumpe in Halle 7 tropft, und die Rechnung ist noch offen.",
    "短い文章ですが、日本語で書かれています。ポンプが漏れています。",
    "Invoice 2024",
    "",
    "\ud800 a text with half a character, which no encoder likes",
]


def test_it_answers_as_is_computed_here() -> None:
    process = TextProcess()
    try:
        languages, vectors = process.ask("languages", TEXTS), process.ask("vectors", TEXTS)
        assert languages.result() == computed("languages", TEXTS) == ["en", "de", "ja", None, None, "en"]
        assert np.array_equal(vectors.result(), BuiltinEmbedder().embed(TEXTS))
    finally:
        process.close()


def test_few_texts_start_no_process() -> None:
    texts = TextWork(2)
    assert texts.languages(TEXTS).result() == computed("languages", TEXTS)
    assert texts.vectors(TEXTS * (ENOUGH // len(TEXTS) - 2)).result().shape[1] == 256
    assert texts._process is None


def test_who_asks_waits_for_the_answer_alone() -> None:
    """While it begins, or is behind, others compute: more is asked than lies between two processes."""
    process = TextProcess()
    try:
        os.kill(process._process.pid, signal.SIGSTOP)
        asked = [process.ask("languages", [text * 50_000 for text in TEXTS]) for _ in range(3)]
        assert not any(future.done() for future in asked)
        os.kill(process._process.pid, signal.SIGCONT)
        assert [future.result(timeout=300)[:3] for future in asked] == [["en", "de", "ja"]] * 3
    finally:
        process.close()


def test_a_process_that_gets_ready_is_asked_nothing_of_the_run() -> None:
    texts = TextWork(2)
    texts.get_ready()
    process = texts._process
    assert process is not None, "this machine has one core"
    assert texts.languages(TEXTS).result() == computed("languages", TEXTS)
    assert not process._asked
    texts.close()


@pytest.mark.parametrize("asked_before", [False, True], ids=["before the question", "with questions under way"])
def test_what_a_process_that_is_killed_owes_is_computed_here(asked_before: bool) -> None:
    texts = TextWork(2)
    texts.languages(TEXTS * ENOUGH).result()
    process = texts._process
    assert process is not None, "this machine has one core"
    under_way = [texts.languages(TEXTS * 200) for _ in range(20 * asked_before)]
    os.kill(process._process.pid, signal.SIGKILL)
    for asked in [*under_way, texts.languages(TEXTS)]:
        assert asked.result()[:6] == computed("languages", TEXTS)
    texts.close()


def test_a_run_of_many_documents_writes_what_one_process_would(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.documents(per_day=3 * ENOUGH)
    collection = project.declare()

    def datasets(of: Project) -> dict[tuple[str, str], str]:
        of.refresh(collection)
        found: dict[tuple[str, str], str] = {}
        for asset in ("documents", "embeddings", "release_candidate"):
            for day in ("2026-10-05", "2026-10-06", "2026-10-07"):
                manifest: Manifest | None = of.stores().lake.manifest("notes", asset, day)
                assert manifest is not None
                found[asset, day] = manifest.version
        return found

    alone = project.elsewhere()
    several = datasets(project)
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert datasets(alone) == several
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.slow
def test_it_ends_with_the_run_that_started_it() -> None:
    code = (
        "import os, signal\n"
        "from ai_assets.run.text_process import TextProcess\n"
        "process = TextProcess()\n"
        "process.ask('languages', ['A text in English, long enough.']).result()\n"
        "print(process._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    deadline = time.monotonic() + 300
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.05)
