"""Claims about names that carry escape sequences or markup: no command passes them on to the terminal."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DAYS, STAGE, Project
from hypothesis import given
from hypothesis import strategies as st
from signing import decide

from ai_assets.base.printable import printable, readable_json
from ai_assets.cli import output
from ai_assets.collection.loading import Collection
from ai_assets.signoff.publication import publish

TITLE, CLEAR, RED, TURNED, NEW_LINE = "\x1b]0;pwned\x07", "\x1b[2J", "\x9b31m", "\u202egnp.exe", "\x85"
NAMES = [f"a{TITLE}.txt", f"b{CLEAR}{RED}.txt", f"c{TURNED}.txt", "d[bold]x[/bold][/].txt", f"e{NEW_LINE}.txt"]
DAY = "2026-10-05"


@pytest.fixture
def hostile(project: Project) -> Collection:
    """A collection whose documents have such names, computed and published, with one that fails."""
    for name in NAMES:
        project.document(
            f"{DAY}/{name}", f"A note on the pump, {TITLE}{name}. The leak was found on Monday. [red]it[/]"
        )
        project.document(f"{DAY}/quarantined{name}", b"\xff")
        project.document(name, "In no partition.")
    collection = project.declare(partitions=dict(DAYS), stages=[dict(STAGE)])
    project.refresh(collection)
    return collection


def unsafe(text: str) -> list[str]:
    return [mark for mark in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\x85") if mark in text]


def commands(project: Project) -> list[tuple[str, ...]]:
    first = f"{DAY}/{NAMES[0]}"
    return [
        ("run", "notes"), ("run", "notes", "--partition", DAY), ("status", "notes"), ("search", "notes", "pump"),
        ("explain", "notes", first), ("explain", "notes", f"{DAY}/quarantined{NAMES[1]}"),
        ("explain", "notes", f"no{TITLE}"),
        ("signoff", "list"), ("signoff", "show", "notes", DAY), ("signoff", "show", "notes", f"x{TITLE}"),
        ("plan", "notes"), ("status", f"no{TITLE}[red]"), ("releases", "list", "notes"), ("audit", "show"),
    ]  # fmt: skip


@pytest.mark.slow
def test_no_command_passes_on_what_a_name_would_do_to_a_terminal(project: Project, hostile: Collection) -> None:
    stores = project.stores()
    decide(stores.state, hostile)
    publish(hostile, stores, by=f"ann{CLEAR}")
    shown = ""
    for arguments in commands(project):
        for extra in ((), ("--json",)):
            done = project.cli(*arguments, *extra)
            assert not unsafe(done.stdout + done.stderr), arguments
            assert "Traceback" not in done.stderr, done.stderr
            if extra and done.returncode == 0:
                json.loads(done.stdout)
            shown += done.stdout if not extra else ""
    assert "d[bold]x[/bold][/].txt" in shown  # no markup is followed
    found = json.loads(project.cli("search", "notes", "pump", "--json").stdout)["hits"]
    assert {f"{DAY}/{name}" for name in NAMES} == {
        hit["document_id"] for hit in found
    }  # and nothing is lost to programs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a pseudo-terminal")
def test_on_a_terminal_our_own_styles_are_there_and_theirs_are_not(project: Project, hostile: Collection) -> None:
    stores = project.stores()
    decide(stores.state, hostile)
    publish(hostile, stores, by="test")
    ours, theirs = pty.openpty()
    command = [Path(sys.executable).parent / "ai-assets", "search", "notes", "pump"]
    with subprocess.Popen(
        command, cwd=project.root, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}, stdout=theirs
    ) as running:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # Linux says so when the other side has closed
            pass
        assert running.wait(60) == 0
    os.close(ours)
    text = shown.decode()
    assert "\x1b[1m1. " in text
    assert not unsafe(text)
    assert "d[bold]x[/bold][/].txt" in text


@given(st.text())
def test_what_is_printable_stays_and_the_rest_goes(text: str) -> None:
    kept = printable(text)
    assert printable(kept) == kept
    assert all(char in "\n\t" or char.isprintable() or ord(char) > 0x9F for char in kept)
    assert json.loads(readable_json([text])) == [text]
    assert not unsafe(readable_json([text]))


def test_a_table_and_a_line_are_cleaned_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(output.console, "_file", written)  # by `file` it would keep the stream of this test
    output.table(f"title{CLEAR}", (f"column{RED}",), [(f"cell{TITLE}[red]x[/red]",)])
    output.console.print(output.led(f"lead{TITLE}", "bold", f"rest{TURNED}"))
    assert not unsafe(written.getvalue())
    assert "[red]x[/red]" in written.getvalue()
