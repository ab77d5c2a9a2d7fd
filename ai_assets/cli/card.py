"""`ai-assets card`: the model card of a release."""

import sys
from typing import Annotated, Literal

import typer

from ai_assets.cli.output import AsJson, CollectionName, collection, stores_to_read
from ai_assets.signoff.card_markdown import card_markdown
from ai_assets.signoff.release_cards import card_of

CardFormat = Literal["markdown", "json"]


def card(
    name: CollectionName,
    release: Annotated[int | None, typer.Option("--release", help="Which release; the live one by default.")] = None,
    written: Annotated[
        CardFormat, typer.Option("--format", help="Markdown, or the JSON whose digest the audit chain has.")
    ] = "markdown",
    as_json: AsJson = False,
) -> None:
    """What is in a release, what made it, what was measured, who signed, what it cost, and its known limits.

    The bytes of --format json are those that were kept: their SHA-256 is in the audit chain.
    """
    collection(name, signed=True)
    kept = card_of(stores_to_read(), name, release)
    sys.stdout.write(kept.text if as_json or written == "json" else card_markdown(kept))
