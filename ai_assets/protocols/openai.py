"""The OpenAI protocol over HTTP: one request out, one `Reply` or `Fault` back. No retries, no money, no ledger.

The `openai` package costs 2.5 to 4 ms of processor time per call, which is more than all of the engine; so what is sent
here are bytes that are made already, and what is read is the little that the engine needs.
"""

from __future__ import annotations

import base64
import email.utils
import io
import json
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ai_assets.inference.records import ErrorClass, Usage
from ai_assets.inference.settings import Endpoint

CONNECT_TIMEOUT_S = 10.0
LARGE_BYTES = 2**19
MOST_TOKENS = 10**9
"""More than any call can use: a provider that says so is not believed."""
MESSAGE_CHARACTERS = 300
"""What is kept of a provider's own words about an error."""
GATEWAY_STATUSES = frozenset({408, 424, 460, 499, 502, 504, *range(520, 528), 530})
"""Said by something between here and the model, or of the connection to it: the model may have run all the same."""
BUSY_STATUSES = frozenset({503, 529})


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer, as it came and as it reads."""

    body: str
    text: str
    tool_calls: tuple[Mapping[str, Any], ...]
    token_logprobs: tuple[tuple[str, float], ...] | None
    vector: tuple[float, ...]
    finish_reason: str
    usage: Usage | None
    """None where the provider does not say."""
    model: str
    provider_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """No usable answer."""

    error: ErrorClass
    message: str
    retry_after_s: float | None = None
    usage: Usage | None = None
    """What the provider counted for it; None where it says nothing."""
    answered: bool = False
    """It came as an answer (HTTP 200), such as a refusal of the model itself."""
    body: str | None = None
    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Response:
    text: str
    provider_id: str | None


class NotAnAnswer(Exception):
    """The body is no message of the protocol."""


class OpenAIChannel:
    """Connections to one endpoint; belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, base_url: str, key: str | None) -> None:
        import aiohttp

        self._base_url = base_url.rstrip("/")
        self._secret = key
        headers = {"content-type": "application/json", "user-agent": "ai-assets"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10.0),
            headers=headers,
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def chat(self, body: bytes, *, timeout_s: float) -> Reply | Fault:
        """One attempt."""
        response = await self._post("chat/completions", body, timeout_s)
        if isinstance(response, Fault):
            return response
        try:
            reply = read_reply(response.text, embedding=False, provider_id=response.provider_id)
        except NotAnAnswer as error:
            return self._garbled(response, error)
        if isinstance(reply, Reply) and reply.finish_reason == "error":
            return self._garbled(response, NotAnAnswer("the provider broke the answer off with an error"))
        return reply

    async def embed(self, bodies: Sequence[bytes], *, timeout_s: float) -> Sequence[Reply | Fault]:
        """One attempt for requests of one text each, sent as one; a fault is everyone's."""
        together = json.loads(bodies[0])
        together["input"] = [json.loads(body)["input"] for body in bodies]
        body = json.dumps(together, separators=(",", ":")).encode("ascii")
        response = await self._post("embeddings", body, timeout_s)
        if isinstance(response, Fault):
            return [response]
        try:
            weights = [len(body) for body in bodies]
            return [
                replace(reply, provider_id=response.provider_id)
                for part in _parts(response.text, weights)
                if isinstance(reply := read_reply(part, embedding=True), Reply)
            ]
        except NotAnAnswer as error:
            return [self._garbled(response, error)]

    async def _post(self, path: str, body: bytes, timeout_s: float) -> _Response | Fault:
        """One attempt, and never two: aiohttp does not repeat a POST."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, timeout_s))
        # What aiohttp is given in one piece it writes in one piece, and while it does nothing else happens.
        data = body if len(body) < LARGE_BYTES else io.BytesIO(body)
        try:
            async with self._session.post(
                f"{self._base_url}/{path}", data=data, timeout=timeout, allow_redirects=False
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Fault(error="unreachable", message=self._clean(f"no connection: {error}"))
        except TimeoutError:
            return Fault(error="timeout", message=f"no answer within {timeout_s:g} s")
        except aiohttp.InvalidURL as error:
            return Fault(error="malformed", message=self._clean(f"the address cannot be used: {error}"))
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            return Fault(error="connection_lost", message=self._clean(f"the connection broke: {said}"))
        provider_id = self._clean(response.headers.get("x-request-id") or "") or None
        if response.status != 200:
            return self._fault(response.status, response.headers, raw, provider_id)
        return _Response(self._clean(raw.decode("utf-8", "replace")), provider_id)

    def _garbled(self, response: _Response, error: NotAnAnswer) -> Fault:
        told = error_of(response.text.encode("utf-8", "replace"))
        inside = f"HTTP 200 with an error inside: {told.said}" if told.is_protocol else str(error)
        return Fault(
            error="garbled",
            message=inside[:MESSAGE_CHARACTERS],
            answered=True,
            body=response.text,
            provider_id=response.provider_id,
        )

    def _fault(self, status: int, headers: Mapping[str, str], raw: bytes, provider_id: str | None) -> Fault:
        told = error_of(raw)
        return Fault(
            error=class_of(status, told),
            message=self._clean(f"HTTP {status}: {told.said}")[:MESSAGE_CHARACTERS],
            retry_after_s=retry_after_s(headers),
            provider_id=provider_id,
        )

    def _clean(self, text: str) -> str:
        """Some providers repeat the key in their complaint about it."""
        return text.replace(self._secret, "***") if self._secret else text


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the body of an error says."""

    said: str
    code: str = ""
    """Code and type, as the provider spells them."""
    is_protocol: bool = False
    """It is the protocol's error object, so whoever speaks the protocol wrote it, and no proxy's page."""


