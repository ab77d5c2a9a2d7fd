"""What the pages and the API show, as plain records. Filled by `reading.py`; no I/O here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from ai_assets.desk.answer_fields import Field
from ai_assets.desk.evidence import EvidenceAt, Span, TextPart
from ai_assets.desk.text_difference import TextDifference
from ai_assets.evaluation.verdict import Baseline, Interval, Ruling
from ai_assets.signoff.decisions import Verdict
from ai_assets.signoff.people import Role
from ai_assets.signoff.requests import Status
from ai_assets.signoff.risk import Change, RiskPart


class View:
    """What all records here have in common."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"use_attribute_docstrings": True}
    """So that the API's document says of a field what is said of it here."""


SlaState = Literal["fresh", "reminded", "escalated", "near expiry", "none"]


@dataclass(frozen=True, kw_only=True)
class InboxRow(View):
    """One request, as a line of the inbox."""

    request_id: str
    collection: str
    partition: str
    number: int
    digest: str
    status: Status
    opened_at: str
    age_hours: float
    sla: SlaState
    expires_at: str | None
    """When it will expire undecided; None where it never does, or does not wait."""
    risk: float
    """0 to 1, with its age against the SLA."""
    documents: int
    added: int
    changed: int
    removed: int
    relabelled: int
    quarantined: int
    without_vectors: int
    """Documents that only their words can find."""
    held: int
    """Documents that the candidate leaves out or marks, because they wait for a person."""
    low_confidence: int
    failed_gates: int
    gates: int | None
    """How many judged it; None where an earlier version did not note it."""
    passed_gates: int | None
    unreadable: int
    """Documents that cannot be read and are not live either; part of `quarantined`."""
    cost_usd: float | None
    given: int
    """Approvals it has."""
    needed: int
    claimed_by: str | None
    """Who looks at it; others may decide it all the same."""
    claimed_at: str | None
    unknown_author: bool
    """Nobody is proved to have started the run that made its candidate."""
    may_decide: bool
    why_not: str | None
    """Why this person may not decide, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class RetryView(View):
    """A document that an asset has no result for."""

    collection: str
    partition: str
    asset: str
    document_id: str
    """Empty where the whole partition failed."""
    tries: int
    """Runs that asked without a result, since a person last said to ask again."""
    error: str
    """Its class."""
    message: str
    last_at: str
    needs_person: bool
    """Nothing asks again by itself."""
    next_at: str | None
    """When the next run may ask again; None where it may now, or needs a person."""
    may_ask_again: bool
    """Whether this person may say so, and another answer is possible."""
    stopped_by_gate: bool = False
    """Nothing is missing: its candidate is not good enough, as the message says, and to ask again changes nothing."""


@dataclass(frozen=True, kw_only=True)
class UnansweredPage(View):
    rows: Sequence[RetryView]
    total: int
    page: int
    pages: int
    collections: Sequence[str]
    """Those the person may see."""


Cell: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class ExpectationView(View):
    """One expectation of a suite, on one partition."""

    expectation: str
    column: str | None
    """Several are joined by commas; null where it is about the table."""
    passed: bool
    blocking: bool
    observed: str
    note: str | None
    unexpected: int
    """Rows that break it, also where it tolerates them."""
    rows: int
    failing_columns: Sequence[str]
    failing_rows: Sequence[Sequence[Cell]]
    """Some of them, where it failed: which rows, and the values judged; of texts only how long they are."""


@dataclass(frozen=True, kw_only=True)
class SuiteView(View):
    """What the suite of an asset found in one partition the last time that its rows changed."""

    collection: str
    asset: str
    partition: str
    passed: bool
    blocking: bool
    """Whether it stops the partition."""
    run_id: str | None
    """That made the rows."""
    judged_at: str | None
    """Null where an earlier version judged them."""
    expectations: Sequence[ExpectationView]
    """What failed first; empty where an earlier version judged."""


@dataclass(frozen=True, kw_only=True)
class QualityPage(View):
    rows: Sequence[SuiteView]
    total: int
    judged: int
    """Suites times partitions, whatever is shown of them."""
    failed: int
    page: int
    pages: int
    collections: Sequence[str]
    """Those the person may see that declare a suite."""


@dataclass(frozen=True, kw_only=True)
class StoppedCandidates(View):
    """Partitions that have no candidate, all for the same reason."""

    collection: str
    partitions: Sequence[str]
    why: str
    """What the gates said that stopped them."""
    scored: bool
    """The collection has golden data, so that the page of its evaluation shows what was measured."""


@dataclass(frozen=True, kw_only=True)
class GateStopView(View):
    """A candidate that a gate stopped, whatever came after it."""

    at: str
    """When it was stopped so for the first time."""
    partition: str
    gate: str
    verdict: Ruling
    slice: str | None
    """Which one the value is of, where the gate looks at slices."""
    value: float | None
    interval: Interval | None
    n: int
    sentence: str
    candidate: str
    """Digest of the versions of the datasets that it would have been made from."""
    digest: str | None
    """Of the candidate as it would have been signed; null where it was stopped before it was frozen."""
    datasets: Mapping[str, str]
    """Their versions."""
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Inbox(View):
    rows: Sequence[InboxRow]
    """The page that was asked for, dearest risk first unless sorted otherwise."""
    total: int
    """Rows that match the filters, on all pages."""
    page: int
    pages: int
    counts: Mapping[str, int]
    """Requests by status, over all collections the person may see."""
    collections: Sequence[str]
    """Those they may see."""
    failing_channels: Mapping[str, str]
    """By channel, the last error of messages that could not be sent."""
    held: Mapping[str, int]
    """Documents that wait for a person while the others go on, by collection that has any."""
    need_a_person: Mapping[str, int]
    """By collection, documents without a result that nothing asks about again by itself."""
    stopped: Sequence[StoppedCandidates]
    """What a gate stopped, so that nobody is asked to sign it."""
    claims: Mapping[str, int]
    """Open requests over all collections the person may see: `mine` and `unclaimed`."""


@dataclass(frozen=True, kw_only=True)
class GateView(View):
    name: str
    metric: str
    stage: str | None
    value: float | None
    n: int
    interval: Interval | None
    baseline: Baseline | None
    """What it was judged against."""
    verdict: Ruling
    passed: bool
    """Nothing is left to do about it."""
    waivable: bool
    message: str
    waived_because: str | None
    minimum: float | None
    """Of the built-in gate."""
    maximum: float | None = None
    """Of a ceiling."""


@dataclass(frozen=True, kw_only=True)
class ScoreView(View):
    metric: str
    scope: str
    stage: str | None
    value: float | None
    n: int
    live: float | None
    """The same score of the live release."""


@dataclass(frozen=True, kw_only=True)
class DriftShare(View):
    value: str
    here: float
    """Share of the candidate's documents."""
    there: float
    """Share on the other side."""


