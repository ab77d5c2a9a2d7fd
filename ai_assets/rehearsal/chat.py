"""A chat request: what may be asked, checked as OpenAI checks it, and what was asked. Answers are in answers.py."""

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import Behaviour
from ai_assets.rehearsal.tiers import DEFAULT, read_tier, served
from ai_assets.rehearsal.tokens import IMAGE_TOKENS, PER_MESSAGE, PER_REPLY, count, count_repeated
from ai_assets.storage.digest import Json

Schema = Mapping[str, Any]
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXT_PARTS = {"text": "text", "refusal": "refusal"}
_OTHER_PARTS = ("image_url", "input_audio", "file")
_MOST = 10_000
_USUAL = Behaviour()
_FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: str
    text: str
    tokens: int
    """Of the text, its images and its calls of tools."""


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    parameters: Schema


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    model: str
    messages: tuple[ChatMessage, ...]
    schema: Schema | None = None
    json_object: bool = False
    tool: Tool | None = None
    """The one that is called in the answer."""
    logprobs: bool = False
    top_logprobs: int = 0
    stream: bool = False
    include_usage: bool = False
    choices: int = 1
    tier: str = DEFAULT
    served_tier: str = DEFAULT
    choice: str | None = None
    """The text that is answered, where the request names the texts to choose from."""
    max_tokens: int | None = None
    input_tokens: int = 0

    @property
    def text(self) -> str:
        return "\n".join(message.text for message in self.messages)

    @property
    def shown(self) -> str:
        return next((each.text for each in reversed(self.messages) if each.role == "user"), "")

    @property
    def is_repair(self) -> bool:
        return any(message.role == "assistant" for message in self.messages)

    @property
    def prefix(self) -> tuple[str, int]:
        """A digest of the system messages that it begins with, and how many tokens they are."""
        leading = []
        for message in self.messages:
            if message.role not in ("system", "developer"):
                break
            leading.append(message)
        text = "\0".join(message.text for message in leading)
        tokens = sum(message.tokens + PER_MESSAGE for message in leading)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), tokens


