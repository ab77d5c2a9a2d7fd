"""What is common to every YAML file that a user writes: strict keys, and problems told with file and line.

A module of settings derives its models from `Strict`; whoever loads them reads with `read_yaml` and raises `located`.
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ai_assets.base.errors import DeclarationInvalid
from ai_assets.base.mistakes import Line, Mistake
from ai_assets.base.plural import plural

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Strict(BaseModel):
    """Refuses a key it does not know and names the nearest one it does."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _explain_unknown_keys(cls, data: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return read(data)
        except ValidationError as error:
            found = error.errors(include_url=False)
            if not any(map(_is_unknown, found)):
                raise
        known = [field.alias or name for name, field in cls.model_fields.items()]
        raise _several(list(_explained(found, known))) from None


UNQUOTED = " (It has no value: in braces a text that has a comma must stand in quotes.)"
"""`{name: bill, description: what is due, with tax}` has a key `with tax`."""


def _explained(problems: Sequence["ErrorDetails"], known: list[str]) -> Iterator[Mapping[str, Any]]:
    """With the nearest known key for each unknown one, and without the echo of a misspelt key: that it is missing."""
    unknown = [str(problem["loc"][0]) for problem in problems if _is_unknown(problem)]
    meant = {match for key in unknown for match in alike(key, known)}
    for problem in problems:
        if _is_unknown(problem):
            key = str(problem["loc"][0])
            said = f"unknown key '{key}'{nearest(key, known)}{UNQUOTED if problem['input'] is None else ''}"
            yield {"type": "unknown_key", "loc": (), "input": None, "msg": said, "ctx": {"key": key}}
        elif problem["type"] != "missing" or len(problem["loc"]) > 1 or problem["loc"][0] not in meant:
            yield {**problem}


def _is_unknown(problem: "ErrorDetails") -> bool:
    return problem["type"] in ("extra_forbidden", "invalid_key") and len(problem["loc"]) == 1


def _several(problems: Sequence[Mapping[str, Any]]) -> PydanticCustomError:
    """Problems as pydantic lists them, in one error; `located` takes them apart again."""
    said = "; ".join(str(problem["msg"]).removeprefix("Value error, ") for problem in problems)
    return PydanticCustomError("several", "{said}", {"said": said, "problems": tuple(problems)})


def wrong(problem: str, *at: str | int) -> PydanticCustomError:
    """A problem that shows at another place than where the check stands: the keys that lead there."""
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "at": at})


def refuse(problems: Iterable[PydanticCustomError]) -> None:
    """Raises the problems that the checks of a model found, all at once."""
    found = list(problems)
    if len(found) == 1:
        raise found[0]
    if found:
        raise _several([
            {"type": each.type, "loc": (), "input": None, "msg": each.message(), "ctx": each.context or {}}
            for each in found
        ])  # fmt: skip


def nearest(found: str, known: list[str], otherwise: str | None = None) -> str:
    """'; did you mean ...' or the whole list of what is known, unless that is long."""
    match = alike(found, known)
    return f"; did you mean '{match[0]}'?" if match else f"; {otherwise or 'known here: ' + ', '.join(sorted(known))}"


def alike(found: str, known: list[str]) -> list[str]:
    """The known name that was meant, or none."""
    return difflib.get_close_matches(found, known, n=1, cutoff=0.5)


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
            raise invalid(path, found.start_mark.line + 1, f"a number of {plural(len(found.value), 'character')}")
        if total > _MOST_VALUES:
            limit = f"{_MOST_VALUES:,}, which is the limit, with each alias (*name) counted as what it stands for"
            raise invalid(path, found.start_mark.line + 1, f"this has more values than {limit}")
        sizes[id(found)] = total
        return total

    if node is not None:
        size(node)


def _refuse_repeated(path: Path, node: yaml.Node | None, invalid: type[DeclarationInvalid]) -> None:
    if found := [Mistake(path, line, problem) for line, problem in _repeated(node)]:
        raise invalid.of(found)


def _repeated(node: yaml.Node | None) -> Iterator[tuple[Line, str]]:
    """What the YAML reader lets pass: of two equal keys it keeps the last, and a date that is none has no line."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[object, int] = {}
        for key, value in node.value:
            line = _line(key)
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    yield line, f"key '{key.value}' is here already, on line {seen[key.value]}"
                seen.setdefault(key.value, line)
            yield from _repeated(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item)
    elif isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:timestamp":
        try:
            yaml.SafeLoader("").construct_yaml_timestamp(node)
        except ValueError as error:
            yield _line(node), f"'{node.value}' is no date: {error}"


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
    """Every problem, each with its place.

    `under` are the keys of the file that lead to what was validated.
    """
    problems = list(_each(error.errors(include_url=False)))
    too_short = [place for place, problem in enumerate(problems) if problem["type"] == "too_short"]
    echoes = {place for place in too_short if any(_lies_in(problem, problems[place]) for problem in problems)}
    told = [problem for place, problem in enumerate(problems) if place not in echoes]
    return invalid.of([_mistake(path, node, problem, under) for problem in told])


def _lies_in(problem: Mapping[str, Any], outer: Mapping[str, Any]) -> bool:
    """A list whose items are wrong is too short as well."""
    return problem is not outer and problem["loc"][: len(outer["loc"])] == outer["loc"]


def _each(problems: Iterable[Mapping[str, Any]], *at: str | int) -> Iterator[Mapping[str, Any]]:
    """With those that a check of ours gathered in one."""
    for problem in problems:
        place = (*at, *problem["loc"])
        if problem["type"] == "several":
            yield from _each(problem["ctx"]["problems"], *place)
        else:
            yield {**problem, "loc": place}


def _mistake(path: Path, node: yaml.Node | None, problem: Mapping[str, Any], under: tuple[str, ...]) -> Mistake:
    context = problem.get("ctx", {})
    # Pydantic's own '[key]' and, so written, the tags of a union are no keys of the file.
    location = (*(part for part in problem["loc"] if not str(part).startswith("[")), *context.get("at", ()))
    line = line_of(node, *under, *location, *((context["key"],) if problem["type"] == "unknown_key" else ()))
    where = ".".join(str(part) for part in location)
    message = problem["msg"].removeprefix("Value error, ")
    found = problem["input"]
    shown = ""
    if problem["type"] in _SAYINGS:
        message = _SAYINGS[problem["type"]].format(**context)
        shown = f" (found {found!r})" if isinstance(found, str | int | float | bool) else ""
    return Mistake(path, line, f"{f'{where}: ' if where else ''}{message}{shown}")


def line_of(node: yaml.Node | None, *location: str | int) -> Line | None:
    """The line of the deepest part of the location that the file has."""
    if node is None:
        return None
    line = _line(node)
    for part in location:
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == part), None)
            if entry is None:
                break
            line, node = _line(entry[0]), entry[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line(node)
        else:
            break
    return line


def _line(node: yaml.Node) -> Line:
    return Line.at(node.start_mark.line + 1, node.start_mark.column + 1)
