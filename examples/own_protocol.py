"""A protocol of one's own: the `/completion` of a llama.cpp server, which knows nothing of OpenAI's messages."""

import json
from collections.abc import Mapping
from typing import Any

from ai_assets import Request
from ai_assets.inference.records import Usage
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols import NotAnAnswer, Protocol, Reply


class LlamaCpp(Protocol):
    name = "llama.cpp"

    def problem(self, endpoint: Endpoint) -> str | None:
        unknown = sorted(set(endpoint.options) - {"cache"})
        return f"llama.cpp has the option 'cache', and none called '{unknown[0]}'" if unknown else None

    def path(self, endpoint: Endpoint, kind: str) -> str:
        return "completion"

    def encode(self, endpoint: Endpoint, request: Request) -> bytes:
        body: dict[str, Any] = {
            "prompt": "\n\n".join(f"{message['role']}: {_text(message)}" for message in request.messages),
            "n_predict": request.max_output_tokens,
            "cache_prompt": bool(endpoint.options.get("cache", True)),
        }
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.seed is not None:
            body["seed"] = request.seed
        if request.schema is not None:
            body["json_schema"] = request.schema
        return json.dumps(body).encode()

    def decode(self, body: str, kind: str) -> Reply:
        try:
            said = json.loads(body)
            return Reply(
                text=said["content"],
                finish_reason="length" if said.get("stop_type") == "limit" else "stop",
                usage=Usage(input_tokens=said["tokens_evaluated"], output_tokens=said["tokens_predicted"]),
                model=said.get("model", ""),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise NotAnAnswer(f"this is no completion: {error!r}") from error


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    if not isinstance(content, str):
        raise ValueError("llama.cpp's completion takes text, and this message has parts such as images")
    return content
