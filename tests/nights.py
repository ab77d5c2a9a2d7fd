"""A night by deadline with real parts: a state store, the rehearsal provider, and one clock for both, set ahead."""

import datetime
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from engines import CALLER, questions, rows
from provider import Provider

from ai_assets.base.due import DeclaredDeadline
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.buffers import Buffers
from ai_assets.inference.batch.collecting import Collected, Collector
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.pending import Pending
from ai_assets.inference.by_deadline import DeadlineAsker, DueWork
from ai_assets.inference.deadline import LOOK_S, START_S
from ai_assets.inference.engine import Engine
from ai_assets.inference.ledger_sql import OWNER_SHIFT
from ai_assets.inference.records import Answer, Caller, Request, RequestKind, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore
from bench.deadline import Night

HOUR = 3600.0


@dataclass
class NightDesk:
    """Runs and looks, at a time of its own. `within_s` is the deadline of all that is asked."""

    url: str
    settings: InferenceSettings
    provider: Provider
    within_s: float = 8 * HOUR
    ahead_s: float = 0.0
    said: list[str] = field(default_factory=list)
    runs: int = 0

    def __post_init__(self) -> None:
        self.state = StateStore(self.url)

    def close(self) -> None:
        self.state.close()

    def clock(self, _connection: object = None) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.ahead_s)

    def advance(self, seconds: float) -> None:
        """For the provider too."""
        self.ahead_s += seconds
        self.provider.configure(clock_ahead_s=self.ahead_s)

    def ask(
        self, requests: Sequence[Request], caller: Caller | None = None, *, deadline: DeclaredDeadline | None = None,
        levels: int = 0, asks_for: RequestKind = "chat",
    ) -> list[Result | Pending]:  # fmt: skip
        """One run of its own."""
        self.runs += 1
        caller = caller or replace(CALLER, run_id=f"run-{self.runs}")
        work = DueWork(
            deadline=deadline or DeclaredDeadline(within_s=self.within_s),
            route="default",
            calls=len(requests),
            asks_for=asks_for,
            levels=levels,
        )
        with Engine(self.settings, self.state) as engine, BatchAsker(self.settings, self.state) as batches:
            asker = DeadlineAsker(
                settings=self.settings, state=self.state, engine=lambda: engine, batches=lambda: batches,
                say=self.said.append, clock=self.clock,
            )  # fmt: skip
            found = list(asker.map(requests, caller, work))
            batches.submit()
        self._retime()
        return found

    def _retime(self) -> None:
        """What was written by the real clock, by that of the night."""
        at = self.clock().isoformat(timespec="milliseconds")
        with self.state.write() as connection:
            for job in jobs.unended(connection):
                if job.submitted_at is not None and job.submitted_at[:4] != "2999" and job.provider_done == 0:
                    known = self._retimed.setdefault(job.job_id, at)
                    jobs.change(connection, job, submitted_at=known, made_at=known)

    @property
    def _retimed(self) -> dict[str, str]:
        return self.__dict__.setdefault("_moments", {})

    def look(self) -> Collected:
        with Collector(self.settings, self.state, clock=self.clock) as collector:
            return collector.collect()

    def wait(self, state: str, patience_s: float = 30.0) -> None:
        """Until the provider says so of its newest batch."""
        until = time.monotonic() + patience_s
        while (found := self.provider.batches()[0]["status"]) != state:
            assert time.monotonic() < until, found
            time.sleep(0.01)

    @property
    def jobs(self) -> list[BatchJob]:
        with self.state.read() as connection:
            return jobs.listed(connection, ended=True)[::-1]

    def ways(self) -> list[Any]:
        return rows(self.state, "SELECT * FROM ways ORDER BY way_id")

    def counts(self) -> dict[str, int]:
        """Attempts by state and error."""
        with self.state.read() as connection:
            found = connection.execute(
                sa.text("SELECT state, error, count(*) AS number FROM attempts GROUP BY state, error")
            )
            return {f"{row.state} {row.error or ''}".strip(): row.number for row in found}


