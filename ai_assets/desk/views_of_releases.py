"""What the pages of a release and the API show of it. No I/O here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.desk.answer_fields import Field
from ai_assets.desk.evidence import EvidenceAt, Span, TextPart
from ai_assets.desk.views import ReleaseRow, View
from ai_assets.run.released import Move


@dataclass(frozen=True, kw_only=True)
class ReleasePart(View):
    """One partition of a release."""

    partition: str
    documents: int
    """That readers get."""
    chunks: int
    digest: str
    request_id: str
    approved_by: Sequence[str]
    run_id: str


@dataclass(frozen=True, kw_only=True)
class ReleaseView(View):
    row: ReleaseRow
    created_by: str
    parts: Sequence[ReleasePart]
    stages: Sequence[str]
    """That say something of its documents; empty where its files are gone."""
    numbers: Sequence[int]
    """Of all releases of the collection, the newest first: what it can be compared with."""
    missing: str | None
    """Why its documents cannot be shown, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class ReleasedRow(View):
    document_id: str
    partition: str
    title: str
    status: str
    headlines: Mapping[str, str | None]
    """By stage, what is said of it in short."""
    confidence: float | None
    """The lowest of its stages."""
    passage: str | None = None
    """The best one, where the index was searched."""


@dataclass(frozen=True, kw_only=True)
class ReleasedDocuments(View):
    rows: Sequence[ReleasedRow]
    total: int
    page: int
    pages: int
    labels: Mapping[str, int]
    """What the chosen stage says, by how many documents; empty where no stage is chosen."""
    found_by: str | None
    """How the index was searched, in a sentence; null where it was not."""


@dataclass(frozen=True, kw_only=True)
class ReleasedStage(View):
    """What one stage says of a released document, and where that comes from."""

    stage: str
    headline: str | None
    fields: Sequence[Field]
    """The headline as fields, where it holds data."""
    confidence: float | None
    rationale: str | None
    evidence: str | None
    status: str | None
    reason: str | None
    model: str | None
    prompt: str | None
    """The version of the prompt."""
    call: str | None
    """The answer that it comes from."""
    corrected_by: str | None
    code_version: str | None
    """Of the stage when the release's candidate was made."""
    evidence_at: Sequence[EvidenceAt] = ()
    """Where its evidence stands in the document; empty where the document does not have it word for word."""


@dataclass(frozen=True, kw_only=True)
class ReleasedDocument(View):
    row: ReleasedRow
    path: str
    language: str | None
    source_digest: str
    digest: str
    """Of its text."""
    leaf: str
    """What was signed of it: the digest under which the candidate holds it."""
    reason: str | None
    """Why there is no text."""
    text: str
    """Whole, or the part that was asked for."""
    cut: bool
    """There is more text."""
    spans: Sequence[Span]
    """The same text, with the evidence and the beginnings of pages in it."""
    part_of_text: TextPart
    """Which part of the text that is, and on which pages."""
    stages: Sequence[ReleasedStage]
    part: ReleasePart
    """The partition that it is in."""
    live: bool
    unplaced: str | None = None
    """Why pages and passages cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class LabelMove(View):
    stage: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class MovedDocument(View):
    document_id: str
    title: str
    partition: str
    change: Move
    labels: Sequence[LabelMove]


@dataclass(frozen=True, kw_only=True)
class DifferenceView(View):
    """What readers of one release would see otherwise in another."""

    collection: str
    base: int
    """The release that is gone from."""
    other: int
    """The release that is gone to."""
    counts: Mapping[str, int]
    """By change, and `all`."""
    partitions: Sequence[str]
    """Those whose content differs."""
    base_documents: int
    other_documents: int
    rows: Sequence[MovedDocument]
    total: int
    page: int
    pages: int
