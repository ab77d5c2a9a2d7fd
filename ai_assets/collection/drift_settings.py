"""`drift:` in defs.yaml: what a candidate is held against, and how far it may be from that."""

from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator

from ai_assets.base.blocking import Blocks
from ai_assets.base.yaml_settings import Strict, wrong
from ai_assets.evaluation.slices import SliceBy

if TYPE_CHECKING:
    from ai_assets.collection.settings import PartitionSettings

Against: TypeAlias = Literal["live", "trailing", "itself"]


class DriftSettings(Strict):
    """Whether what comes in still looks like what is published."""

    against: tuple[Against, ...] | None = Field(default=None, min_length=1)
    """`live`: the live release. `trailing`: its partitions just before this one. `itself`: this partition as it is
    live. Without it, by the kind of partitions: dates `live` and `trailing`, folders `itself`, shards `live`."""
    trailing: int = Field(default=30, ge=3, le=100)
    """How many partitions before."""
    least: int = Field(default=50, ge=20)
    """Documents that both sides must have; with fewer it is undecided."""
    significance: float = Field(default=0.01, gt=0, le=0.2)
    """How often all comparisons of a partition together may raise an alarm by chance (Holm)."""
    mix: float = Field(default=0.25, gt=0)
    """Population stability index of languages, sources, lengths, labels, confidence, readable or not."""
    unseen_words: float = Field(default=0.15, gt=0, le=1)
    """How much more of a document's words may be ones that the other side has not got."""
    vectors: float = Field(default=0.01, gt=0, le=1)
    """The share of the spread of vectors that is between the two sides."""
    slices: tuple[SliceBy, ...] = ()
    """Mixes are compared within each value of these too."""
    undecided: Literal["warn", "block"] = "warn"
    blocks: Blocks = "no"
    """Whether drift holds the candidate back. `waivable`: whoever approves says why it may pass."""

    @field_validator("against", "slices")
    @classmethod
    def _once_each(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for number, name in enumerate(names or ()):
            if name in (names or ())[:number]:
                raise ValueError(f"'{name}' is here twice")
        return names

    @model_validator(mode="after")
    def _blocks_alike(self) -> Self:
        if self.undecided == "block" and self.blocks == "no":
            raise wrong("what is undecided cannot block where drift does not ('blocks')", "undecided")
        return self

    def sides(self, partitions: "PartitionSettings") -> tuple[Against, ...]:
        if self.against is not None:
            return self.against
        if partitions.by == "folder":
            return ("itself",)
        return ("live",) if partitions.by == "shards" else ("live", "trailing")