@dataclass(frozen=True, kw_only=True)
class DriftComparison(View):
    place: str
    """What was looked at, and within what."""
    against: str
    drifted: bool
    said: str
    """One sentence."""
    shares: Sequence[DriftShare]
    """Those that moved most; none for words and vectors."""


@dataclass(frozen=True, kw_only=True)
class DriftView(View):
    """How the candidate's documents differ from what is published."""

    said: str
    comparisons: Sequence[DriftComparison]


@dataclass(frozen=True, kw_only=True)
class HistoryEntry(View):
    """A record of the audit chain, in words."""

    seq: int
    at: str
    actor: str
    action: str
    text: str
    """What it says beyond the action: a reason, a gate, a label; may be empty."""
    collection: str | None = None
    partition: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class DocumentRow(View):
    """One document of a request, as a line."""

    document_id: str
    title: str
    change: Change
    status: str
    headlines: Mapping[str, str | None]
    """By stage, what is said of it in short."""
    before: Mapping[str, str | None]
    """By stage, what the live release says; only where it differs."""
    confidence: float | None
    """The lowest of its stages."""
    risk: float
    reviewed_by: Sequence[str]
    carried_over: bool
    """It was reviewed in an earlier request and has not changed since."""
    second_look: bool
    """Somebody asked for a second pair of eyes, and nobody has looked yet."""
    corrected: bool
    without_vectors: str | None = None
    """Why it has no vectors, so that only its words can find it; None where it has them."""
    reason: str | None = None
    """Why it is quarantined, or a stage has no answer for it."""
    asked: Sequence[str] = ()
    """The stages that were asked about it, or have an answer of the live release that it would lose."""


