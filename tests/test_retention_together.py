"""Claims about removing while others work: runs, publications, searches, rollbacks, and removals that are killed."""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from backups import with_store
from conftest import Postgres, Project
from signing import decide, known
from test_retention import AT_ONCE, bench_of, named, released, snapshots, swept

from ai_assets.base.errors import LeaseBusy
from ai_assets.retention import holds
from ai_assets.retention.sweep import sweep
from ai_assets.run.explain import search
from ai_assets.signoff import releases, verification
from ai_assets.signoff.errors import ReleasePruned
from ai_assets.signoff.publication import publish

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("AI_ASSETS_KILLS", "6"))


def repeatedly(done: threading.Event, failures: list[Exception], work: Callable[[], object]) -> threading.Thread:
    """In a thread of its own, until `done`; the first failure ends it."""

    def body() -> None:
        while not done.is_set():
            try:
                work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the claim fails
                failures.append(error)
                return

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_readers_and_publications_go_on_while_everything_that_may_go_is_removed(project: Project) -> None:
    """With the shortest windows that may be declared."""
    collection = released(project, 3)
    done, failures, found = threading.Event(), list[Exception](), list[int]()
    stores = project.stores()

    def look() -> None:
        found.append(len(search(collection, stores, "pump", 5)[1]))

    def remove() -> None:
        try:
            swept(project, collection, settings=AT_ONCE.model_copy(update={"litter_hours": 0.25}))
        except LeaseBusy:
            return

    threads = [repeatedly(done, failures, look), repeatedly(done, failures, remove)]
    try:
        for draft in range(8):
            project.edit(collection, "2026-10-05/0.txt", f"Version {draft} of the note on the pump.")
            decide(stores.state, collection)
            publish(collection, project.stores(), by="test")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
    assert set(found) == {1}
    swept(project, collection)
    with stores.state.read() as connection:
        last = len(releases.find(connection, "notes"))
    assert snapshots(project) == named(project, last - 2, last - 1, last)
    verification.verify(stores.state)


def test_a_removal_that_is_killed_is_finished_by_the_next_one(project: Project, tmp_path: Path) -> None:
    collection = released(project, 7)
    (project.root / "operations.yaml").write_text(
        "retention: {rollback_releases: 1, reader_minutes: 0, candidate_days: 0}\n"
    )
    before = search(collection, project.stores(), "pump", 5)[1]
    moments, command = random.Random(2), [Path(sys.executable).parent / "ai-assets", "retention", "run"]
    started = time.monotonic()
    subprocess.run([*command, "--dry-run"], cwd=project.root, check=True, capture_output=True)
    longest_s = time.monotonic() - started
    for _ in range(TRIES):
        process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(longest_s * moments.uniform(0.6, 1.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert search(collection, project.stores(), "pump", 5)[1] == before
        assert named(project, 6, 7) <= snapshots(project)
        verification.verify(project.stores().state)
    subprocess.run(command, cwd=project.root, check=True, capture_output=True)
    assert snapshots(project) == named(project, 6, 7)
    with project.stores().state.read() as connection:
        assert sorted(releases.pruned(connection, "notes")) == [1, 2, 3, 4, 5]


def test_a_rollback_and_a_removal_at_once_leave_a_release_that_is_live_and_whole(project: Project) -> None:
    """Whichever is first, the other sees it."""
    for round_ in range(3):
        one = replace(project, home=replace(project.home, root=project.home.root.with_name(f"home-{round_}")).ensure())
        collection = released(one, 4)
        stores, ann = one.stores(), known(one.stores().state, "ann")
        removal = threading.Thread(target=sweep, args=(bench_of(one, collection),))
        removal.start()
        with contextlib.suppress(ReleasePruned):
            releases.rollback(stores.state, "notes", 1, by=ann, reason="at once")
        removal.join()
        with stores.state.read() as connection:
            live = releases.require_live(connection, "notes").number
        assert named(one, live) <= snapshots(one)
        assert search(collection, stores, "pump", 5)[1]
        verification.verify(stores.state)


def test_all_of_it_with_the_state_store_in_postgresql(project: Project, postgres_with_tables: Postgres) -> None:
    there = with_store(project, postgres_with_tables.database("retention", template="tables"))
    collection = released(there, 5)
    stores = there.stores()
    holds.place(stores.state, "notes", 1, by=known(stores.state, "ann"), reason="case 7")
    with stores.state.write() as connection:
        connection.exec_driver_sql("INSERT INTO sign_in_failures VALUES ('ann', 1)")
    done = swept(there, collection)
    assert (done.number["releases"], done.number["rows"]) == (1, 1)
    assert snapshots(there) == named(there, 1, 3, 4, 5)
    assert search(collection, stores, "pump", 5)[1]
    verification.verify(stores.state)
