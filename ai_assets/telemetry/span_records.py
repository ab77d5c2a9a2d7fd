"""A span that has ended, as it waits to be sent. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Value: TypeAlias = "str | bool | int | float | tuple[str, ...]"
Attributes: TypeAlias = "Mapping[str, Value]"
Kind = Literal["internal", "client"]


@dataclass(frozen=True, slots=True)
class SpanEvent:
    name: str
    at_ns: int
    attributes: Attributes


@dataclass(slots=True, eq=False)
class SharedAttributes:
    """Of many spans: encoded once."""

    values: Attributes
    encoded: bytes | None = None


@dataclass(slots=True)
class EndedSpan:
    name: str
    trace_id: int
    span_id: int
    parent_id: int
    """0: it has none."""
    began_ns: int
    ended_ns: int
    kind: Kind
    attributes: Attributes
    error: str | None = None
    """A description where it failed; None where it did not."""
    events: Sequence[SpanEvent] = ()
    state: str = ""
    shared: SharedAttributes | None = None
    """Beside its own."""