@dataclass(frozen=True, kw_only=True)
class DocumentPage(View):
    rows: Sequence[DocumentRow]
    total: int
    page: int
    pages: int
    counts: Mapping[str, int]
    """By change ('changed' has the relabelled ones too), 'all', 'quarantined', 'low confidence', 'without vectors',
    'second look', 'reviewed', 'not reviewed'."""
    damaged: str | None = None
    """What of the request's files cannot be shown, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Publication(View):
    """How far an approved request has come."""

    state: Literal["not approved", "waiting", "published", "failed", "not loaded"]
    release: int | None
    run_id: str | None
    run_url: str | None
    said: str
    """One sentence."""


@dataclass(frozen=True, kw_only=True)
class RequestView(View):
    row: InboxRow
    reason: str | None
    closed_at: str | None
    closed_by: str | None
    live_release: int | None
    gates: Sequence[GateView]
    thresholds: Mapping[str, str]
    """By stage that accepts above a certified threshold, what is promised, or why the threshold is suspended."""
    scores: Sequence[ScoreView]
    golden: Mapping[str, Any] | None
    """Which golden set the scores are by (`set`, `digest`, `labels`, `queries`), how many of its items are retired,
    leaked and disputed, and under `named` some of them; None of requests of earlier versions."""
    drift: DriftView | None
    """Where the collection looks for it."""
    changed_models: Sequence[str]
    """Sentences about rows that were made after a model was changed under its name."""
    removed: Sequence[str]
    unchanged: int
    carried_over: int
    """Unchanged documents that were reviewed in an earlier request."""
    since_last: Mapping[str, Any] | None
    """`request_id`, `status`, `added`, `changed`, `removed`, `relabelled` against the request before this one."""
    authors: Sequence[Mapping[str, str]]
    launched_by: str
    """Who started the run, and how that is proved; or why it is not known."""
    missing: Sequence[str]
    """What it still takes, in words."""
    signers: Sequence[str]
    rules: str
    """The collection's rules in one sentence."""
    history: Sequence[HistoryEntry]
    publication: Publication
    refusals: Mapping[Verdict, str | None]
    """By verdict, why this person may not decide so; None where they may."""
    sentence: Mapping[Verdict, str]
    """By verdict ('approve', 'reject', 'send back'): what will happen, in one sentence."""
    sample: Sequence[DocumentRow]
    """The riskiest."""
    run_url: str | None
    asset_url: str | None
    is_current: bool
    """No newer request of its partition is there."""
    newer: str | None
    """The id of the newest request, where that is another."""
    may_ask_again: bool
    without_result: Sequence[RetryView]
    """Documents of its partition, as of now."""
    may_claim: bool
    may_assign: bool
    assignable: Sequence[str]
    """Who may be given it; empty for who may not assign."""
    risk_parts: Sequence[RiskPart]
    """What its risk is made of; empty where an earlier version weighed it otherwise."""
    damaged: str | None = None
    """What of the request's files cannot be shown, in one sentence."""
    policy: Sequence[str] = ()
    """Why a policy would not let it be published as it stands now, one sentence each."""


