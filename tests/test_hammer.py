"""Eight processes hammer one PostgreSQL with all that is written there, and some are killed: nothing is lost.

Directly, and through a pooler in transaction mode.
"""

import faulthandler
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from candidates import asked
from conftest import Project, eventually
from engines import check_books, endpoint, question, rows, settings
from postgres_server import Postgres, pooled, pooler_is_installed
from provider import Provider
from signing import somebody

from ai_assets.base.home import Home
from ai_assets.collection.settings import SignoffSettings
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import BudgetExhausted
from ai_assets.inference.records import Caller
from ai_assets.inference.settings import InferenceSettings
from ai_assets.signoff import audit, decisions, people, verification
from ai_assets.signoff.decisions import Choice, Verdict
from ai_assets.signoff.errors import DecisionTooLate, RequestUnknown
from ai_assets.storage.leases import hold
from ai_assets.storage.state import StateStore, upsert
from ai_assets.storage.stores import Stores

pytestmark = pytest.mark.slow

NUSD = 10**9
CONNECTIONS = 4
"""For each process; five of its threads want one at a time, and some of them two."""
PROCESSES = 8
RULES = SignoffSettings()


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one process is told."""

    number: int
    state_url: str
    home: Home
    declared: InferenceSettings
    notes: Path
    """What it has committed is a line in its own file there."""
    seconds: float


class Hammering:
    """One process: five threads that write until the time is over."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.until = time.monotonic() + order.seconds
        self.state = StateStore(order.state_url, keys=order.home.keys, connections=CONNECTIONS)
        self._file = (order.notes / f"{order.number}-{os.getpid()}").open("a")
        self._lock = threading.Lock()

    def run(self) -> None:
        with ThreadPoolExecutor() as threads:
            for done in [threads.submit(each) for each in (self.ask, self.count, self.append, self.decide, self.look)]:
                done.result()

    def goes_on(self) -> bool:
        return time.monotonic() < self.until

    def note(self, what: str) -> None:
        with self._lock:
            self._file.write(what + "\n")
            self._file.flush()

    def ask(self) -> None:
        """Calls of three callers with shares, on budgets that end before the time does."""
        first = 0
        with Engine(self.order.declared, self.state) as engine:
            while self.goes_on():
                caller = Caller(collection=f"c{first % 3}", asset="kind", partition="p", run_id=str(self.order.number))
                numbers = range(first, first + 20)
                with suppress(BudgetExhausted):
                    for _ in engine.map([question(f"{self.order.number // 2}-{each}") for each in numbers], caller):
                        pass
                first += 20

    def count(self) -> None:
        """A number that is read, and written one higher in another statement: under a lease, and fenced."""
        while self.goes_on():
            with hold(self.state, "hammer", wait_s=90) as lease, lease.fenced() as connection:
                select = "SELECT version FROM index_versions WHERE collection = 'counter'"
                (row,) = connection.exec_driver_sql(select).all()
                upsert(connection, "index_versions", {"collection": "counter"}, {"version": row.version + 1})
            self.note("counted")

    def append(self) -> None:
        while self.goes_on():
            with self.state.write() as connection:
                audit.append(connection, "ann", "noted", {"collection": "notes", "text": "hammered"})
            self.note("appended")
            time.sleep(0.005)

    def decide(self) -> None:
        """Everybody decides on the same requests, as they saw them at the start."""
        by = somebody(f"person-{self.order.number}")
        seen: Sequence[Choice] = ()
        verdict: Verdict = "approve" if self.order.number % 2 else "reject"
        with suppress(RequestUnknown), self.state.read() as connection:
            seen = decisions.waiting(connection, "notes", None, RULES)
        for choice in seen:
            if not self.goes_on():
                return
            with suppress(DecisionTooLate):
                decisions.decide(self.state, "notes", [choice], verdict, by=by, reason="seen", rules=RULES)
                self.note(f"decided {choice.request_id}")

    def look(self) -> None:
        """As the desk does: one transaction within another, and both see one moment."""
        while self.goes_on():
            with self.state.read() as outer, self.state.read() as inner:
                for connection in (outer, inner):
                    select = "SELECT count(*) FROM audit"
                    before = connection.exec_driver_sql(select).scalar_one()
                    assert connection.exec_driver_sql(select).scalar_one() == before
            time.sleep(0.01)


def hammer(order: Order) -> None:
    faulthandler.dump_traceback_later(order.seconds + 80, exit=True)  # a hang says where
    Hammering(order).run()


class Watch:
    """The most connections that each process had at once, and the longest that anybody idled in a transaction."""

    def __init__(self, server: Postgres) -> None:
        self.most: Counter[str] = Counter()
        self._server = server
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        select = (
            "SELECT application_name, count(*) FROM pg_stat_activity WHERE application_name LIKE 'hammer-%' GROUP BY 1"
        )
        with psycopg.connect(self._server.url(), autocommit=True) as connection:
            while not self._stop.wait(0.02):
                for name, number in connection.execute(select).fetchall():
                    self.most[name] = max(self.most[name], number)


@contextmanager
def directly(server: Postgres) -> Iterator[int]:
    yield server.port


def through_a_pooler(server: Postgres) -> Any:
    return pooled(server, sessions=PROCESSES + 1)  # with fewer, all may hold one and wait for a second (docs/server.md)


@pytest.fixture(scope="module")
def fast() -> Iterator[Provider]:
    with Provider(answers="quick", latency_ms=3, price_input=20, price_output=20) as started:
        yield started


