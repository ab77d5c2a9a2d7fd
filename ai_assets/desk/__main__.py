"""`python -m ai_assets.desk`: the desk as a process of its own, with the options of `ai-assets desk`."""

import sys

import typer

from ai_assets.desk.command import desk
from resources.errors import AiAssetsError


def main() -> None:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(desk)
    try:
        app()
    except AiAssetsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
