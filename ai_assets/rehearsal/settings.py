"""How the rehearsal provider behaves: options of the command, and what POST /rehearsal/config may change."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ai_assets.rehearsal.errors import FaultUnknown, ScriptWrong, SettingUnknown, SettingWrong, ShareWrong

FaultKind = Literal[
    "rate_limited",  # 429 with Retry-After
    "rate_limited_bare",  # 429 without it
    "insufficient_quota",  # 429 with that code
    "flex_unavailable",  # 429 with code resource_unavailable, where the tier flex was asked for
    "flex_capacity",  # 498 with code capacity_exceeded, where the tier flex was asked for
    "backend_failed",  # 424, as text-embeddings-inference says it
    "server_error",  # 500
    "overloaded",  # 503
    "error_page",  # 500 with a page instead of the error object
    "bad_gateway",  # 502 with a page
    "gateway_timeout",  # 504 with the error object
    "unauthorized",  # 401
    "content_filter",  # 400 with that code
    "context_too_long",  # 400 with code context_length_exceeded
    "reset_before",  # the connection is reset before an answer is computed
    "hang",  # billed; silence, then the connection is closed
    "reset_after",  # billed; the connection is reset instead of an answer
    "server_error_billed",  # billed; 500
    "overloaded_billed",  # billed; 503
    "error_page_billed",  # billed; 500 with a page instead of the error object
    "bad_gateway_billed",  # billed; 502 with a page
    "gateway_timeout_billed",  # billed; 504 with the error object
    "garbage",  # billed; 200 with bytes that are no JSON
    "truncated",  # billed; 200 whose body ends early
    "slow_drip",  # billed; the right answer, drop by drop
    "refused",  # billed; 200 with `refusal` instead of content
    "schema_violation",  # billed; 200 with JSON that violates the schema
]  # fmt: skip
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
UNBILLED: frozenset[FaultKind] = frozenset({
    "rate_limited", "rate_limited_bare", "insufficient_quota", "flex_unavailable", "flex_capacity", "backend_failed",
    "server_error", "overloaded", "error_page",
    "bad_gateway", "gateway_timeout", "unauthorized", "content_filter", "context_too_long", "reset_before",
})  # fmt: skip


class Behaviour(BaseModel):
    """Everything about the provider that is not where it listens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: Literal["builtin", "quick"] = "builtin"
    """quick: labels by a hash, and no reading of the document."""
    seed: int = 0
    fault: dict[FaultKind, float] = {}
    """Kind to share of requests."""
    latency_ms: float = Field(default=0.0, ge=0)
    jitter_ms: float = Field(default=0.0, ge=0)
    """At most this much is added to the latency; how much depends on the request."""
    concurrency: int | None = Field(default=None, ge=1)
    over_limit: Literal["refuse", "queue"] = "refuse"
    """What happens to a call above `concurrency`."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    retry_after_s: float = Field(default=1.0, ge=0)
    hang_s: float = Field(default=300.0, ge=0)
    drip_s: float = Field(default=2.0, ge=0)
    batch_seconds: float = Field(default=2.0, ge=0)
    batch_cancel_seconds: float = Field(default=0.0, ge=0)
    """From the request to cancel a batch to its final state."""
    batch_late_seconds: float = Field(default=0.5, ge=0)
    """From a request with the fault `lost_later` to its being done."""
    clock_ahead_s: float = Field(default=0.0, ge=0)
    """Of the clock that batches go by: setting it advances them by hours in no time."""
    batch_queue_tokens: int | None = Field(default=None, ge=1)
    """Input tokens of all unended batches together; one that passes it fails after it was created."""
    batch_wire: Literal["openai", "together"] = "openai"
    """Whose files and batches it has."""
    context_tokens: int = Field(default=128_000, ge=1)
    max_body_mb: float = Field(default=50.0, gt=0)
    models: tuple[str, ...] = ()
    """Empty: any name is a model."""
    key: str | None = None
    price_input: float = Field(default=0.15, ge=0)
    """US dollars per million tokens, as the two below."""
    price_cached_input: float | None = Field(default=None, ge=0)
    """Without it cached tokens cost as much as others."""
    price_output: float = Field(default=0.60, ge=0)
    swapped: bool = False
    """Another model answers chats and embeds under the same name."""
    swap_after: int | None = Field(default=None, ge=0)
    """The same, from the call after so many on."""
    swap_share: float = Field(default=0.5, ge=0, le=1)
    """Of different requests: how many the other model gives the second label, and a shorter text."""
    swap_says: tuple[Literal["model", "fingerprint"], ...] = ()
    """What it tells of the swap; by default nothing."""
    swap_tokens: float = Field(default=1.0, gt=0)
    """The other model's input tokens, for one of the first one's."""
    unsteady: float = Field(default=0.0, ge=0, le=1)
    """How often a request is answered as another model would, drawn anew each time it comes."""
    serve_tier: Literal["default", "flex", "priority"] | None = None
    """The tier that every chat is served at, whatever was asked for; by default the one that was."""
    vllm: bool = False
    """Take what vLLM adds to the protocol, and have its /metrics."""
    queued: int = Field(default=0, ge=0)
    """Requests that wait there beside those that really do, as /metrics says."""
    tei_type: Literal["embedding", "classifier", "reranker"] | None = None
    """What the model of text-embeddings-inference is; by default everything."""
    tei_batch: int = Field(default=32, ge=1)
    """Texts in one of its requests, at most."""
    tei_input: int = Field(default=512, ge=1)
    """Tokens of a text, at most."""
    tei_truncates: bool = False
    kserve_metadata: bool = True
    """Whether the model of the Open Inference Protocol says what its tensors are called."""
    kserve_column: bool = False
    """Its texts have the shape [n, 1]."""
    kserve_binary: bool = True
    """Whether an answer is in the binary form where that is asked for."""
    labels: tuple[str, ...] = Field(default=("invoice", "letter", "report"), min_length=1)
    """What classification models of both know."""

    @property
    def is_togethers(self) -> bool:
        return self.batch_wire == "together"

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1_000_000)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        return cls().changed(values)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """The same with these settings instead; a wrong one is named."""
        for name in values:
            if name not in type(self).model_fields:
                raise SettingUnknown(name, type(self).model_fields)
        if "fault" in values:
            check_shares(values["fault"])
        try:
            return self.model_validate({**self.model_dump(), **values})
        except ValidationError as e:
            first = e.errors()[0]
            name = str(first["loc"][0])
            raise SettingWrong(name, values.get(name), _lower(first["msg"])) from e

    def shown(self) -> dict[str, Any]:
        """Without the key."""
        return {**self.model_dump(mode="json"), "key": None if self.key is None else "(set)"}


def check_shares(shares: object) -> None:
    if not isinstance(shares, Mapping):
        raise SettingWrong("fault", shares, "it maps kinds of faults to their share of the requests")
    for kind, share in shares.items():
        check_kind(kind)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ShareWrong(str(kind), share)
    if sum(shares.values()) > 1 + 1e-9:
        raise ShareWrong(max(shares, key=lambda kind: float(shares[kind])), max(shares.values()))


def check_kind(kind: object) -> FaultKind:
    for known in FAULT_KINDS:
        if kind == known:
            return known
    raise FaultUnknown(str(kind), FAULT_KINDS)


class Rule(BaseModel):
    """One line of a script: which requests get which fault, and how often. Counted down as it is used."""

    model_config = ConfigDict(extra="forbid")

    match: str = ""
    """A part of the request's body or of its text; empty: every request."""
    fault: FaultKind
    times: int | None = Field(default=1, ge=0)
    """None: always."""
    after: int = Field(default=0, ge=0)
    """So many matching requests are spared first."""


