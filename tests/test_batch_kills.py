"""Claims about sudden death around batches: whatever step it comes at, no line is paid twice without a row that says
so, and in the end every question is answered."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engines import CALLER, REPOSITORY, attempts, check_books, questions, rows, states
from provider import Provider
from test_batches import Desk, declared

import ai_assets.base.child_main
from ai_assets.inference.records import Answer

pytestmark = pytest.mark.slow

COUNT = 40
PATIENCE_S = 300.0


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with Provider(answers="quick", batch_seconds=0.2) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    running.reset()
    running.configure(batch_seconds=0.2)
    return running


@pytest.fixture
def desk(tmp_path: Path, provider: Provider) -> Iterator[Desk]:
    found = Desk(f"sqlite:///{tmp_path / 'state.db'}", declared(provider))
    yield found
    found.state.close()


def started(desk: Desk, **what: Any) -> subprocess.Popen[str]:
    """`tests/programs/batch.py` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), "programs.batch"],
        cwd=REPOSITORY / "tests",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    shown = desk.settings.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"state_url": desk.url, "settings": shown, "count": COUNT, **what}) + "\n")
    process.stdin.flush()
    return process


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=PATIENCE_S)
    return process.returncode


def finish(desk: Desk) -> None:
    """Runs and looks as they would come by themselves, until everything is answered."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        results = desk.ask(questions(COUNT))
        if all(isinstance(result, Answer) for result in results):
            return
        assert time.monotonic() < deadline, [job for job in desk.jobs if job.state != "ended"]
        desk.hurry()
        desk.collect()
        time.sleep(0.05)


def check_every_line_has_its_row(desk: Desk, provider: Provider) -> None:
    """The books of the provider against the rows: what was billed is settled, as an answer or as a duplicate."""
    (balance,) = check_books(desk.state).values()
    stats, made = provider.stats(), attempts(desk.url)
    assert stats["in_flight"] == 0
    billed = stats["billed_batch"]
    assert stats["billed"] == 0
    recorded = sum(row.state in ("settled", "ambiguous") for row in made)
    assert billed <= recorded
    assert stats["billed_twice"] <= sum(row.duplicate_of is not None or row.state == "ambiguous" for row in made)
    if not any(row.state == "ambiguous" for row in made):
        assert balance.spent_nusd / 1e9 == pytest.approx(stats["billed_usd"], abs=1e-7)


@pytest.mark.parametrize(
    "step",
    ["asked", "sealed", "before upload", "after upload", "uploaded", "before create", "after create"],
)
def test_a_kill_while_it_is_submitted_pays_no_line_twice(desk: Desk, provider: Provider, step: str) -> None:
    assert ended(started(desk, die_at=step)) == -9
    finish(desk)
    check_every_line_has_its_row(desk, provider)
    assert provider.stats()["billed_twice"] == 0


def test_what_a_killed_process_was_about_to_send_is_removed_by_the_next(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    assert ended(started(desk, die_at="sealed")) == -9
    (folder,) = place.iterdir()
    assert folder.name.startswith("ai-assets.batch.")
    assert any(path.read_bytes() for path in folder.glob("*.jsonl"))
    assert ended(started(desk, run_id="next", count=COUNT + 1)) == 0
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("step", ["before cancel", "after cancel"])
def test_a_kill_while_a_second_batch_is_stopped_leaves_a_row_for_each_line(
    desk: Desk, provider: Provider, step: str
) -> None:
    provider.batch_script({"request": "create", "fault": "twice"})
    assert ended(started(desk, die_at=step)) == -9
    finish(desk)
    desk.until_ended()
    check_every_line_has_its_row(desk, provider)


@pytest.mark.parametrize("step", ["final", "settled a group", "ended"])
def test_a_kill_while_it_is_collected_settles_each_line_once(desk: Desk, provider: Provider, step: str) -> None:
    assert ended(started(desk, die_at=step, collect_s=PATIENCE_S)) == -9
    finish(desk)
    assert states(desk.url) == {"settled": COUNT}
    check_every_line_has_its_row(desk, provider)
    assert provider.stats()["billed_twice"] == 0


def test_two_processes_that_submit_the_same_at_once_share_its_lines(desk: Desk, provider: Provider) -> None:
    both = [started(desk, run_id=name) for name in ("one", "two")]
    assert [ended(process) for process in both] == [0, 0]
    finish(desk)
    check_every_line_has_its_row(desk, provider)
    assert provider.stats()["billed_twice"] == 0


def test_two_processes_that_collect_the_same_at_once_settle_each_line_once(desk: Desk, provider: Provider) -> None:
    desk.ask(questions(COUNT))
    both = [started(desk, ask=False, collect_s=PATIENCE_S) for _ in range(2)]
    assert [ended(process) for process in both] == [0, 0]
    assert states(desk.url) == {"settled": COUNT}
    check_every_line_has_its_row(desk, provider)


def test_kills_again_and_again_and_answers_that_are_lost(desk: Desk, provider: Provider) -> None:
    steps = ["before create", "after create", "after upload", "before cancel", "final", "asked", "sealed"]
    faults = ["twice", "lost", "lost_later", "reset", "twice", "busy", "lost"]
    for step, fault in zip(steps, faults, strict=True):
        provider.batch_script({"request": "create", "fault": fault})
        ended(started(desk, die_at=step, collect_s=0.5))
    provider.batch_script()
    finish(desk)
    desk.until_ended()
    check_every_line_has_its_row(desk, provider)
    assert {row.collection for row in rows(desk.state, "SELECT collection FROM callers")} == {CALLER.collection}
