"""Claims about a process that was taken over: it settles what it has sent, opens nothing more, and says so once.

Real processes are stopped for longer than their lease lasts; then they go on.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import Postgres, Project, eventually
from engines import CALLER, Asking, ask, asking, attempts, check_books, one, opened, questions, rows
from provider import Provider
from test_stage_settings import KIND, declare
from typer.testing import CliRunner

from ai_assets.base.errors import LeaseLost, StateUnavailable
from ai_assets.base.processes import boot_id, identity, standing
from ai_assets.cli.ledger import app
from ai_assets.inference import history, resolving
from ai_assets.inference.records import Answer
from ai_assets.inference.settings import InferenceSettings
from ai_assets.run.refresh import refresh
from ai_assets.storage import state as state_module
from ai_assets.storage import workers
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore

pytestmark = pytest.mark.slow

SHORT_S = 1.0
COUNT = 40
PLACES = 6
INFERENCE = """\
endpoints:
  small:
    base_url: rehearsal
    model: mini
    prices: [{from: 2026-01-01, input: 1, output: 2}]
    limits: {concurrency: 6}
routes: {default: {endpoints: [small]}}
budgets: [{name: all, limit_usd: 100}]
"""
ANSWERED = COUNT // 2
"""So many of them another process asks meanwhile, those among them that the first one waits for."""


@pytest.fixture
def slow(provider: Provider) -> Iterator[Provider]:
    """It answers, and keeps an answer for whoever is too late to read it."""
    provider.configure(latency_ms=400, jitter_ms=0)
    yield provider
    provider.configure(latency_ms=0, jitter_ms=0)


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TTL_S", SHORT_S)


def declared(provider: Provider) -> InferenceSettings:
    settings = one(provider.url, limits={"concurrency": PLACES}).model_dump(
        mode="json", by_alias=True, exclude_defaults=True
    )
    return InferenceSettings.model_validate({**settings, "budgets": [{"name": "all", "limit_usd": 100}]})


def in_the_middle(slow: Provider, state_url: str) -> Asking:
    """A process that has had some of its answers, waits for others, and is stopped."""
    worker = asking(state_url, declared(slow), count=COUNT, ttl_s=SHORT_S)
    slow.wait_delivered(PLACES)
    eventually(lambda: slow.stats()["in_flight"] == PLACES)
    worker.process.send_signal(signal.SIGSTOP)
    return worker


def wait_for_expiry(state_url: str) -> None:
    state = StateStore(state_url)

    def expired() -> bool:
        with state.read() as connection:
            found = connection.execute(sa.text("SELECT worker_id FROM workers")).scalars().all()
            return not any(workers.is_live(connection, worker_id) for worker_id in found)

    eventually(expired)
    state.close()


def test_a_stopped_process_that_was_taken_over_settles_and_opens_nothing_more(
    slow: Provider, state_url: str, short_leases: None
) -> None:
    worker = in_the_middle(slow, state_url)
    wait_for_expiry(state_url)
    results = ask(state_url, declared(slow), questions(ANSWERED))
    assert all(isinstance(result, Answer) for result in results)
    calls = slow.stats()["calls"]
    worker.process.send_signal(signal.SIGCONT)
    said = worker.said()
    assert said["raised"].startswith("LeaseLost: Another process has taken over")
    assert said["answers"] < COUNT
    assert slow.stats()["calls"] == calls, "it opened calls after it was taken over"
    made = attempts(state_url)
    assert {row.state for row in made} == {"settled"}, "what it had sent was answered, and its answers are kept"
    twice = [row for row in made if row.duplicate_of is not None]
    assert len(twice) == len(made) - ANSWERED == PLACES
    assert all(row.cost_nusd > 0 for row in twice)
    assert slow.stats()["billed"] == len(made)
    used = rows(
        state_url,
        "SELECT calls.call_key FROM calls JOIN attempts ON attempts.attempt_id = calls.attempt_id "
        "WHERE attempts.duplicate_of IS NULL",
    )
    assert len(used) == ANSWERED, "each call keeps the answer that was there first"
    (balance,) = check_books(state_url).values()
    assert balance.spent_nusd == sum(row.cost_nusd for row in made)
    assert balance.held_nusd == 0
    check_shown(state_url, twice[0].call_key, history.name_of(twice[0].duplicate_of))


def check_shown(state_url: str, call: str, first: str) -> None:
    """What people see of a call that was paid for twice."""
    state = StateStore(state_url)
    with state.read() as connection:
        found = history.call(connection, call)
    state.close()
    assert found.answered_by == first
    assert found.cost_usd == pytest.approx(sum(attempt.cost_usd or 0 for attempt in found.attempts))
    shown = CliRunner().invoke(app, ["show", call], env={"AI_ASSETS_STATE_URL": state_url, "COLUMNS": "250"})
    assert f"settled (paid twice, after {first})" in shown.output


def test_a_stopped_process_that_nobody_replaced_goes_on(slow: Provider, state_url: str, short_leases: None) -> None:
    worker = in_the_middle(slow, state_url)
    wait_for_expiry(state_url)
    worker.process.send_signal(signal.SIGCONT)
    said = worker.said()
    assert (said["answers"], said.get("raised")) == (COUNT, None)
    assert {row.state for row in attempts(state_url)} == {"settled"}
    assert slow.stats()["billed_twice"] == 0
    check_books(state_url)


def test_two_answers_to_one_call_give_everyone_the_first(slow: Provider, state_url: str, short_leases: None) -> None:
    """The one that was taken over gets its own answer late, and uses the one that others have seen."""
    slow.configure(latency_ms=300)
    worker = in_the_middle(slow, state_url)
    wait_for_expiry(state_url)
    ask(state_url, declared(slow), questions(COUNT))
    worker.process.send_signal(signal.SIGCONT)
    worker.said()
    first = rows(
        state_url,
        "SELECT twice.attempt_id, used.ended_at < twice.ended_at AS earlier FROM attempts AS twice "
        "JOIN attempts AS used ON used.attempt_id = twice.duplicate_of "
        "JOIN calls ON calls.call_key = twice.call_key AND calls.attempt_id = used.attempt_id",
    )
    assert first
    assert all(row.earlier for row in first)


def test_a_call_that_somebody_resolved_as_not_billed_is_paid_for_when_its_answer_comes_after_all(
    slow: Provider, state_url: str, short_leases: None
) -> None:
    worker = in_the_middle(slow, state_url)
    wait_for_expiry(state_url)
    state = StateStore(state_url)
    with state.write() as connection:
        assert resolving.reap(connection) == PLACES
    with state.write() as connection:
        lost = history.attempts(connection, state="ambiguous")
        resolving.resolve(connection, lost, resolving.Resolution(billed=False, by="ann"))
    state.close()
    worker.process.send_signal(signal.SIGCONT)
    worker.said()
    made = attempts(state_url)
    assert {row.state for row in made} == {"settled"}
    (balance,) = check_books(state_url).values()
    assert balance.spent_nusd == sum(row.cost_nusd for row in made) > 0


def test_what_ends_a_job_waits_for_the_answers_on_their_way(slow: Provider, state_url: str) -> None:
    """Longer than the grace that a forgotten iterator gets, because each of them is paid for."""
    slow.configure(latency_ms=7000)

    def take_over_in_the_middle() -> None:
        eventually(lambda: slow.stats()["in_flight"] == PLACES)
        _end_workers(state_url)

    with opened(state_url, declared(slow)) as engine:
        results = engine.map(questions(PLACES + 1), CALLER)
        taking_over = threading.Thread(target=take_over_in_the_middle)
        taking_over.start()
        with pytest.raises(LeaseLost):
            list(results)
        taking_over.join()
    assert {row.state for row in attempts(state_url)} == {"settled"}
    assert len(attempts(state_url)) == PLACES


def _end_workers(state_url: str) -> None:
    """As a process does that takes over."""
    state = StateStore(state_url)
    with state.write() as connection:
        for worker_id in connection.execute(sa.text("SELECT worker_id FROM workers")).scalars().all():
            workers.end(connection, worker_id)
    state.close()


def test_a_run_that_was_taken_over_commits_nothing_and_says_so_once(project: Project) -> None:
    project.documents(per_day=2)
    collection = project.declare()
    work = project.work(collection)
    heard: list[str] = []
    work.say = heard.append
    events = refresh(work, collection.scheme.keys())
    next(events)
    _end_workers(project.home.state_url)
    with pytest.raises(LeaseLost, match="Another process has taken over refresh:notes:2026-10-05 from this one"):
        list(events)
    with project.stores().state.read() as connection:
        made = connection.execute(sa.text("SELECT partition, asset FROM datasets WHERE asset <> 'source_files'")).all()
        assert connection.execute(sa.text("SELECT count(*) FROM refreshes")).scalar_one() == 0
    assert [tuple(row) for row in made] == [("2026-10-05", "documents")]
    assert not any("taken over" in line for line in heard)
    assert project.refresh(collection), "the next run finishes it"


def start_run(project: Project, state_url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, Path(__file__).parent / "programs" / "brief_lease.py", str(SHORT_S), "run", "notes", "--all"],
        cwd=project.root,
        env={**os.environ, "AI_ASSETS_HOME": str(project.home.root), "AI_ASSETS_STATE_URL": state_url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_that_slept_past_its_lease_leaves_the_work_to_the_one_that_took_over(
    project: Project, slow: Provider, state_url: str
) -> None:
    (project.root / "inference.yaml").write_text(INFERENCE)
    project.documents(per_day=10)
    declare(project, [dict(KIND)])
    slow.configure(latency_ms=1500)
    sleeper = start_run(project, state_url)
    eventually(lambda: slow.stats()["delivered"] > 0)
    eventually(lambda: slow.stats()["in_flight"] == PLACES)
    sleeper.send_signal(signal.SIGSTOP)
    successor = start_run(project, state_url)
    said = successor.communicate(timeout=240)[0]
    assert successor.returncode == 0, said
    written = datasets(state_url)
    sleeper.send_signal(signal.SIGCONT)
    said = sleeper.communicate(timeout=240)[0]
    assert sleeper.returncode == 1, said
    assert said.count("Another process has taken over") == 1
    assert datasets(state_url) == written
    made = attempts(state_url)
    assert {row.state for row in made} == {"settled"}
    twice = [row for row in made if row.duplicate_of is not None]
    assert len(made) - len(twice) == 30
    assert len(twice) <= PLACES
    assert slow.stats()["billed"] == len(made)
    check_books(state_url)


def datasets(state_url: str) -> list[tuple[str, ...]]:
    return sorted(tuple(row) for row in rows(state_url, "SELECT partition, asset, version, run_id FROM datasets"))


# Who is live


def _insert(state: StateStore, **what: Any) -> int:
    with state.write() as connection:
        now_s = workers.read_clock(connection).now_s
        row = {
            "host": "vm", "process": identity(), "boot": boot_id(), "until": now_s + what.pop("left_s", 30.0), **what
        }  # fmt: skip
        return int(connection.execute(sa.text(
            "INSERT INTO workers (host, process, boot, expires_at) VALUES (:host, :process, :boot, :until) "
            "RETURNING worker_id"
        ), row).scalar_one())  # fmt: skip


def test_a_worker_in_another_container_is_live_until_its_row_expires(state: StateStore, short_leases: None) -> None:
    elsewhere = f"1:4711:4026500000:{boot_id()}"
    assert standing(elsewhere) == "out of sight"
    lively, expired = _insert(state, process=elsewhere), _insert(state, process=elsewhere, left_s=-1.0)
    eventually(lambda: not _is_live(state, expired))  # a server that was just started gives everyone a TTL
    assert _is_live(state, lively)


def test_a_worker_of_another_boot_is_gone_from_sqlite_and_may_be_another_machine_on_postgresql(
    state: StateStore,
) -> None:
    other = _insert(state, process="7:1:2:00000000-dead", boot="00000000-dead")
    assert _is_live(state, other) == (state.dialect == "postgresql")


def test_a_process_that_ended_is_gone_at_once_and_only_on_its_own_machine(state: StateStore) -> None:
    _, _, scope = identity().partition(":")
    ended = f"{2**22 - 1}:{scope}"
    assert not _is_live(state, _insert(state, process=ended, host=socket.gethostname()))
    assert _is_live(state, _insert(state, process=ended, host="a clone of this machine"))


def _is_live(state: StateStore, worker_id: int) -> bool:
    with state.read() as connection:
        return workers.is_live(connection, worker_id)


def test_the_number_of_a_worker_is_never_given_again(state: StateStore) -> None:
    numbers = []
    for _ in range(3):
        with hold(state, "work") as lease:
            numbers.append(lease.worker_id)
    assert len(set(numbers)) == 3
    with state.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM workers")).scalar_one() == 0


def test_a_process_that_stops_inside_a_transaction_on_postgresql_holds_up_the_others_only_for_a_while(
    postgres: Postgres, processes: ForkServerContext
) -> None:
    url = postgres.database("stopped")
    ours, theirs = processes.Pipe()
    holder = processes.Process(target=stop_inside, args=(url, theirs))
    holder.start()
    assert ours.recv() == "inside"
    state = StateStore(url)
    with state.write() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGCONT)
    assert "State store postgresql" in ours.recv(), "what it did there did not happen, and it is told"
    holder.join()
    state.close()


def stop_inside(url: str, pipe: Connection) -> None:
    state_module.LONGEST_PAUSE_S = SHORT_S
    try:
        with StateStore(url).write() as connection:
            pipe.send("inside")
            os.kill(os.getpid(), signal.SIGSTOP)
            connection.execute(sa.text("SELECT 1"))
    except StateUnavailable as error:
        pipe.send(str(error))
