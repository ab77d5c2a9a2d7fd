"""A span that has ended, as it waits to be sent. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ai_assets.base.masking import masked

LONGEST_ERROR = 500
UNKNOWN_KIND = "_OTHER"
"""`error.type` where nothing is known but words, as the conventions have it."""
Value: TypeAlias = "str | bool | int | float | tuple[str, ...]"
Attributes: TypeAlias = "Mapping[str, Value]"
Kind = Literal["internal", "client"]


@dataclass(frozen=True, slots=True)
class SpanEvent:
    name: str
    at_ns: int
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanError:
    """Why a span ended as an error."""

    kind: str
    """`error.type`: the class of what was raised."""
    words: str = ""
    """May name documents, or hold what they say."""

    def said(self, *, content: bool) -> str:
        """The description: the words only where content may be sent."""
        return masked(self.words)[:LONGEST_ERROR] if content and self.words else self.kind


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
