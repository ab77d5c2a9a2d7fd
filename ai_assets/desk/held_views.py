"""Records of held documents, as pages and the API show them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ai_assets.desk.views import View


@dataclass(frozen=True, kw_only=True)
class HeldDecisionView(View):
    author: str
    decision: str
    """`accept`, `correct` or `reject`."""
    label: str | None
    """What is right, of a correction."""
    reason: str
    made_at: str


@dataclass(frozen=True, kw_only=True)
class HeldView(View):
    """What a stage says of a document, which waits for a person."""

    collection: str
    partition: str
    stage: str
    document_id: str
    document_digest: str
    """Of the text that a decision is about."""
    answer_digest: str
    """Of the answer that a decision is about."""
    answer: str | None
    confidence: float | None
    kinds: Sequence[str]
    """The rules that hold it: `confidence`, `certified`, `field`, `rule`, `disagreement`, `audit`."""
    why: Sequence[str]
    value: float
    """The error to be expected times how much it is used: the queue is in this order."""
    held_at: str
    state: str
    reviewers: int
    """How many people must say the same."""
    decisions: Sequence[HeldDecisionView]
    """The newest of each person; not shown to the second of two reviewers, who judges the document alone."""
    waits_for_me: bool
    may_decide: bool


@dataclass(frozen=True, kw_only=True)
class PairView(View):
    one: str
    other: str
    n: int
    kappa: float | None
    """Cohen's kappa."""


@dataclass(frozen=True, kw_only=True)
class AgreementView(View):
    """How far the people who decide held documents agree."""

    collection: str
    documents: int
    """Judged by two people or more."""
    alpha: float | None
    """Krippendorff's alpha over all of them; 1 is always, 0 is no more than chance."""
    pairs: Sequence[PairView]


@dataclass(frozen=True, kw_only=True)
class ThresholdView(View):
    """A certified threshold, as the newest refresh found it."""

    collection: str
    stage: str
    threshold: float | None
    """None: nothing is accepted without a person."""
    error: float
    confidence: float
    labels: int
    labels_digest: str
    said: str
    """The guarantee, or why there is none."""
    made_at: str


@dataclass(frozen=True, kw_only=True)
class HeldPage(View):
    rows: Sequence[HeldView]
    """The most valuable first."""
    total: int
    page: int
    pages: int
    collections: Sequence[str]
    """Those the person may see that hold documents."""
    agreement: Sequence[AgreementView]
    thresholds: Sequence[ThresholdView]
