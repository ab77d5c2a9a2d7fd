"""When the answers of a file are due, and how what it has not done by then is asked."""

import json
from dataclasses import asdict, dataclass
from typing import Self

from ai_assets.inference.deadline import Way


@dataclass(frozen=True, kw_only=True, slots=True)
class JobDeadline:
    due_at: str
    levels: int
    """So many stages are asked about these answers before the collection is done."""
    then: Way
    endpoint: str
    """Where the rest is asked."""

    @property
    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of(cls, text: str | None) -> Self | None:
        return None if text is None else cls(**json.loads(text))
