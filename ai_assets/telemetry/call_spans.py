"""Calls and their attempts as spans and metrics: the listener of the engine.

It only takes notes: a record in a queue and numbers in a table for each attempt. Texts that share a request are one
call.
"""

import functools
import json
import logging
import time
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


@dataclass(slots=True)
class _Call:
    span_id: int
    began_ns: int
    attempts: int = 0
    attempt_id: int = 0
    attempt_began_ns: int = 0


@dataclass(slots=True, kw_only=True)
class _Place:
    """Attempts that differ only in what came of them."""

    endpoint: Endpoint
    name: str
    operation: str
    shared: SharedAttributes
    labels: Labels
    series: dict[tuple[Instrument, str, str | None], CountedSeries] = field(default_factory=dict)

    def count(self, sums: MetricSums, counted: Sequence[CallMeasure], error: str | None) -> None:
        for instrument, value, kind in counted:
            key = instrument, kind, error
            found = self.series.get(key)
            if found is None:
                more: Labels = (("gen_ai.token.type", kind),) if kind else ()
                failed: Labels = (("error.type", error),) if error is not None else ()
                found = self.series[key] = sums.series(instrument, (*self.labels, *more, *failed))
            with sums.lock:
                found.add(value)


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
        root: TraceContext,
        put: Callable[[EndedSpan], None] | None,
        sums: MetricSums | None,
    ) -> None:
        """Without `put` no spans are made, without `sums` nothing is counted."""
        self._settings, self._root, self._put, self._sums = settings, root, put, sums
        self._latest = settings.latest_names
        self._parents: dict[tuple[str, str], int] = {}
        self._about: dict[Caller, dict[str, Value]] = {}
        self._places: dict[object, _Place] = {}
        self._callers: dict[Caller, SharedAttributes] = {}
        self._outcomes: dict[tuple[Caller, str], CountedSeries] = {}

    @never_raises(None)
    def began(self, calls: Sequence[CallState]) -> None:
        note = _Call(new_span_id(), time.time_ns())
        for call in calls:
            call.noted = note

    @never_raises(NO_TRACE)
    def leaves(self, sent: Sequence[tuple[CallState, Intent]]) -> Mapping[str, str]:
        note = sent[0][0].noted
        if not isinstance(note, _Call):
            return NO_TRACE
        note.attempts += 1
        note.attempt_id, note.attempt_began_ns = new_span_id(), time.time_ns()
        return self._root.headers_of(note.attempt_id) if self._settings.propagates else NO_TRACE

    @never_raises(None)
    def came(
        self, sent: Sequence[tuple[CallState, Intent]], outcomes: Sequence[Reply | Fault], ends: Sequence[AttemptEnd]
    ) -> None:
        (call, opened), outcome = sent[0], outcomes[0]
        note, request = call.noted, call.request
        if not isinstance(note, _Call):
            return
        ended_ns = time.time_ns()
        place = self._place(call, opened)
        error = outcome.error if isinstance(outcome, Fault) else None
        usage = _usage(outcomes) if len(outcomes) > 1 else outcome.usage
        cost_nusd = maybe_nusd = 0
        for (_, each), end in zip(sent, ends, strict=True):
            cost_nusd += end.cost_nusd or 0
            maybe_nusd += each.hop.reserve_nusd if end.cost_nusd is None else 0
        if self._put is not None:
            found = conventions.response_attributes(
                model=outcome.model if isinstance(outcome, Reply) else "",
                finish_reason=outcome.finish_reason
                if isinstance(outcome, Reply) and request.asks_for == "chat"
                else "",
                usage=usage,
                cost_nusd=cost_nusd,
                latest=self._latest,
            )
            found["ai_assets.attempt.id"] = opened.attempt_id
            found["ai_assets.attempt.number"] = note.attempts
            if len(sent) > 1:
                found["ai_assets.texts"] = len(sent)
            if maybe_nusd:
                found["ai_assets.cost.maybe_usd"] = usd_of(maybe_nusd)
            if outcome.tier:
                found["ai_assets.tier"] = outcome.tier
            if outcome.provider_id:
                found["ai_assets.provider_request_id"] = outcome.provider_id
            if error is not None:
                found["error.type"] = error
            if self._settings.content:
                found.update(self._content(request, outcome))
            self._span(
                place.name, note.attempt_id, note.span_id, note.attempt_began_ns, ended_ns, found, error, place.shared,
                kind="client",
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
            self._counted(call, results.get(call))
        if self._put is not None and (note.attempts or results):
            self._call_span(calls, results, note)

    @never_raises(None)
    def recalled(self, call: CallState, result: Result) -> None:
        self._counted(call, result)
        if self._put is not None and call.request.asks_for not in OF_TEXTS:  # of texts there are as many as passages
            self._call_span([call], {call: result}, _Call(new_span_id(), time.time_ns()))

    def _call_span(self, calls: Sequence[CallState], results: Mapping[CallState, Result], note: _Call) -> None:
        first, caller = calls[0], calls[0].claim.caller
        failed = next((each for each in results.values() if isinstance(each, Unanswered)), None)
        answers = [each for each in results.values() if isinstance(each, Answer)]
        outcome = failed.error if failed is not None else "answered" if answers else "stopped"
        shared = self._callers.get(caller)
        if shared is None:
            shared = self._callers[caller] = SharedAttributes(self._caller(caller))
        found: dict[str, Value] = {
            "ai_assets.call.key": first.claim.hops[0].key,
            "ai_assets.call.outcome": outcome,
            "ai_assets.call.attempts": note.attempts,
        }
        if len(calls) > 1:
            found["ai_assets.texts"] = len(calls)
        if answers and all(answer.reused for answer in answers):
            found["ai_assets.call.reused"] = True
            found["ai_assets.cost.saved_usd"] = sum(answer.saved_usd for answer in answers)
        if any(call.repaired for call in calls):
            found["ai_assets.call.repaired"] = True
        error = failed.error if failed is not None and failed.error not in LATER else None
        if error is not None:
            found["error.type"] = error
        if self._settings.content and first.asked.document:
            found["ai_assets.document"] = masked(first.asked.document)
        self._span(
            f"call {caller.asset or 'model'}", note.span_id, self._parent(caller), note.began_ns, time.time_ns(), found,
            error, shared,
        )  # fmt: skip

    def _span(
        self,
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
        assert self._put is not None
        root = self._root
        self._put(
            EndedSpan(
                name, root.trace_id, span_id, parent_id, began_ns, ended_ns, kind, attributes, error, (),
                root.state, shared,
            )
        )  # fmt: skip

    def _counted(self, call: CallState, result: Result | None) -> None:
        if self._sums is None:
            return
        outcome = "stopped"
        if isinstance(result, Answer):
            outcome = "reused" if result.reused else "answered"
            if result.saved_usd:
                self._sums.add(conventions.SAVED, result.saved_usd, self._labels(call.claim.caller))
        elif result is not None:
            outcome = result.error
        key = call.claim.caller, outcome
        series = self._outcomes.get(key)
        if series is None:
            labels = (*self._labels(call.claim.caller), ("ai_assets.call.outcome", outcome))
            series = self._outcomes[key] = self._sums.series(conventions.CALLS, labels)
        with self._sums.lock:
            series.add(1)

    def _parent(self, caller: Caller) -> int:
        """The span of the stage that asks; what no partition asks is below the run itself."""
        place = caller.partition, caller.asset
        found = self._parents.get(place)
        if found is None:
            found = self._root.below(*place) if caller.partition else self._root.span_id
            self._parents[place] = found
        return found

    def _caller(self, caller: Caller) -> dict[str, Value]:
        found = self._about.get(caller)
        if found is None:
            named = {"collection": caller.collection, "stage": caller.asset, "partition": caller.partition,
                     "run.id": caller.run_id, "tenant": caller.tenant, "backfill": caller.backfill}  # fmt: skip
            found = self._about[caller] = {f"ai_assets.{name}": value for name, value in named.items() if value}
        return found

    def _labels(self, caller: Caller) -> Labels:
        about = self._caller(caller)
        return tuple((name, about[name]) for name in _LABELS if name in about)

    def _place(self, call: CallState, opened: Intent) -> "_Place":
        """What all attempts have that ask in the same way, for the same stage, at the same endpoint."""
        request, hop, caller = call.request, opened.hop, call.claim.caller
        operation = conventions.operation_of(request)
        asked = (request.max_output_tokens, request.temperature, request.seed, request.dimensions, request.prompt)
        key = (hop.name, operation, caller, request.schema is None, asked)
        found = self._places.get(key)
        if found is None or found.endpoint is not hop.endpoint:
            base = conventions.endpoint_attributes(hop.name, hop.endpoint, operation, latest=self._latest)
            of_request = conventions.request_attributes(request, caller.asset, latest=self._latest)
            found = self._places[key] = _Place(
                endpoint=hop.endpoint,
                name=f"{operation} {hop.endpoint.llm}",
                operation=operation,
                shared=SharedAttributes({**base, **of_request, **self._caller(caller)}),
                labels=(*base.items(), *self._labels(caller)),
            )
        return found

    def _content(self, request: Request, outcome: Reply | Fault) -> Mapping[str, Value]:
        asked = json.dumps(list(request.messages), ensure_ascii=False) if request.messages else request.text or ""
        said = outcome.text if isinstance(outcome, Reply) and outcome.text else None
        most = self._settings.longest_value
        return conventions.message_attributes(
            masked(asked)[:most], masked(said)[:most] if said is not None else None, latest=self._latest
        )


_LABELS = ("ai_assets.collection", "ai_assets.stage", "ai_assets.tenant")
"""Of metrics: never a partition, run or document."""


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