compact_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Made once: `json.dumps` makes an encoder for every call."""


OF_OPENAI = frozenset({
    "messages", "model", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "metadata", "modalities", "moderation", "n", "parallel_tool_calls",
    "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort",
    "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options",
    "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
})  # fmt: skip
OF_VLLM = frozenset({"structured_outputs", "priority"})
_STRUCTURES = ("json", "choice", "regex", "grammar", "json_object", "structural_tag")


def check_fields(body: Mapping[str, Any], behaviour: Behaviour) -> None:
    """OpenAI refuses what it does not know; so a parameter of another server does not go unnoticed."""
    known = OF_OPENAI | OF_VLLM if behaviour.vllm else OF_OPENAI
    for name in body:
        if name not in known:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}", code="unknown_parameter", param=name)


def read_chat(body: Mapping[str, Any], size: int, behaviour: Behaviour = _USUAL) -> ChatRequest:
    """The request, or the refusal that OpenAI would give. It never costs more tokens than it has bytes."""
    check_fields(body, behaviour)
    model = read_model(body)
    declared = body.get("messages")
    if declared is None:
        raise _missing("messages")
    if not isinstance(declared, list):
        raise _type_error("messages", "an array of objects", declared)
    if not declared:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array."
        raise Refusal(400, message, code="empty_array", param="messages")
    messages = tuple([_message(each, f"messages[{number}]") for number, each in enumerate(declared)])
    schema, json_object, format_tokens = _response_format(body.get("response_format"), messages)
    choice = None
    if body.get("structured_outputs") is not None:
        schema, choice, format_tokens = _structured_outputs(body["structured_outputs"], messages)
    _optional(body, "priority", int)
    _optional(body, "user", str)
    tier = read_tier(body)
    tool, tool_tokens = _tool(body, messages)
    logprobs, top = _optional(body, "logprobs", bool), _optional(body, "top_logprobs", int, 0, 20)
    if top and not logprobs:
        raise Refusal(400, "Invalid 'top_logprobs': only allowed when 'logprobs' is true.", param="top_logprobs")
    options = _optional(body, "stream_options", dict) or {}
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1)):
        _optional(body, name, float, low, high)
    _optional(body, "seed", int)
    tokens = sum([each.tokens for each in messages]) + PER_MESSAGE * len(messages) + PER_REPLY
    return ChatRequest(
        model=model,
        messages=messages,
        schema=schema,
        json_object=json_object,
        tool=tool,
        logprobs=bool(logprobs),
        top_logprobs=top or 0,
        stream=bool(_optional(body, "stream", bool)),
        include_usage=bool(options.get("include_usage")),
        choices=_optional(body, "n", int, 1, 128) or 1,
        tier=tier,
        served_tier=served(tier, behaviour),
        choice=choice,
        max_tokens=_optional(body, "max_completion_tokens", int, 1) or _optional(body, "max_tokens", int, 1),
        input_tokens=min(tokens + format_tokens + tool_tokens, size),
    )


def read_model(body: Mapping[str, Any]) -> str:
    model = body.get("model")
    if model is None:
        raise Refusal(400, "you must provide a model parameter")
    if not isinstance(model, str):
        raise _type_error("model", "a string", model)
    return model


def _message(declared: object, where: str) -> ChatMessage:
    if not isinstance(declared, dict):
        raise _type_error(where, "an object", declared)
    role = declared.get("role")
    if role not in _ROLES:
        if role is None:
            raise _missing(f"{where}.role")
        supported = ", ".join(f"'{each}'" for each in _ROLES)
        message = f"Invalid value: '{role}'. Supported values are: {supported}."
        raise Refusal(400, message, code="invalid_value", param=f"{where}.role")
    content, calls = declared.get("content"), declared.get("tool_calls")
    if isinstance(content, str):
        counted = count_repeated if role in ("system", "developer") else count
        return ChatMessage(role, content, counted(content) + _calls_tokens(calls))
    if isinstance(content, list) and content:
        parts = [_part(each, f"{where}.content[{number}]") for number, each in enumerate(content)]
        text = "\n".join(part for part, _ in parts if part)
        return ChatMessage(role, text, sum(tokens for _, tokens in parts) + _calls_tokens(calls))
    if content is None and role == "assistant":
        return ChatMessage(role, "", _calls_tokens(calls))
    if content is None:
        raise Refusal(
            400,
            f"Invalid value for 'content': expected a string, got null. ({where})",
            code="invalid_type" if "content" in declared else "missing_required_parameter",
            param=f"{where}.content",
        )
    raise _type_error(f"{where}.content", "one of a string or array of objects", content)


def _part(declared: object, where: str) -> tuple[str, int]:
    """The text of a part of a message, and its tokens; an image has no text."""
    if not isinstance(declared, dict):
        raise _type_error(where, "an object", declared)
    kind = declared.get("type")
    if kind in _TEXT_PARTS:
        text = declared.get(_TEXT_PARTS[kind])
        if not isinstance(text, str):
            raise _type_error(f"{where}.{kind}", "a string", text)
        return text, count(text)
    if kind == "image_url":
        image = declared.get("image_url")
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise _type_error(f"{where}.image_url", "an object with a url", image)
        detail = image.get("detail", "auto")
        if detail not in IMAGE_TOKENS:
            raise Refusal(400, f"Invalid value: '{detail}'.", code="invalid_value", param=f"{where}.image_url.detail")
        return "", IMAGE_TOKENS[detail]
    if kind in _OTHER_PARTS:
        return "", IMAGE_TOKENS["auto"]
    supported = ", ".join(f"'{each}'" for each in (*_TEXT_PARTS, *_OTHER_PARTS))
    message = f"Invalid value: '{kind}'. Supported values are: {supported}."
    raise Refusal(400, message, code="invalid_value", param=f"{where}.type")


def _calls_tokens(calls: object) -> int:
    return count(compact_json(calls)) if isinstance(calls, list) else 0


def _response_format(declared: object, messages: Sequence[ChatMessage]) -> tuple[Schema | None, bool, int]:
    """The schema, whether any JSON object will do, and the tokens of the schema."""
    if declared is None:
        return None, False, 0
    if not isinstance(declared, dict):
        raise _type_error("response_format", "an object", declared)
    kind = declared.get("type")
    if kind == "text":
        return None, False, 0
    if kind == "json_object":
        if not any("json" in message.text.lower() for message in messages):
            raise Refusal(
                400,
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                param="messages",
            )
        return None, True, 0
    if kind != "json_schema":
        message = f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'."
        raise Refusal(400, message, code="invalid_value", param="response_format.type")
    inner = declared.get("json_schema")
    if not isinstance(inner, dict):
        raise _missing("response_format.json_schema")
    if not isinstance(inner.get("name"), str):
        raise _missing("response_format.json_schema.name")
    schema = inner.get("schema", {})
    if not isinstance(schema, dict):
        raise _type_error("response_format.json_schema.schema", "an object", schema)
    text = compact_json(schema)
    if (problem := schema_problem(text)) is not None:
        message = f"Invalid schema for response_format '{inner['name']}': {problem}"
        raise Refusal(400, message, param="response_format")
    return schema, False, count_repeated(text)


def _structured_outputs(declared: object, messages: Sequence[ChatMessage]) -> tuple[Schema | None, str | None, int]:
    """vLLM's: a schema, or the one of several texts that shares most words with the conversation."""
    if not isinstance(declared, dict) or len(declared) != 1 or next(iter(declared)) not in _STRUCTURES:
        raise Refusal(400, "You can only use one kind of constraint for structured outputs ('json', 'choice', ...).")
    if "json" in declared:
        described = {"type": "json_schema", "json_schema": {"name": "json", "schema": declared["json"]}}
        schema, _, tokens = _response_format(described, messages)
        return schema, None, tokens
    texts = declared.get("choice")
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "'choice' should be a list of texts; the other constraints are not read here.")
    words = set(re.findall(r"\w+", " ".join(message.text for message in messages).lower()))
    best = max(texts, key=lambda text: len(words & set(re.findall(r"\w+", text.lower()))))
    return None, best, 0


