"""What goes into the API and comes out of it beside the records of `views.py`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from ai_assets.desk.runs_views import LaunchKind
from ai_assets.desk.views import HistoryEntry, Publication, ReleaseRow
from ai_assets.signoff.decisions import Verdict
from ai_assets.signoff.errors import MomentInvalid
from ai_assets.signoff.notes import LONGEST, Kind
from ai_assets.signoff.people import Role
from ai_assets.signoff.requests import Status
from ai_assets.signoff.timestamps import moment

WITHOUT_NUL = r"^[^\x00]*$"
"""No database can hold that character."""
SAYS_SOMETHING = r"^[^\x00]*[^\s\x00][^\x00]*$"
MOST_CHOICES = 1_000
GREATEST_NUMBER = 2**31 - 1


def _moment(asked: str) -> str:
    try:
        moment(asked)
    except MomentInvalid as error:
        raise ValueError(str(error)) from error
    return asked


def _whole(asked: object) -> object:
    """JSON knows no difference between 3 and 3.0."""
    return int(asked) if isinstance(asked, float) and asked.is_integer() else asked


RequestId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
CollectionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
CallKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
StageName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,59}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,100}$")]
Text = Annotated[str, StringConstraints(max_length=LONGEST, pattern=WITHOUT_NUL)]
Reason = Annotated[str, StringConstraints(max_length=LONGEST, pattern=SAYS_SOMETHING)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=WITHOUT_NUL)]
MomentText = Annotated[
    str,
    StringConstraints(max_length=40),
    AfterValidator(_moment),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}),
]
WholeNumber = Annotated[int, Field(strict=True, ge=1, le=GREATEST_NUMBER), BeforeValidator(_whole)]
DocumentId = Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=WITHOUT_NUL)]


class ApiRecord(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Body(BaseModel):
    """What is sent: no key that is not known, and no value that would have to be guessed at."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Problem(ApiRecord):
    """Why something was not done."""

    error: str
    """One or a few sentences: the thing, what was found, and what to do."""


# Sent


class Chosen(Body):
    """A request as it was seen: an answer to another candidate is no answer."""

    request_id: RequestId
    digest: Digest


class Decision(Body):
    """One person's decision on some requests."""

    choices: list[Chosen] = Field(min_length=1, max_length=MOST_CHOICES)
    verdict: Verdict
    reason: Text | None = None
    """Needed to reject and to send back."""
    waivers: dict[Name, Reason] = Field(default={}, max_length=100)
    """By failed gate, why it may be passed over."""


class Again(Body):
    reason: Reason


class Claiming(Body):
    """Who is to look at a request."""

    person: Name | None = None
    """Null for who asks; somebody else takes the role approver."""


class NoteMade(Body):
    document_id: DocumentId
    kind: Kind
    text: Text = ""
    """Needed for a comment."""


class Correcting(Body):
    document_id: DocumentId
    stage: Name
    label: Name | None
    """The label that is right; null takes the correction back."""
    reason: Text = ""


class DecidingHeld(Body):
    document_id: DocumentId
    stage: Name
    document_digest: Text
    """Of the text that was looked at."""
    answer_digest: Text
    """Of the answer that was looked at: another one is not decided."""
    decision: Literal["accept", "correct", "reject"]
    label: Name | None = None
    """What is right, of a correction."""
    reason: Text = ""


class DecidedHeld(ApiRecord):
    decided: bool
    """Whether it joins with the next run, or further people are needed."""
    disagreed: bool


class ActingOnGolden(Body):
    document_id: DocumentId
    act: Literal["retire", "back", "dispute"]
    """`back` takes a retirement back."""
    digest: Text = ""
    """Of the text that was looked at; needed to dispute."""
    label: Name | None = None
    """What is right; needed to dispute."""
    reason: Text = ""
    """Needed to retire and to dispute."""


class ActedOnGolden(ApiRecord):
    said: str
    """What follows, in a sentence."""


class RatingOutput(Body):
    document_id: DocumentId
    output: Text
    """The digest of the text that was read."""
    rating: Name
    """A word of the scale, or a number of it as text."""


class WithdrawingRating(Body):
    document_id: DocumentId
    output: Text
    """The digest of the text that was rated."""


class AskingAgain(Body):
    collection: CollectionName
    partition: Name
    document_id: Annotated[str, StringConstraints(max_length=2_000, pattern=WITHOUT_NUL)]
    """Empty for a partition that failed as a whole."""
    reason: Text = ""


class Rollback(Body):
    number: WholeNumber
    """The release that readers are to see."""
    reason: Reason


