"""A stage of your own: a Python function of a document, plain or `async`.

    @ai_assets.stage(version="1", columns={"words": int})
    def count(document: Document, ctx: Stage) -> dict:
        return {"words": len(document.text.split())}

What it returns is checked against `columns`. `ctx.ask` puts questions to models; `Quarantine` sets a document aside.
"""

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from ai_assets.source_digest import source_digest, source_parts
from ai_assets.stages.columns import Columns, ColumnType
from ai_assets.storage.digest import Json

ALGORITHM_VERSION = "function-1"
TYPES: Mapping[Any, ColumnType] = {str: "text", int: "integer", float: "number", bool: "truth", list[str]: "texts"}
_OWN = ("document_id", "input_digest", "row_key", "status", "reason", "calls", "cost_usd")
_QUARANTINE_CHARACTERS = 2_000


class Quarantine(Exception):
    """Raised in a stage: the document is set aside with this reason, and the run goes on."""


class StageUnusable(Exception):
    """Why a declared function is no stage; whoever loads it says where it was declared."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a stage is given."""

    id: str
    text: str
    title: str | None
    language: str | None
    path: str
    digest: str
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, what the stages under `when` and `after` made of it; empty where one left it out."""

    @property
    def quoted(self) -> str:
        """The text between tags, as data: nothing in it can end the tag."""
        from ai_assets.stages.prompt import quoted

        return quoted(self.text)


class Stage(Protocol):
    """What a stage is given beside the document. `ask` is awaited in an `async` function, and called in a plain one."""

    def ask(
        self, text: str | None = None, *, prompt: str | None = None, schema: Mapping[str, Any] | None = None,
        system: str | None = None, **variables: Any,
    ) -> Any: ...  # fmt: skip

    def log(self, line: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class FunctionSpec:
    """A function that was declared to be a stage."""

    function: Callable[..., Any]
    version: str
    own: Mapping[str, ColumnType]
    rows: Literal["one", "many"]
    cpu: bool
    after: tuple[str, ...]

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    @property
    def takes_context(self) -> bool:
        return len(inspect.signature(self.function).parameters) > 1

    @cached_property
    def columns(self) -> Columns:
        texts = [name for name, kind in self.own.items() if kind == "text"]
        own = {"rows": "text"} if self.rows == "many" else dict(self.own)
        key: Mapping[str, ColumnType] = {"row_key": "text"} if self.rows == "many" else {}
        return Columns(
            dataset={
                **dict.fromkeys(("document_id", "input_digest"), "text"), **key, "status": "text", "reason": "text",
                "calls": "integer", "cost_usd": "number", **self.own,
            },
            published=(*own, "status", "reason"),
            headline="rows" if self.rows == "many" else (texts[0] if texts else "status"),
            explained=(*own, "status", "reason", "calls", "cost_usd"),
            preview=("document_id", "status", *list(self.own)[:3], "reason"),
        )  # fmt: skip

    @cached_property
    def source_digest(self) -> str:
        """Of the function and of what it names in its own module: comments, docstrings and layout do not count."""
        return source_digest(self.function)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Files that it names as `prompt=`: an edit of one makes its rows stale."""
        found = [
            keyword.value.value
            for statements in source_parts(inspect.unwrap(self.function)).values()
            for statement in statements
            for node in ast.walk(statement)
            if isinstance(node, ast.Call)
            for keyword in node.keywords
            if keyword.arg == "prompt"
            and isinstance(keyword.value, ast.Constant)
            and isinstance(keyword.value.value, str)
        ]
        return tuple(sorted(set(found)))

    def identity(self, folder: Path) -> Json:
        files: list[Json] = [[name, _file_digest(folder / name)] for name in self.prompts]
        return [ALGORITHM_VERSION, self.source_digest, self.version, dict(self.own), self.rows, files]


