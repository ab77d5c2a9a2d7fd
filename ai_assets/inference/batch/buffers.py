"""Batches that are due: stopped when their buffer begins, so that there is time to ask what they have not done."""

import datetime
from collections.abc import Sequence

import sqlalchemy as sa

from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.deadline import LOOK_S, START_S, CallLoad, Offers, span_of
from ai_assets.inference.records import RequestKind
from ai_assets.inference.settings import InferenceSettings
from ai_assets.inference.way_offers import call_tokens, offers_of

BY_DEADLINE = "its deadline"
"""Recorded as who cancelled a batch that was stopped because it was due: its rest is asked without a person."""


class Buffers:
    """As of one look. Batches that share an endpoint and are due by then share its pace as well."""

    def __init__(self, settings: InferenceSettings, jobs: Sequence[BatchJob], at: datetime.datetime) -> None:
        self._settings, self._at = settings, at
        self._jobs = [job for job in jobs if job.deadline is not None and job.duplicate_of is None]
        self._offers: dict[tuple[str, str, RequestKind], tuple[Offers, float]] = {}

    def wants_stop(self, connection: sa.Connection, job: BatchJob) -> str | None:
        """Why it is stopped now; None where it goes on."""
        deadline = job.deadline
        if deadline is None or job.duplicate_of is not None or job.cancelled_by or job.state in ("filling", "ended"):
            return None
        if not {deadline.endpoint, job.endpoint} <= self._settings.endpoints.keys():
            return None
        offers, tokens = self._known(connection, deadline.endpoint, job.endpoint, job.kind)
        left_s = (datetime.datetime.fromisoformat(deadline.due_at) - self._at).total_seconds()
        load = self._load(job, tokens)
        buffer_s = offers.buffer_s(load, deadline.then) + LOOK_S
        follows_s = deadline.levels * (offers.sync.sure_s(load) + START_S)
        if left_s - follows_s > buffer_s:
            return None
        return (
            f"stopped {span_of(max(left_s, 0.0))} before it is due; what it has not done goes by {deadline.then} "
            f"once the provider says that it has ended (up to {span_of(offers.stop_s)})"
        )

    def _known(
        self, connection: sa.Connection, asked: str, batched: str, asks_for: RequestKind
    ) -> tuple[Offers, float]:
        key = (asked, batched, asks_for)
        if key not in self._offers:
            names = list(dict.fromkeys((asked, batched)))
            found = offers_of(connection, self._settings, names, self._at, asks_for=asks_for)
            self._offers[key] = found, call_tokens(connection, asked)
        return self._offers[key]

    def _load(self, job: BatchJob, tokens: float) -> CallLoad:
        assert job.deadline is not None
        due_at, endpoint = job.deadline.due_at, job.deadline.endpoint
        lines = 0
        for each in self._jobs:
            assert each.deadline is not None
            if each.deadline.endpoint == endpoint and each.deadline.due_at <= due_at:
                lines += max(each.lines - each.provider_done, 0)
        return CallLoad(calls=lines, tokens=lines * tokens)
