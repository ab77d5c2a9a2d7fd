"""Claims about backups while runs go on, and about killed ones: a backup that counts is whole, whatever died.

A few tries by default; AI_ASSETS_KILLS=50 makes it fifty.
"""

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from backups import other_machine
from conftest import Project
from signing import decide
from test_kill import digests, start_run, wait_until_it_works, write_draft

from ai_assets.backup.making import make_backup
from ai_assets.backup.restoring import restore
from ai_assets.backup.vault import Vault
from ai_assets.base.errors import UserError
from ai_assets.collection.loading import load_collection
from ai_assets.run.explain import search
from ai_assets.signoff import verification
from ai_assets.signoff.publication import publish

pytestmark = pytest.mark.slow

TRIES = int(os.environ.get("AI_ASSETS_KILLS", "5"))


def check_restored(project: Project, vault: Path, folder: Path, which: str) -> None:
    """A home that could have been: whole datasets, a live release that is found, a chain that verifies."""
    other = other_machine(project, folder)
    restore(vault, other.home, which=which)
    digests(other)
    collection = load_collection(other.root / "collections", "notes")
    verification.verify(other.stores().state)
    assert len(search(collection, other.stores(), "pump hall", 20)[1]) == 13


def test_backups_during_runs_that_are_killed_and_publications_are_whole(project: Project, tmp_path: Path) -> None:
    vault, moments = tmp_path / "backups", random.Random(3)
    collection = write_draft(project, 0)
    project.refresh(collection)
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="test")
    names = []
    for draft in range(1, TRIES + 1):
        collection = write_draft(project, draft)
        run = start_run(project, "--all")
        wait_until_it_works(run)
        publisher = threading.Thread(target=_publish, args=(project,))
        publisher.start()
        time.sleep(moments.uniform(0, 1))
        names.append(make_backup(project.stores(), vault).backup.backup)
        run.kill()
        run.communicate(timeout=300)
        publisher.join()
        names.append(make_backup(project.stores(), vault).backup.backup)
        project.refresh(collection)
        decide(project.stores().state, collection)
    for number, name in enumerate(names):
        check_restored(project, vault, tmp_path / str(number), name)


def _publish(project: Project) -> None:
    """What the last draft had approved, if anything."""
    collection = load_collection(project.root / "collections", "notes")
    with contextlib.suppress(UserError):  # the run replaces candidates meanwhile: refused is as good
        publish(collection, project.stores(), by="test")


def test_a_backup_killed_at_any_moment_leaves_earlier_ones_whole_and_the_next_one_works(
    project: Project, tmp_path: Path
) -> None:
    vault, moments, killed = tmp_path / "backups", random.Random(5), 0
    project.documents(per_day=2)
    project.refresh(project.declare())
    first = make_backup(project.stores(), vault).backup.backup
    started = time.monotonic()
    _backup(project, vault).wait()
    longest_s = time.monotonic() - started
    for number in range(TRIES * 2):
        (project.home.lake / f"large-{number}.bin").write_bytes(random.Random(number).randbytes(40 << 20))
        process = _backup(project, vault, "--keep", "3")
        started = time.monotonic()
        try:
            process.wait(longest_s * moments.uniform(0.5, 1.2))
            longest_s = time.monotonic() - started
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
        (project.home.lake / f"large-{number}.bin").unlink()
        with Vault.reading(vault) as opened:
            names = opened.backups()
            assert names
            for name in names:
                opened.verify(opened.load(name))
    assert killed > TRIES / 2
    last = make_backup(project.stores(), vault, keep=1)
    assert last.backup.backup > first
    assert not list(vault.glob(".partial-*"))
    with Vault.reading(vault) as opened:
        opened.verify(opened.load())
        assert {path.parent.name + path.name for path in (vault / "objects").glob("*/*")} == opened.load().objects()


def _backup(project: Project, vault: Path, *options: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [Path(sys.executable).parent / "ai-assets", "backup", vault, *options],
        cwd=project.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_restore_killed_at_any_moment_leaves_the_home_that_was_or_the_one_that_was_restored(
    project: Project, tmp_path: Path
) -> None:
    vault, moments = tmp_path / "backups", random.Random(9)
    project.documents(per_day=2)
    collection = project.declare()
    project.refresh(collection)
    make_backup(project.stores(), vault)
    command = [Path(sys.executable).parent / "ai-assets", "restore", vault, "--replace", "--yes"]
    started = time.monotonic()
    subprocess.run(command, cwd=project.root, check=True, capture_output=True)
    longest_s = time.monotonic() - started
    for _ in range(TRIES * 2):
        process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(longest_s * moments.uniform(0.5, 1.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not project.home.root.exists():  # between two renames: the home that was is beside, under its own name
            newest = max(project.home.root.parent.glob("home.replaced-*"))
            newest.rename(project.home.root)
        digests(project)
        verification.verify(project.stores().state)
    subprocess.run(command, cwd=project.root, check=True, capture_output=True)
    assert not list(project.home.root.parent.glob("*.restoring-*"))
    assert {outcome.unchanged for outcome in project.refresh(collection)} == {True}
