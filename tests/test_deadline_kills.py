"""Claims about sudden death while a batch that is due is stopped: at whatever step, no line is paid twice, and all of
them are answered in the end."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import REPOSITORY, check_books, one, questions
from nights import HOUR, NightDesk, live
from provider import Provider

import ai_assets.base.child_main
from ai_assets.inference.records import Answer
from bench.deadline import nights

pytestmark = pytest.mark.slow

COUNT = 40
PATIENCE_S = 300.0


@pytest.fixture
def night(tmp_path: Path, running: Provider) -> Iterator[NightDesk]:
    with running.lent():
        running.configure(batch_seconds=20 * HOUR, batch_cancel_seconds=60)
        declared = one(running.url, batch={"price_share": 0.5})
        found = NightDesk(f"sqlite:///{tmp_path / 'state.db'}", declared, running)
        yield found
        found.close()


def killed(night: NightDesk, die_at: str, *, ask: bool = False) -> None:
    """`tests/programs/night.py` in a process of its own, which dies at that step."""
    process = subprocess.Popen(
        [sys.executable, ai_assets.base.child_main.__file__, str(os.getpid()), "programs.night"],
        cwd=REPOSITORY / "tests",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        text=True,
    )
    told = {
        "settings": night.settings.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "state_url": night.url, "ahead_s": night.ahead_s, "within_s": night.within_s, "count": COUNT,
        "die_at": die_at, "ask": ask,
    }  # fmt: skip
    process.communicate(json.dumps(told) + "\n", timeout=PATIENCE_S)
    assert process.returncode == -9


def finish(night: NightDesk) -> None:
    """Looks and runs as they would come by themselves."""
    until = time.monotonic() + PATIENCE_S
    while True:
        night.look()
        results = night.ask(questions(COUNT))
        if all(isinstance(result, Answer) for result in results):
            break
        assert time.monotonic() < until, night.jobs
        night.advance(60)
        time.sleep(0.1)
    stats = night.provider.stats()
    ambiguous = sum(number for name, number in night.counts().items() if name.startswith("ambiguous"))
    assert stats["billed_twice"] <= ambiguous
    assert night.counts()["settled"] == COUNT
    # A call that was in flight when its process died may be billed, and has a row that says so.
    assert stats["billed"] + stats["billed_batch"] <= COUNT + ambiguous
    check_books(night.state)


@pytest.mark.parametrize("step", ["before stop", "stop noted", "stop sent"])
def test_a_kill_while_it_is_stopped(night: NightDesk, step: str) -> None:
    night.ask(questions(COUNT))
    night.advance(7.85 * HOUR)
    killed(night, step)
    finish(night)
    assert night.provider.batches()[0]["status"] == "cancelled"
    assert night.provider.stats()["billed_batch"] < COUNT
    assert len(night.provider.batches()) == 1


@pytest.mark.parametrize("step", ["final", "settled a group", "ended"])
def test_a_kill_while_what_it_did_is_read(night: NightDesk, step: str) -> None:
    night.ask(questions(COUNT))
    night.advance(7.85 * HOUR)
    night.look()
    night.advance(90)
    night.wait("cancelled")
    killed(night, step)
    finish(night)
    assert len(night.provider.batches()) == 1


@pytest.mark.parametrize("step", ["answer 0", "answer 20"])
def test_a_kill_while_the_rest_is_asked_one_by_one(night: NightDesk, step: str) -> None:
    night.ask(questions(COUNT))
    night.advance(7.85 * HOUR)
    night.look()
    night.advance(90)
    night.wait("cancelled")
    night.look()
    killed(night, step, ask=True)
    finish(night)
    assert len(night.provider.batches()) == 1


def test_two_hundred_nights_are_in_time_and_hardly_dearer_than_the_future_known(night: NightDesk) -> None:
    """Through the real engine, ledger and collector, by the rehearsal provider's clock. Each night knows the batches
    before it."""
    lived = live(night, nights(20261128), lines=6)
    assert lived.nights == 200
    assert lived.late / lived.nights <= 0.02
    assert lived.dearer <= 0.05
    assert lived.stopped >= 1
    assert night.provider.stats()["billed_twice"] == 0
