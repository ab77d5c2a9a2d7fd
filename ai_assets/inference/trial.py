"""One endpoint tried: what it answers, what it can, and which of its keys to change. Its calls are paid as any other.

Where all is as declared that is one chat call and one text to embed; more are made only to find what is in the way.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from ai_assets.base.errors import UserError, said_of
from ai_assets.inference.dispatch import key_of_endpoint
from ai_assets.inference.engine import Engine
from ai_assets.inference.errors import EndpointDown, RouteUnknown
from ai_assets.inference.prices import call_price
from ai_assets.inference.records import NO_USAGE, RETRYABLE, Answer, Caller, Request, RequestKind
from ai_assets.inference.rehearsal import RehearsalProvider
from ai_assets.inference.settings import REHEARSAL, BatchWire, Endpoint, InferenceSettings
from ai_assets.inference.trial_reach import Reach, listed, reach
from ai_assets.protocols.registry import protocol_of
from ai_assets.storage.digest import Json
from ai_assets.storage.state import StateStore

CALLER = Caller(asset="inference test")
"""As whose the calls stand in the ledger and count in budgets."""
TIMEOUT_S = 30.0
LEFT_ALONE_S = 5.0
"""So much longer than one call takes it is waited for an endpoint that other processes have found failing."""
MOST_TOKENS = 64
SAID_CHARACTERS = 200
SCHEMA: Mapping[str, Json] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
PLAIN = Request(
    messages=({"role": "user", "content": "Is water wet? Answer yes or no."},),
    max_output_tokens=MOST_TOKENS,
    document="inference test",
    reuse_for_s=0,
)
EMBED = Request(text="water", kind="embed", document="inference test", reuse_for_s=0)
SCORE = replace(EMBED, query="Is water wet?")
LABEL = replace(EMBED, labels=True)
OTHER: Mapping[RequestKind, Request] = {"rerank": SCORE, "predict": LABEL}
"""What is asked of a model that neither chats nor embeds."""
Structured = Literal["json_schema", "json_object", "none"]
MODES: tuple[Structured, ...] = ("json_schema", "json_object", "none")
COUNTS_NOTHING = "It does not say how many tokens it used, so each call counts as the most it can cost."
DOUBTED = "of such calls the most that was reserved is counted. Look into what stands between here and the model."
NO_SUCH_PATH = ("HTTP 404", "HTTP 405")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was found about one endpoint. None: not tried, or not known."""

    endpoint: str
    base_url: str
    model: str
    protocol: str
    problem: str | None = None
    """Why it cannot be used: what was found and what to do. None where it can, perhaps after `changes`."""
    reached: bool | None = None
    reached_s: float | None = None
    models: tuple[str, ...] | None = None
    """As it lists them."""
    answered_model: str | None = None
    latency_s: float | None = None
    structured: str | None = None
    """The way of asking for JSON that works; empty where none does."""
    logprobs: bool | None = None
    usage: bool | None = None
    embedding_dimensions: int | None = None
    """0 where it does not embed."""
    batches: bool | None = None
    """Whether batches can be listed there; looked at where it declares `batch`."""
    scores: bool | None = None
    """Whether it scores a text for a query, as a reranker does; tried where it neither chats nor embeds."""
    labels: tuple[str, ...] | None = None
    """Which it gives a text, as a classifier does, the likeliest first; tried where it does nothing else."""
    price: str | None = None
    """Today's, in words; None where it has none."""
    changes: Mapping[str, str]
    """Keys of the endpoint and what they should be."""
    notes: tuple[str, ...] = ()
    calls: int = 0
    cost_usd: float = 0.0
    maybe_usd: float = 0.0

    @property
    def works(self) -> bool:
        return self.problem is None

    @property
    def lines(self) -> list[str]:
        """What to write into inference.yaml, line by line."""
        if not self.changes:
            return []
        keys = [f"    {key}: {value}" for key, value in self.changes.items()]
        return ["endpoints:", f"  {self.endpoint}:", *keys]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Failed:
    """A call that did not work; `error` is empty where none was made."""

    error: str
    said: str

    @property
    def is_path(self) -> bool:
        return self.error == "malformed" and self.said.startswith(NO_SUCH_PATH)


