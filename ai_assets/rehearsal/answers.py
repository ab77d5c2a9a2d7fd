"""Answers to chat requests: a function of the request alone, in the shapes of the OpenAI protocol."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ai_assets.rehearsal.chat import ChatRequest, Schema, compact_json
from ai_assets.rehearsal.logprobs import token_logprobs
from ai_assets.rehearsal.reading import Reading, read, schema_in_prompt
from ai_assets.rehearsal.replies import prose
from ai_assets.rehearsal.schemas import SchemaValue, fill, violate
from ai_assets.rehearsal.settings import FaultKind
from ai_assets.rehearsal.tokens import TokenUsage, count, cut, split

REFUSAL = "I'm sorry, but I can't assist with that request."
FINGERPRINT = "fp_rehearsal"
SECOND_MODEL = "rehearsal-second"
_PIECE_TOKENS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweringModel:
    """Which model answers, whatever it is called by whoever asks."""

    second: bool = False
    """It gives the second label, and of a text the half."""
    name: str | None = None
    """Instead of the name that was asked for."""
    fingerprint: str = FINGERPRINT
    tokens: float = 1.0


FIRST_MODEL = AnsweringModel()


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatChoice:
    """One alternative of an answer, before it is put into a message or into chunks."""

    content: str | None = None
    arguments: str | None = None
    """Of the call of the tool."""
    refusal: str | None = None
    finish_reason: str = "stop"
    tokens: int = 0
    filled: SchemaValue | None = None

    @property
    def said(self) -> str:
        return self.content or self.arguments or self.refusal or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatAnswer:
    request: ChatRequest
    id: str
    choices: tuple[ChatChoice, ...]
    usage: TokenUsage
    model: AnsweringModel = FIRST_MODEL

    def body(self) -> bytes:
        """The answer in one piece."""
        choices = [self._choice(number, choice) for number, choice in enumerate(self.choices)]
        return _json({**self._head("chat.completion"), "choices": choices, "usage": usage_json(self.usage)})

    def events(self) -> list[bytes]:
        """The answer as server-sent events."""
        head = self._head("chat.completion.chunk")
        if self.request.include_usage:
            head["usage"] = None
        found = []
        for number, choice in enumerate(self.choices):
            for delta, more in self._deltas(choice):
                found.append({**head, "choices": [{"index": number, "delta": delta, "finish_reason": None, **more}]})
            last = {"index": number, "delta": {}, "logprobs": None, "finish_reason": choice.finish_reason}
            found.append({**head, "choices": [last]})
        if self.request.include_usage:
            found.append({**head, "choices": [], "usage": usage_json(self.usage)})
        return [*(b"data: %b\n\n" % _json(each) for each in found), b"data: [DONE]\n\n"]

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": int(time.time()),
            "model": self.model.name or self.request.model,
            "service_tier": self.request.served_tier,
            "system_fingerprint": self.model.fingerprint,
        }

    def _choice(self, number: int, choice: ChatChoice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": choice.refusal}
        message["annotations"] = []
        if choice.arguments is not None:
            message["tool_calls"] = [self._call(choice, choice.arguments)]
        return {
            "index": number,
            "message": message,
            "logprobs": self._logprobs(choice),
            "finish_reason": choice.finish_reason,
        }

    def _logprobs(self, choice: ChatChoice) -> dict[str, Any] | None:
        if not self.request.logprobs or choice.content is None:
            return None
        content = token_logprobs(choice.content, choice.filled, self.request.top_logprobs)
        return {"content": content, "refusal": None}

    def _call(self, choice: ChatChoice, arguments: str) -> dict[str, Any]:
        name = self.request.tool.name if self.request.tool else ""
        return {
            "id": f"call_{self.id[-24:]}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def _deltas(self, choice: ChatChoice) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """What each chunk adds, and what stands beside it."""
        if choice.arguments is not None:
            call = {"index": 0, **self._call(choice, "")}
            yield {"role": "assistant", "content": None, "tool_calls": [call]}, {"logprobs": None}
            for piece in _pieces(choice.arguments):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, {"logprobs": None}
            return
        if choice.refusal is not None:
            yield {"role": "assistant", "content": None, "refusal": choice.refusal}, {"logprobs": None}
            return
        content = choice.content or ""
        yield {"role": "assistant", "content": "", "refusal": None}, {"logprobs": None}
        if self.request.logprobs:
            for each in token_logprobs(content, choice.filled, self.request.top_logprobs):
                yield {"content": each["token"]}, {"logprobs": {"content": [each], "refusal": None}}
        else:
            for piece in _pieces(content):
                yield {"content": piece}, {"logprobs": None}


def answer(
    request: ChatRequest,
    id_: str,
    *,
    quick: bool,
    cached_tokens: int,
    fault: FaultKind | None,
    model: AnsweringModel = FIRST_MODEL,
) -> ChatAnswer:
    """What the request is answered with, some faults included."""
    reading = replace(read(request.messages, quick=quick), second=model.second)
    if fault == "refused":
        choices = (ChatChoice(refusal=REFUSAL, tokens=count(REFUSAL)),) * request.choices
    else:
        choices = tuple([_choice(request, reading, number, fault) for number in range(request.choices)])
    usage = TokenUsage(
        input_tokens=max(1, round(request.input_tokens * model.tokens)),
        output_tokens=sum([choice.tokens for choice in choices]),
        cached_tokens=min(cached_tokens, request.input_tokens),
    )
    return ChatAnswer(request=request, id=f"chatcmpl-{id_}", choices=choices, usage=usage, model=model)


def _choice(request: ChatRequest, reading: Reading, number: int, fault: FaultKind | None) -> ChatChoice:
    if request.tool is not None:
        filled = _filled(request.tool.parameters, reading, fault)
        text, tokens, was_cut = cut(filled.text, request.max_tokens)
        return ChatChoice(arguments=text, tokens=tokens, finish_reason="length" if was_cut else "tool_calls")
    if request.choice is not None:
        return ChatChoice(content=request.choice, tokens=count(request.choice))
    found = _structured(request, reading, number, fault)
    said = found.text if found is not None else prose(reading, number)
    if reading.second and found is None:
        said = said[: max(1, len(said) // 2)]
    text, tokens, was_cut = cut(said, request.max_tokens)
    return ChatChoice(content=text, tokens=tokens, finish_reason="length" if was_cut else "stop", filled=found)


def has_schema(request: ChatRequest) -> bool:
    """Whether an answer could violate one."""
    return request.tool is not None or _schema(request, read(request.messages, quick=True)) is not None


def _schema(request: ChatRequest, reading: Reading) -> Schema | None:
    return schema_in_prompt(reading.prompt) if request.schema is None else request.schema


def _structured(request: ChatRequest, reading: Reading, number: int, fault: FaultKind | None) -> SchemaValue | None:
    """JSON for the declared schema, or for one that is written in the instructions; None where prose is wanted."""
    schema = _schema(request, reading)
    if schema is not None:
        return _filled(schema, reading, fault)
    return SchemaValue({"answer": prose(reading, number)}) if request.json_object else None


def _filled(schema: Schema, reading: Reading, fault: FaultKind | None) -> SchemaValue:
    filled = fill(schema, reading)
    return violate(filled, schema) if fault == "schema_violation" else filled


def usage_json(usage: TokenUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _pieces(text: str) -> Iterator[str]:
    tokens = split(text)
    for start in range(0, len(tokens), _PIECE_TOKENS):
        yield "".join(tokens[start : start + _PIECE_TOKENS])


def _json(value: Any) -> bytes:
    return compact_json(value).encode("utf-8", "replace")
