"""What the documents show below a command is what the command prints, and every command that they name exists."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import WARM
from shown import DOCUMENTS, ROOT, Printed, brought_up_to_date, missing, parts_of, typed
from typer.main import get_command

from ai_assets.cli.app import app

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HELD = {path.name for path in DOCUMENTS.glob("*.md") if "\n```console\n" in path.read_text(encoding="utf-8")}
NOT_TYPED = {
    "canary.md": "a provider that changes its model between eight days: test_canary.py",
    "deadlines.md": "what is chosen depends on the hour: test_plan_tiers.py",
    "inference.md": "servers and endpoints of others: test_inference_test.py, test_ledger_cli.py, test_reconcile.py",
    "operations.md": "findings of many installations: test_doctor.py",
    "rehearsal.md": "a server, which does not end: test_provider.py",
    "retrieval.md": "40 golden queries: test_retrieval.py",
    "server.md": "a PostgreSQL: test_migrate_state.py",
}
"""Pages that show what a command printed elsewhere, why, and what holds it instead."""
NEEDS = {"audit.md": "ssh-keygen"}
FIGURES_VARY = {
    "backfill.md": "what is in flight when the cap is reached",
    "operations.md": "how large databases are",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HELD))
def test_a_document_shows_what_its_commands_print(
    name: str, tmp_path: Path, skip_loudly: Callable[[str], None]
) -> None:
    if (program := NEEDS.get(name)) and shutil.which(program) is None:
        skip_loudly(f"{program} is not installed")
    document = (DOCUMENTS / name).read_text(encoding="utf-8")
    told = list(typed(document, tmp_path, WARM))
    shown = told if name not in FIGURES_VARY else up_to_date(document, told)
    wrong = {each.command.text: lines for each in shown if (lines := missing(each.command.shown, each.text))}
    assert not wrong, f"bring it up to date: .venv/bin/python tests/shown.py docs/{name}"
    assert not [each.command.text for each in told if each.code and not each.part.is_shown]


def up_to_date(document: str, told: list[Printed]) -> list[Printed]:
    made = [command for part in parts_of(brought_up_to_date(document, told)) for command in part.commands]
    return [Printed(command, each.text, each.code, each.part) for command, each in zip(made, told, strict=True)]


def test_what_a_command_printed_stands_in_a_block_that_is_typed() -> None:
    for path in sorted(DOCUMENTS.glob("*.md")):
        blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
        found = [block for kind, block in blocks if kind != "console" and shows_output(block)]
        assert bool(found) == (path.name in NOT_TYPED), (path.name, found)


def shows_output(block: str) -> bool:
    lines = block.replace("\\\n", "").splitlines()
    return "\n$ ai-assets " in f"\n{block}" and any(line.strip() and not line.startswith("$ ") for line in lines)


def test_a_line_is_missing_unless_it_was_printed_in_its_place() -> None:
    printed = "a 7.1 s\nskipped\nb    c\n2026-10-05: 6 documents, and more\n$0.0012 for 3 calls\n"
    assert missing(["a 9.9 s", "...", "b c", "2026-10-05: 6 documents ...", "Password of ann:"], printed) == []
    assert missing(["b c", "a 1.0 s"], printed) == ["a SO MUCH"]
    assert missing(["2026-10-05: 7 documents ..."], printed) != []
    assert missing(["$0.0013 for 3 calls"], printed) != []


def test_a_document_is_brought_up_to_date_in_figures_alone() -> None:
    document = "Before.\n\n```console\n$ count\n3 apples\nno pears\n\n$ again\n1 plum\n```\nAfter.\n"
    (part,) = parts_of(document)
    count, again = part.commands
    told = [Printed(count, "4 apples\nsome pears\n", 0, part), Printed(again, "2 plums\n1 plum\n", 0, part)]
    expected = document.replace("3 apples", "4 apples")
    assert brought_up_to_date(document, told) == expected


def test_every_command_that_a_document_names_exists_with_its_options() -> None:
    root = get_command(app)
    wrong = {}
    for path in [ROOT / "README.md", *sorted(DOCUMENTS.glob("*.md"))]:
        for line in sorted(commands_in(path.read_text(encoding="utf-8"))):
            if problem := unknown_in(root, line.split()[1:]):
                wrong[f"{path.relative_to(ROOT)}: {line}"] = problem
    assert wrong == {}


def commands_in(document: str) -> set[str]:
    """Of blocks and of code within sentences, without what follows them in a shell."""
    blocks = [text for kind, text in BLOCK.findall(document) if kind in ("", "bash", "console", "sh")]
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", "").splitlines()]
    found = [*lines, *re.findall(r"`(ai-assets [^`]+)`", BLOCK.sub("", document).replace("\n", " "))]
    return {re.split(r" (?:[#&<>]|\|(?! ))| {2,}", line)[0] for line in found if line.startswith("ai-assets ")}


def unknown_in(command: Any, words: list[str]) -> str:
    """What a command does not know of the words that follow it."""
    while words and hasattr(command, "resolve_command") and not words[0].startswith("-"):
        if words[0] in ("|", "...", "…") or words[0].isupper():
            return ""
        try:
            _, command, words = command.resolve_command(command.context_class(command), words)
        except Exception as error:  # noqa: BLE001  # of click, or of the copy of it in typer
            return str(error)
    options = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
    named = [re.match(r"-{1,2}[a-z][a-z-]*", word) for word in words]
    return ", ".join(each[0] for each in named if each and each[0] not in options)


@pytest.mark.parametrize("line", ["ai-assets sign-off x", "ai-assets signoff aprove x", "ai-assets run x --worker 2"])
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    (found,) = commands_in(f"See `{line}`.")
    assert unknown_in(get_command(app), found.split()[1:])
