"""The part of JSON Schema that a stage may ask a model for, and what is wrong with one that goes beyond it.

Everything that passes is valid JSON Schema (a test holds it to the official one); a misspelt keyword, which JSON Schema
itself takes without a word, is refused.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from ai_assets.base.yaml_settings import nearest

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LISTS = ("anyOf", "oneOf", "allOf")
_WORDS = ("title", "description", "format", "$schema", "$id", "$comment")
_KEYWORDS = (
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "pattern", "$ref", "$defs",
    "default", "examples", "uniqueItems", "multipleOf", *_COUNTS, *_NUMBERS, *_LISTS, *_WORDS,
)  # fmt: skip


class SchemaWrong(ValueError):
    def __init__(self, problem: str, at: tuple[str | int, ...]) -> None:
        super().__init__(problem)
        self.at = at
        """The keys that lead to it."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Of an answer: an object at the top, and every part one that can be checked."""
    if schema.get("type") != "object":
        raise SchemaWrong(
            "the schema of an answer has 'type: object' at its top", ("type",) if "type" in schema else ()
        )
    _check(schema, (), schema)


def _check(schema: Any, at: tuple[str | int, ...], root: Mapping[str, Any]) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise SchemaWrong(f"should be a schema: keys with values (found {schema!r})", at)
    for keyword, value in schema.items():
        if keyword not in _KEYWORDS:
            raise SchemaWrong(
                f"unknown keyword '{keyword}'{nearest(str(keyword), list(_KEYWORDS), 'see docs/collections.md')}",
                (*at, str(keyword)),
            )
        if problem := _problem(keyword, value, root):
            raise SchemaWrong(f"{keyword}: {problem}", (*at, keyword))
    for keyword in ("properties", "$defs"):
        for name, inner in schema.get(keyword, {}).items():
            _check(inner, (*at, keyword, name), root)
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            _check(schema[keyword], (*at, keyword), root)
    for keyword in _LISTS:
        for number, inner in enumerate(schema.get(keyword, ())):
            _check(inner, (*at, keyword, number), root)
    properties = schema.get("properties")
    for name in schema.get("required", ()):
        if properties is not None and name not in properties:
            hint = nearest(name, list(properties))
            raise SchemaWrong(f"required names '{name}', which is no property{hint}", (*at, "required"))


def _problem(keyword: str, value: Any, root: Mapping[str, Any]) -> str | None:
    match keyword:
        case "type":
            return _type_problem(value)
        case "properties" | "$defs":
            fits = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
            return None if fits else "should be names with schemas"
        case "required":
            fits = isinstance(value, list) and all(isinstance(name, str) for name in value)
            return None if fits and len(set(value)) == len(value) else "should be a list of different names"
        case "enum":
            return _json_problem(value) if isinstance(value, list) and value else "should be a list of values"
        case "const" | "default":
            return _json_problem(value)
        case "pattern":
            return _pattern_problem(value)
        case "$ref":
            return _reference_problem(value, root)
        case "examples":
            return _json_problem(value) if isinstance(value, list) else "should be a list"
        case "uniqueItems":
            return None if isinstance(value, bool) else "should be true or false"
        case "multipleOf":
            return None if _number(value) and value > 0 else "should be a number above 0"
    if keyword in _COUNTS:
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if whole else "should be a whole number, 0 or more"
    if keyword in _NUMBERS:
        return None if _number(value) else "should be a number"
    if keyword in _LISTS:
        return None if isinstance(value, list) and value else "should be a list of schemas"
    if keyword in _WORDS:
        return None if isinstance(value, str) else "should be text"
    return None


def _type_problem(value: Any) -> str | None:
    listed = value if isinstance(value, list) else [value]
    if not listed or len({str(name) for name in listed}) < len(listed):
        return "should be a type, or a list of different ones"
    for name in listed:
        if name not in TYPES:
            quoted = ", where null stands in quotes" if name is None else ""
            return f"'{name}' is no type{nearest(str(name), list(TYPES))}{quoted}"
    return None


def _pattern_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return "should be text"
    try:
        re.compile(value)
    except re.error as error:
        return f"'{value}' is no regular expression: {error}"
    return None


def _reference_problem(value: Any, root: Mapping[str, Any]) -> str | None:
    known = [f"#/$defs/{name}" for name in root.get("$defs", {})] if isinstance(root.get("$defs", {}), Mapping) else []
    if value in known:
        return None
    return f"'{value}' leads nowhere{nearest(str(value), known, 'it can only be #/$defs/NAME')}"


def _json_problem(value: Any) -> str | None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return "it holds what JSON does not have; write a date in quotes"
    return None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
