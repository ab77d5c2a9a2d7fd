"""What a shadow compares, and what came of it: records, as the state store keeps them. No text of a document."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ai_assets.base.plural import plural
from ai_assets.storage.digest import digest


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class VariantSpec(_Record):
    name: str
    prompt: str | None = None
    """The file that was given; None where the prompt is the declared one."""
    prompt_digest: str = ""
    """Of the bytes of that file."""
    version: str = ""
    """As its front matter says it."""
    route: str | None = None
    """None where the route is the declared one."""
    models: tuple[str, ...] = ()


class ShadowSpec(_Record):
    stage: str
    kind: str
    variants: tuple[VariantSpec, ...]
    declared_prompt: str | None
    """The file that the stage declares; None for that of its kind."""
    declared_digest: str
    """Of the bytes of that file as it was."""
    declared_version: str
    declared_route: str
    sample: int | None
    """None where a whole slice was asked about."""
    seed: int
    slices: tuple[str, ...]
    release: int | None
    """The live one that was compared with; None where nothing was live, and the newest candidates were."""

    @property
    def digest(self) -> str:
        return digest(self.model_dump(mode="json"))

    @property
    def compared_with(self) -> str:
        return "the newest candidates" if self.release is None else f"release {self.release}"

    @property
    def drawn(self) -> str:
        of = f" of {' and '.join(self.slices)}" if self.slices else ""
        return (
            f"all documents{of}"
            if self.sample is None
            else f"{plural(self.sample, 'document')}{of} by seed {self.seed}"
        )


class LabelShift(_Record):
    live: str | None
    new: str | None
    """None where there is no answer."""
    documents: int


class QualityDifference(_Record):
    """On documents with a golden label: the share of right ones, new less live."""

    n: int
    live_right: int
    new_right: int
    better: int
    worse: int
    difference: float
    low: float | None
    high: float | None
    level: float
    chance: float
    """How often as uneven a split comes by chance (McNemar), corrected for the number of variants (Holm)."""
    more: int | None
    """How many more golden documents of the same kind would show a difference; None where no number does."""


class SliceDifference(_Record):
    slice: str
    documents: int
    changed: int
    golden: int
    better: int
    worse: int


class SidePrice(_Record):
    """What one side's answers came to; None where the ledger has none of them."""

    answers: int
    per_document_usd: float | None
    p50_s: float | None
    p95_s: float | None


class MoneyRange(_Record):
    low_nusd: int
    likely_nusd: int
    high_nusd: int
    calls: int
    answered: int
    """Answers of the migration that are in the ledger, from the shadow and from before."""


class VariantResult(_Record):
    name: str
    documents: int
    """Of the sample, without golden documents that were asked about beside it."""
    changed: int
    unanswered: int
    moves: tuple[LabelShift, ...] = ()
    """Of a stage that gives labels."""
    quality: QualityDifference | None = None
    slices: tuple[SliceDifference, ...] = ()
    """The worst first."""
    live: SidePrice
    new: SidePrice
    paid_nusd: int
    """By this shadow."""
    reused: int
    migration: MoneyRange | None = None


class ShadowVerdict(_Record):
    winner: str | None
    said: str


class ShadowResults(_Record):
    population: int
    """Documents that could have been drawn."""
    left_out: int
    """Documents of the lake without a live answer to this very text: new ones, and those that changed since."""
    variants: tuple[VariantResult, ...]
    verdict: ShadowVerdict
    notes: tuple[str, ...] = ()

    def of(self, variant: str) -> VariantResult:
        return next(each for each in self.variants if each.name == variant)


class Shadow(_Record):
    collection: str
    number: int
    name: str
    state: Literal["open", "done"]
    """Open: begun, and not all was asked."""
    made_by: str
    made_at: str
    ended_at: str | None
    spec: ShadowSpec
    results: ShadowResults | None
    promoted: str | None = None
    """The variant that was made the declared one."""

    def plain(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class ComparedDocument(_Record):
    """What both sides said of a document."""

    variant: str
    document_id: str
    partition: str
    is_sampled: bool
    """False of a golden document that was asked about beside the sample."""
    live_said: str | None
    new_said: str | None
    """A label, or the digest of what is none."""
    live_call: str | None
    new_call: str | None
    golden: str | None
    why: str | None
    """There is no new answer."""

    @property
    def is_changed(self) -> bool:
        return self.live_said != self.new_said
