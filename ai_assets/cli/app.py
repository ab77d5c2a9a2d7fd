"""The program, and the one place where an error becomes a sentence and an exit code."""

import platform
import sys
from pathlib import Path
from typing import Annotated

import typer

from ai_assets.base import structured_log
from ai_assets.base.errors import AiAssetsError
from ai_assets.cli.commands import LazyGroup

app = typer.Typer(
    name="ai-assets",
    cls=LazyGroup,
    help="Dagster assets for AI document pipelines: traced to bytes, model, dollars and the person who signed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(
            f"ai-assets {version('ai-assets')} (Dagster {version('dagster')}, Python {platform.python_version()})"
        )
        raise typer.Exit


@app.callback()
def location(
    module: Annotated[
        str | None, typer.Option("--module", "-m", help="Module with the Dagster definitions, to find collections in.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="The same as a Python file.", exists=True, dir_okay=False)
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and end.")
    ] = False,
) -> None:
    """By default collections are found as the definitions recorded them, or through what the project declares."""
    if module or file:
        from ai_assets.cli.output import home
        from ai_assets.orchestration.code_location import CodeLocation

        CodeLocation(project=home().project, module=module, file=file.absolute() if file else None).load()


def main() -> None:
    """Exit code 0: done; 1: something failed; 2: a mistake that its message says how to mend."""
    try:
        structured_log.begin("command")
        app()
    except AiAssetsError as error:
        from ai_assets.cli.output import errors, led

        errors.print(led("error:", "bold red", f" {error}"))
        sys.exit(2)
