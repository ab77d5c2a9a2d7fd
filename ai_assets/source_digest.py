"""A digest of what a function of a user's own does: of its syntax tree and of what it names in its own module.

Comments, layout and docstrings do not count, so that tidying up makes nothing stale. What is imported counts by its
name, not by its source: a change there takes a change here, such as of an option.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai_assets.storage.digest import digest


def source_digest(thing: object) -> str:
    """Of a function or class that is written in a file; of anything else of its type."""
    written: Any = thing if inspect.isfunction(thing) or inspect.isclass(thing) else type(thing)
    written = inspect.unwrap(written)
    try:
        parts = source_parts(written)
    except (OSError, TypeError, SyntaxError):
        return digest([written.__module__, written.__qualname__])
    if not parts:
        return digest([written.__module__, written.__qualname__, _own_source(written)])
    return digest([[name, [_canonical(node) for node in parts[name]]] for name in sorted(parts)])


def source_parts(written: Any) -> dict[str, list[ast.stmt]]:
    """The statements of its module that a function or class is made of, by the name they make: itself, what it names,
    what that names. Empty where it was made within a function, or by code that is in no file."""
    named = _named_in(ast.parse(_module_source(written)))
    name = written.__qualname__.partition(".")[0]
    return {each: named[each] for each in _reached(name, named)} if name in named else {}


def _own_source(thing: Any) -> Any:
    try:
        return _canonical(ast.parse(textwrap.dedent(inspect.getsource(thing))))
    except (OSError, TypeError, SyntaxError):
        return None


def _module_source(thing: Any) -> str:
    file = inspect.getsourcefile(thing)
    if file is None:
        raise OSError(f"{thing} has no file")
    module = sys.modules.get(thing.__module__)
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if loader is not None and hasattr(loader, "get_source"):
        found: str | None = loader.get_source(thing.__module__)
        if found is not None:
            return found
    return Path(file).read_text(encoding="utf-8")


def _named_in(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """What each name of the module is made by, at its top level: a function, a class, an assignment, an import."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for name in _names_made(statement):
            found.setdefault(name, []).append(statement)
    return found


def _names_made(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name  # within an `if` or a `try`


def _reached(name: str, named: dict[str, list[ast.stmt]]) -> set[str]:
    """The name, and every name of the module that its statements use, and so on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        found.add(each)
        for statement in named[each]:
            used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            waiting += [other for other in used if other in named]
    return found


def _canonical(node: Any) -> Any:
    """As JSON, without places, docstrings and fields that are empty (Python adds new ones)."""
    if isinstance(node, ast.AST):
        fields = dict(ast.iter_fields(node))
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            fields["body"] = node.body[1:]
        kept = {name: _canonical(value) for name, value in fields.items() if value is not None and value != []}
        return [type(node).__name__, kept]
    if isinstance(node, list):
        return [_canonical(each) for each in node]
    return node if isinstance(node, str | bool | int) else repr(node)