class _Calls:
    """Calls to one endpoint as it is declared, or as it might be; each is sent once."""

    def __init__(self, name: str, settings: InferenceSettings, state: StateStore, timeout_s: float) -> None:
        self._name, self._settings, self._state, self._timeout_s = name, settings, state, timeout_s
        self.made = 0
        self.doubt: str | None = None
        """What it counted for a call, where that cannot be."""
        self.cost_usd = self.maybe_usd = 0.0

    def ask(self, endpoint: Endpoint, request: Request) -> Answer | _Failed:
        patient = endpoint.model_copy(update={"patience_s": self._timeout_s + LEFT_ALONE_S})
        once = {"all": {error: {"attempts": 1} for error in RETRYABLE}}
        declared = InferenceSettings.model_validate({
            "endpoints": {self._name: patient}, "budgets": self._settings.budgets, "retries": once,
        })  # fmt: skip
        timeout_s = min(endpoint.timeout_s, self._timeout_s)
        sent = replace(request, route=self._name, timeout_s=timeout_s, priority="interactive")
        try:
            with Engine(declared, self._state, say=lambda _line: None) as engine:
                result = engine.call(sent, CALLER)
        except EndpointDown as error:
            return _Failed(error="left_alone", said=_short(error.trouble))
        except UserError as error:
            return _Failed(error="", said=str(error))
        self.made += result.attempts
        if isinstance(result, Answer) and result.usage_doubt is not None:
            self.doubt = f"{result.usage_doubt[0].upper()}{result.usage_doubt[1:]}: {DOUBTED}"
        self.cost_usd += result.cost_usd
        self.maybe_usd += result.maybe_usd
        return result if isinstance(result, Answer) else _Failed(error=result.error, said=_short(result.message))


def tried(name: str, settings: InferenceSettings, state: StateStore | None, *, timeout_s: float = TIMEOUT_S) -> Trial:
    """`state` is where calls are booked; None: none is made, it is only seen whether it can be reached."""
    if name not in settings.endpoints:
        raise RouteUnknown(name, list(settings.endpoints), settings.missing)
    try:
        return _of_endpoint(name, settings, state, timeout_s)
    except Exception as error:  # noqa: BLE001 - one endpoint hides no other, whatever happens
        return _broken_off(name, settings.endpoints[name], error)


def _of_endpoint(name: str, settings: InferenceSettings, state: StateStore | None, timeout_s: float) -> Trial:
    endpoint = settings.endpoints[name]
    today = datetime.datetime.now(datetime.UTC).date()
    found = Trial(
        endpoint=name, base_url=endpoint.base_url, model=endpoint.llm, protocol=endpoint.protocol,
        price=_price(endpoint, today), changes={},
    )  # fmt: skip
    try:
        call_price(name, endpoint, today)
        key = key_of_endpoint(name, endpoint)
    except UserError as error:
        changes = (
            {} if found.price or endpoint.unedited else {"prices": f"[{{from: {today}, input: USD, output: USD}}]"}
        )
        return replace(found, problem=str(error), changes=changes)
    with RehearsalProvider() as rehearsal:
        if endpoint.base_url == REHEARSAL:
            endpoint = endpoint.model_copy(update={"base_url": rehearsal.url()})
        seen = reach(endpoint, endpoint.base_url, key, timeout_s)
        found = _reached(found, seen)
        if found.problem is None and state is not None:
            found = _Asking(found, endpoint, _Calls(name, settings, state, timeout_s), seen).trial()
        return found if endpoint.batch is None or found.problem is not None else _batched(found, endpoint, timeout_s)


def _broken_off(name: str, endpoint: Endpoint, error: Exception) -> Trial:
    """Of an endpoint whose trial failed in a way that nobody foresaw: the others are tried all the same."""
    said = (
        str(error)
        if isinstance(error, UserError)
        else (
            f"Endpoint '{name}' could not be tried: {said_of(error)[:SAID_CHARACTERS]}. This is a mistake in "
            "ai-assets: please report it with this line."
        )
    )
    return Trial(
        endpoint=name, base_url=endpoint.base_url, model=endpoint.llm, protocol=endpoint.protocol, problem=said,
        changes={},
    )  # fmt: skip


