"""Sinks of a user's own: named in `operations.yaml`, or in the environment for one process."""

from collections.abc import Callable
from pathlib import Path

from ai_assets.base.errors import ExtensionUnusable, UserError
from ai_assets.base.home import SINKS_VARIABLE, Home, variable
from ai_assets.extensions import load_class
from ai_assets.own_settings import SinkSettings
from ai_assets.run.operations import load_operations
from ai_assets.run.sinks import Sink


def configured(home: Home, report: Callable[[str], None]) -> list[Sink]:
    """One that cannot be made is reported and left out: no run fails because of who listens."""
    try:
        declared = list(load_operations(home.operations).sinks)
    except UserError as error:
        report(f"The run sinks of {home.operations.name} are left out: {error}")
        declared = []
    named = (variable(SINKS_VARIABLE) or "").split(",")
    declared += [SinkSettings(use=name.strip()) for name in named if name.strip()]
    found = []
    for each in declared:
        try:
            found.append(_made(each, home.project))
        except UserError as error:
            report(f"A run sink is left out: {error}")
    return found


def _made(declared: SinkSettings, project: Path) -> Sink:
    kind: type[Sink] = load_class("sink", declared.use, Sink, project)
    try:
        return kind(**declared.options)
    except Exception as error:
        problem = f"making it with its options failed: {type(error).__name__}: {error}"
        raise ExtensionUnusable("sink", declared.use, problem) from error
