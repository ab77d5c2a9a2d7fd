"""What was sent for a call: as the ledger keeps it beside the answer, and as people read it. Pure.

Bodies of the OpenAI protocol, and of others that write `messages` as it does, are taken apart; any other is text.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ai_assets.storage.digest import Json

LONGEST_BODY = 1 << 20
"""Bytes. Longer ones (images, mostly) are not kept: they would make the ledger larger than all answers together."""
_LEVEL = 1
"""Twice as fast as the default, for a tenth more bytes: this is done for every call."""


@dataclass(frozen=True, kw_only=True)
class SentMessage:
    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class SentRequest:
    """A request as it left, read for people."""

    messages: tuple[SentMessage, ...]
    """The rendered prompt; of an embedding, the text. Empty where the body is not readable so."""
    schema: Json
    """That the answer had to conform to; None where there was none."""
    settings: Mapping[str, Json]
    """Whatever else was sent: model, temperature, limits, tools."""
    body: str
    """All of it."""


def packed(body: bytes) -> str:
    """As a column of text; empty where it is too long to be kept."""
    return "" if len(body) > LONGEST_BODY else base64.b64encode(zlib.compress(body, _LEVEL)).decode("ascii")


def unpacked(kept: str) -> str:
    return zlib.decompress(base64.b64decode(kept)).decode("utf-8", "replace")


def read_sent(body: str) -> SentRequest:
    _, line, rest = body.partition("\n")
    found = _json(body) if (parsed := _json(rest) if line else None) is None else parsed  # a raw call has its path
    if not isinstance(found, dict):
        return SentRequest(messages=(), schema=None, settings={}, body=body)
    given: dict[str, Any] = dict(found)
    messages = [SentMessage(role="system", content=_content(given.pop("system")))] if "system" in given else []
    listed = given.pop("messages", None)
    messages += [_message(each) for each in listed] if isinstance(listed, list) else []
    if isinstance(given.get("input"), str):
        messages.append(SentMessage(role="input", content=given.pop("input")))
    return SentRequest(messages=tuple(messages), schema=_schema(given), settings=given, body=body)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _message(said: Any) -> SentMessage:
    if not isinstance(said, dict):
        return SentMessage(role="", content=_content(said))
    return SentMessage(role=str(said.get("role", "")), content=_content(said.get("content")))


def _content(content: Any) -> str:
    """Text as it is; of several parts the texts, and what the others are."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(_part(part) for part in content)
    return "" if content is None else json.dumps(content, ensure_ascii=False, indent=2)


def _part(part: Any) -> str:
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type", "part") if isinstance(part, dict) else "part"
    return f"[{kind}]"


def _schema(given: dict[str, Any]) -> Json:
    """Taken out of the format that the answer was asked for in."""
    asked = given.get("response_format")
    inner = asked.get("json_schema") if isinstance(asked, dict) else None
    found: Json = inner.get("schema") if isinstance(inner, dict) else None
    if found is not None:
        del given["response_format"]
    return found
