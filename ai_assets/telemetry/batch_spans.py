"""Batches and their lines as spans and metrics, made when they are collected: the listener of the collector.

No ledger knows the span of the run that asked. A batch is a root in the trace of that run, where it continued no other,
and its ids are derived, so whoever goes on with collecting finds the same.
"""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ai_assets.base.masking import masked
from ai_assets.inference.batch.batch_listener import BatchListener
from ai_assets.inference.batch.jobs import BatchJob
from ai_assets.inference.ledger_messages import AttemptEnd
from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import NO_USAGE, Caller
from ai_assets.telemetry import conventions
from ai_assets.telemetry.call_spans import LABELS, about, never_raises
from ai_assets.telemetry.opening import CLOSE_S, Outlets, opened
from ai_assets.telemetry.span_records import LONGEST_ERROR, UNKNOWN_KIND, EndedSpan, Value
from ai_assets.telemetry.trace_context import TraceContext, new_span_id, span_of_batch, trace_of_run

ENDS_WELL = ("completed", "cancelling", "cancelled")
"""States at the provider in which a batch has not failed."""


class BatchSpans(BatchListener):
    """Opens the way to the collector with the first line: most looks at batches find none."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._outlets: Outlets | None = None
        self._is_opened = False

    def close(self) -> None:
        if self._outlets is not None:
            self._outlets.close(CLOSE_S)

    @never_raises(None)
    def settled(self, job: BatchJob, lines: Sequence[tuple[Caller, AttemptEnd]]) -> None:
        outlets = self._opened()
        if outlets is None:
            return
        batch, began_ns, ended_ns = _batch_of(job, outlets), _began_ns(job), time.time_ns()
        put = outlets.put_of(batch)
        for caller, end in lines:
            endpoint = end.opened.hop.endpoint
            operation = conventions.OPERATIONS.get(job.kind, job.kind)
            latest = outlets.settings.latest_names
            base = conventions.endpoint_attributes(job.endpoint, endpoint, operation, latest=latest)
            asker = about(caller)
            if put is not None:
                found = {**base, **asker, **_of_line(job, end, latest=latest)}
                put(
                    EndedSpan(
                        f"call {caller.asset or 'model'}", batch.trace_id, new_span_id(), batch.span_id, began_ns,
                        ended_ns, "client", found, end.error,
                    )
                )  # fmt: skip
            self._count(outlets, base, asker, operation, end)

    @never_raises(None)
    def ended(self, job: BatchJob) -> None:
        outlets = self._opened()
        if outlets is None:
            return
        batch = _batch_of(job, outlets)
        put = outlets.put_of(batch)
        if put is None:
            return
        named = {"collection": job.collection, "run.id": job.run_id, "endpoint": job.endpoint,
                 "batch.state": job.provider_state, "batch.duplicate_of": job.duplicate_of or ""}  # fmt: skip
        found: dict[str, Value] = {f"ai_assets.{name}": value for name, value in named.items() if value}
        found |= {**_ids_of(job), "ai_assets.calls": job.lines}
        failed = job.provider_state not in ENDS_WELL
        said = masked(job.message)[:LONGEST_ERROR] if failed else None
        if failed:
            found["error.type"] = UNKNOWN_KIND
        put(
            EndedSpan(
                f"batch {job.job_id}", batch.trace_id, batch.span_id, 0, _began_ns(job), time.time_ns(), "internal",
                found, said,
            )
        )  # fmt: skip

    def _count(
        self, outlets: Outlets, base: dict[str, Value], asker: dict[str, Value], operation: str, end: AttemptEnd
    ) -> None:
        """As of an attempt, but for its duration: what a line waited for says nothing of the model."""
        if outlets.sums is None:
            return
        labels = (*base.items(), *((name, asker[name]) for name in LABELS if name in asker))
        failed = (("error.type", end.error),) if end.error is not None else ()
        usage = None if end.usage == NO_USAGE else end.usage
        measures = conventions.call_measures(operation, 0.0, usage, latest=outlets.settings.latest_names)
        measures = [(conventions.ATTEMPTS, 1, ""), *measures[1:]]
        if end.cost_nusd:
            measures.append((conventions.COST, usd_of(end.cost_nusd), ""))
        if end.cost_nusd is None:
            measures.append((conventions.MAYBE, usd_of(end.opened.hop.reserve_nusd), ""))
        for instrument, value, kind in measures:
            of_kind = (("gen_ai.token.type", kind),) if kind else ()
            outlets.sums.add(instrument, value, (*labels, *of_kind, *failed))

    def _opened(self) -> Outlets | None:
        if not self._is_opened:
            self._is_opened = True
            self._outlets = opened(self._report)
        return self._outlets


def _batch_of(job: BatchJob, outlets: Outlets) -> TraceContext:
    trace_id = trace_of_run(job.run_id or f"batch {job.job_id}")
    return replace(outlets.root(trace_id, None), span_id=span_of_batch(job.job_id))


def _ids_of(job: BatchJob) -> dict[str, Value]:
    found: dict[str, Value] = {"ai_assets.batch.id": job.job_id}
    return {**found, "ai_assets.batch.provider_id": job.provider_id} if job.provider_id else found


def _of_line(job: BatchJob, end: AttemptEnd, *, latest: bool) -> dict[str, Value]:
    opened = end.opened
    found = conventions.usage_attributes(end.usage, end.cost_nusd or 0, latest=latest)
    found |= conventions.reply_attributes(end.answered_model or "", "")
    found |= {**_ids_of(job), "ai_assets.attempt.id": opened.attempt_id, "ai_assets.call.key": opened.hop.key}
    found["ai_assets.call.outcome"] = "answered" if end.error is None else end.error
    if end.cost_nusd is None:
        found["ai_assets.cost.maybe_usd"] = usd_of(opened.hop.reserve_nusd)
    if end.provider_id:
        found["ai_assets.provider_request_id"] = end.provider_id
    if end.error is not None:
        found["error.type"] = end.error
    return found


def _began_ns(job: BatchJob) -> int:
    moment = datetime.datetime.fromisoformat(job.submitted_at or job.made_at)
    return round(moment.timestamp() * 1000) * 1_000_000