def _tool(body: Mapping[str, Any], messages: Sequence[ChatMessage]) -> tuple[Tool | None, int]:
    """The tool to call, and the tokens of all. After a tool's result the model may speak for itself again."""
    declared = _optional(body, "tools", list)
    if not declared:
        return None, 0
    tools = [_function(each, f"tools[{number}]") for number, each in enumerate(declared)]
    tokens = count_repeated(compact_json(declared))
    choice = body.get("tool_choice", "auto")
    if choice == "none" or (choice == "auto" and messages[-1].role in ("tool", "function")):
        return None, tokens
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        found = next((tool for tool in tools if tool.name == wanted), None)
        if found is None:
            raise Refusal(400, f"Tool choice '{wanted}' not found in 'tools' parameter.", param="tool_choice")
        return found, tokens
    if choice not in ("auto", "required"):
        message = f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'."
        raise Refusal(400, message, code="invalid_value", param="tool_choice")
    return tools[0], tokens


def _function(declared: object, where: str) -> Tool:
    if not isinstance(declared, dict) or declared.get("type") != "function":
        raise Refusal(400, f"Missing required parameter: '{where}.type'.", param=f"{where}.type", code="invalid_value")
    inner = declared.get("function")
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise _missing(f"{where}.function.name")
    if not _FUNCTION_NAME.fullmatch(inner["name"]):
        message = f"Invalid '{where}.function.name': string does not match pattern '^[a-zA-Z0-9_-]+$'."
        raise Refusal(400, message, code="invalid_value", param=f"{where}.function.name")
    parameters = inner.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise _type_error(f"{where}.function.parameters", "an object", parameters)
    if (problem := schema_problem(compact_json(parameters))) is not None:
        message = f"Invalid schema for function '{inner['name']}': {problem}"
        raise Refusal(400, message, code="invalid_function_parameters", param=f"{where}.function.parameters")
    return Tool(inner["name"], parameters)


@functools.lru_cache(maxsize=1024)
def schema_problem(text: str) -> str | None:
    """Why nothing can be answered in this schema: it is none, leads elsewhere, or asks for too much."""
    from jsonschema import Draft202012Validator, SchemaError

    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as e:
        return f"In context={tuple(e.absolute_path)}, {e.message}"
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str) and not _leads_somewhere(reference, schema):
                return f"reference '{reference}' does not lead to a part of this schema"
            for name in ("minLength", "minItems", "minProperties"):
                if isinstance(part.get(name), int) and part[name] > _MOST:
                    return f"{name} is {part[name]}, and at most {_MOST} is answered"
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return None


def _leads_somewhere(reference: str, schema: Any) -> bool:
    found = schema
    for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return reference.startswith("#") and isinstance(found, dict)


_NAMES: Mapping[type, str] = {
    bool: "a boolean", int: "an integer", float: "a decimal", dict: "an object", list: "an array of objects",
    str: "a string", type(None): "null",
}  # fmt: skip


def _optional(
    body: Mapping[str, Any], name: str, kind: type, low: float | None = None, high: float | None = None
) -> Any:
    """A parameter that may be missing or null."""
    found = body.get(name)
    if found is None:
        return None
    fits = isinstance(found, int | float if kind is float else kind) and (kind is bool or not isinstance(found, bool))
    if not fits:
        raise _type_error(name, _NAMES[kind], found)
    if low is not None and found < low:
        message = f"Invalid '{name}': value below minimum value. Expected a value >= {low}, but got {found} instead."
        raise Refusal(
            400, message, code="integer_below_min_value" if kind is int else "decimal_below_min_value", param=name
        )
    if high is not None and found > high:
        message = f"Invalid '{name}': value above maximum value. Expected a value <= {high}, but got {found} instead."
        raise Refusal(
            400, message, code="integer_above_max_value" if kind is int else "decimal_above_max_value", param=name
        )
    return found


def _missing(name: str) -> Refusal:
    return Refusal(400, f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)


def _type_error(name: str, expected: str, found: Json | object) -> Refusal:
    got = _NAMES.get(type(found), "another type")
    return Refusal(
        400,
        f"Invalid type for '{name}': expected {expected}, but got {got} instead.",
        code="invalid_type",
        param=name,
    )
