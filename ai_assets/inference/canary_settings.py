"""`canary:` of an endpoint in inference.yaml: how often a fixed set is asked, and when answers count as changed."""

from typing import Self

from pydantic import Field, model_validator

from ai_assets.base.blocking import Blocks
from ai_assets.base.yaml_settings import Strict, wrong

HOURS_PER_YEAR = 8766.0
STREAMS = ("answers", "confidence", "length", "output tokens")
"""What is compared, each by a test of its own."""
WINDOWS = (1, 7)
"""Runs that are held against the baseline together: a large change shows in one, a small one in several."""
LEAST_CHANCE = 5e-7
"""A rarer one would take too many simulated draws to show."""


class CanarySettings(Strict):
    """A fixed set that is asked on a schedule, to notice a model that was changed under its name."""

    every_hours: float = Field(default=24.0, ge=0.25, le=8760)
    embeds: bool = False
    """It makes vectors: a fixed set of texts is embedded, and nothing is asked."""
    items: str | None = Field(default=None, min_length=1)
    """A YAML file of your own questions or texts, relative to inference.yaml; without it the built-in ones."""
    notify: tuple[str, ...] = ()
    """Channels of desk.yaml that are told of a change."""
    blocks: Blocks = "no"
    """Whether rows that were made after a change hold a candidate back. `waivable`: whoever approves says why not."""
    budget_usd: float = Field(default=0.05, gt=0, le=1000)
    """Of one run; a budget of its own beside those that are declared."""
    repeats: int = Field(default=2, ge=1, le=10)
    """How often each question is asked in a run."""
    baseline: int = Field(default=5, ge=2, le=50)
    """The first runs, which show how much answers of the same model differ."""
    false_alarms_per_year: float = Field(default=0.05, gt=0, le=0.5)
    """How often a model that stays the same may raise an alarm by chance, however often it is asked."""
    answers: float = Field(default=0.1, gt=0, le=1)
    """The share of answers that must have become others."""
    confidence: float = Field(default=0.1, gt=0, le=1)
    """By how much the confidence of an answer must have moved, on average."""
    length: float = Field(default=0.25, gt=0, le=100)
    """By which share the length of an answer, or its tokens, must have moved, on average."""

    vectors: float = Field(default=0.01, gt=0, le=2)
    """How far vectors must be from those of the baseline, by cosine and on average."""

    @property
    def chance(self) -> float:
        """What each test of a run may use of `false_alarms_per_year`."""
        return self.false_alarms_per_year / (HOURS_PER_YEAR / self.every_hours) / (len(STREAMS) * len(WINDOWS))

    @property
    def every_s(self) -> float:
        return self.every_hours * 3600

    @model_validator(mode="after")
    def _can_be_shown(self) -> Self:
        if self.chance < LEAST_CHANCE:
            said = (
                f"asked every {self.every_hours:g} hours, that leaves a chance of {self.chance:.1g} for each "
                f"comparison, and less than {LEAST_CHANCE:g} cannot be shown; ask less often or allow more"
            )
            raise wrong(said, "false_alarms_per_year")
        return self

    def least_of(self, stream: str) -> float:
        own = {"answers": self.answers, "confidence": self.confidence, "vectors": self.vectors}
        return own.get(stream, self.length)
