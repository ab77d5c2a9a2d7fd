"""A call: a request for chat or embeddings as the server and the batches see it, from its bytes to its answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from ai_assets.rehearsal import kserve, tei
from ai_assets.rehearsal.answers import FIRST_MODEL, AnsweringModel, answer, has_schema
from ai_assets.rehearsal.chat import ChatRequest, read_chat
from ai_assets.rehearsal.embeddings import EmbeddingRequest, embed, read_embedding
from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.faults import context_too_long
from ai_assets.rehearsal.settings import Behaviour, FaultKind
from ai_assets.rehearsal.texts import TextsRequest
from ai_assets.rehearsal.tiers import UNSEEN
from ai_assets.rehearsal.tokens import CACHE_FROM_TOKENS, CACHE_STEP_TOKENS, TokenUsage

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
_FLEX_ONLY: frozenset[FaultKind | None] = frozenset({"flex_unavailable", "flex_capacity"})
_CHAT_ONLY: frozenset[FaultKind | None] = frozenset({"refused", "schema_violation"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ReceivedCall:
    digest: str
    """Of the path and the bytes of the body: equal for identical requests."""
    body: bytes
    request: ChatRequest | EmbeddingRequest | TextsRequest

    def applicable(self, fault: FaultKind | None) -> FaultKind | None:
        """The fault, unless it makes no sense for this request."""
        request = self.request
        if fault in _FLEX_ONLY:
            return fault if isinstance(request, ChatRequest) and request.tier == "flex" else None
        if fault not in _CHAT_ONLY:
            return fault
        if not isinstance(request, ChatRequest):
            return None
        return None if fault == "schema_violation" and not has_schema(request) else fault

    @property
    def is_repair(self) -> bool:
        return isinstance(self.request, ChatRequest) and self.request.is_repair


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedAnswer:
    """The bytes of an answer: one piece, or the events of a stream."""

    pieces: list[bytes]
    streams: bool
    usage: TokenUsage
    headers: Mapping[str, str] = field(default_factory=dict)


class PrefixCache:
    """System messages already seen: a long one that comes again is billed as cached input."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def cached_tokens(self, request: ChatRequest) -> int:
        digest, tokens = request.prefix
        if tokens < CACHE_FROM_TOKENS:
            return 0
        if digest in self._seen:
            return tokens // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS
        self._seen.add(digest)
        return 0


def read_call(path: str, body: bytes, behaviour: Behaviour) -> ReceivedCall:
    """What is asked, or the refusal of a request that is wrong."""
    try:
        declared = json.loads(body)
    except (ValueError, RecursionError) as e:
        message = "We could not parse the JSON body of your request. The OpenAI API expects a JSON payload."
        raise Refusal(400, message) from e
    if not isinstance(declared, dict):
        raise Refusal(400, "Invalid request: the body is no JSON object.")
    asked = body
    if any(name in declared for name in UNSEEN):
        seen = {name: value for name, value in declared.items() if name not in UNSEEN}
        asked = json.dumps(seen, separators=(",", ":")).encode()
    digest = hashlib.sha256(path.encode() + b"\n" + asked).hexdigest()
    return ReceivedCall(digest=digest, body=body, request=read_request(path, declared, len(body), behaviour))


def read_texts(path: str, body: bytes, headers: Mapping[str, str], behaviour: Behaviour) -> ReceivedCall:
    """The same at a model server: of text-embeddings-inference, or of the Open Inference Protocol."""
    digest = hashlib.sha256(path.encode() + b"\n" + body).hexdigest()
    if path not in tei.PATHS:
        found = kserve.PATH.fullmatch(path)
        assert found is not None
        return ReceivedCall(
            digest=digest, body=body, request=kserve.read_kserve(unquote(found["model"]), body, headers, behaviour)
        )
    try:
        declared = json.loads(body)
    except (ValueError, RecursionError) as e:
        raise Refusal(422, f"Failed to parse the request body as JSON: {e}") from e
    if not isinstance(declared, dict):
        raise Refusal(422, "Failed to deserialize the JSON body into the target type: no map")
    return ReceivedCall(digest=digest, body=body, request=tei.read_tei(path, declared, behaviour))


def read_request(
    path: str, declared: Mapping[str, Any], size: int, behaviour: Behaviour
) -> ChatRequest | EmbeddingRequest:
    request = read_chat(declared, size, behaviour) if path == CHAT else read_embedding(declared, size)
    if behaviour.models and request.model not in behaviour.models:
        message = f"The model '{request.model}' does not exist or you do not have access to it."
        raise Refusal(404, message, code="model_not_found", param="model")
    if request.input_tokens > behaviour.context_tokens:
        raise context_too_long(behaviour.context_tokens, request.input_tokens)
    return request


def answered(
    call: ReceivedCall,
    behaviour: Behaviour,
    prefixes: PrefixCache,
    fault: FaultKind | None,
    model: AnsweringModel = FIRST_MODEL,
) -> EncodedAnswer:
    """Computes the answer. Whoever calls this bills it."""
    request = call.request
    if isinstance(request, TextsRequest):
        return _of_texts(request, behaviour)
    if isinstance(request, EmbeddingRequest):
        body, usage = embed(request, second=model.second)
        return EncodedAnswer(pieces=[json.dumps(body, separators=(",", ":")).encode()], streams=False, usage=usage)
    cached = prefixes.cached_tokens(request)
    quick = behaviour.answers == "quick"
    said = answer(request, call.digest[:24], quick=quick, cached_tokens=cached, fault=fault, model=model)
    pieces = said.events() if request.stream else [said.body()]
    return EncodedAnswer(pieces=pieces, streams=request.stream, usage=said.usage)


def _of_texts(request: TextsRequest, behaviour: Behaviour) -> EncodedAnswer:
    if request.options.get("path") in tei.PATHS:
        body = json.dumps(tei.answer_tei(request, behaviour), separators=(",", ":")).encode()
        headers = {tei.TOKENS: str(request.input_tokens), "x-compute-type": "cpu"}
        return EncodedAnswer(pieces=[body], streams=False, usage=request.usage, headers=headers)
    encoded = kserve.answer_kserve(request, behaviour)
    return EncodedAnswer(pieces=[encoded.body], streams=False, usage=request.usage, headers=encoded.headers)
