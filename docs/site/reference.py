"""Pages of the site that are made from the code: the command, keys of files, what Python imports, the glossary."""

import importlib
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

WIDTH = 100
"""A signature that is longer has a line for each parameter."""


# Commands


def commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    from ai_assets.cli.app import app

    root = get_command(app)
    lines = [
        "# Every command and option",
        "",
        "As `ai-assets COMMAND --help` says it; in groups and with links: [the command](../commands.md).",
    ]
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        lines += _command(f"ai-assets {name}", command, 2)
    return "\n".join(lines) + "\n"


def _command(name: str, command: Any, level: int) -> Iterator[str]:
    yield from ("", f"{'#' * level} `{name}`", "", _escaped(inspect.cleandoc(command.help or "")))
    inner = getattr(command, "commands", None)
    if inner:
        for each, one in sorted(inner.items()):
            yield from _command(f"{name} {each}", one, level + 1)
        return
    with typer.Context(command, info_name=name) as context:
        usage = " ".join(command.collect_usage_pieces(context))
    yield from ("", "```", f"{name} {usage}".rstrip(), "```")
    rows = [row for parameter in command.params if (row := _parameter(parameter))]
    if rows:
        yield from ("", "| | | default |", "|---|---|---|", *rows)


def _parameter(parameter: Any) -> str | None:
    if getattr(parameter, "hidden", False) or parameter.name == "help":
        return None
    names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    said = (
        "needed"
        if parameter.required
        else ""
        if default in (None, False, (), []) or callable(default)
        else f"`{default}`"
    )
    return f"| {names} | {_escaped(getattr(parameter, 'help', None) or '')} | {said} |"


# Files


FILES = {
    "defs.yaml": ("ai_assets.collection.settings", "CollectionSettings", "collections.md", "keys"),
    "inference.yaml": ("ai_assets.inference.settings", "InferenceSettings", "inference.md", "keys"),
    "desk.yaml": ("ai_assets.desk.settings", "DeskSettings", "desk.md", "keys"),
    "operations.yaml": ("ai_assets.run.operations", "OperationsSettings", "operations.md", "keys"),
}


def settings(root: Path) -> str:
    """Every key of every file: its type and default from the code, its meaning from the page that explains it."""
    lines = [
        "# Every key of every file",
        "",
        "Types and defaults are the code's; what a key means is told where it links to.",
    ]
    for name, (module, attribute, page, block) in FILES.items():
        model = getattr(importlib.import_module(module), attribute)
        meant = _meanings((root / "docs" / page).read_text(encoding="utf-8"), block, page)
        lines += ["", f"## `{name}`", "", f"Explained in [{page}](../{page}).", ""]
        lines += ["| key | type | default | means |", "|---|---|---|---|"]
        lines += [_key(key, field, meant) for key, field in _keys(model)]
    from ai_assets.base.kinds import STAGE_KINDS
    from ai_assets.stages.registry import kind_of

    stages = _meanings((root / "docs" / "collections.md").read_text(encoding="utf-8"), "stage-keys", "collections.md")
    for kind in STAGE_KINDS:
        lines += ["", f"## A stage of kind `{kind}`", "", "| key | type | default | means |", "|---|---|---|---|"]
        lines += [_key(key, field, stages) for key, field in _keys(kind_of(kind))]
    return "\n".join(lines) + "\n"


def _keys(model: type[BaseModel], prefix: str = "", above: tuple[type, ...] = ()) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        yield key, field
        for inner, many in _models(field.annotation):
            if inner not in above and not (prefix == "" and name == "stages"):
                yield from _keys(inner, f"{key}{many}.", (*above, model, inner))


