"""One stage over all partitions: how many questions are open, how large they are, and which tokens were counted."""

import math
from dataclasses import dataclass, field

from ai_assets.planning.findings import StageFindings
from ai_assets.planning.records import CERTAIN, Chance, Range

SAMPLE = 200
"""With fewer in the sample, all that were counted tell more."""


@dataclass(kw_only=True)
class CallGroup:
    """Calls of one endpoint that are equally probable."""

    calls: float = 0.0
    size: float = 0.0


@dataclass(kw_only=True)
class TokenStatistics:
    """Calls whose tokens were counted, for the ratio of tokens to bytes and how far it may be off."""

    calls: int = 0
    tokens: int = 0
    size: int = 0
    tokens_squared: int = 0
    tokens_by_size: int = 0
    size_squared: int = 0

    def add(self, tokens: int, size: int) -> None:
        self.calls += 1
        self.tokens += tokens
        self.size += size
        self.tokens_squared += tokens * tokens
        self.tokens_by_size += tokens * size
        self.size_squared += size * size

    def ratio(self) -> Range:
        likely = self.tokens / self.size
        squares = self.tokens_squared - 2 * likely * self.tokens_by_size + likely**2 * self.size_squared
        off = 2 * math.sqrt(max(squares, 0.0) / max(self.calls - 1, 1) * self.calls) / self.size
        return Range(low=max(likely - off, 0.0), likely=likely, high=likely + off)


@dataclass(kw_only=True)
class Tally:
    """One stage over all partitions."""

    stage: str
    kind: str
    route: str
    endpoint: str
    max_output_tokens: int
    prompt: str
    usual_output: tuple[int, int] = (0, 0)
    """Tokens of an answer, at least and likely, before there is one of the stage to learn from."""
    usual_around: int = 0
    """Bytes of a question around its document, where none was put together."""
    documents: int = 0
    kept: int = 0
    reused: int = 0
    reused_nusd: int = 0
    held: int = 0
    unknown: int = 0
    asked: int = 0
    asked_bytes: int = 0
    text_bytes: int = 0
    unread: dict[Chance, CallGroup] = field(default_factory=dict)
    groups: dict[tuple[str, Chance], CallGroup] = field(default_factory=dict)
    counted: dict[str, TokenStatistics] = field(default_factory=dict)
    """All that were counted, by endpoint."""
    sampled: dict[str, TokenStatistics] = field(default_factory=dict)
    """Only those of the sample."""
    calls: dict[str, int] = field(default_factory=dict)
    pairs: list[tuple[int, int, bool]] = field(default_factory=list)

    def add(self, found: StageFindings, seen: set[str]) -> None:
        """`seen` holds the keys of all calls so far: a question that recurs is paid for once."""
        for name in ("documents", "kept", "reused", "reused_nusd", "held", "unknown", "asked", "asked_bytes"):
            setattr(self, name, getattr(self, name) + getattr(found, name))
        self.text_bytes += found.text_bytes
        self.pairs += found.pairs[: max(0, SAMPLE * 5 - len(self.pairs))]
        for chance, unread in found.unread:
            group = self.unread.setdefault(chance, CallGroup())
            group.calls += unread.documents
            group.size += unread.text_bytes
        for call in found.calls:
            if call.key and call.chance == CERTAIN:
                if call.key in seen:
                    self.reused += 1
                    continue
                seen.add(call.key)
            group = self.groups.setdefault((call.endpoint, call.chance), CallGroup())
            group.calls += 1
            group.size += call.size
            self.calls[call.endpoint] = self.calls.get(call.endpoint, 0) + 1
            if call.tokens is not None:
                self.counted.setdefault(call.endpoint, TokenStatistics()).add(call.tokens, call.size)
                if call.sampled:
                    self.sampled.setdefault(call.endpoint, TokenStatistics()).add(call.tokens, call.size)

    def with_unread(self) -> list[tuple[str, Chance, CallGroup]]:
        """All groups; documents that are not read yet get the surroundings that the others' questions have."""
        around = max(self.asked_bytes - self.text_bytes, 0) / self.asked if self.asked else self.usual_around
        if self.kind == "embed":
            around = 0.0
        unread = [
            (self.endpoint, chance, CallGroup(calls=group.calls, size=group.size + group.calls * around))
            for chance, group in self.unread.items()
        ]
        return [*((name, chance, group) for (name, chance), group in self.groups.items()), *unread]
