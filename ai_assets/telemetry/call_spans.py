"""Calls and their attempts as spans and metrics: the listener of the engine.

It only takes notes: a record in a queue and numbers in a table for each attempt. Texts that share a request are one
call.
"""

import functools
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from ai_assets.base.masking import masked
from ai_assets.inference.call_listener import CallListener
from ai_assets.inference.call_state import CallState
from ai_assets.inference.ledger_messages import AttemptEnd, Intent
from ai_assets.inference.prices import usd_of
from ai_assets.inference.records import OF_TEXTS, Answer, Caller, Request, Result, Unanswered, Usage
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols.base import Fault, Reply
from ai_assets.protocols.http import NO_TRACE
from ai_assets.telemetry import conventions
from ai_assets.telemetry.conventions import CallMeasure, Instrument
from ai_assets.telemetry.metric_sums import CountedSeries, Labels, MetricSums
from ai_assets.telemetry.settings import TelemetrySettings
from ai_assets.telemetry.span_records import EndedSpan, Kind, SharedAttributes, Value
from ai_assets.telemetry.trace_context import TraceContext, new_span_id

LATER = frozenset({"in_batch", "outside_window"})
"""A call that ends so has not failed: a later run goes on with it."""
_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ParentSpan:
    """Below which calls are, and who takes them."""

    context: TraceContext
    """Its `span_id` is 0 where a call has no span above it."""
    put: Callable[[EndedSpan], None] | None
    """None: no spans are made."""


class ParentSpans(ABC):
    @abstractmethod
    def of(self, caller: Caller) -> ParentSpan | None:
        """Of all calls of the caller; None where each begins a trace of its own."""

    @abstractmethod
    def new(self) -> ParentSpan:
        """Of one call that begins a trace."""


@dataclass(slots=True, eq=False)
class _Asker:
    """What all calls of a caller have in common."""

    name: str
    parent: ParentSpan | None
    values: dict[str, Value]
    labels: Labels
    outcomes: dict[str, CountedSeries] = field(default_factory=dict)
    ends: dict[object, SharedAttributes] = field(default_factory=dict)
    """By what came of the call."""
    places: "dict[object, _Place]" = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Call:
    asker: _Asker
    parent: ParentSpan
    span_id: int
    began_ns: int
    attempts: int = 0
    attempt_id: int = 0
    attempt_began_ns: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class _Place:
    """Attempts that differ only in what came of them."""

    endpoint: Endpoint
    name: str
    operation: str
    values: dict[str, Value]
    labels: Labels
    ends: dict[object, SharedAttributes] = field(default_factory=dict)
    """By what came of the attempt, apart from what is seldom the same twice."""
    series: dict[tuple[Instrument, str, str | None], CountedSeries] = field(default_factory=dict)

    def count(self, sums: MetricSums, counted: Sequence[CallMeasure], error: str | None) -> None:
        kept = self.series
        found = [
            (kept.get((instrument, kind, error)) or self._series(sums, instrument, kind, error), value)
            for instrument, value, kind in counted
        ]
        with sums.lock:
            for series, value in found:
                series.add(value)

    def _series(self, sums: MetricSums, instrument: Instrument, kind: str, error: str | None) -> CountedSeries:
        more: Labels = (("gen_ai.token.type", kind),) if kind else ()
        failed: Labels = (("error.type", error),) if error is not None else ()
        found = self.series[instrument, kind, error] = sums.series(instrument, (*self.labels, *more, *failed))
        return found


