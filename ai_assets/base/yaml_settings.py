"""What is common to every YAML file that a user writes: strict keys, and problems told with file and line.

A module of settings derives its models from `Strict`; whoever loads them reads with `read_yaml` and raises `located`.
"""

import contextlib
import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.errors import DeclarationInvalid


class Strict(BaseModel):
    """Refuses a key it does not know and names the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in data:
                if key not in known and key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key", "unknown key '{key}'{hint}", {"key": str(key), "hint": nearest(str(key), known)}
                    )
        return data


def wrong(problem: str, *at: str | int) -> PydanticCustomError:
    """A problem that shows at another place than where the check stands: the keys that lead there."""
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "at": at})


def nearest(found: str, known: list[str], otherwise: str | None = None) -> str:
    """'; did you mean ...' or the whole list of what is known, unless that is long."""
    match = difflib.get_close_matches(found, known, n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else f"; {otherwise or 'known here: ' + ', '.join(sorted(known))}"


def node_of(path: Path, invalid: type[DeclarationInvalid]) -> yaml.Node | None:
    """The places in a file that somebody else has read; None where it is not one document alone."""
    try:
        return read_yaml(path, invalid)[0]
    except DeclarationInvalid:
        return None


def read_yaml(path: Path, invalid: type[DeclarationInvalid]) -> tuple[yaml.Node | None, Any]:
    """The file with and without the places of its parts."""
    text = read_text(path, invalid)
    try:
        return _read(path, text, invalid)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise invalid(path, line, f"not valid YAML: {said}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise invalid(path, None, f"not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise invalid(path, None, "a part of it contains itself, or it is nested too deep") from error


def read_text(path: Path, invalid: type[DeclarationInvalid]) -> str:
    """A text file that a user wrote, of a size that a person writes."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
        if len(data) > _LARGEST_BYTES:
            raise invalid(path, None, f"the file has more than {_LARGEST_BYTES >> 10} KiB, which is the limit")
        return data.decode()
    except UnicodeDecodeError as error:
        raise invalid(path, None, f"not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise invalid(path, None, f"cannot be read: {error.strerror}") from error


_LARGEST_BYTES = 1 << 20
_QUICK_DEPTH = 1_000
_MOST_VALUES = 100_000
"""With each alias (*name) counted as all that it stands for: ten lines of them can stand for a billion values."""
_LONGEST_NUMBER = 400


def _read(path: Path, text: str, invalid: type[DeclarationInvalid]) -> tuple[yaml.Node | None, Any]:
    """The loader in C takes a tenth of the time; but deep nesting ends its process, and it explains mistakes worse."""
    deepest = max(text.count("[") + text.count("{"), *map(len, text.splitlines()), 0)
    if deepest < _QUICK_DEPTH and hasattr(yaml, "CSafeLoader"):
        with contextlib.suppress(yaml.YAMLError):
            return _parsed(path, text, yaml.CSafeLoader, invalid)
    return _parsed(path, text, yaml.SafeLoader, invalid)


def _parsed(path: Path, text: str, loader: Any, invalid: type[DeclarationInvalid]) -> tuple[yaml.Node | None, Any]:
    reader = loader(text)
    try:
        node = reader.get_single_node()
        _refuse_many(path, node, invalid)
        _refuse_repeated(path, node, invalid)
        return node, None if node is None else reader.construct_document(node)
    finally:
        reader.dispose()


def _refuse_many(path: Path, node: yaml.Node | None, invalid: type[DeclarationInvalid]) -> None:
    """Before anything walks it with its aliases followed. A part that contains itself is found by those who walk."""
    sizes: dict[int, int] = {}

    def size(found: yaml.Node) -> int:
        if id(found) in sizes:
            return sizes[id(found)]
        sizes[id(found)] = total = 1
        if isinstance(found, yaml.MappingNode):
            total += sum(size(key) + size(value) for key, value in found.value)
        elif isinstance(found, yaml.SequenceNode):
            total += sum(map(size, found.value))
        elif found.tag.endswith((":int", ":float")) and len(found.value) > _LONGEST_NUMBER:
            raise invalid(path, found.start_mark.line + 1, f"a number of {len(found.value):,} characters")
        if total > _MOST_VALUES:
            limit = f"{_MOST_VALUES:,}, which is the limit, with each alias (*name) counted as what it stands for"
            raise invalid(path, found.start_mark.line + 1, f"this has more values than {limit}")
        sizes[id(found)] = total
        return total

    if node is not None:
        size(node)


def _refuse_repeated(path: Path, node: yaml.Node | None, invalid: type[DeclarationInvalid]) -> None:
    """What the YAML reader lets pass: of two equal keys it keeps the last, and a date that is none has no line."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[object, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise invalid(path, line, f"key '{key.value}' is here already, on line {seen[key.value]}")
                seen[key.value] = line
            _refuse_repeated(path, value, invalid)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated(path, item, invalid)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:timestamp":
        try:
            yaml.SafeLoader("").construct_yaml_timestamp(node)
        except ValueError as error:
            raise invalid(path, node.start_mark.line + 1, f"'{node.value}' is no date: {error}") from error


_SAYINGS = {
    "missing": "is missing",
    "literal_error": "should be {expected}",
    "string_type": "should be text",
    "string_too_short": "should have at least {min_length} characters",
    "string_too_long": "should have at most {max_length} characters",
    "too_short": "should have at least {min_length} items",
    "greater_than": "should be more than {gt:g}",
    "greater_than_equal": "should be at least {ge:g}",
    "less_than": "should be less than {lt:g}",
    "less_than_equal": "should be at most {le:g}",
    **dict.fromkeys(("tuple_type", "list_type"), "should be a list"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "should be keys with values"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact"),
        "should be a date such as 2026-10-05",
    ),
    "string_pattern_mismatch": "has characters that cannot stand there; it must match {pattern}",
}
"""Pydantic's complaints in the words of whoever writes the file."""


def located(
    path: Path,
    node: yaml.Node | None,
    error: ValidationError,
    invalid: type[DeclarationInvalid],
    under: tuple[str, ...] = (),
) -> DeclarationInvalid:
    """The first problem, with its place; how many more there are is said at the end.

    `under` are the keys of the file that lead to what was validated.
    """
    problems = error.errors(include_url=False)
    first = problems[0]
    echoes = [p for p in problems[1:] if p["type"] == "too_short" and p["loc"] == first["loc"][: len(p["loc"])]]
    context = first.get("ctx", {})
    # Pydantic's own '[key]' and, so written, the tags of a union are no keys of the file.
    location = (*(part for part in first["loc"] if not str(part).startswith("[")), *context.get("at", ()))
    line = line_of(node, *under, *location, *((context["key"],) if first["type"] == "unknown_key" else ()))
    where = ".".join(str(part) for part in location)
    message = first["msg"].removeprefix("Value error, ")
    found = first["input"]
    shown = ""
    if first["type"] in _SAYINGS:
        message = _SAYINGS[first["type"]].format(**context)
        shown = f" (found {found!r})" if isinstance(found, str | int | float | bool) else ""
    others = len(problems) - 1 - len(echoes)
    more = f"; {others} more problem(s) in this file" if others else ""
    return invalid(path, line, f"{f'{where}: ' if where else ''}{message}{shown}{more}")


def line_of(node: yaml.Node | None, *location: str | int) -> int | None:
    """The line of the deepest part of the location that the file has."""
    if node is None:
        return None
    line = node.start_mark.line + 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
