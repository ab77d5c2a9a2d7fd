"""Claims about two containers on one home: PID namespaces of their own, one host name, clocks that may be wrong.

Each worker is a real `ai-assets run` in a PID namespace, where its process is number 1 or nearly so; a wrong clock is
libfaketime's. What they were billed is what the provider says.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Project
from engines import check_books, rows
from provider import Provider
from test_stage_settings import KIND, declare

from ai_assets.collection.loading import Collection

pytestmark = pytest.mark.slow

PER_DAY = 30
CONCURRENCY = 6
SETTINGS = """\
endpoints:
  small:
    base_url: rehearsal
    model: mini
    prices: [{from: 2026-01-01, input: 1, output: 2}]
    limits: {concurrency: 6}
routes: {default: {endpoints: [small]}}
budgets: [{name: all, limit_usd: 100}]
"""
STATES = "SELECT state, count(*) AS number, max(duplicate_of) AS twice FROM attempts GROUP BY state"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    ahead: Sequence[str | None]
    """How far the clock of each worker is off, as libfaketime has it."""
    days: Sequence[str | None] = (None, None)
    """The partition that each works on; None: all of them."""


CASES = (
    Case(id="same-work", ahead=(None, None)),
    Case(id="work-of-their-own", ahead=(None, None), days=("2026-10-05", "2026-10-06")),
    Case(id="second-clock-ahead", ahead=(None, "+2m")),
    Case(id="second-clock-behind", ahead=(None, "-2m")),
    Case(id="first-clock-a-day-ahead", ahead=("+1d", None)),
)


@pytest.fixture
def office(
    project: Project, provider: Provider, skip_loudly: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> Project:
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        skip_loudly("unshare may not make PID namespaces here: no worker was run in a container of its own")
    monkeypatch.setenv("AI_ASSETS_REHEARSAL_URL", provider.url)
    (project.root / "inference.yaml").write_text(SETTINGS)
    project.documents(per_day=PER_DAY)
    provider.configure(latency_ms=1200)
    return project


@pytest.fixture
def notes(office: Project) -> Collection:
    return declare(office, [dict(KIND)])


def wrong_clock(ahead: str) -> dict[str, str]:
    """The environment of a process whose clock is off by so much, as libfaketime has it."""
    patched = str(Path(__file__).parent / "faketime")
    return {
        "LD_PRELOAD": str(FAKETIME), "FAKETIME": ahead, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": patched,
    }  # fmt: skip


def start(project: Project, day: str | None, ahead: str | None, state_url: str) -> "subprocess.Popen[str]":
    chosen = ["--partition", day] if day else ["--all"]
    faked = wrong_clock(ahead) if ahead else {}
    return subprocess.Popen(
        [*CONTAINER, Path(sys.executable).parent / "ai-assets", "run", "notes", *chosen],
        cwd=project.root,
        env={
            **os.environ, "AI_ASSETS_HOME": str(project.home.root), "AI_ASSETS_STATE_URL": state_url, **faked,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_two_workers_pay_for_each_document_once(
    case: Case,
    office: Project,
    notes: Collection,
    provider: Provider,
    state_url: str,
    skip_loudly: Callable[[str], None],
) -> None:
    if any(case.ahead) and not FAKETIME.exists():
        skip_loudly("libfaketime is not installed (apt-get install faketime): no worker had a wrong clock")
    workers = []
    for day, ahead in zip(case.days, case.ahead, strict=True):
        workers.append(start(office, day, ahead, state_url))
        assert workers[-1].stdout is not None
        workers[-1].stdout.readline()  # imports are over: two that start in the same second could be taken for one
    said = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(said)
    asked = PER_DAY * len({day for day in case.days if day} or set(notes.scheme.keys()))
    stats = provider.stats()
    assert (stats["billed"], stats["redelivered"]) == (asked, 0), said
    assert stats["peak_in_flight"] <= CONCURRENCY
    states = rows(
        state_url, "SELECT state, count(*) AS number, max(duplicate_of) AS twice FROM attempts GROUP BY state"
    )
    assert [(row.state, row.number, row.twice) for row in states] == [("settled", asked, None)]
    check_books(state_url)
