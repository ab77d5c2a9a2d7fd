"""Finding what a user wrote: by `module:name`, or by the name of an entry point of an installed package."""

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from ai_assets.base.errors import ExtensionUnusable, said_of
from ai_assets.base.home import project_directory
from ai_assets.base.kinds import CHECKS
from ai_assets.base.yaml_settings import nearest
from ai_assets.storage.digest import canonical_json

Kind = Literal["metric", "gate", "check", "target", "sink", "protocol", "embedder", "stage", "hold"]
GROUPS: dict[Kind, str] = {
    "metric": "ai_assets.metrics",
    "gate": "ai_assets.gates",
    "check": "ai_assets.checks",
    "target": "ai_assets.targets",
    "sink": "ai_assets.sinks",
    "protocol": "ai_assets.protocols",
    "embedder": "ai_assets.embedders",
    "stage": "ai_assets.stages",
    "hold": "ai_assets.holds",
}


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    for name, value in options.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"the option '{name}' is no plain value ({error}); write a date as text, in quotes"
            ) from error
    return options


Options = Annotated[dict[str, Any], AfterValidator(_plain)]
"""Keyword arguments as they are, if a digest can be made of them; YAML has values that JSON has not."""


def name_of(reference: str) -> str:
    """What it is called unless the user says otherwise."""
    return reference.rpartition(":")[2].rpartition(".")[2]


def load(kind: Kind, reference: str, near: Path | None = None) -> object:
    """What the reference names. A module is looked for in the project of the file `near`, as Dagster does."""
    if ":" not in reference:
        return _of_entry_point(kind, reference)
    module_name, _, attribute = reference.partition(":")
    if not module_name or not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise ExtensionUnusable(kind, reference, "it is not of the form module:name")
    look_in(project_directory(near.parent if near is not None and near.is_file() else near))
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:  # importing runs the user's code: whatever it raises is theirs to see
        raise ExtensionUnusable(kind, reference, f"importing {module_name} failed: {said_of(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [name for name in vars(found) if not name.startswith("_")]
            hint = nearest(part, known, "it has: " + (", ".join(sorted(known)[:10]) or "nothing"))
            raise ExtensionUnusable(kind, reference, f"{module_name} has no '{part}'{hint}")
        found = getattr(found, part)
    return found


def load_class(
    kind: Kind, reference: str, base: type, near: Path | None = None, *, needs: Sequence[str] = ()
) -> type[Any]:
    """A class that derives from `base`, and lacks neither a method of it nor one of the facts that it needs."""
    found = load(kind, reference, near)
    if not (isinstance(found, type) and issubclass(found, base)):
        name, package = base.__name__, base.__module__.rpartition(".")[0]
        problem = f"it is not a class that derives from {name} (from {package} import {name})"
        raise ExtensionUnusable(kind, reference, problem)
    missing = [fact for fact in needs if not hasattr(found, fact)]
    missing += sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ExtensionUnusable(kind, reference, f"it has no {' and no '.join(missing)}")
    return found


def builtin(reference: str) -> Any:
    """One of our own, by `module:name`: imported only where it is used."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def installed(kind: Kind) -> Sequence[importlib.metadata.EntryPoint]:
    return tuple(importlib.metadata.entry_points(group=GROUPS[kind]))


def _of_entry_point(kind: Kind, name: str) -> object:
    found = {point.name: point for point in installed(kind)}
    if name not in found:
        known = f"installed: {', '.join(sorted(found))}" if found else "none is installed"
        known += f"; built-in checks: {', '.join(CHECKS)}" if kind == "metric" else ""
        raise ExtensionUnusable(
            kind, name, f"no entry point of the group {GROUPS[kind]} has that name ({known}); for a function of your "
            "own write module:name"
        )  # fmt: skip
    try:
        loaded: object = found[name].load()
    except Exception as error:  # as above
        raise ExtensionUnusable(kind, name, f"loading {found[name].value} failed: {said_of(error)}") from error
    return loaded


def look_in(project: Path) -> None:
    """Dagster and pytest have the project on the path already; a console script has not."""
    if str(project) not in sys.path:
        sys.path.append(str(project))
