"""One command as a module of its own: `python -m ai_assets.desk`, without loading all the others."""

import sys
from collections.abc import Callable

import typer

from ai_assets.base.errors import AiAssetsError
from ai_assets.base.printable import printable
from ai_assets.base.structured_log import complain


def run_alone(command: Callable[..., None]) -> None:
    """With its options, and an error as one sentence and exit code 2, as `ai-assets` says it."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        app()
    except AiAssetsError as error:
        complain(printable(f"error: {error}"))
        sys.exit(2)
