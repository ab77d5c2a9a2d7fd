"""Where a span stands: W3C trace context, and ids that every process of a run derives alike. Pure."""

import hashlib
import random
import re
from dataclasses import dataclass
from functools import cached_property

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
"""Headers of requests, and tags of runs."""
LONGEST_STATE = 512
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(frozen=True, kw_only=True)
class TraceContext:
    """A span, as others name it."""

    trace_id: int
    span_id: int
    is_sampled: bool = True
    state: str = ""
    """Of other vendors: passed on as it came."""

    @property
    def traceparent(self) -> str:
        return self._written(self.span_id)

    def _written(self, span_id: int) -> str:
        return f"{self._beginning}{span_id:016x}{self._end}"

    @cached_property
    def _beginning(self) -> str:
        return f"00-{self.trace_id:032x}-"

    @cached_property
    def _end(self) -> str:
        return f"-{int(self.is_sampled):02x}"

    def headers_of(self, span_id: int) -> dict[str, str]:
        """What a request says that leaves within a span of this trace."""
        parent = self._written(span_id)
        return {TRACEPARENT: parent, TRACESTATE: self.state} if self.state else {TRACEPARENT: parent}

    def below(self, *names: str) -> int:
        """The id of what is below this span under these names: any process that knows the span finds the same."""
        return _number("\0".join((f"{self.span_id:016x}", *names)), 8)


def parsed(traceparent: str | None, state: str | None = None) -> TraceContext | None:
    """None where it says nothing, or nothing that the standard lets count."""
    found = _TRACEPARENT.fullmatch((traceparent or "").strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    known = (state or "").strip()
    usable = known.isascii() and known.isprintable() and len(known) <= LONGEST_STATE
    return TraceContext(
        trace_id=trace_id,
        span_id=span_id,
        is_sampled=bool(int(found[4], 16) & _SAMPLED),
        state=known if usable else "",
    )


def trace_of_run(run_id: str) -> int:
    """The trace of a run that continues no other: the same in each of its steps, and for who looks back at it."""
    return _number(f"run {run_id}", 16)


def span_of_batch(job_id: str) -> int:
    """The same for whoever collects a part of it."""
    return _number(f"batch {job_id}", 8)


def new_trace_id() -> int:
    return random.getrandbits(128) or 1


def new_span_id() -> int:
    return random.getrandbits(64) or 1


def _number(text: str, size: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1
