"""The runbooks say what the code says: each quoted sentence is in the source, each command exists, each is complete."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

import ai_assets
from ai_assets.base.plural import plural
from ai_assets.cli.app import app

PACKAGE = Path(ai_assets.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "runbooks.md").read_text(encoding="utf-8")
PARTS = ("You see", "What happened", "By itself", "To do", "Well again")
GAP, END = "\0", "\1"


def sections() -> dict[str, str]:
    _, *found = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in found}


QUOTES = re.findall(r"^> (.+)$", PAGE, flags=re.MULTILINE)


@cache
def sentences() -> str:
    """Every text of the package, with a gap for each value that is put into it."""
    files = sorted(PACKAGE.rglob("*.py"))
    return END.join(text for path in files for text in _texts(ast.parse(path.read_text("utf-8"))))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(map(_said, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _said(part: ast.expr) -> str:
    match part:
        case ast.Constant(value=text):
            return str(text)
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="plural"), args=[_, ast.Constant(one)])):
            return f"{GAP} {plural(2, str(one)).removeprefix('2 ')}"
        case ast.FormattedValue(value=ast.Call(func=ast.Name(id="plural"), args=[_, _, ast.Constant(many)])):
            return f"{GAP} {many}"
        case _:
            return GAP


def pattern(quote: str) -> re.Pattern[str]:
    """What is not known is a gap in the code, too; never words that were made up."""
    known = [re.escape(part) for part in quote.split("…")]
    return re.compile(f"{GAP}+[^{GAP}{END}]{{0,12}}".join(known) if len(known) > 1 else known[0])


@pytest.mark.parametrize("quote", QUOTES)
def test_each_quoted_sentence_is_one_that_the_code_says(quote: str) -> None:
    assert pattern(quote).search(sentences()), quote


def test_a_sentence_that_the_code_does_not_say_is_found_out() -> None:
    for made_up in ("The state store is on fire.", "State store …: …. Call the fire brigade."):
        assert not pattern(made_up).search(sentences())


@pytest.mark.parametrize("title", sections())
def test_each_runbook_is_complete_and_in_the_table(title: str) -> None:
    text = sections()[title]
    places = [text.find(f"**{part}**") for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert "> " in text
    assert f"](#{title.lower().replace(' ', '-')})" in PAGE.partition("## ")[0]


def test_each_command_that_proves_or_mends_something_exists() -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    for name, inner in re.findall(r"`ai-assets ([a-z-]+)(?: ([a-z-]+))?", PAGE):
        assert name in known, name
        if inner and hasattr(known[name], "commands"):
            assert inner in known[name].commands, f"{name} {inner}"