# Two hundred nights


@dataclass(kw_only=True)
class NightsLived:
    """What they came to."""

    nights: int = 0
    late: int = 0
    stopped: int = 0
    paid_nusd: int = 0
    least_nusd: int = 0
    """What a planner pays that knows how long each batch takes."""

    @property
    def dearer(self) -> float:
        return self.paid_nusd / self.least_nusd - 1


def live(desk: NightDesk, nights: Iterable[Night], *, lines: int) -> NightsLived:
    """One after another, each with questions of its own; what they paid is read in the ledger."""
    found = NightsLived()
    for number, night in enumerate(nights):
        asked = questions(lines, first=number * lines)
        began, paid_before = desk.ahead_s, _paid(desk)
        desk.provider.configure(batch_seconds=night.batch_s, batch_cancel_seconds=night.stop_s)
        desk.within_s = night.left_s
        caller = replace(CALLER, partition=f"night-{number}")
        results = desk.ask(asked, replace(caller, run_id=f"night-{number}"))
        runs = 0
        while not all(isinstance(each, Answer) for each in results):
            _until_ended(desk, began, night)
            desk.advance(START_S)
            runs += 1
            results = desk.ask(asked, replace(caller, run_id=f"night-{number}-{runs}"))
        found.nights += 1
        found.late += desk.ahead_s - began > night.left_s
        paid = _paid(desk) - paid_before
        by_batch = desk.jobs[-1].deadline is not None and desk.jobs[-1].run_id == f"night-{number}"
        found.stopped += by_batch and desk.jobs[-1].cancelled_by is not None
        one_by_one = paid if not by_batch else 2 * _at_half(desk, number) + (paid - _at_half(desk, number))
        found.paid_nusd += paid
        found.least_nusd += one_by_one // 2 if night.batch_s + LOOK_S + START_S <= night.left_s else one_by_one
        desk.advance(HOUR)
    return found


def _until_ended(desk: NightDesk, began: float, night: Night) -> None:
    """A look each minute; the minutes at which nothing can happen are left out."""
    job = desk.jobs[-1]
    ends_s = began + night.batch_s
    stop_s = _first_minute(desk, job, began + night.left_s)
    if ends_s <= stop_s:
        desk.advance(max(ends_s + LOOK_S - desk.ahead_s, 0.0))
        desk.wait("completed")
    else:
        desk.advance(max(stop_s - desk.ahead_s, 0.0))
        desk.look()
        desk.wait("cancelling")
        desk.advance(night.stop_s + LOOK_S)
        desk.wait("cancelled")
    desk.look()


def _first_minute(desk: NightDesk, job: BatchJob, due_s: float) -> float:
    """The first look that would stop it."""
    now_s = desk.ahead_s
    low, high = 0, math.ceil((due_s - now_s) / LOOK_S)
    with desk.state.read() as connection:
        while low < high:
            middle = (low + high) // 2
            at = desk.clock() + datetime.timedelta(seconds=middle * LOOK_S)
            if Buffers(desk.settings, [job], at).wants_stop(connection, job) is not None:
                high = middle
            else:
                low = middle + 1
    return now_s + low * LOOK_S


def _paid(desk: NightDesk) -> int:
    return int(rows(desk.state, "SELECT COALESCE(sum(cost_nusd), 0) AS paid FROM attempts")[0].paid)


def _at_half(desk: NightDesk, number: int) -> int:
    """What lines of that night's batch cost."""
    statement = (
        "SELECT COALESCE(sum(attempts.cost_nusd), 0) AS paid FROM attempts JOIN batch_jobs "
        "ON batch_jobs.owner_id = (attempts.attempt_id >> :shift) WHERE batch_jobs.run_id = :run"
    )
    return int(rows(desk.state, statement, shift=OWNER_SHIFT, run=f"night-{number}")[0].paid)
