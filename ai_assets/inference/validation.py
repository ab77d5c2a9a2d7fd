"""Whether an answer is what was asked for, and how to ask for its repair. Pure."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ai_assets.base.plural import plural
from ai_assets.inference.records import Request
from ai_assets.protocols.base import Reply
from ai_assets.storage.digest import Json

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

PROBLEMS_TOLD = 5
PROBLEM_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationResult:
    data: Json = None
    problem: str | None = None
    """What is wrong, in words the model can use."""
    repairable: bool = True


def parse(request: Request, reply: Reply) -> ValidationResult:
    """The answer read as the request's schema wants it. Tool calls are answers too, and have no text to read."""
    if request.schema is None or reply.tool_calls:
        return ValidationResult()
    if reply.finish_reason == "length":
        told = f"the answer was cut off at max_output_tokens ({request.max_output_tokens})"
        return ValidationResult(problem=told, repairable=False)
    try:
        data = json.loads(_unfenced(reply.text), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return ValidationResult(problem=f"it is not JSON: {error}")
    try:
        problems = [_described(error) for error in _first(validator_of(request.schema).iter_errors(data))]
    except RecursionError:
        return ValidationResult(problem="it is nested too deeply")
    return ValidationResult(data=data, problem="; ".join(problems) or None)


def text_problem(request: Request, reply: Reply) -> str | None:
    """What is wrong with an answer about a text, as far as every such answer is held to it."""
    match request.asks_for:
        case "embedding" if not reply.vector:
            return "it has no vector"
        case "embedding" if request.vector_length not in (None, found := len(reply.vector)):
            return f"its vector has {plural(found, 'number')}, and {request.vector_length} are declared"
        case "embedding" if not math.isfinite(sum(reply.vector)):
            return "its vector has numbers that are not finite"
        case "rerank" if reply.score is None:
            return "it has no score"
        case "predict" if not reply.labels:
            return "it has no labels"
    return None


def repair_of(request: Request, reply: Reply, problem: str) -> Request:
    """The same conversation, continued: the answer, and what is wrong with it."""
    wanted = f"That answer cannot be used: {problem}. Answer again, completely and in the form that was asked for."
    said: Mapping[str, Json] = {"role": "assistant", "content": reply.text}
    return replace(request, messages=(*request.messages, said, {"role": "user", "content": wanted}))


def _unfenced(text: str) -> str:
    """Models without structured output like to wrap JSON in a code fence."""
    stripped = text.strip()
    if stripped.startswith("```") and stripped.endswith("```") and "\n" in stripped:
        return stripped[stripped.index("\n") + 1 : -3]
    return stripped


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _first(errors: Any) -> list[Any]:
    return [error for _, error in zip(range(PROBLEMS_TOLD), errors, strict=False)]


def _described(error: Any) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    message = error.message if len(error.message) <= PROBLEM_CHARACTERS else error.message[:PROBLEM_CHARACTERS] + "…"
    return f"{where}: {message}" if where else message


_by_identity: dict[int, tuple[Mapping[str, Json], "Validator"]] = {}


def validator_of(schema: Mapping[str, Json]) -> "Validator":
    """Compiled once: requests of a stage share one schema object."""
    found = _by_identity.get(id(schema))
    if found is None or found[0] is not schema:
        from jsonschema import Draft202012Validator

        if len(_by_identity) > 256:
            _by_identity.clear()
        found = _by_identity[id(schema)] = (schema, Draft202012Validator(schema))
    return found[1]