@dataclass(frozen=True, kw_only=True)
class StageView(View):
    """What one stage says of a document, and where that comes from."""

    stage: str
    kind: str
    headline: str | None
    before: str | None
    confidence: float | None
    runner_up: str | None
    runner_up_confidence: float | None
    rationale: str | None
    evidence: str | None
    status: str | None
    reason: str | None
    columns: Mapping[str, str]
    """What a function or a kind of one's own says beside, by column."""
    provenance: Mapping[str, str]
    """Prompt, model, endpoint, call, dollars: what is known, by name."""
    labels: Sequence[str]
    """What it can be corrected to; empty where it gives no labels."""
    correction: Mapping[str, str] | None
    """`label`, `author`, `reason`, `made_at` of the correction in force; `used` is 'yes' where the candidate has it."""
    asked: bool = True
    """Whether the stage was asked about this document at all."""
    fields: Sequence[Field] = ()
    """The headline as fields, where it holds data; beside the live ones where those differ."""
    difference: TextDifference | None = None
    """Of a headline that is a text, where the live release has another one."""
    changes: Sequence[Field] = ()
    """What else of its answer differs from the live release."""
    evidence_at: Sequence[EvidenceAt] = ()
    """Where its evidence stands in the document; empty where the document does not have it word for word."""


@dataclass(frozen=True, kw_only=True)
class DocumentView(View):
    request: InboxRow
    row: DocumentRow
    leaf: str
    """Its digest in the candidate; notes are about it."""
    path: str
    language: str | None
    encoding: str | None
    """How it was read, where that was guessed."""
    near_duplicate: str | None
    """The document that it is nearly the same as."""
    source_digest: str
    reason: str | None
    """Why there is no text: what was wrong with the file, or who asked to forget the document."""
    spans: Sequence[Span]
    """The text, whole or the part that was asked for."""
    cut: bool
    """There is more text than `spans` hold."""
    part: TextPart
    """Which part of the text `spans` are, and on which pages."""
    position: int
    """Of the documents in order of risk, beginning with 1."""
    total: int
    lost: bool
    """Text and answers are those of the live release, which readers would not see any more."""
    words: int
    difference: TextDifference | None
    """From the text of the live release; None where it is not live, or is lost."""
    risk_parts: Sequence[RiskPart]
    stages: Sequence[StageView]
    history: Sequence[HistoryEntry]
    notes: Sequence[HistoryEntry]
    """Comments, reviews and second looks, over all requests; `action` is the kind."""
    previous: str | None
    """The document before it, in order of risk."""
    next: str | None
    may_correct: bool
    next_run: str
    """When a correction will be used, in one sentence."""
    run_address: str | None
    """The page that runs its partition now, after showing the plan; None where this person cannot start it here."""
    retries: Sequence[RetryView]
    """By asset that has no result for it, as of now."""
    next_ask: str
    """When a run will ask again that a person asked for, in one sentence."""
    damaged: str | None = None
    """What of the request's files cannot be shown, in one sentence."""


@dataclass(frozen=True, kw_only=True)
class ReleaseRow(View):
    number: int
    digest: str
    created_at: str
    partitions: int
    documents: int
    signers: Sequence[str]
    live: bool
    problem: str | None = None
    """Why it is not served, where it is not what was published."""
    pruned_at: str | None = None
    """When its files were removed: it cannot be rolled back to."""
    notices: Sequence[str] = ()
    """In the answer to a rollback: who could not be told of it, or does not follow it yet."""


@dataclass(frozen=True, kw_only=True)
class GivenRole(View):
    """A role as it was given, to a person or to one of their groups."""

    collection: str
    """Or '*' for all."""
    role: Role
    group: str | None
    """The group it comes from; None where it is their own."""
    may_take: bool


@dataclass(frozen=True, kw_only=True)
class PersonRow(View):
    """Somebody, as an administrator sees them: one of a collection sees only what concerns it."""

    name: str
    email: str | None
    roles: Sequence[GivenRole]
    groups: Sequence[str]
    """Those that they were put into here."""
    told_groups: Sequence[str]
    """Those that a provider told of, in the sessions that are open."""
    disabled_at: str | None
    signs_in_by: Sequence[str]
    """The ways that are open to them; empty where there is none."""
    sessions: int | None
    """How many are open; None where that is not for this administrator to see."""
    seen_at: str | None
    """When the last of them was used."""


@dataclass(frozen=True, kw_only=True)
class GroupRow(View):
    name: str
    roles: Sequence[GivenRole]
    members: Sequence[str]
    """Those that were put into it here; a provider may tell of more."""
