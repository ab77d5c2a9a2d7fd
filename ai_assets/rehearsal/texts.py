"""Requests about texts: vectors, relevance to a query, labels; asked and answered in two dialects, TEI's and KServe's.

Both are strict: a field that the server does not know is refused, so that a client's mistake is seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ai_assets.rehearsal.labels import embedder
from ai_assets.rehearsal.settings import Behaviour
from ai_assets.rehearsal.tokens import TokenUsage, count

if TYPE_CHECKING:
    import numpy as np

Task = Literal["embed", "rerank", "predict", "chat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TextsRequest:
    """Of a dialect that is told at the end: `answer` makes the bytes of its answer out of what was computed."""

    model: str
    task: Task
    texts: tuple[str, ...]
    query: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    @property
    def shown(self) -> str:
        return self.texts[0]

    @property
    def input_tokens(self) -> int:
        return sum(map(count, self.texts)) + count(self.query or "") * len(self.texts)

    @property
    def usage(self) -> TokenUsage:
        return TokenUsage(input_tokens=self.input_tokens)


def vectors(request: TextsRequest) -> np.ndarray:
    """Of length one; all zeros where a text holds no word."""
    return embedder().embed(request.texts)


def scores(request: TextsRequest, *, raw: bool) -> list[float]:
    """How like the query each text is: the cosine, or what a logistic function makes of it."""
    rows = embedder().embed([request.query or "", *request.texts])
    found = [float(row @ rows[0]) * 4 for row in rows[1:]]
    return found if raw else [_logistic(each) for each in found]


def labelled(request: TextsRequest, behaviour: Behaviour, *, raw: bool) -> list[list[tuple[str, float]]]:
    """Every label with its score, per text; the likeliest first."""
    names = embedder().embed(list(behaviour.labels))
    found = []
    for row in embedder().embed(request.texts):
        likeness = [float(row @ name) * 4 for name in names]
        powers = [math.exp(each) for each in likeness]
        shares = likeness if raw else [power / sum(powers) for power in powers]
        found.append(sorted(zip(behaviour.labels, shares, strict=True), key=lambda each: (-each[1], each[0])))
    return found


def chat_answer(text: str) -> str:
    """What a model server says to a chat: JSON for a schema that is asked for, else the end of what was said."""
    asked = json.loads(text)
    last = str(asked["messages"][-1].get("content", ""))
    schema = asked.get("schema")
    if schema is None:
        return last[-200:]
    from ai_assets.rehearsal.chat import ChatMessage
    from ai_assets.rehearsal.reading import read
    from ai_assets.rehearsal.schemas import fill

    messages = [ChatMessage(str(each["role"]), str(each["content"]), 0) for each in asked["messages"]]
    return fill(schema, read(messages, quick=False)).text


def unknown(given: Mapping[str, Any], known: Sequence[str]) -> str | None:
    return next((name for name in given if name not in known), None)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))