def _batched(found: Trial, endpoint: Endpoint, timeout_s: float) -> Trial:
    """Stages of `tier: batch` would find out only once they have asked."""
    problem = _no_batches(found.endpoint, endpoint, timeout_s)
    if problem is None:
        return replace(found, batches=True)
    assert endpoint.batch is not None
    wire: BatchWire = "openai" if endpoint.batch.wire == "together" else "together"
    other = endpoint.model_copy(update={"batch": endpoint.batch.model_copy(update={"wire": wire})})
    said = f"It declares `batch`, and its batches cannot be listed ({_short(problem)}): stages of `tier: batch` would "
    said += "fail there."
    if _no_batches(found.endpoint, other, timeout_s) is None:
        said += f" With `wire: {wire}` under `batch` they can be listed."
    return replace(found, batches=False, notes=(*found.notes, said))


def _no_batches(name: str, endpoint: Endpoint, timeout_s: float) -> str | None:
    """Why its batches cannot be listed."""
    from ai_assets.inference.batch.errors import BatchApiRefused, ProviderSilent
    from ai_assets.inference.batch.provider import provider_of

    provider = provider_of(name, endpoint, timeout_s=timeout_s)
    try:
        provider.reach()
    except (BatchApiRefused, ProviderSilent) as error:
        return str(error)
    finally:
        provider.close()
    return None


def _reached(found: Trial, seen: Reach) -> Trial:
    return replace(
        found,
        reached=seen.status is not None,
        reached_s=seen.seconds if seen.status is not None else None,
        models=None if seen.models is None else tuple(seen.models),
        problem=None if seen.problem is None else ended(f"Endpoint '{found.endpoint}' {seen.problem}"),
        notes=(*(() if seen.note is None else (f"It {seen.note}.",)), *(() if seen.queue is None else (seen.queue,))),
        changes=seen.changes,
    )


