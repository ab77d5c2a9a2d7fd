"""Claims about sudden death: a real `ai-assets run` is killed at random moments, and nothing is torn or lost.

Four tries by default; AI_ASSETS_KILLS=50 makes it fifty.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import STAGE, Project
from signing import decide

from ai_assets.collection.loading import Collection
from ai_assets.orchestration.interrupted import report_interrupted_runs
from ai_assets.run.explain import search
from ai_assets.run.status import collection_status, partition_states
from ai_assets.signoff import releases, requests, verification
from ai_assets.signoff.publication import publish
from ai_assets.storage.lake import MANIFEST

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("AI_ASSETS_KILLS", "4"))
DAYS = ["2026-10-05", "2026-10-06", "2026-10-07"]
FIRST_SIGN = "Looking at"


def write_draft(project: Project, draft: int) -> Collection:
    """Three days of documents that are all different in each draft, some of them twice."""
    for number in range(12):
        text = (
            f"Draft {draft} of note {number}: the pump in hall {number // 2}.\n\nSeen on Monday, due {number % 4}.00."
        )
        project.document(f"{DAYS[number // 4]}/{number}.txt", text)
    project.document(f"{DAYS[2]}/copy.txt", f"Draft {draft}, copied.")
    project.document(f"{DAYS[0]}/original.txt", f"Draft {draft}, copied.")
    queries = project.root / "collections/notes/queries.jsonl"
    queries.write_text(json.dumps({"query": "pump in hall 3", "documents": [f"{DAYS[1]}/6.txt"]}) + "\n")
    return project.declare(stages=[dict(STAGE)], golden={"queries": "queries.jsonl"})


def start_run(project: Project, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "run", "notes", *arguments],
        cwd=project.root,
        env={**os.environ, "AI_ASSETS_HOME": str(project.home.root), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_it_works(process: "subprocess.Popen[str]") -> None:
    """Imports are over when the command says what it looks at."""
    assert process.stdout is not None
    said = iter(process.stdout.readline, "")  # first it may say that nobody was named
    assert any(line.startswith(FIRST_SIGN) for line in said)


def digests(project: Project) -> dict[str, str]:
    """Of everything in the lake: what each dataset is, by the content of its rows."""
    lake = project.stores().lake
    found = {}
    for path in sorted((lake.root / "notes").rglob(MANIFEST)):
        manifest = lake.manifest("notes", path.parent.parent.name, path.parent.name)
        assert manifest is not None
        assert lake.read(manifest).num_rows == manifest.rows
        if manifest.asset != "source_files":
            found[f"{manifest.asset} {manifest.partition}"] = manifest.stats.get("digest") or manifest.version
    return found


def check_nothing_is_torn(project: Project, collection: Collection, release: int) -> None:
    """All that a reader may ask for right after the kill."""
    stores = project.stores()
    digests(project)
    status = collection_status(collection, stores)
    assert status.live_release == release
    assert len(search(collection, stores, "pump hall", 20)[1]) == 13
    verification.verify(stores.state)
    index = stores.index("notes", "evaluation")
    if (version := index.version()) is not None:
        assert index.count(version) >= 0


def test_a_killed_run_leaves_everything_readable_and_the_next_one_finishes_it(project: Project) -> None:
    reference = project.elsewhere()
    collection = write_draft(project, 0)
    run = start_run(project, "--all")
    wait_until_it_works(run)
    started = time.monotonic()
    run.communicate(timeout=300)
    assert run.returncode == 0
    longest_s = time.monotonic() - started
    stores = project.stores()
    decide(stores.state, collection)
    publish(collection, stores, by="test")
    moments, killed = random.Random(50), 0
    before = digests(project)
    for draft in range(1, TRIES + 1):
        collection = write_draft(project, draft)
        run = start_run(project, "--all")
        wait_until_it_works(run)
        started = time.monotonic()
        try:
            run.wait(moments.uniform(0, longest_s))
            longest_s = min(longest_s, time.monotonic() - started)  # the machine is less busy than it was
        except subprocess.TimeoutExpired:
            run.kill()
            killed += 1
        run.communicate(timeout=300)  # a process that it left behind would keep its output open
        check_nothing_is_torn(project, collection, release=1)
        if draft == TRIES:
            finished = start_run(project)
            said = finished.communicate(timeout=300)[0]
            assert finished.returncode == 0, said
        else:
            project.refresh(collection)
        reference.refresh(collection)
        assert digests(project) == digests(reference) != before
        before = digests(project)
        assert set(partition_states(collection, project.stores()).values()) == {"awaiting sign-off"}
    assert killed >= TRIES / 2
    with stores.state.read() as connection:
        waiting = requests.find(connection, "notes", statuses=("open",))
        assert [request.partition for request in waiting] == DAYS
        assert releases.live(connection, "notes") is not None
    with project.instance() as opened:
        assert len(report_interrupted_runs(opened)) <= killed
        assert report_interrupted_runs(opened) == []


def test_two_runs_of_the_same_partitions_at_once_leave_one_result(project: Project) -> None:
    collection = write_draft(project, 0)
    runs = [start_run(project, "--all") for _ in range(2)]
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    reference = project.elsewhere()
    reference.refresh(collection)
    assert digests(project) == digests(reference)
    with project.stores().state.read() as connection:
        assert [(r.partition, r.status) for r in requests.find(connection, "notes")] == [(day, "open") for day in DAYS]
    verification.verify(project.stores().state)