class Starting(Body):
    """What to run."""

    kind: LaunchKind
    """`due` takes the role reviewer, the others the role approver."""
    first: Annotated[str, StringConstraints(max_length=200, pattern=WITHOUT_NUL)] = ""
    """The first partition; empty for all that is due. Needed for `again`."""
    last: Annotated[str, StringConstraints(max_length=200, pattern=WITHOUT_NUL)] = ""
    """The last one; empty for the first alone."""
    max_usd: Annotated[float, Field(ge=0)] | None = None
    """The most that a backfill may cost; by default what its price says at most."""
    launch_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = None
    """The same twice starts one thing."""


# Answered


class Started(ApiRecord):
    """What was started; its author is who asked."""

    launch_id: str
    partitions: Sequence[str]
    run_ids: Sequence[str]
    """Of Dagster; a backfill makes its own."""
    backfill: str | None


class Stopped(ApiRecord):
    backfill: str | None
    """Null where none was under way."""


class State(ApiRecord):
    """How far a request is."""

    status: Status
    publication: Publication
    missing: Sequence[str]
    """What it still takes, in words."""


class Decided(ApiRecord):
    request_id: str
    collection: str
    partition: str
    status: Status
    """Open, where further approvals are needed."""
    missing: Sequence[str]


class Refused(ApiRecord):
    """A collection of whose choices nothing was recorded."""

    collection: str
    status: int
    """What the answer would have been if this were all that was asked: 403, 409 or 400."""
    error: str


class Decisions(ApiRecord):
    """In each collection all choices were decided, or none."""

    decided: Sequence[Decided]
    refused: Sequence[Refused]


class Asked(ApiRecord):
    request_id: str
    """Of the new request."""


class Claimed(ApiRecord):
    """Who looks at a request. It gives no right and takes none."""

    person: str | None
    """Null where nobody does."""
    given_by: str | None
    made_at: str | None


class Noted(ApiRecord):
    note_id: str
    kind: Kind
    author: str
    made_at: str


class AskedAgain(ApiRecord):
    """What the next run asks about again."""

    assets: Sequence[str]


class Corrected(ApiRecord):
    """The correction that is in force now."""

    document_id: str
    stage: str
    label: str | None
    was: str | None
    author: str
    made_at: str
    number: int
    """Counts the corrections of the document and stage."""


class GoldenAnswer(ApiRecord):
    author: str
    label: str | None
    note: str
    made_at: str


class GoldenDocument(ApiRecord):
    """A document with a golden label, as people see it."""

    document_id: str
    digest: str
    """Of its text as it is now; empty where there is none."""
    golden: str | None
    """Its label in the golden file."""
    said: Sequence[GoldenAnswer]
    """Labels of people, in force."""
    retired: str | None
    """Why it is retired; null where it judges."""
    labels: Sequence[str]
    """Those that there are."""


class RatedOutput(ApiRecord):
    """An output that people rate; null where nothing waits."""

    document_id: str | None
    output: str | None
    """The digest of its text: a rating is of that text."""
    text: str | None
    made_from: str | None
    """The text of the document."""
    mine: str | None
    """One's own rating, where there is one."""
    scale: Sequence[str]
    """The worst first."""
    criteria: str
    rated: int
    waiting: int


class Rated(ApiRecord):
    """A rating as it was recorded."""

    document_id: str
    output: str
    rating: str | None
    """Null where it was taken back."""
    author: str
    number: int
    """Counts what its author said of the text."""
    made_at: str


class AuditPage(ApiRecord):
    entries: Sequence[HistoryEntry]
    """The newest first."""
    next_before: int | None
    """The `before` of the next page; null where this is the last."""


class ReleaseAt(ApiRecord):
    release: ReleaseRow | None
    """Null before the first release."""


class Me(ApiRecord):
    name: str
    email: str | None
    groups: Sequence[str]
    roles: Mapping[str, Role]
    """By collection, or '*' for all."""
    csrf: str
    """To be sent as `X-CSRF-Token` with everything that changes something."""


Change = Literal[
    "all", "added", "changed", "relabelled", "removed", "unchanged", "quarantined", "low confidence", "without vectors",
    "second look", "reviewed",
    "not reviewed",
]  # fmt: skip
DocumentSort = Literal["risk", "name", "confidence", "change"]
InboxState = Literal["open", "closed", "all", "approved", "rejected", "sent back", "void", "expired", "published"]
InboxSort = Literal["risk", "age", "size", "collection"]
InboxClaim = Literal["any", "mine", "unclaimed"]
