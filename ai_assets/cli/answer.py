"""`ai-assets answer`: one answer of a model, opened."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from ai_assets.base.plural import plural
from ai_assets.base.printable import readable_json
from ai_assets.cli.ledger import Asked, attempts_table, shortened
from ai_assets.cli.output import AsJson, console, money, print_json, stores_to_read, table
from ai_assets.inference import history
from ai_assets.inference.history import CallUnknown
from ai_assets.run.answer import AnswerRecord, AnswerUse, open_answer

SHOWN_CHARACTERS = 1_000


def answer(
    asked: Asked,
    full: Annotated[bool, typer.Option("--full", help="All of what was sent and of the answer.")] = False,
    as_json: AsJson = False,
) -> None:
    """An answer of a model: what was sent, what came back, what it cost, and the rows and releases that use it."""
    places = stores_to_read()
    with places.state.read() as connection:
        try:
            key = history.find(connection, asked)
        except CallUnknown:
            if not history.left_of(connection, asked):
                raise
            key = asked  # in full, of one that was erased
    found = open_answer(places, key)
    assert found is not None  # it is there, and the command sees all
    if as_json:
        print_json({**asdict(found)})
    else:
        _show(found, full)


def _show(found: AnswerRecord, full: bool) -> None:
    console.print(f"Answer {found.call}", style="bold")
    rows = [
        ("model", found.answered_model or found.model),
        ("endpoint", f"{found.endpoint} ({found.protocol})"),
        ("prompt version", found.prompt or "none"),
        ("tokens", _tokens(found)),
        ("paid", money(found.cost_usd) + (f", {money(found.maybe_usd)} more at most" if found.maybe_usd else "")),
        ("used again", f"{plural(found.reused, 'time')}, {money(found.saved_usd)} saved"),
    ]
    table("", ("what", "value"), rows)
    for line in filter(None, (found.erased, found.sent_missing)):
        console.print(line)
    for title, text in _texts(found):
        console.print(title, style="bold")
        console.print(shortened(text, SHOWN_CHARACTERS, full=full))
    attempts_table("Attempts", found.attempts)
    for item in found.attempts:
        if item.message:
            console.print(f"{item.attempt}: {item.message}")
    used = [(u.collection, u.stage, u.partition, u.document, _now(u), _released(u)) for u in found.uses]
    columns = ("collection", "stage", "partition", "document", "in its current row", "releases")
    table("Used by", columns, used)
    if found.more_places:
        console.print(f"and in {plural(found.more_places, 'more partition')}")


def _texts(found: AnswerRecord) -> Iterator[tuple[str, str]]:
    """What was sent and what came, each under its heading."""
    if found.sent is not None:
        yield from ((f"Sent: {message.role}", message.content) for message in found.sent.messages)
        if found.sent.schema is not None:
            yield "Sent: schema", readable_json(found.sent.schema, indent=2)
        settings = readable_json(dict(found.sent.settings), indent=2)
        yield ("Sent: settings", settings) if found.sent.messages else ("Sent", found.sent.body)
    if found.text is not None:
        yield f"Answer ({found.answered_by})" if found.answered_by else "What came last, and is no answer", found.text


def _tokens(found: AnswerRecord) -> str:
    if found.input_tokens is None:
        return "unknown"
    return f"{found.input_tokens:,} in, {found.output_tokens or 0:,} out"


def _now(use: AnswerUse) -> str:
    return "not recorded" if use.current is None else "yes" if use.current else "no"


def _released(use: AnswerUse) -> str:
    numbers = ", ".join(map(str, use.releases)) or "none"
    return f"{numbers} (one is live)" if use.live else numbers
