"""OpenAI's own client over the engine: a transport that asks the ledger instead of the network.

The client holds no key and does not retry; both are the engine's.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import openai

from ai_assets.inference.errors import WorkStops
from ai_assets.inference.prices import REQUEST_TOKENS
from ai_assets.inference.records import Answer, RawCall, Request, Result, Unanswered
from ai_assets.inference.routes import names_of
from ai_assets.inference.settings import InferenceSettings

BASE = "http://ledger.invalid/v1"
"""Where nothing is sent to."""
BY_TOKENS = frozenset({"chat/completions", "completions", "responses", "embeddings"})
"""Paths of which tokens say what a call costs."""
MORE_THAN_TEXT = frozenset({"image_url", "input_image", "input_file", "file", "input_audio"})
"""Parts of a message, by their type."""
LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
STATUS = {"auth": 401, "quota": 402, "budget": 402, "held": 409, "rate_limited": 429, "refused": 400,
          "tier_unavailable": 429, "outside_window": 503, "malformed": 400, "context_too_long": 400}  # fmt: skip
"""Of an answer that is none, by class of error; of others 502."""


def openai_client(
    ask: Callable[[Request], Result], settings: InferenceSettings, *, route: str, max_usd: float | None, sample: int
) -> openai.OpenAI:
    transport = _Ledger(ask, settings, route, max_usd, sample)
    return openai.OpenAI(
        api_key="held-by-the-engine", base_url=BASE, max_retries=0, http_client=httpx2.Client(transport=transport)
    )


class _RequestRefused(Exception):
    """The caller is told why, before anything is sent."""


class _Ledger(httpx2.BaseTransport):
    def __init__(
        self,
        ask: Callable[[Request], Result],
        settings: InferenceSettings,
        route: str,
        max_usd: float | None,
        sample: int,
    ) -> None:
        self._ask, self._settings = ask, settings
        self._route, self._max_usd, self._sample = route, max_usd, sample

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            result = self._ask(self._asked(request))
        except _RequestRefused as refused:
            return _response(400, "refused", str(refused))
        except WorkStops as stopped:
            return _response(402, type(stopped).__name__, str(stopped))
        if isinstance(result, Answer):
            return httpx2.Response(200, content=result.text.encode(), headers={"content-type": "application/json"})
        assert isinstance(result, Unanswered)
        return _response(STATUS.get(result.error, 502), result.error, result.message)

    def _asked(self, request: httpx2.Request) -> Request:
        path, content = request.url.raw_path.decode("ascii").removeprefix("/v1/"), request.read()
        kind = request.headers.get("content-type", "")
        if request.method != "POST" or not kind.startswith("application/json"):
            raise _RequestRefused(
                f"{request.method} {path} ({kind or 'without a body'}) is no call that the ledger can hold: it takes "
                "POST with JSON. Use a client of your own for what costs nothing."
            )
        body: Mapping[str, Any] = json.loads(content)
        if body.get("stream"):
            raise _RequestRefused(
                "streams are not for this client, for its answers are in the ledger before anyone sees them. "
                "llm.stream(prompt) tells one as it comes."
            )
        unknown = _unpriced(path, body)
        if unknown is not None and self._max_usd is None:
            raise _RequestRefused(f"{unknown}. Say the most that one call may cost: llm.client(max_usd=0.05)")
        raw = RawCall(
            path=path,
            body=content,
            input_tokens=len(content) + REQUEST_TOKENS,
            output_tokens=_output_at_most(path, body),
            max_usd=None if unknown is None else self._max_usd,
        )
        return Request(raw=raw, route=self._endpoint(str(body.get("model") or "")), sample=self._sample)

    def _endpoint(self, model: str) -> str:
        """That of the route which serves the model: its price is what the call costs."""
        names = names_of(self._settings, self._route)
        served = {self._settings.endpoints[name].llm: name for name in reversed(names)}
        if names and model not in served:
            raise _RequestRefused(
                f"the route '{self._route}' leads to {', '.join(sorted(served))}, and this call asks for '{model}': a "
                "model has its price in inference.yaml. Name one of these, or another route."
            )
        return served[model] if names else self._route  # which the engine refuses by name


def _limit(body: Mapping[str, Any]) -> int | None:
    return next((body[name] for name in LIMITS if isinstance(body.get(name), int)), None)


def _output_at_most(path: str, body: Mapping[str, Any]) -> int:
    several = max(int(body.get(name) or 1) for name in ("n", "best_of"))
    return 0 if path == "embeddings" else (_limit(body) or 0) * several


def _unpriced(path: str, body: Mapping[str, Any]) -> str | None:
    """Why tokens at the declared price do not say what a call can cost; None where they do."""
    if path not in BY_TOKENS:
        return f"nothing is known of what {path} costs"
    if path != "embeddings" and _limit(body) is None:
        return f"this call of {path} has no limit of its output ({', '.join(LIMITS)})"
    if body.get("service_tier") not in (None, "auto", "default", "flex"):
        return f"the service tier '{body['service_tier']}' has another price"
    tools = [tool.get("type") for tool in body.get("tools") or () if isinstance(tool, Mapping)]
    hosted = next((kind for kind in tools if kind not in ("function", "custom")), None)
    if hosted is not None or "web_search_options" in body:
        return f"the provider's own tool '{hosted or 'web_search'}' costs more than tokens"
    if "audio" in body or _more_than_text(body):
        return f"this call of {path} has more than text, and nothing says what that costs"
    return None


def _more_than_text(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("type") in MORE_THAN_TEXT or any(map(_more_than_text, value.values()))
    return isinstance(value, list) and any(map(_more_than_text, value))


def _response(status: int, kind: str, message: str) -> httpx2.Response:
    return httpx2.Response(status, json={"error": {"message": message, "type": kind, "code": kind}})
