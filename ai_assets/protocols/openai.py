"""The OpenAI protocol: chat completions and embeddings, as its own servers and most others speak it.

The `openai` package costs 2.5 to 4 ms of processor time per call, which is more than all of the engine; so what is sent
here are bytes that are made already, and what is read is the little that the engine needs.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ai_assets.base.fast_json import read_json
from ai_assets.base.plural import plural
from ai_assets.inference.memo import remembered
from ai_assets.inference.records import Priority, Request, RequestKind, Usage
from ai_assets.protocols.base import MESSAGE_CHARACTERS, CallDelivery, Fault, NotAnAnswer, Protocol, Reply, Wire
from ai_assets.protocols.choices import instances
from ai_assets.protocols.openai_options import options_of
from ai_assets.protocols.reading import as_answer, unpacked
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from ai_assets.inference.settings import Endpoint

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
PRIORITIES: Mapping[Priority, int] = {"interactive": 0, "normal": 10, "batch": 20}
"""As vLLM has them: the lowest is served first, and a request without one counts as 0."""
DONE = "[DONE]"
"""Ends a stream of events."""
MOST_TOKENS = 10**9
"""More than any call can use: a provider that says so is not believed."""


class OpenAI(Protocol):
    name: ClassVar[str] = "openai"
    kinds: ClassVar[frozenset[RequestKind]] = frozenset({"chat", "embedding", "raw"})
    joins_texts: ClassVar[bool] = True
    streams: ClassVar[bool] = True

    def problem(self, endpoint: Endpoint) -> str | None:
        return options_of(endpoint).problem

    def address(self, endpoint: Endpoint) -> str:
        return f"{endpoint.base_url}{options_of(endpoint).folder}" if endpoint.options else endpoint.base_url

    def decisive(self, endpoint: Endpoint) -> Mapping[str, Json]:
        return {}  # what is sent is all in the body, and a deployment in the address

    def path(self, endpoint: Endpoint, kind: RequestKind) -> str:
        path = "embeddings" if kind == "embedding" else "chat/completions"
        return options_of(endpoint).at(path) if endpoint.options else path

    def headers(self, endpoint: Endpoint, key: str | None) -> Mapping[str, str]:
        if key is not None and options_of(endpoint).is_azure:
            return {"api-key": key}
        return super().headers(endpoint, key)

    def wire(self, endpoint: Endpoint, body: bytes, kind: RequestKind, delivery: CallDelivery) -> Wire:
        if kind != "chat":
            return Wire(body=body)  # embeddings have no tiers, and what a client of the provider's own sends is its own
        added: dict[str, Json] = {} if delivery.tier is None else {"service_tier": delivery.tier}
        if endpoint.options and options_of(endpoint).priority:
            added["priority"] = PRIORITIES[delivery.priority]
        return Wire(body=body[:-1] + b"," + _encode(added).encode("ascii")[1:] if added else body)

    def models_path(self, endpoint: Endpoint) -> str | None:
        return options_of(endpoint).at("models") if endpoint.options else "models"

    def encode(self, endpoint: Endpoint, request: Request) -> bytes:
        """The order of keys in a message means nothing; in a schema it does. A raw call begins with its path."""
        if request.raw is not None:
            return request.raw.path.encode("ascii") + b"\n" + request.raw.body
        return _encode(_payload(endpoint, request)).encode("ascii")

    def decode(self, body: str, kind: RequestKind) -> Reply | Fault:
        with as_answer():
            if kind == "raw":
                return _raw(body)
            return _embedding(read_json(body)) if kind == "embedding" else _chat(read_json(body))

    def streaming(self, body: bytes) -> bytes:
        return _encode({**json.loads(body), "stream": True, "stream_options": {"include_usage": True}}).encode("ascii")

    def piece(self, event: str) -> str:
        if event == DONE:
            return ""
        try:
            choices = json.loads(event).get("choices") or [{}]
            said = (choices[0].get("delta") or {}).get("content")
        except (ValueError, AttributeError, LookupError, TypeError, RecursionError):
            return ""  # whether it is an answer at all is seen at its end
        return said if isinstance(said, str) else ""

    def assembled(self, events: Sequence[str]) -> str:
        with as_answer("an event of the stream"):
            return json.dumps(_assembled(events))

    def join(self, bodies: Sequence[bytes]) -> bytes:
        together = json.loads(bodies[0])
        together["input"] = [json.loads(body)["input"] for body in bodies]
        return json.dumps(together, separators=(",", ":")).encode("ascii")

    def split(self, answer: str, bodies: Sequence[bytes]) -> Sequence[str]:
        with as_answer():
            return list(_parts(read_json(answer), [len(body) for body in bodies]))


def _assembled(events: Sequence[str]) -> dict[str, Any]:
    """Chunks of a chat as the completion that they add up to; it has one choice, of text."""
    text: list[str] = []
    refusal: list[str] = []
    finish, usage = None, None
    head: dict[str, Any] = {}
    for event in events:
        if event == DONE:
            break
        chunk = json.loads(event)
        if chunk.get("error"):
            raise NotAnAnswer(f"the provider broke the answer off with an error: {chunk['error']}"[:MESSAGE_CHARACTERS])
        head = head or {name: chunk.get(name) for name in ("id", "model", "created")}
        if chunk.get("service_tier"):
            head["service_tier"] = chunk["service_tier"]
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            text.append(delta.get("content") or "")
            refusal.append(delta.get("refusal") or "")
            finish = choice.get("finish_reason") or finish
    if finish is None:
        raise NotAnAnswer("the stream broke off before the answer's end")
    message = {"role": "assistant", "content": "".join(text), "refusal": "".join(refusal) or None}
    found = {**head, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    return {**found, "usage": usage} if usage else found


def _payload(endpoint: Endpoint, request: Request) -> dict[str, Json]:
    payload: dict[str, Json] = {"model": endpoint.llm}
    if request.text is not None:
        payload["input"] = request.text
        payload["encoding_format"] = "base64"
        if request.dimensions is not None:
            payload["dimensions"] = request.dimensions
        return payload
    payload["messages"] = [_ordered(message) for message in request.messages]
    payload[endpoint.output_limit] = request.max_output_tokens
    if request.temperature is not None:
        payload["temperature"] = float(request.temperature)
    if request.seed is not None:
        payload["seed"] = request.seed
    if request.logprobs and endpoint.logprobs:
        payload["logprobs"] = True
    if request.tools:
        payload["tools"] = list(request.tools)
    if request.choices and endpoint.structured == "vllm_choice":
        payload["structured_outputs"] = {"choice": list(request.choices)}
    if request.schema is not None:
        _ask_for_schema(payload, endpoint, request.schema)
    elif request.choices and endpoint.structured in ("vllm", "vllm_choice"):
        payload["structured_outputs"] = {"choice": list(request.choices)}
    return payload


def _ask_for_schema(payload: dict[str, Json], endpoint: Endpoint, schema: Mapping[str, Json]) -> None:
    if endpoint.structured == "json_schema":
        described: dict[str, Json] = {"name": "answer", "schema": schema, "strict": _whole_is_strict(schema)}
        payload["response_format"] = {"type": "json_schema", "json_schema": described}
        return
    if endpoint.structured in ("vllm", "vllm_choice"):
        choices = instances(schema) if endpoint.structured == "vllm_choice" else None
        payload["structured_outputs"] = {"json": schema} if choices is None else {"choice": choices}
        return
    if endpoint.structured == "json_object":
        payload["response_format"] = {"type": "json_object"}
    told = f"Answer with one JSON object that conforms to this JSON schema: {json.dumps(schema, allow_nan=False)}"
    messages = payload["messages"]
    assert isinstance(messages, list)
    payload["messages"] = [{"content": told, "role": "system"}, *messages]


def _ordered(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


@remembered
def _whole_is_strict(schema: Mapping[str, Json]) -> bool:
    return _is_strict(schema)


def _is_strict(schema: Json) -> bool:
    """What providers ask of a schema that they enforce: every object closed, every property required."""
    if isinstance(schema, Sequence) and not isinstance(schema, str):
        return all(_is_strict(item) for item in schema)
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        required = schema.get("required", ())
        closed = schema.get("additionalProperties") is False
        if not closed or not isinstance(required, Sequence) or not set(required).issuperset(properties):
            return False
    return all(_is_strict(value) for value in schema.values())


def _embedding(body: Any) -> Reply:
    vector = _vector(body["data"][0]["embedding"])
    if not vector:
        raise NotAnAnswer("the vector is empty")
    return Reply(vector=vector, usage=_usage(body.get("usage")), model=str(body.get("model") or ""))


def _raw(body: str) -> Reply:
    """As it came, for whoever sent it; what it used is read where it says so."""
    said = json.loads(body)
    usage = said.get("usage")
    if isinstance(usage, Mapping) and "prompt_tokens" not in usage and "input_tokens" in usage:
        into = usage.get("input_tokens_details") or {}
        usage = {"prompt_tokens": usage["input_tokens"], "completion_tokens": usage.get("output_tokens"),
                 "prompt_tokens_details": into}  # fmt: skip
    return Reply(text=body, usage=_usage(usage), model=str(said.get("model") or ""), tier=_tier(said))


def _chat(body: Any) -> Reply | Fault:
    """A refusal is a Fault that was paid for."""
    usage, tier = _usage(body.get("usage")), _tier(body)
    choice = body["choices"][0]
    message = choice["message"]
    finish = str(choice.get("finish_reason") or "stop")
    if message.get("refusal") or finish == "content_filter":
        said = str(message.get("refusal") or "the provider's content filter stopped the answer")
        return Fault(error="refused", message=said[:MESSAGE_CHARACTERS], usage=usage, tier=tier)
    if finish == "error":
        raise NotAnAnswer("the provider broke the answer off with an error")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise NotAnAnswer("the content of the answer is no text")
    return Reply(
        text=content or "",
        tool_calls=tuple(message.get("tool_calls") or ()),
        token_logprobs=_logprobs(choice.get("logprobs")),
        finish_reason=finish,
        usage=usage,
        model=str(body.get("model") or ""),
        tier=tier,
        fingerprint=str(body.get("system_fingerprint") or "") or None,
    )


def _tier(body: Any) -> str | None:
    said = body.get("service_tier")
    return said[:MESSAGE_CHARACTERS] if isinstance(said, str) and said else None


def _parts(body: Any, weights: Sequence[int]) -> Iterator[str]:
    """An answer about several texts as one answer per text, usage shared out by weight; together exactly the whole."""
    vectors = {int(item["index"]): item["embedding"] for item in body["data"]}
    if len(body["data"]) != len(weights) or sorted(vectors) != list(range(len(weights))):
        came = plural(len(body["data"]), "vector")
        raise NotAnAnswer(
            f"{plural(len(weights), 'text was', 'texts were')} sent, and {came} came back, not one for each"
        )
    usage = _usage(body.get("usage"))
    total, given, passed = sum(weights), 0, 0
    for place, weight in enumerate(weights):
        part: dict[str, Any] = {"model": body.get("model"), "data": [{"embedding": _packed(vectors[place])}]}
        if usage is not None:
            passed += weight
            upto = usage.input_tokens * passed // total
            part["usage"] = {"prompt_tokens": upto - given}
            given = upto
        yield json.dumps(part)


def _packed(vector: Any) -> str:
    if isinstance(vector, str):
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _usage(said: Any) -> Usage | None:
    if not said:
        return None
    into, out = said.get("prompt_tokens_details") or {}, said.get("completion_tokens_details") or {}
    return Usage(
        input_tokens=_count(said["prompt_tokens"]),
        cached_tokens=_count(into.get("cached_tokens")),
        output_tokens=_count(said.get("completion_tokens")),
        reasoning_tokens=_count(out.get("reasoning_tokens")),
    )


def _count(said: Any) -> int:
    tokens = int(said or 0)
    if not 0 <= tokens <= MOST_TOKENS:
        raise NotAnAnswer(f"a usage of {tokens:.3g} tokens is none")
    return tokens


def _logprobs(said: Any) -> tuple[tuple[str, float], ...] | None:
    content = (said or {}).get("content")
    return tuple((str(item["token"]), float(item["logprob"])) for item in content) if content else None


def _vector(given: Any) -> tuple[float, ...]:
    if isinstance(given, str):
        return unpacked(given)
    return tuple(float(number) for number in given)
