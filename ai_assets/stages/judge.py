"""`judge`: a model's rating of what another stage made of each document, on a scale, with its reason.

What it says of people is another matter: `evaluation/judged.py` holds it against the ratings of people.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from ai_assets.stages.base import PromptStage, Row
from ai_assets.stages.columns import ColumnType
from ai_assets.stages.prompt import DEFAULTS, clean
from ai_assets.storage.digest import Json, digest

if TYPE_CHECKING:
    from ai_assets.inference.records import Answer

JUDGED = "judged"
"""What a judge's prompt calls the stage that it judges: `stages.judged.output`."""
OUTPUT = "output"
VERDICTS: Mapping[str, int] = {"fail": 0, "pass": 1}
"""Of a scale that is `pass`."""
Points = tuple[int, ...]
_HEX = 13


class JudgeStage(PromptStage):
    """Rates what another stage made of each document."""

    DESCRIPTION: ClassVar[str] = (
        "A row is a document with the rating that a judge gave to what another stage made of it, and the reason; or "
        "why it has none. Only a sample of the documents has rows, drawn by digest. Stale when the judged stage, the "
        "document, the prompt, the scale, the sample or the model change."
    )
    COLUMNS: ClassVar[Mapping[str, ColumnType]] = {"rating": "text", "score": "number", "rationale": "text"}
    HEADLINE: ClassVar[str] = "rating"
    PROMPT: ClassVar[Path] = DEFAULTS / "judge.md"
    OUTPUT_TOKENS: ClassVar[tuple[int, int]] = (20, 90)
    AROUND_BYTES: ClassVar[int] = 1500
    NOT_DECISIVE: ClassVar[frozenset[str]] = frozenset({"sample", "sample_seed", "ratings"})

    kind: Literal["judge"]
    of: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$")
    """The stage that is judged, or one of its columns: `stage`, `stage.column`."""
    criteria: str = Field(
        default="It says only what the document says, leaves out nothing that matters, and reads well.",
        min_length=1,
        max_length=4_000,
        pattern=r"^[^<>]+$",
    )
    """What makes an output good, in words for the judge and for people who rate."""
    scale: Literal["pass"] | Annotated[Points, Field(min_length=2, max_length=21)] = (1, 2, 3, 4, 5)
    """The ratings there are, the worst first; `pass` is fail or pass."""
    sample: float = Field(default=1.0, gt=0, le=1)
    """The share of documents that is judged, drawn by digest: the same documents each time."""
    sample_seed: int = 0
    """Another one draws other documents."""
    ratings: str | None = None
    """A file of what people say of the same outputs, relative to this one."""

    @field_validator("scale")
    @classmethod
    def _ascends(cls, scale: "Literal['pass'] | Points") -> "Literal['pass'] | Points":
        if scale != "pass" and list(scale) != list(range(scale[0], scale[0] + len(scale))):
            raise ValueError(f"a scale is whole numbers one after the other, the worst first (found {list(scale)})")
        return scale

    @property
    def judges(self) -> str:
        return self.of.partition(".")[0]

    @property
    def column(self) -> str:
        """Of that stage. A collection writes the one that people read first where none is named."""
        return self.of.partition(".")[2]

    def beside(self, headlines: Mapping[str, str]) -> Self:
        """As it is among the stages of a collection: with the column that is judged."""
        headline = headlines.get(self.of)
        return self if headline is None else self.model_copy(update={"of": f"{self.of}.{headline}"})

    @property
    def points(self) -> Points:
        return tuple(VERDICTS.values()) if self.scale == "pass" else self.scale

    @property
    def words(self) -> tuple[int | str, ...]:
        """As a judge and people write them, in the order of the points."""
        return tuple(VERDICTS) if self.scale == "pass" else self.scale

    @property
    def step(self) -> float:
        """How far two neighbours are apart, where the whole scale is from 0 to 1."""
        return 1 / (len(self.points) - 1)

    def share_of(self, score: float) -> float:
        """Where on the scale a score stands, from 0 to 1."""
        return (score - self.points[0]) / (self.points[-1] - self.points[0])

    def score_of(self, word: object) -> int | None:
        """None for what the scale does not have."""
        if isinstance(word, bool) or word not in self.words:
            return None
        return self.points[self.words.index(word)]

    @property
    def upstream(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*super().upstream, self.judges)))

    @property
    def chooses(self) -> list[Json]:
        return ["sample-1", self.sample, self.sample_seed]

    @property
    def share_taken(self) -> float:
        return self.sample

    def draws(self, document_id: str) -> bool:
        return self.sample >= 1 or self.place_of(document_id) < self.sample

    def place_of(self, document_id: str) -> float:
        """From 0 to 1, by digest: the sample is those below it, and people rate the first of them."""
        return float(int(digest([self.sample_seed, document_id])[:_HEX], 16)) / float(16**_HEX)

    def offers(self, offered: Mapping[str, Mapping[str, ColumnType]]) -> Mapping[str, Mapping[str, ColumnType]]:
        return {**offered, JUDGED: {OUTPUT: "text"}}

    def shows(self, upstream: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Mapping[str, Any] | None]:
        row = upstream.get(self.judges)
        return {**upstream, JUDGED: None if row is None else {OUTPUT: self.output_in(row)}}

    def output_in(self, row: Mapping[str, Any]) -> str | None:
        """What is judged, in a row of the stage that made it."""
        found = row.get(self.column)
        return found if isinstance(found, str) and found.strip() else None

    def problem_with(self, upstream: Mapping[str, Mapping[str, Any] | None]) -> str | None:
        row = upstream.get(self.judges)
        if row is not None and self.output_in(row) is None:
            return f"nothing to judge: '{self.of}' of this document is empty"
        return None

    def prompt_values(self) -> Mapping[str, Any]:
        lowest, highest = self.words[0], self.words[-1]
        judging = {"criteria": self.criteria, "lowest": lowest, "highest": highest, "words": list(self.words)}
        return {**super().prompt_values(), "judging": judging}

    def answer_schema(self, folder: Path) -> Mapping[str, Json]:
        kind = "string" if self.scale == "pass" else "integer"
        return {
            "type": "object",
            "properties": {
                "rationale": {"type": "string"},
                "score": {"type": kind, "enum": list(self.words)},
            },
            "required": ["rationale", "score"],
            "additionalProperties": False,
        }

    def read(self, answer: "Answer", text: str) -> Row | str:
        if not isinstance(answer.data, Mapping):
            return "invalid_output: not an object"
        score, rationale = self.score_of(answer.data.get("score")), answer.data.get("rationale")
        if score is None:
            return f"invalid_output: the score is none of {', '.join(map(str, self.words))}"
        if not isinstance(rationale, str) or not rationale.strip():
            return "invalid_output: the judge gave no reason"
        word = self.words[self.points.index(score)]
        return {"rating": str(word), "score": float(score), "rationale": clean(rationale).strip()}
