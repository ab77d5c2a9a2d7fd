"""`generate`: free text for each document. And what all kinds share whose answer is text."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from ai_assets.stages.base import PromptStage, Row
from ai_assets.stages.columns import ColumnType
from ai_assets.stages.prompt import DEFAULTS, clean

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer


class TextStage(PromptStage):
    """A kind whose answer is taken as it is, in the column `text`."""

    COLUMNS: ClassVar[Mapping[str, ColumnType]] = {"text": "text"}
    HEADLINE: ClassVar[str] = "text"

    def read(self, answer: "Answer", text: str) -> Row | str:
        said = clean(answer.text).strip()
        return {"text": said} if said else "empty answer"


class GenerateStage(TextStage):
    """Writes free text for each document, such as a draft of a reply."""

    DESCRIPTION: ClassVar[str] = (
        "A row is a document with the text written for it; or why it has none. Stale when the document, the prompt, "
        "the model or what the prompt uses change."
    )
    PROMPT: ClassVar[Path] = DEFAULTS / "generate.md"
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (20, 220)

    kind: Literal["generate"]
