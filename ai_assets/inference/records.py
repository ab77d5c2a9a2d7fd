"""What goes into the engine and what comes out: requests, who asks, answers. Plain values, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ai_assets.base.windows import ALWAYS, Opening, WeeklyHours
from ai_assets.storage.digest import Json

BACKFILL_TAG = "ai_assets/backfill"
"""Of a run: the backfill that it belongs to."""

SHADOW = "@shadow"
"""Ends the asset of calls that a comparison makes for a stage, and that no dataset holds: no stage is called so."""

RequestKind = Literal["chat", "embedding", "raw", "rerank", "predict"]
OF_TEXTS: frozenset[RequestKind] = frozenset({"embedding", "rerank", "predict"})
"""Asked of a text: several texts can share a request, and nothing is written for an answer."""
Priority = Literal["interactive", "normal", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "normal", "batch")
"""Those that go first come first."""
PRIORITY_TAG = "ai_assets/priority"
"""Of a run: the priority of its calls that have none of their own."""
ErrorClass = Literal[
    "rate_limited",  # 429: too much at once; not billed
    "tier_unavailable",  # 498, 429: the tier that was asked for has no room; not billed
    "overloaded",  # 503, 529 with the protocol's error object: the provider is busy
    "server_error",  # 500 with the protocol's error object
    "gateway_error",  # 502, 504, 408 and any 5xx without the error object: maybe billed
    "unreachable",  # no connection was made; not billed
    "timeout",  # no answer in time: maybe billed
    "connection_lost",  # sent, and the connection broke: maybe billed
    "garbled",  # an answer that is no protocol message: maybe billed
    "too_large",  # an answer that goes on beyond what the endpoint may answer: maybe billed
    "malformed",  # 400, 404, 409, 413, 422: the request is wrong
    "auth",  # 401, 403: the key is wrong
    "quota",  # the account has no money left
    "refused",  # the provider or the model will not answer this content
    "context_too_long",  # more tokens than the model reads
    "invalid_output",  # not what the schema asks for, after one repair
    "not_run",  # a line of a batch that expired or was cancelled before it was run; not billed
    "in_batch",  # the call is a line of a batch that has not ended
    "outside_window",  # no endpoint that it may ask is open now; nothing was sent
    "held",  # an earlier attempt may have been billed, and the policy is to wait for a person
    "budget",  # the document's own budget is used up
    "unhashable",  # a part of the request has no identity
]  # fmt: skip
RETRYABLE: frozenset[ErrorClass] = frozenset({
    "rate_limited", "tier_unavailable", "overloaded", "server_error", "gateway_error", "unreachable", "timeout",
    "connection_lost", "garbled",
})  # fmt: skip
PASSING: frozenset[ErrorClass] = RETRYABLE | {"not_run", "in_batch", "outside_window"}
"""What goes away by itself, so that a later run asks again."""
LOST: frozenset[ErrorClass] = frozenset({"gateway_error", "timeout", "connection_lost", "garbled", "too_large"})
"""If there was an answer, it was lost on its way. Maybe billed, and `on_ambiguous: hold` waits for a person."""
DECLARED_FREE: frozenset[ErrorClass] = frozenset({"overloaded", "server_error", "refused", "context_too_long"})
"""The provider itself says that it gives no answer. Maybe billed, unless the endpoint declares `errors_are_free`."""


def may_be_billed(error: ErrorClass, *, errors_are_free: bool) -> bool:
    """Whether an attempt that ended so, and of which the provider counted nothing, can stand on its bill."""
    return error in LOST or (error in DECLARED_FREE and not errors_are_free)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, and so who pays."""

    tenant: str = "default"
    collection: str = ""
    asset: str = ""
    partition: str = ""
    run_id: str = ""
    backfill: str = ""
    """The backfill that the run belongs to, whose money it may use."""