class _Asking:
    """From the call as stages make it down to the smallest one, until it is known what is in the way."""

    def __init__(self, found: Trial, endpoint: Endpoint, calls: _Calls, seen: Reach) -> None:
        self._found, self._endpoint, self._calls, self._seen = found, endpoint, calls, seen
        self._changes: dict[str, str] = dict(found.changes)
        self._notes: list[str] = [] if seen.queue is None else [seen.queue]
        self._failed: dict[str, None] = {}
        """What was said of a vector, a score and labels, in the order in which they were asked for."""

    def trial(self) -> Trial:
        found = self._tried()
        if self._calls.doubt is not None:
            self._notes = [note for note in self._notes if note != COUNTS_NOTHING] + [self._calls.doubt]
        if found.problem is not None:  # what is odd about the list matters only where no call works
            self._notes = list(dict.fromkeys([*self._found.notes, *self._notes]))
        return replace(
            found, changes=self._changes, notes=tuple(self._notes), calls=self._calls.made,
            cost_usd=self._calls.cost_usd, maybe_usd=self._calls.maybe_usd,
        )  # fmt: skip

    def _tried(self) -> Trial:
        kinds = protocol_of(self._endpoint.protocol).kinds
        serves = self._seen.serves
        if serves is not None and serves in OTHER:
            found = replace(self._found, embedding_dimensions=0)
            answer = self._calls.ask(self._endpoint, OTHER[serves])
            if isinstance(answer, Answer):
                return _of_other(found, answer, serves)
            return replace(found, problem=self._sentence(answer, serves))
        chat: Answer | _Failed | None = None
        if "chat" in kinds:
            whole = replace(PLAIN, schema=SCHEMA, logprobs=True, temperature=0.0)
            chat = self._calls.ask(self._endpoint, whole)
        vector = self._calls.ask(self._endpoint, EMBED) if "embedding" in kinds and _is_worth_it(chat) else None
        found = self._found
        if isinstance(chat, Answer) and isinstance(vector, _Failed) and vector.error in ("garbled", "invalid_output"):
            self._notes.append(f"It answers a text to embed, and not by a vector that can be used: {vector.said}.")
        if isinstance(vector, Answer):
            found = replace(found, embedding_dimensions=len(vector.vector), latency_s=vector.latency_s)
            found = replace(found, usage=vector.usage != NO_USAGE, answered_model=vector.model)
            if vector.usage == NO_USAGE and not self._endpoint.free:
                self._notes.append(COUNTS_NOTHING)
        elif vector is not None:
            found = replace(found, embedding_dimensions=0)
        if isinstance(chat, Answer):
            found = self._of_chat(found, chat, self._endpoint.structured)
        elif isinstance(vector, _Failed) and (other := self._other(found, vector)) is not None:
            found = other
        elif isinstance(chat, _Failed) and isinstance(vector, _Failed) and self._serves_one and chat.error == "garbled":
            both = f"asked to chat: {chat.said}; asked for a vector: {vector.said}"
            said = chat.said if chat.said == vector.said else both
            found = replace(found, problem=self._sentence(replace(chat, said=said), "chat"))
        elif chat is not None and not (isinstance(vector, Answer) and self._only_embeds(chat)):
            found = self._looked_for(found, chat)
        if not kinds & {"chat", "embedding"}:
            self._notes.append("Its protocol neither chats nor embeds, so no call was made.")
        if chat is None and isinstance(vector, _Failed) and found.scores is None and found.labels is None:
            said = "; ".join(self._failed) or vector.said
            found = replace(found, problem=self._sentence(replace(vector, said=said), "embedding"))
        return found

    def _other(self, found: Trial, failed: _Failed) -> Trial | None:
        """What neither chats nor embeds may be a reranker or a classifier."""
        kinds = protocol_of(self._endpoint.protocol).kinds
        self._failed[failed.said] = None
        for kind, request in OTHER.items() if self._seen.serves is None else ():
            if kind not in kinds or not _is_worth_it(failed):
                continue
            answer = self._calls.ask(self._endpoint, request)
            if isinstance(answer, Answer):
                return _of_other(found, answer, kind)
            self._failed[answer.said] = None
        return None

    def _only_embeds(self, chat: _Failed) -> bool:
        """Of a server that has made a vector."""
        return chat.is_path or (self._serves_one and chat.error in ("garbled", "malformed", "server_error"))

    @property
    def _serves_one(self) -> bool:
        """Where one path serves every kind, the model behind it serves one of them."""
        protocol = protocol_of(self._endpoint.protocol)
        return protocol.path(self._endpoint, "chat") == protocol.path(self._endpoint, "embedding")

    def _of_chat(self, found: Trial, answer: Answer, structured: str) -> Trial:
        if answer.repaired:
            self._notes.append("Its first answer did not fit the schema, and was repaired by a second call.")
        if answer.usage == NO_USAGE:
            self._notes.append(COUNTS_NOTHING)
        return replace(
            found, answered_model=answer.model, latency_s=answer.latency_s, structured=structured,
            logprobs=answer.token_logprobs is not None, usage=answer.usage != NO_USAGE,
        )  # fmt: skip

    def _looked_for(self, found: Trial, failed: _Failed) -> Trial:
        """The whole call failed: which part of it, or all."""
        if failed.error not in ("malformed", "server_error", "gateway_error", "garbled", "invalid_output"):
            return replace(found, problem=self._sentence(failed, "chat"))
        endpoint = self._endpoint
        plain = self._calls.ask(endpoint, PLAIN)
        if isinstance(plain, _Failed) and not plain.is_path:
            other = "max_completion_tokens" if endpoint.output_limit == "max_tokens" else "max_tokens"
            renamed = endpoint.model_copy(update={"output_limit": other})
            again = self._calls.ask(renamed, PLAIN)
            if isinstance(again, Answer):
                plain, endpoint = again, renamed
                self._changes["output_limit"] = other
        if isinstance(plain, _Failed):
            return replace(found, problem=self._sentence(plain, "chat"))
        found = self._of_chat(found, plain, "")
        asked = self._without_what_fails(endpoint)
        return self._structured(found, asked.endpoint, asked.request, failed)

    def _without_what_fails(self, endpoint: Endpoint) -> "_Part":
        found = _Part(endpoint=endpoint, request=PLAIN)
        if endpoint.logprobs:
            found = found.kept_if(
                replace(PLAIN, logprobs=True), self._calls, lambda: self._changes.update(logprobs="false")
            )
            if found.request is PLAIN:
                found = replace(found, endpoint=endpoint.model_copy(update={"logprobs": False}))
        said = "It takes no temperature of 0: write temperature: 1 in the stages that ask it."
        return found.kept_if(replace(found.request, temperature=0.0), self._calls, lambda: self._notes.append(said))

    def _structured(self, found: Trial, endpoint: Endpoint, request: Request, failed: _Failed) -> Trial:
        """In which way it gives JSON that fits; the declared one first, for something else was in its way perhaps."""
        declared, accepted = endpoint.structured, ""
        asked = replace(request, schema=SCHEMA)
        for mode in dict.fromkeys((declared, *MODES)):
            answer = self._calls.ask(endpoint.model_copy(update={"structured": mode}), asked)
            if isinstance(answer, Answer):
                self._change_structured(mode, declared)
                return self._of_chat(found, answer, mode)
            accepted = accepted or (mode if answer.error == "invalid_output" else "")
        self._notes.append(
            f"Asked for JSON it does not give what the schema asks for ({failed.said}): stages that need it (classify, "
            "extract) will quarantine documents. A classify stage may ask for the label alone: answer: label."
        )
        self._change_structured(accepted or "none", declared)
        return found

    def _change_structured(self, mode: str, declared: str) -> None:
        if mode != declared:
            self._changes["structured"] = mode

    def _sentence(self, failed: _Failed, kind: RequestKind) -> str:
        return sentence(self._found.endpoint, self._endpoint, failed.error, failed.said, self._seen, kind)


