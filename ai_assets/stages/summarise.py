"""`summarise`: in a few sentences what each document says."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from ai_assets.stages.generate import TextStage
from ai_assets.stages.prompt import DEFAULTS

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer


class SummariseStage(TextStage):
    """Says in a few sentences what each document says."""

    DESCRIPTION: ClassVar[str] = (
        "A row is a document with its summary; or why it has none. Stale when the document, the prompt, the limits, "
        "the model or what the prompt uses change."
    )
    PROMPT: ClassVar[Path] = DEFAULTS / "summarise.md"
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (15, 110)

    kind: Literal["summarise"]
    max_sentences: int | None = Field(default=None, ge=1, le=1000)
    max_words: int | None = Field(default=None, ge=1, le=100_000)

    def prompt_values(self) -> Mapping[str, Any]:
        return {**super().prompt_values(), "limits": {"sentences": self.max_sentences, "words": self.max_words}}

    def complaint(self, answer: "Answer", text: str) -> str | None:
        return too_long(answer.text, self.max_sentences, self.max_words)


_SENTENCE_END = re.compile(r"(?<!\b\w)(?<!\b[A-Za-z]{2})[.!?؟।]+[\"'”’)\]]*(?=\s+[^\sa-z]|\s*\Z)|[。！？]+")


def too_long(text: str, max_sentences: int | None, max_words: int | None) -> str | None:
    """Counted in the text's favour: neither '3. May' nor 'e.g. this' nor 'Dr. Ash' ends a sentence."""
    if max_sentences is not None and (sentences := len(_SENTENCE_END.findall(text.strip()))) > max_sentences:
        return f"it has {sentences} sentences; write at most {max_sentences}"
    if max_words is not None and (words := len(text.split())) > max_words:
        return f"it has {words} words; write at most {max_words}"
    return None