@dataclass(frozen=True, kw_only=True)
class RawCall:
    """A request of a client of the provider's own: sent as it is, and its answer read by that client."""

    path: str
    """Below the endpoint's address."""
    body: bytes
    """JSON."""
    input_tokens: int
    output_tokens: int
    """The most that it can use."""
    max_usd: float | None = None
    """The most that it can cost, where that is no matter of tokens: then it is what is counted."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a model. What changes the answer is its identity; the rest is how to ask, and for whom."""

    messages: tuple[Mapping[str, Json], ...] = ()
    """As the OpenAI protocol has them: role and content (text, or parts with images as data URLs)."""
    text: str | None = None
    """The text to embed, to compare with `query`, or to find the labels of. Excludes messages."""
    query: str | None = None
    """How relevant the text is to this query: then `Answer.score` says it."""
    labels: bool = False
    """Which labels a classification model gives the text: then `Answer.labels` holds them."""
    raw: RawCall | None = None
    """A call of a client of the provider's own, instead of a question."""
    dimensions: int | None = None
    """For an embedding: how long the vector is to be; without it as long as the model makes it."""
    vector_length: int | None = field(default=None, compare=False)
    """For an embedding: the length that its vector must have, to be an answer. No part of its identity."""
    schema: Mapping[str, Json] | None = None
    """JSON schema that the answer must conform to; then `Answer.data` holds it parsed."""
    tools: tuple[Mapping[str, Json], ...] = ()
    choices: tuple[str, ...] = ()
    """The only answers there are, as plain text: for servers that can be held to them. Excludes a schema."""
    temperature: float | None = None
    seed: int | None = None
    max_output_tokens: int = 1024
    logprobs: bool = False
    sample: int = 0
    """Distinguishes repeated questions that are to have answers of their own."""

    route: str = "default"
    """A route or an endpoint of inference.yaml."""
    kind: str = "generate"
    """Of the stage that asks: which retry policies apply."""
    document: str = ""
    prompt: str = ""
    """Version of the prompt it was made from; no part of its identity."""
    timeout_s: float | None = None
    """Instead of the endpoint's."""
    tier: str | None = None
    """The provider's tier of service, such as `flex`, instead of the endpoint's. No part of its identity."""
    tier_where_priced: bool = False
    """An endpoint of the route that has no price of `tier` is asked without it; else no call is made."""
    priority: Priority | None = None
    """Who goes first where places are few, here and at a server that knows priorities; without one that of the run,
    and else `normal`, or `batch` in a backfill."""
    hours: WeeklyHours = ALWAYS
    """When it may be sent, beside the windows of the endpoints. No part of its identity."""
    reuse_for_s: float | None = None
    """How old an answer may be and still be reused; without it, any age."""
    on_ambiguous: Literal["retry", "hold"] = "retry"
    """What to do when an earlier attempt may have been billed and its answer was lost."""
    check: "Callable[[Answer], str | None] | None" = field(default=None, compare=False)
    """Says what is wrong with an answer, in words the model can use to repair it. The schema is checked before."""

    hear: "Callable[[str], None] | None" = field(default=None, compare=False)
    """Hears the text as it comes, in the engine's thread, where the endpoint can tell it so. What is heard is
    provisional until the answer is there; after a first piece nothing is tried again."""

    @property
    def asks_for(self) -> RequestKind:
        if self.raw is not None:
            return "raw"
        if self.text is None:
            return "chat"
        if self.query is not None:
            return "rerank"
        return "predict" if self.labels else "embedding"


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens as the provider counted them; cached is a part of input, reasoning a part of output."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class ModelLabelScore:
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A durable answer: it was in the ledger before anyone saw it."""

    request: Request
    call: str
    """The key of the call in the ledger: `ai-assets ledger show CALL`."""
    endpoint: str
    model: str
    """As the provider named it in its answer."""
    text: str = ""
    data: Json = None
    """The parsed text, where the request has a schema."""
    vector: tuple[float, ...] = ()
    score: float | None = None
    """How relevant the text is to the query of the request, as the model says it."""
    labels: tuple[ModelLabelScore, ...] = ()
    """The labels of the text, the likeliest first."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    token_logprobs: tuple[tuple[str, float], ...] | None = None
    """Token and log probability, in order; None where the endpoint gives none."""
    finish_reason: str = "stop"
    usage: Usage = NO_USAGE
    usage_doubt: str | None = None
    """Why the tokens that the provider counted are not believed: then none are shown, and the most was counted."""
    cost_usd: float = 0.0
    """What this request made us pay now: all attempts, fallbacks and repairs; 0 when reused."""
    saved_usd: float = 0.0
    """What reused answers had cost when they were paid for."""
    maybe_usd: float = 0.0
    """Reserved for attempts that may have been billed."""
    attempts: int = 0
    """Requests that left for it now; 0 when reused."""
    reused: bool = False
    repaired: bool = False
    latency_s: float = 0.0
    tier: str | None = None
    """The tier that the provider says it was served at; None where it says nothing."""
    fingerprint: str | None = None
    """What the provider says of the system behind the model; None where it says nothing."""


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """A request without a usable answer, and why. Other requests go on."""

    request: Request
    error: ErrorClass
    message: str
    """What was found, in a sentence, without secrets."""
    call: str = ""
    endpoint: str = ""
    raw: str | None = None
    """The last answer as it came, where there was one that could not be used."""
    cost_usd: float = 0.0
    saved_usd: float = 0.0
    maybe_usd: float = 0.0
    attempts: int = 0
    vector_length: int | None = None
    """Of the vector that came, where the request expects another."""
    opens: Opening | None = None
    """When it can be asked, where it was outside its window."""


Result = Answer | Unanswered
