"""Reading golden files: what people say is right, one JSON object per line. Judging against them is `evaluate.py`."""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ai_assets.base.errors import Gathered
from ai_assets.base.yaml_settings import nearest
from ai_assets.evaluation.errors import GoldenError

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
DocumentId = Annotated[str, StringConstraints(min_length=1)]


class GoldenLabel(BaseModel):
    """The right label of one document."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    document: DocumentId
    label: Text
    author: Text | None = None
    """Who said so, where that is known."""
    retired: Text | None = None
    """Why it judges nothing any more."""


class GoldenQuery(BaseModel):
    """A question, and the documents a search for it should find."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Text
    documents: tuple[DocumentId, ...] = Field(min_length=1)
    """Ids of the relevant documents; their order means nothing."""
    kind: Text | None = None
    """The slice the query belongs to."""
    retired: Text | None = None
    """Why it judges nothing any more."""


_Record = TypeVar("_Record", bound=BaseModel)


def read_golden_labels(path: Path, labels: Collection[str]) -> tuple[GoldenLabel, ...]:
    """All golden labels of the file, each one of `labels` and no document twice; anything else is a GoldenError."""
    read: list[GoldenLabel] = []
    seen: dict[str, tuple[int, str]] = {}

    def accept(line: int, raw: bytes) -> None:
        item = record_of(path, line, raw, GoldenLabel)
        if item.label not in labels:
            raise GoldenError(path, line, f"unknown label '{item.label}'{nearest(item.label, list(labels))}")
        if item.document in seen:
            earlier, label = seen[item.document]
            if label == item.label:
                raise GoldenError(path, line, f"repeats line {earlier}: '{item.document}' is {label}; remove one")
            raise GoldenError(
                path, line, f"'{item.document}' is {item.label} here, but {label} on line {earlier}; keep one"
            )
        seen[item.document] = (line, item.label)
        read.append(item)

    each_line(path, accept)
    return tuple(read)


def read_golden_queries(path: Path) -> tuple[GoldenQuery, ...]:
    """All golden queries of the file, none twice (case and spacing aside); anything else is a GoldenError."""
    read: list[GoldenQuery] = []
    seen: dict[str, tuple[int, frozenset[str]]] = {}

    def accept(line: int, raw: bytes) -> None:
        item = record_of(path, line, raw, GoldenQuery)
        asked = " ".join(item.query.casefold().split())
        if asked in seen:
            earlier, documents = seen[asked]
            if documents != frozenset(item.documents):
                other = f"'{item.query}' has other documents here than on line {earlier}: {_apart(item, documents)}"
                raise GoldenError(path, line, f"{other}; merge the two")
            raise GoldenError(path, line, f"repeats the query of line {earlier}: '{item.query}'; remove one")
        if twice := next((name for name in item.documents if item.documents.count(name) > 1), None):
            raise GoldenError(path, line, f"names the document '{twice}' twice")
        seen[asked] = (line, frozenset(item.documents))
        read.append(item)

    each_line(path, accept)
    return tuple(read)


def _apart(item: GoldenQuery, documents: frozenset[str]) -> str:
    found = sorted(documents.symmetric_difference(item.documents))
    return f"only one of them names {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"


def lines_of(path: Path, key: str) -> dict[str, int]:
    """The line of each document or query of a golden file that was read before; what cannot be read now has none."""
    found = {}
    for line, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        try:
            found[str(json.loads(raw)[key]).strip()] = line
        except (ValueError, KeyError, TypeError):
            continue
    return found


def each_line(path: Path, accept: Callable[[int, bytes], None]) -> None:
    """Number and bytes of every line that is not blank; what is wrong with them is raised at the end."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise GoldenError(path, None, f"cannot be read: {error.strerror or error}") from error
    gathered = Gathered()
    for line, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if raw.strip():
            gathered.attempt(None, accept, line, raw)
    gathered.refuse(GoldenError)


def record_of(path: Path, line: int, raw: bytes, kind: type[_Record]) -> _Record:
    fields = ", ".join(f'"{name}"' for name in kind.model_fields)
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unambiguous)
    except UnicodeDecodeError as error:
        raise GoldenError(path, line, f"not UTF-8 text (byte {error.start} of the line)") from error
    except (ValueError, RecursionError) as error:
        raise GoldenError(path, line, f"not a JSON object on one line: {error}") from error
    if not isinstance(found, dict):
        raise GoldenError(path, line, f"expected a JSON object with {fields}, found {_shown(found)}")
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        # A misspelt key is both unknown and missing: the first says more.
        first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            problem = f"unknown key '{key}'{nearest(key, list(kind.model_fields))}"
        elif first["type"] == "missing":
            problem = f"'{key}' is missing; a line has {fields}"
        else:
            problem = f"'{key}': {first['msg']} (found {_shown(first['input'])})"
        raise GoldenError(path, line, problem) from error


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """JSON keeps the last of two equal keys, without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is given twice: {', '.join(key for key, _ in pairs)}")
    return found


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"
