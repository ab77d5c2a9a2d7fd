"""Which span calls are below: of a stage in a run of a collection, of a step that asks for itself, of a command.

Pure, but that it reads the environment's trace context.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ai_assets.base.home import variable
from ai_assets.inference.records import Caller
from ai_assets.telemetry.call_spans import ParentSpan, ParentSpans, about
from ai_assets.telemetry.span_records import EndedSpan, SpanError, Value
from ai_assets.telemetry.trace_context import (
    TRACEPARENT,
    TRACESTATE,
    TraceContext,
    new_trace_id,
    parsed,
    trace_of_run,
)

Put = Callable[[EndedSpan], None]
PutOf = Callable[[TraceContext], Put | None]
"""Who takes the spans of a trace; None where it is not sampled."""
RootOf = Callable[[int, TraceContext | None], TraceContext]
"""The first span here of a trace, which is that of the span above where there is one."""


class StageParents(ParentSpans):
    """Below the span of the stage that asks; what no partition asks is below the run itself."""

    def __init__(self, root: TraceContext, put: Put | None) -> None:
        self._root, self._put = root, put

    def of(self, caller: Caller) -> ParentSpan:
        root = self._root
        above = root.below(caller.partition, caller.asset) if caller.partition else root.span_id
        return ParentSpan(replace(root, span_id=above), self._put)

    def new(self) -> ParentSpan:
        return ParentSpan(self._root, self._put)


@dataclass(eq=False)
class _Step:
    """From its first call to its last: its span is made when no more come."""

    name: str
    context: TraceContext
    parent_id: int
    caller: Caller
    put: Put
    began_ns: int = 0
    ended_ns: int = 0
    failed: str | None = None
    """The class of what was raised in it, where it failed."""

    def take(self, span: EndedSpan) -> None:
        self.began_ns = min(self.began_ns or span.began_ns, span.began_ns)
        self.ended_ns = max(self.ended_ns, span.ended_ns)
        self.put(span)

    def end(self) -> None:
        if self.began_ns:
            error = SpanError(self.failed) if self.failed is not None else None
            found: dict[str, Value] = {**about(self.caller), **({"error.type": error.kind} if error else {})}
            self.put(
                EndedSpan(
                    self.name, self.context.trace_id, self.context.span_id, self.parent_id, self.began_ns,
                    self.ended_ns, "internal", found, error.said(content=False) if error else None,
                    state=self.context.state,
                )
            )  # fmt: skip


class StepParents(ParentSpans):
    """Of `LLMResource`: a span for each asset and partition that asks in a run; in a plain program each call begins a
    trace, or continues that of the environment."""

    def __init__(self, put_of: PutOf, root_of: RootOf, tags_of: Callable[[str], Mapping[str, str]]) -> None:
        """`tags_of` a run, which may continue a trace."""
        self._put_of, self._root_of, self._tags_of = put_of, root_of, tags_of
        self._steps: list[_Step] = []

    def of(self, caller: Caller) -> ParentSpan | None:
        if not caller.run_id:
            above = above_of({})
            return None if above is None else ParentSpan(above, self._put_of(self._root_of(above.trace_id, above)))
        above = above_of(self._tags_of(caller.run_id))
        context = self._root_of(trace_of_run(caller.run_id), above)
        put = self._put_of(context)
        if put is None:
            return ParentSpan(context, None)
        name = f"step {caller.asset or caller.collection}".rstrip()
        step = _Step(name, context, above.span_id if above is not None else 0, caller, put)
        self._steps.append(step)
        return ParentSpan(context, step.take)

    def new(self) -> ParentSpan:
        context = replace(self._root_of(new_trace_id(), None), span_id=0)
        return ParentSpan(context, self._put_of(context))

    def failed(self, run_id: str, errors: Mapping[tuple[str, str], str]) -> None:
        """By collection and asset, what steps of a run ended with."""
        for step in self._steps:
            kind = errors.get((step.caller.collection, step.caller.asset))
            if step.caller.run_id == run_id and kind is not None:
                step.failed = kind

    def end(self) -> None:
        """No more calls come."""
        for step in self._steps:
            step.end()
        self._steps.clear()


def above_of(tags: Mapping[str, str]) -> TraceContext | None:
    """The span that is continued: of the tags of a run, else of the environment."""
    if tags.get(TRACEPARENT):
        return parsed(tags.get(TRACEPARENT), tags.get(TRACESTATE))
    return parsed(variable("TRACEPARENT"), variable("TRACESTATE"))
