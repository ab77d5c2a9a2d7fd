"""The identity of a call: the very bytes that are sent, and where. What it does not see has no part in it."""

import json
from collections.abc import Mapping, Sequence

from ai_assets.inference.memo import remembered
from ai_assets.inference.records import Request
from ai_assets.inference.settings import Endpoint
from ai_assets.storage.digest import Json, sha256_hex

KEY_CHARACTERS = 40
"""160 bits: nobody finds two requests with one key, and the index of millions of calls stays small."""


class Unhashable(Exception):
    """A part of a request that JSON cannot hold, and so neither a provider nor an identity."""


def call_key(endpoint: Endpoint, body: bytes, sample: int) -> str:
    """Same endpoint, same bytes, same sample: the same call, in any run, stage or process."""
    where = f"1\n{endpoint.base_url}\n{sample}\n".encode()
    return sha256_hex(where + body)[:KEY_CHARACTERS]


def body_of(endpoint: Endpoint, request: Request) -> bytes:
    """The request as the endpoint shall get it. The order of keys in a message means nothing; in a schema it does."""
    try:
        return json.dumps(_payload(endpoint, request), separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unhashable(str(error)) from error


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
    if request.schema is not None:
        _ask_for_schema(payload, endpoint, request.schema)
    return payload


def _ask_for_schema(payload: dict[str, Json], endpoint: Endpoint, schema: Mapping[str, Json]) -> None:
    if endpoint.structured == "json_schema":
        described: dict[str, Json] = {"name": "answer", "schema": schema, "strict": _whole_is_strict(schema)}
        payload["response_format"] = {"type": "json_schema", "json_schema": described}
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