def _file_digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def stage(
    function: None = None, /, *, columns: Mapping[str, Any] | None = None, version: str = "1",
    rows: Literal["one", "many"] = "one", cpu: bool = False, after: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
    """Declare a function to be a stage. It stays callable as it is, so that it can be tested alone."""
    if function is not None or columns is None:
        raise TypeError("say what it makes: @ai_assets.stage(columns={'name': str})")

    def declare(found: Callable[..., Any]) -> Callable[..., Any]:
        spec = FunctionSpec(
            function=found, version=version, own=_typed(columns), rows=rows, cpu=cpu, after=tuple(after)
        )
        if cpu and spec.is_async:
            raise TypeError(f"{found.__name__}: a stage with cpu=True runs in another process, and cannot be async")
        found.__ai_assets_stage__ = spec  # type: ignore[attr-defined]
        return found

    return declare


def _typed(columns: Mapping[str, Any]) -> dict[str, ColumnType]:
    found: dict[str, ColumnType] = {}
    for name, kind in columns.items():
        if not name.isidentifier() or name in _OWN or name == "rows":
            raise TypeError(f"a column cannot be called '{name}'; taken are {', '.join((*_OWN, 'rows'))}")
        given = list[str] if kind is list else kind
        if given not in TYPES:
            listed = ", ".join(getattr(each, "__name__", str(each)) for each in TYPES)
            raise TypeError(f"column '{name}' is of type {kind!r}; known are {listed}")
        found[name] = TYPES[given]
    if not found:
        raise TypeError("a stage has at least one column")
    return found


# Finding it


def absolute(reference: str, folder: Path) -> str:
    """`./stages.py:name` as a path that holds wherever the process runs; `module:name` as it is."""
    where, colon, name = reference.rpartition(":")
    if where.endswith(".py") and not Path(where).is_absolute():
        return f"{(folder / where).resolve()}{colon}{name}"
    return reference


@lru_cache(maxsize=256)
def resolve(reference: str) -> FunctionSpec:
    """Raises `StageUnusable` with what was found."""
    where, _, name = reference.rpartition(":")
    if not where or not name.isidentifier():
        raise StageUnusable(f"'{reference}' is neither 'package.module:function' nor './file.py:function'")
    try:
        module = _of_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except StageUnusable:
        raise
    except Exception as error:
        raise StageUnusable(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if found is None:
        known = [each for each, value in vars(module).items() if hasattr(value, "__ai_assets_stage__")]
        raise StageUnusable(f"{where} has no '{name}'; stages there: {', '.join(known) or 'none'}")
    spec = getattr(found, "__ai_assets_stage__", None)
    if not isinstance(spec, FunctionSpec):
        raise StageUnusable(f"{reference} is no stage: put @ai_assets.stage(columns=...) above it")
    return spec


def _of_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise StageUnusable(f"there is no file {path}")
    name = f"ai_assets_stage_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# What it returned


def checked(spec: FunctionSpec, returned: Any) -> list[dict[str, Any]]:
    """The rows, or `Quarantine` with what is wrong."""
    if spec.rows == "one":
        return [_row(spec, returned)]
    if not isinstance(returned, Sequence) or isinstance(returned, str | bytes):
        raise Quarantine(f"it returned {type(returned).__name__}, and a stage with rows='many' returns a list of rows")
    rows = []
    for number, each in enumerate(returned):
        key = each.get("row_key") if isinstance(each, Mapping) else None
        row = _row(spec, {k: v for k, v in each.items() if k != "row_key"} if isinstance(each, Mapping) else each)
        rows.append({**row, "row_key": str(number) if key is None else str(key)})
    keys = [row["row_key"] for row in rows]
    if len(set(keys)) != len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Quarantine(f"it returned two rows with the row_key '{twice}'")
    return rows


def _row(spec: FunctionSpec, returned: Any) -> dict[str, Any]:
    if not isinstance(returned, Mapping):
        raise Quarantine(f"it returned {type(returned).__name__}, and a row is a dict with {', '.join(spec.own)}")
    if extra := [str(name) for name in returned if name not in spec.own]:
        raise Quarantine(f"it returned the column '{extra[0]}', and declares {', '.join(spec.own)}")
    row = {}
    for name, kind in spec.own.items():
        value = returned.get(name)
        if value is not None and not _fits(value, kind):
            raise Quarantine(f"it returned {value!r:.80} in the column '{name}', which is declared as {kind}")
        row[name] = float(value) if kind == "number" and value is not None else value
    return row


def _fits(value: Any, kind: ColumnType) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "truth":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "texts":
            return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def why(error: BaseException, function: Callable[..., Any]) -> str:
    """What an exception of the function says, with the line of the function's own file."""
    if isinstance(error, Quarantine):
        return str(error)[:_QUARANTINE_CHARACTERS] or "no reason was given"
    file, line, trace = inspect.getfile(function), None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    at = f" ({Path(file).name}, line {line})" if line else ""
    return f"{type(error).__name__}: {error}{at}"[:_QUARANTINE_CHARACTERS]
