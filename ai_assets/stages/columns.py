"""The columns of each kind of stage: what its dataset holds, what a release publishes, and which one says it all."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

ColumnType = Literal["text", "number", "integer", "truth", "texts"]


@dataclass(frozen=True, kw_only=True)
class Columns:
    dataset: Mapping[str, ColumnType]
    published: tuple[str, ...]
    """What a release holds of it, and so what people sign."""
    headline: str
    """The one column that a person reads first."""
    explained: tuple[str, ...]
    """What `ai-assets explain` shows."""
    preview: tuple[str, ...]

    @property
    def offered(self) -> Mapping[str, ColumnType]:
        """What the prompt of a later stage may use."""
        inner = ("document_id", "input_digest", "raw", "call", "cost_usd", "reused", *CORRECTED)
        return {name: kind for name, kind in self.dataset.items() if name not in inner}


CORRECTED: Mapping[str, ColumnType] = {"model_label": "text", "corrected_by": "text"}
"""Of every stage that gives labels: what the model itself said, and who said otherwise (or the same)."""


BUILTIN_CLASSIFY = Columns(
    dataset={
        **dict.fromkeys(("document_id", "input_digest", "label", "runner_up", "evidence", "model"), "text"),
        **dict.fromkeys(("confidence", "runner_up_confidence"), "number"),
        "evidence_start": "integer",
        **CORRECTED,
    },
    published=(
        "label",
        "confidence",
        "runner_up",
        "runner_up_confidence",
        "evidence",
        "evidence_start",
        "model",
        *CORRECTED,
    ),
    headline="label",
    explained=("label", "confidence", "runner_up", "evidence", "model", *CORRECTED),
    preview=("document_id", "label", "confidence", "evidence"),
)

_OF_EVERY_CALL: Mapping[str, ColumnType] = {
    **dict.fromkeys(("document_id", "input_digest", "status", "reason", "raw"), "text"),
    **dict.fromkeys(("model", "endpoint", "call", "prompt_version", "finish_reason"), "text"),
    "cost_usd": "number",
    **dict.fromkeys(("reused", "truncated"), "truth"),
}
_PUBLISHED = ("status", "reason", "model", "prompt_version", "truncated", "call")
_EXPLAINED = (*_PUBLISHED, "endpoint", "cost_usd")


def columns_of_calls(headline: str, own: Mapping[str, ColumnType]) -> Columns:
    """Made once: a run asks for them with every row."""
    return _columns_of_calls(headline, tuple(own.items()))


@lru_cache(maxsize=256)
def _columns_of_calls(headline: str, items: tuple[tuple[str, ColumnType], ...]) -> Columns:
    own = dict(items)
    return Columns(
        dataset={**_OF_EVERY_CALL, **own},
        published=(*own, *_PUBLISHED),
        headline=headline,
        explained=(*own, *_EXPLAINED),
        preview=("document_id", "status", *list(own)[:2], "reason"),
    )