def class_of(status: int, told: Told) -> ErrorClass:
    """What an HTTP error means for who pays and who tries again."""
    known = f"{told.code} {told.said}".lower()
    if status in GATEWAY_STATUSES:
        return "gateway_error"
    if status == 429:
        return "quota" if "insufficient_quota" in known or "billing_hard_limit" in known else "rate_limited"
    if status == 425:
        return "rate_limited"
    if status in (401, 403):
        return "auth"
    if status == 402:
        return "quota"
    if status >= 500:
        if not told.is_protocol or status not in (500, *BUSY_STATUSES):
            return "gateway_error"
        return "overloaded" if status in BUSY_STATUSES else "server_error"
    if status < 300:
        return "garbled"  # accepted or done, and no answer with it
    if "context_length" in known or "maximum context" in known:
        return "context_too_long"
    if "content_filter" in known or "content_policy" in known or "content management policy" in known:
        return "refused"
    return "malformed"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds, milliseconds or a date, as the provider likes; a date is held against the provider's own clock."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            seconds = float(milliseconds) / 1000
            return max(seconds, 0.0) if seconds == seconds else None  # NaN is not equal to itself
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return float(value)
        said_at = headers.get("date")
        now_s = time.time() if said_at is None else email.utils.parsedate_to_datetime(said_at).timestamp()
        return max(email.utils.parsedate_to_datetime(value).timestamp() - now_s, 0.0)
    except ValueError:
        return None


def read_reply(text: str, *, embedding: bool, provider_id: str | None = None) -> Reply | Fault:
    """An answer of the protocol, fresh or from the ledger; a refusal is a Fault that was paid for."""
    try:
        body = json.loads(text)
        usage = _usage(body.get("usage"))
        model = str(body.get("model") or "")
        if embedding:
            vector = _vector(body["data"][0]["embedding"])
            return Reply(body=text, text="", tool_calls=(), token_logprobs=None, vector=vector, finish_reason="stop",
                         usage=usage, model=model, provider_id=provider_id)  # fmt: skip
        choice = body["choices"][0]
        message = choice["message"]
        finish = str(choice.get("finish_reason") or "stop")
        if message.get("refusal") or finish == "content_filter":
            said = str(message.get("refusal") or "the provider's content filter stopped the answer")
            return Fault(error="refused", message=said[:MESSAGE_CHARACTERS], usage=usage, answered=True, body=text,
                         provider_id=provider_id)  # fmt: skip
        content = message.get("content")
        if content is not None and not isinstance(content, str):
            raise NotAnAnswer("the content of the answer is no text")
        return Reply(
            body=text,
            text=content or "",
            tool_calls=tuple(message.get("tool_calls") or ()),
            token_logprobs=_logprobs(choice.get("logprobs")),
            vector=(),
            finish_reason=finish,
            usage=usage,
            model=model,
            provider_id=provider_id,
        )
    except (ValueError, OverflowError, RecursionError) as error:
        raise NotAnAnswer(f"the answer is no JSON: {error}"[:MESSAGE_CHARACTERS]) from error
    except (KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise NotAnAnswer(f"the answer lacks what the protocol promises: {error!r}"[:MESSAGE_CHARACTERS]) from error


def _parts(text: str, weights: Sequence[int]) -> Iterator[str]:
    """An answer about several texts as one answer per text, usage shared out by weight; together exactly the whole."""
    try:
        body = json.loads(text)
        vectors = {int(item["index"]): item["embedding"] for item in body["data"]}
        if sorted(vectors) != list(range(len(weights))):
            raise NotAnAnswer(f"{len(weights)} texts were sent, and {len(vectors)} vectors came back")
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
    except (ValueError, OverflowError, RecursionError) as error:
        raise NotAnAnswer(f"the answer is no JSON: {error}"[:MESSAGE_CHARACTERS]) from error
    except (KeyError, TypeError, AttributeError, struct.error) as error:
        raise NotAnAnswer(f"the answer lacks what the protocol promises: {error!r}"[:MESSAGE_CHARACTERS]) from error


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
        raw = base64.b64decode(given)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    return tuple(float(number) for number in given)


def error_of(raw: bytes) -> Told:
    """The provider's words and its code; platforms differ in where they put them."""
    text = raw[:10_000].decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return Told(said=text.strip() or "no explanation")
    error = body.get("error", body) if isinstance(body, dict) else body
    if not isinstance(error, dict):
        return Told(said=str(error))
    said = error.get("message") or error.get("detail") or text
    # `{"error": {"message": ...}}`; some servers of the protocol write `{"object": "error", "message": ...}`.
    named = error is not body or body.get("object") == "error"
    is_protocol = named and isinstance(error.get("message"), str) and bool(error["message"])
    return Told(said=str(said), code=f"{error.get('code') or ''} {error.get('type') or ''}", is_protocol=is_protocol)