BatchRequestKind = Literal["upload", "list_files", "create", "list", "retrieve", "content", "cancel"]
BatchFault = Literal[
    "lost",  # it is done, and the connection is reset instead of the answer
    "lost_later",  # the connection is reset, and it is done after `batch_late_seconds`
    "twice",  # it is done twice, and the connection is reset instead of the answer
    "reset",  # nothing is done, and the connection is reset
    "unavailable",  # nothing is done: 503
    "busy",  # nothing is done: 429
    "refused",  # nothing is done: 400
    "cut",  # of a content, half of it, and the connection is closed
    "altered",  # of a content: a result of a call that nobody asked, each result twice, and a line that is no JSON
]  # fmt: skip


class BatchRule(BaseModel):
    """Which request about files and batches gets which fault, and how often."""

    model_config = ConfigDict(extra="forbid")

    request: BatchRequestKind
    fault: BatchFault
    times: int = Field(default=1, ge=0)
    after: int = Field(default=0, ge=0)
    """So many requests of that kind are spared first."""


def batch_rules(found: object) -> list[BatchRule]:
    """Rules from parsed JSON, or the first mistake in them."""
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ScriptWrong("batch script", "a script is a list of rules.")
    made = []
    for number, each in enumerate(found, start=1):
        try:
            made.append(BatchRule.model_validate(each))
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "rule"
            raise ScriptWrong(f"batch script, rule {number}", f"'{where}': {_lower(first['msg'])}.") from e
    return made


def rules(found: object, where: str = "script") -> list[Rule]:
    """Rules from parsed JSON, or the first mistake in them."""
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ScriptWrong(where, "a script is a list of rules.")
    return [_rule(each, f"{where}, rule {number}") for number, each in enumerate(found, start=1)]


def read_script(path: Path) -> list[Rule]:
    """A file with one rule per line; empty lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise ScriptWrong(str(path), f"cannot be read ({getattr(e, 'strerror', None) or e}).") from e
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                declared = json.loads(line)
            except ValueError as e:
                raise ScriptWrong(f"{path}:{number}", f"is no JSON ({e}).") from e
            found.append(_rule(declared, f"{path}:{number}"))
    return found


def _rule(declared: object, where: str) -> Rule:
    if not isinstance(declared, Mapping):
        raise ScriptWrong(where, f"a rule is a JSON object, and this is {json.dumps(declared)[:60]}.")
    for name in declared:
        if name not in Rule.model_fields:
            raise ScriptWrong(where, f"{SettingUnknown(str(name), Rule.model_fields)}")
    if "fault" not in declared:
        raise ScriptWrong(where, "it does not say which fault.")
    try:
        check_kind(declared["fault"])
        return Rule.model_validate(dict(declared))
    except FaultUnknown as e:
        raise ScriptWrong(where, str(e)) from e
    except ValidationError as e:
        first = e.errors()[0]
        name = str(first["loc"][0])
        raise ScriptWrong(where, f"'{name}' is {declared.get(name)!r}: {_lower(first['msg'])}.") from e


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