def _models(annotation: Any, many: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """The models within, each with what stands for "one of several"."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, many
        return
    origin = get_origin(annotation)
    if origin in (tuple, list):
        many += "[]"
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        many += ".NAME"
    for inner in get_args(annotation):
        yield from _models(inner, many)


def _key(key: str, field: FieldInfo, meant: Mapping[str, str]) -> str:
    plain = key.replace("[]", "").replace(".NAME", "")
    if field.is_required():
        default = "needed"
    else:
        value = field.get_default(call_default_factory=not _takes_data(field.default_factory))
        default = "" if value in (None, "") or isinstance(value, BaseModel) else f"`{_value(value)}`"
    return f"| `{key}` | {_escaped(_type(field.annotation))} | {_escaped(default)} | {meant.get(plain, '')} |"


def _takes_data(factory: Any) -> bool:
    return factory is not None and bool(inspect.signature(factory).parameters)


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list, frozenset, set)):
        return f"[{', '.join(_value(each) for each in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin is Literal:
        return " or ".join(f"`{_value(each)}`" for each in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each) for each in inner if each is not type(None)))
    if origin in (tuple, list, frozenset, set) or str(origin).endswith("Sequence'>"):
        return f"list of {_type(next((each for each in inner if each is not ...), str))}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"map of {_type(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "keys below"
    words = {str: "text", int: "number", float: "number", bool: "true or false", Any: "anything"}
    return words.get(annotation) or str(getattr(annotation, "__name__", annotation)).lower()


def _meanings(text: str, block: str, page: str) -> dict[str, str]:
    """The last cell of a table of keys, by key; its links lead from one folder further down."""
    found = re.search(rf"<!-- {block}:begin.*?-->\n(.*?)<!-- {block}:end -->", text, re.DOTALL)
    meant = {}
    for line in found[1].splitlines() if found else ():
        cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        for key in re.findall(r"`([\w.]+)`", cells[0]):
            said = re.sub(r"\]\((#[^)]*)\)", rf"](../{page}\1)", cells[-1].strip())
            meant[key] = re.sub(r"\]\((?!https?:|\.\./|#)([^)]+)\)", r"](../\1)", said)
    return meant


# Python


def python() -> str:
    """What `import ai_assets` offers: signatures and docstrings."""
    import ai_assets

    lines = ["# Python", "", "What a project imports from `ai_assets`; it is typed (`py.typed`)."]
    for name in sorted(ai_assets.__all__, key=str.lower):
        found = getattr(ai_assets, name)
        lines += ["", f"## `{name}`", "", "```python", _signature(name, found), "```"]
        lines += ["", _doc(found)]
        for method, function in _methods(found):
            lines += [
                "",
                f"### `{name}.{method}`",
                "",
                "```python",
                _signature(method, function),
                "```",
                "",
                _doc(function),
            ]
    return "\n".join(lines) + "\n"


def _methods(found: Any) -> Iterator[tuple[str, Any]]:
    if not inspect.isclass(found) or not found.__module__.startswith("ai_assets"):
        return
    for name, member in vars(found).items():
        if name.startswith("_") or name.startswith("model_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and function.__doc__:
            yield name, function


def _signature(name: str, found: Any) -> str:
    """In one line where it fits, else a line for each parameter; types without their modules."""
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return name
    line = f"{name}{signature}"
    if len(line) > WIDTH:
        parameters = "".join(f"    {each},\n" for each in signature.parameters.values())
        line = f"{name}(\n{parameters})"
    return re.sub(r"(?:\w+\.)+(?=[A-Z])", "", line)


def _doc(found: Any) -> str:
    return _escaped(inspect.getdoc(found) or "", cell=False) if (found.__doc__ or "") else ""


# Words and decisions


def glossary(root: Path) -> str:
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    words = text.partition("## Glossary\n")[2].partition("\n## ")[0]
    return f"# Glossary\n{words}"


def decisions(root: Path) -> str:
    """Every decision by number, newest first."""
    lines = ["# Decisions", "", "Why it is as it is: each record says what was decided and what was rejected.", ""]
    for path in sorted((root / "docs" / "adr").glob("*.md"), reverse=True):
        title = re.sub(r"^#\s*(ADR )?\d*[.:]?\s*", "", path.read_text(encoding="utf-8").partition("\n")[0])
        lines.append(f"- [{int(path.name[:4])}. {title}]({path.name})")
    return "\n".join(lines) + "\n"


def _escaped(text: str, cell: bool = True) -> str:
    text = text.replace("<", "&lt;")
    return " ".join(text.split()).replace("|", "\\|") if cell else text
