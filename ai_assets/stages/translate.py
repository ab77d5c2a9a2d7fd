"""`translate`: each document in another language."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ai_assets.stages.generate import TextStage
from ai_assets.stages.prompt import DEFAULTS


class TranslateStage(TextStage):
    """Writes each document in another language."""

    DESCRIPTION: ClassVar[str] = (
        "A row is a document in another language; or why it is not. Stale when the document, the language, the prompt, "
        "the model or what the prompt uses change."
    )
    PROMPT: ClassVar[Path] = DEFAULTS / "translate.md"
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (20, 400)

    kind: Literal["translate"]
    into: str = Field(min_length=2, max_length=60, pattern=r"^[^\n<>]+$")
    """The language, as people call it: `German`, `Brazilian Portuguese`."""
    max_output_tokens: int = Field(default=4096, ge=1, le=1_000_000)

    def prompt_values(self) -> Mapping[str, Any]:
        return {**super().prompt_values(), "language": self.into}