def _of_other(found: Trial, answer: Answer, kind: RequestKind) -> Trial:
    """A reranker or a classifier that has answered."""
    labels = tuple(each.label for each in answer.labels)
    return replace(
        found, scores=kind == "rerank", labels=None if kind == "rerank" else labels, latency_s=answer.latency_s,
        answered_model=answer.model, usage=answer.usage != NO_USAGE,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    endpoint: Endpoint
    request: Request

    def kept_if(self, request: Request, calls: _Calls, otherwise: Callable[[], object]) -> Self:
        """With this request, if it is answered."""
        if isinstance(calls.ask(self.endpoint, request), Answer):
            return replace(self, request=request)
        otherwise()
        return self


def _short(said: str) -> str:
    """On one line: some servers answer with half a traceback."""
    return " ".join(said.split())[:SAID_CHARACTERS]


def _is_worth_it(chat: Answer | _Failed | None) -> bool:
    """What keeps one call from being made keeps the next."""
    return not isinstance(chat, _Failed) or chat.error in ("malformed", "server_error", "garbled", "invalid_output")


def _price(endpoint: Endpoint, today: datetime.date) -> str | None:
    if endpoint.free:
        return "free"
    known = [price for price in endpoint.prices if price.from_ <= today]
    if not known:
        return None
    price = max(known, key=lambda price: price.from_)
    return f"${price.input:g} in, ${price.output:g} out per million tokens since {price.from_}"


def sentence(name: str, endpoint: Endpoint, error: str, said: str, seen: Reach, kind: RequestKind) -> str:
    """Why a call failed and what to do, as one sentence."""
    if not error:
        return said  # it is one already
    path = protocol_of(endpoint.protocol).path(endpoint, kind)
    has = f"; it has {listed(seen.models)}" if seen.models else ""
    is_model = said.startswith("HTTP 404") and "model" in said.lower()
    match error:
        case "malformed" if is_model:
            found = f"has no model '{endpoint.llm}' ({said}){has}; correct `model`"
        case "malformed" if said.startswith(NO_SUCH_PATH):
            found = f"has nothing at {endpoint.base_url}/{path} ({said}); correct `base_url`, which often ends in /v1"
        case "malformed":
            found = f"refuses even the smallest request ({said}); its words say what to change"
        case "server_error" | "gateway_error":
            found = f"fails at the smallest request ({said}); look into the log of the server"
        case "garbled":
            found = f"answers, and not as the protocol '{endpoint.protocol}' has it ({said}); is `base_url` right?"
        case "too_large":
            found = f"answers more than is read ({said}); where it never ends, look into the log of the server"
        case "context_too_long":
            found = f"takes not even one word ({said}): is its model loaded with a length that texts have?"
        case "timeout":
            found = (
                f"takes the request and does not answer it ({said}); where it only needs longer, such as to load its "
                "model, give this command more by --timeout-s, and runs by `timeout_s`"
            )
        case "connection_lost":
            found = f"ends the connection in the middle of a request ({said}); look into the log of the server"
        case "rate_limited":
            found = f"is well and takes no call now ({said}); try again later, or lower `limits`"
        case "overloaded":
            found = f"takes no call now ({said}): it is busy, or still loads its model; try again in a minute"
        case "left_alone":
            found = f"fails for other processes too, and is left alone for a moment ({said}); try again in a minute"
        case _:
            found = f"gives no answer: {error.replace('_', ' ')}: {said}"
    return ended(f"Endpoint '{name}' {found}")


def ended(said: str) -> str:
    """As a sentence; a question has its mark."""
    return said if said.endswith("?") else f"{said}."