def never_raises(otherwise: _T) -> "Callable[[Callable[_P, _T]], Callable[_P, _T]]":
    """A bug in what listens is logged, and ends no call."""

    def around(method: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(method)
        def safely(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                return method(*args, **kwargs)
            except Exception:  # noqa: BLE001  # whatever it is, the call goes on
                _log.warning("telemetry missed a step of a call", exc_info=True)
                return otherwise

        return safely

    return around


class CallSpans(CallListener):
    def __init__(
        self,
        settings: TelemetrySettings,
        parents: ParentSpans,
        sums: MetricSums | None,
    ) -> None:
        """Without `sums` nothing is counted."""
        self._settings, self._parents, self._sums = settings, parents, sums
        self._latest = settings.latest_names
        self._askers: dict[Caller, _Asker] = {}

    @never_raises(None)
    def began(self, calls: Sequence[CallState]) -> None:
        note = self._new_call(self._asker(calls[0].claim.caller))
        for call in calls:
            call.noted = note

    @never_raises(NO_TRACE)
    def leaves(self, sent: Sequence[tuple[CallState, Intent]]) -> Mapping[str, str]:
        note = sent[0][0].noted
        if not isinstance(note, _Call):
            return NO_TRACE
        note.attempts += 1
        note.attempt_id, note.attempt_began_ns = new_span_id(), time.time_ns()
        return note.parent.context.headers_of(note.attempt_id) if self._settings.propagates else NO_TRACE

    @never_raises(None)
    def came(
        self, sent: Sequence[tuple[CallState, Intent]], outcomes: Sequence[Reply | Fault], ends: Sequence[AttemptEnd]
    ) -> None:
        (call, opened), outcome = sent[0], outcomes[0]
        note, request = call.noted, call.request
        if not isinstance(note, _Call):
            return
        ended_ns = time.time_ns()
        place = self._place(note.asker, request, opened)
        error = outcome.error if isinstance(outcome, Fault) else None
        usage = _usage(outcomes) if len(outcomes) > 1 else outcome.usage
        cost_nusd = maybe_nusd = 0
        for (_, each), end in zip(sent, ends, strict=True):
            cost_nusd += end.cost_nusd or 0
            maybe_nusd += each.hop.reserve_nusd if end.cost_nusd is None else 0
        if note.parent.put is not None:
            found = conventions.usage_attributes(usage, cost_nusd, latest=self._latest)
            found["ai_assets.attempt.id"] = opened.attempt_id
            if maybe_nusd:
                found["ai_assets.cost.maybe_usd"] = usd_of(maybe_nusd)
            if outcome.provider_id:
                found["ai_assets.provider_request_id"] = outcome.provider_id
            if self._settings.content:
                found.update(self._content(request, outcome))
            self._span(
                note.parent, place.name, note.attempt_id, note.span_id, note.attempt_began_ns, ended_ns, found, error,
                _end_of_attempt(place, outcome, request, note.attempts, len(sent)), kind="client",
            )  # fmt: skip
        if self._sums is not None:
            took_s = (ended_ns - note.attempt_began_ns) / 1e9
            counted = conventions.call_measures(place.operation, took_s, usage, latest=self._latest)
            counted.append((conventions.ATTEMPTS, 1, ""))
            if cost_nusd:
                counted.append((conventions.COST, usd_of(cost_nusd), ""))
            if maybe_nusd:
                counted.append((conventions.MAYBE, usd_of(maybe_nusd), ""))
            place.count(self._sums, counted, error)

    @never_raises(None)
    def ended(self, calls: Sequence[CallState], results: Mapping[CallState, Result]) -> None:
        note = calls[0].noted
        if not isinstance(note, _Call):
            return
        for call in calls:
            self._counted(note.asker, results.get(call))
        if note.parent.put is not None and (note.attempts or results):
            self._call_span(calls, results, note)

    @never_raises(None)
    def recalled(self, call: CallState, result: Result) -> None:
        asker = self._asker(call.claim.caller)
        self._counted(asker, result)
        if call.request.asks_for in OF_TEXTS:  # there are as many as passages
            return
        note = self._new_call(asker)
        if note.parent.put is not None:
            self._call_span([call], {call: result}, note)

    def _new_call(self, asker: _Asker) -> _Call:
        return _Call(asker, asker.parent or self._parents.new(), new_span_id(), time.time_ns())

    def _call_span(self, calls: Sequence[CallState], results: Mapping[CallState, Result], note: _Call) -> None:
        first, asker = calls[0], note.asker
        failed: Unanswered | None = None
        answered, reused, saved_usd = False, bool(results), 0.0
        for result in results.values():
            if isinstance(result, Unanswered):
                failed = failed or result
            else:
                answered = True
                reused = reused and result.reused
                saved_usd += result.saved_usd
        outcome = failed.error if failed is not None else "answered" if answered else "stopped"
        repaired = first.repaired if len(calls) == 1 else any(call.repaired for call in calls)
        found: dict[str, Value] = {"ai_assets.call.key": first.claim.hops[0].key}
        if answered and reused:
            found["ai_assets.call.reused"] = True
            found["ai_assets.cost.saved_usd"] = saved_usd
        if self._settings.content and first.asked.document:
            found["ai_assets.document"] = masked(first.asked.document)
        error = failed.error if failed is not None and failed.error not in LATER else None
        self._span(
            note.parent, asker.name, note.span_id, note.parent.context.span_id, note.began_ns, time.time_ns(), found,
            error, _end_of_call(asker, outcome, error, note.attempts, len(calls), repaired=repaired),
        )  # fmt: skip

    def _span(
        self,
        parent: ParentSpan,
        name: str,
        span_id: int,
        parent_id: int,
        began_ns: int,
        ended_ns: int,
        attributes: dict[str, Value],
        error: str | None,
        shared: SharedAttributes,
        kind: Kind = "internal",
    ) -> None:
        assert parent.put is not None
        trace = parent.context
        parent.put(
            EndedSpan(
                name, trace.trace_id, span_id, parent_id, began_ns, ended_ns, kind, attributes, error, (),
                trace.state, shared,
            )
        )  # fmt: skip

    def _counted(self, asker: _Asker, result: Result | None) -> None:
        if self._sums is None:
            return
        outcome = "stopped"
        if isinstance(result, Answer):
            outcome = "reused" if result.reused else "answered"
            if result.saved_usd:
                self._sums.add(conventions.SAVED, result.saved_usd, asker.labels)
        elif result is not None:
            outcome = result.error
        series = asker.outcomes.get(outcome)
        if series is None:
            labels = (*asker.labels, ("ai_assets.call.outcome", outcome))
            series = asker.outcomes[outcome] = self._sums.series(conventions.CALLS, labels)
        with self._sums.lock:
            series.add(1)

    def _asker(self, caller: Caller) -> _Asker:
        found = self._askers.get(caller)
        if found is None:
            values = about(caller)
            found = self._askers[caller] = _Asker(
                name=f"call {caller.asset or 'model'}",
                parent=self._parents.of(caller),
                values=values,
                labels=tuple((name, values[name]) for name in LABELS if name in values),
            )
        return found

    def _place(self, asker: _Asker, request: Request, opened: Intent) -> _Place:
        """What all attempts have that ask in the same way, for the same stage, at the same endpoint."""
        hop, raw = opened.hop, request.raw
        key = (
            hop.name, request.asks_for, raw and raw.path, request.schema is None, request.max_output_tokens,
            request.temperature, request.seed, request.dimensions, request.prompt,
        )  # fmt: skip
        found = asker.places.get(key)
        if found is None or found.endpoint is not hop.endpoint:
            operation = conventions.operation_of(request)
            stage = str(asker.values.get("ai_assets.stage", ""))
            base = conventions.endpoint_attributes(hop.name, hop.endpoint, operation, latest=self._latest)
            of_request = conventions.request_attributes(request, stage, latest=self._latest)
            found = asker.places[key] = _Place(
                endpoint=hop.endpoint,
                name=f"{operation} {hop.endpoint.llm}",
                operation=operation,
                values={**base, **of_request, **asker.values},
                labels=(*base.items(), *asker.labels),
            )
        return found

    def _content(self, request: Request, outcome: Reply | Fault) -> Mapping[str, Value]:
        asked = json.dumps(list(request.messages), ensure_ascii=False) if request.messages else request.text or ""
        said = outcome.text if isinstance(outcome, Reply) and outcome.text else None
        most = self._settings.longest_value
        return conventions.message_attributes(
            masked(asked)[:most], masked(said)[:most] if said is not None else None, latest=self._latest
        )


def about(caller: Caller) -> dict[str, Value]:
    """Who asks, as attributes."""
    named = {"collection": caller.collection, "stage": caller.asset, "partition": caller.partition,
             "run.id": caller.run_id, "tenant": caller.tenant, "backfill": caller.backfill}  # fmt: skip
    return {f"ai_assets.{name}": value for name, value in named.items() if value}


LABELS = ("ai_assets.collection", "ai_assets.stage", "ai_assets.tenant")
"""Of metrics: never a partition, run or document."""


def _end_of_attempt(
    place: _Place, outcome: Reply | Fault, request: Request, number: int, texts: int
) -> SharedAttributes:
    model = finish_reason = ""
    error: str | None = None
    if isinstance(outcome, Fault):
        error = outcome.error
    else:
        model, finish_reason = outcome.model, outcome.finish_reason if request.asks_for == "chat" else ""
    key = model, finish_reason, error, outcome.tier, number, texts
    found = place.ends.get(key)
    if found is None:
        values = {**place.values, **conventions.reply_attributes(model, finish_reason)}
        values["ai_assets.attempt.number"] = number
        if texts > 1:
            values["ai_assets.texts"] = texts
        if outcome.tier:
            values["ai_assets.tier"] = outcome.tier
        if error is not None:
            values["error.type"] = error
        found = place.ends[key] = SharedAttributes(values)
    return found


def _end_of_call(
    asker: _Asker, outcome: str, error: str | None, attempts: int, texts: int, *, repaired: bool
) -> SharedAttributes:
    key = outcome, error, attempts, texts, repaired
    found = asker.ends.get(key)
    if found is None:
        values = {**asker.values, "ai_assets.call.outcome": outcome, "ai_assets.call.attempts": attempts}
        if texts > 1:
            values["ai_assets.texts"] = texts
        if repaired:
            values["ai_assets.call.repaired"] = True
        if error is not None:
            values["error.type"] = error
        found = asker.ends[key] = SharedAttributes(values)
    return found


def _usage(outcomes: Sequence[Reply | Fault]) -> Usage | None:
    found = [outcome.usage for outcome in outcomes if outcome.usage is not None]
    if len(found) < 2:
        return found[0] if found else None
    return Usage(
        input_tokens=sum(each.input_tokens for each in found),
        cached_tokens=sum(each.cached_tokens for each in found),
        output_tokens=sum(each.output_tokens for each in found),
        reasoning_tokens=sum(each.reasoning_tokens for each in found),
    )