@pytest.mark.parametrize(
    ("reached", "seconds", "killed"), [(directly, 14.0, 3), (through_a_pooler, 7.0, 2)], ids=["directly", "pooled"]
)
def test_nothing_is_lost_overspent_or_left_locked(
    reached: Callable[[Postgres], Any],
    seconds: float,
    killed: int,
    project: Project,
    fast: Provider,
    postgres_with_tables: Postgres,
    processes: ForkServerContext,
    tmp_path: Path,
    skip_loudly: Callable[[str], None],
) -> None:
    if reached is through_a_pooler and not pooler_is_installed():
        skip_loudly("pgbouncer is not installed (apt-get install pgbouncer): nothing was hammered through a pooler")
    fast.reset()
    name = f"t{uuid.uuid4().hex}"
    direct_url = postgres_with_tables.database(name, template="tables")
    number = 40
    prepare(replace(project.home, declared_state_url=direct_url), number)
    declared = with_little_money(fast.url)
    with reached(postgres_with_tables) as port, Watch(postgres_with_tables) as watch:
        url = direct_url.replace(f":{postgres_with_tables.port}/", f":{port}/")
        order = Order(
            number=0, state_url=url, home=project.home, declared=declared, notes=tmp_path, seconds=seconds
        )  # fmt: skip
        running = [start(processes, order, each) for each in range(PROCESSES)]
        for each in range(killed):
            pid = running[each].pid
            assert pid is not None
            eventually(lambda file=tmp_path / f"{each}-{pid}": file.exists() and file.stat().st_size > 0)
            time.sleep(seconds / 10)
            os.kill(pid, signal.SIGKILL)
            running[each].join()
            running.append(start(processes, order, each, generation=1))
        for process in running[killed:]:
            process.join(120)
        assert [process.exitcode for process in running] == [-signal.SIGKILL] * killed + [0] * PROCESSES
        wait_for_the_dead(url, declared)
    store = StateStore(direct_url, keys=project.home.keys)
    noted = Counter(line for file in tmp_path.glob("*-*") for line in file.read_text().splitlines())
    check_counter(store, noted, killed)
    check_chain_and_decisions(store, noted, killed)
    check_money(store, fast)
    store.close()
    check_sessions(direct_url)
    if reached is directly:
        assert len(watch.most) == PROCESSES + killed
        assert max(watch.most.values()) <= CONNECTIONS


def with_little_money(url: str) -> InferenceSettings:
    dear = endpoint(url, prices=[{"from": "2026-01-01", "input": 20, "output": 20}], limits={"concurrency": 12})
    budgets = [
        {"name": "all", "limit_usd": 0.1},
        {"name": "each", "limit_usd": 0.04, "each": "collection"},
    ]
    return settings({"mini": dear}, budgets=budgets)


def prepare(home: Home, number: int) -> None:
    """Requests that wait, people who may decide, and the number that is counted."""
    with Stores.at(home) as stores:
        for place in range(number):
            asked(stores, "notes", f"p{place}")
        with stores.state.write() as connection:
            upsert(connection, "index_versions", {"collection": "counter"}, {"version": 0})
            for each in range(PROCESSES):
                people.add(connection, f"person-{each}", email=None, password_hash=None, by="test")
                people.give(connection, f"person-{each}", "approver", "*", by="test")


def start(processes: ForkServerContext, order: Order, number: int, generation: int = 0) -> BaseProcess:
    url = f"{order.state_url}?application_name=hammer-{number}-{generation}"
    process = processes.Process(target=hammer, args=(replace(order, number=number, state_url=url),))
    process.start()
    return process


def wait_for_the_dead(url: str, declared: InferenceSettings) -> None:
    """Whoever comes next sees to what the killed ones left."""
    state = StateStore(url)
    with Engine(declared, state):
        pass
    state.close()


def check_counter(store: StateStore, noted: Counter[str], killed: int) -> None:
    (row,) = rows(store, "SELECT version FROM index_versions WHERE collection = 'counter'")
    assert 0 < noted["counted"] <= row.version <= noted["counted"] + killed, "each one noted is there, and no other"


def check_chain_and_decisions(store: StateStore, noted: Counter[str], killed: int) -> None:
    verification.verify(store)  # raises at the first record or table that does not fit
    found = Counter(row.action for row in rows(store, "SELECT action FROM audit"))
    assert noted["appended"] <= found["noted"] <= noted["appended"] + killed
    once = [number for line, number in noted.items() if line.startswith("decided")]
    assert set(once) == {1}, "of all who decided on a request, one was told that it counts"
    closed = rows(store, "SELECT status FROM review_requests WHERE status <> 'open'")
    assert len(once) <= len(closed) <= len(once) + killed


def check_money(store: StateStore, provider: Provider) -> None:
    balances = check_books(store)
    assert balances, "money was spent"
    spent = sum(row.spent_nusd + row.held_nusd for name, row in balances.items() if name.startswith("all"))
    assert provider.stats()["billed_usd"] * NUSD <= spent + 1
    used = {name: (row.spent_nusd + row.held_nusd) / row.limit_nusd for name, row in balances.items()}
    assert max(used.values()) > 0.5, used
    made = Counter(row.call_key for row in rows(store, "SELECT call_key FROM attempts WHERE state = 'settled'"))
    assert set(made.values()) == {1}, "no call was settled twice"


def check_sessions(url: str) -> None:
    with psycopg.connect(url) as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        idle = f"SELECT count(*) FROM pg_stat_activity WHERE {others} AND state LIKE 'idle in transaction%'"  # noqa: S608
        assert connection.execute(idle).fetchall() == [(0,)]
        locks = (
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert connection.execute(locks).fetchall() == [(0,)]
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert connection.execute(deadlocks).fetchall() == [(0,)]
