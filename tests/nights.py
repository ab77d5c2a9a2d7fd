"""A night by deadline with real parts: a state store, the rehearsal provider, and one clock for both that is set ahead."""

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from engines import CALLER, rows
from provider import Provider

from ai_assets.base.due import DeclaredDeadline
from ai_assets.inference.batch import jobs
from ai_assets.inference.batch.asking import BatchAsker
from ai_assets.inference.batch.collecting import Collected, Collector
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.batch.pending import Pending
from ai_assets.inference.by_deadline import DeadlineAsker, DueWork
from ai_assets.inference.engine import Engine
from ai_assets.inference.records import Caller, Request, Result
from ai_assets.inference.settings import InferenceSettings
from ai_assets.storage.state import StateStore

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
        levels: int = 0,
    ) -> list[Result | Pending]:  # fmt: skip
        """One run of its own."""
        self.runs += 1
        caller = caller or replace(CALLER, run_id=f"run-{self.runs}")
        work = DueWork(
            deadline=deadline or DeclaredDeadline(within_s=self.within_s),
            route="default",
            calls=len(requests),
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
