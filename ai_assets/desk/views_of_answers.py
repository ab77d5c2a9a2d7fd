"""What the page of an answer and the API show of it. No I/O here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ai_assets.desk.views import View
from ai_assets.inference.ledger_messages import State


@dataclass(frozen=True, kw_only=True)
class SentView(View):
    """What was sent, as the endpoint got it."""

    messages: Sequence[Mapping[str, str]]
    """`role` and `content` of each: the rendered prompt. Empty where the protocol writes it otherwise."""
    answer_schema: object
    """The JSON schema that the answer had to conform to; null where there was none."""
    settings: Mapping[str, object]
    """Whatever else was sent: model, temperature, limits, tools."""
    body: str | None
    """All of it, where it has no messages."""


@dataclass(frozen=True, kw_only=True)
class AnswerAttemptView(View):
    attempt: str
    collection: str | None
    """That it was made for; null where this person may not see it."""
    run_id: str | None
    endpoint: str
    model: str
    state: State
    error: str | None
    """Its class."""
    message: str | None
    sent_at: str
    latency_s: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    """Null where nobody knows, or not yet."""
    reserved_usd: float
    duplicate_of: str | None
    """The attempt whose answer is used, where this one was paid for as well."""


@dataclass(frozen=True, kw_only=True)
class AnswerUseView(View):
    """A document whose row of a stage comes from the answer."""

    collection: str
    stage: str
    partition: str
    document: str
    current: bool | None
    """Whether the row as last computed uses it; null where the stage does not say which answers its rows use."""
    releases: Sequence[int]
    """Those whose row of the document uses it, of releases whose files are kept."""
    live: bool
    """The live release is among them."""
    request_id: str | None
    """The newest request of the partition, where its row is the current one."""


@dataclass(frozen=True, kw_only=True)
class AnswerView(View):
    """One answer of a model. What it has to do with collections that this person may not see is left out."""

    call: str
    kind: str
    model: str
    endpoint: str
    protocol: str
    prompt: str | None
    """The version of the prompt."""
    answered_by: str | None
    """The attempt whose answer is used; null where none was answered."""
    text: str | None
    """What the answer says."""
    data: object
    """The same as JSON, where it is JSON."""
    body: str | None
    """The answer as it came; of a call without one, the last thing that came."""
    cut: bool
    """It is longer than is shown here."""
    sent: SentView | None
    sent_missing: str | None
    """Why what was sent cannot be shown, in a sentence."""
    erased: str | None
    """Why neither the question nor the answer can be shown any more, in a sentence."""
    attempts: Sequence[AnswerAttemptView]
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float
    maybe_usd: float
    saved_usd: float
    reused: int
    """How often it was used again, in what this person may see."""
    uses: Sequence[AnswerUseView]
    more_places: int
    """Partitions that were not looked through."""
