"""Claims about the command itself: its version, and what a shell is told."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Project
from typer.core import TyperCommand
from typer.main import get_command

from ai_assets.cli.app import app
from ai_assets.cli.commands import COMMANDS

COMMAND = Path(sys.executable).parent / "ai-assets"


def said(folder: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_it_says_its_version_anywhere_without_a_project(tmp_path: Path) -> None:
    told = said(tmp_path, "--version")
    assert told.startswith(f"ai-assets {version('ai-assets')} (Dagster {version('dagster')}, Python 3.")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_what_the_help_states_of_a_command_is_what_the_command_says_of_itself(name: str) -> None:
    own = get_command(app).commands[name]  # type: ignore[attr-defined]
    assert (own.name, own.hidden, own.deprecated) == (name, False, False)
    for width in (45, 60, 1000):
        assert TyperCommand(name, help=COMMANDS[name].help).get_short_help_str(width) == own.get_short_help_str(width)


def test_to_list_commands_none_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv[0] = 'ai-assets'\n"
        "from ai_assets.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'sqlalchemy', 'rich', 'ai_assets.cli.status'} & sys.modules.keys()))"
    )

    def listed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], cwd=tmp_path, env={**os.environ, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    helped = listed("--help")
    assert helped.stdout.endswith("\n[]\n")
    lines = [line.split() for line in helped.stdout.partition("Commands:\n")[2].splitlines()]
    assert set(COMMANDS) <= {words[0] for words in lines if words}
    mistaken = listed("stats")
    assert mistaken.returncode == 2
    assert "No such command 'stats'. Did you mean 'status'" in mistaken.stderr
    assert mistaken.stdout == "[]\n"
    completed = listed(_AI_ASSETS_COMPLETE="complete_bash", COMP_WORDS="ai-assets st", COMP_CWORD="1")
    assert completed.stdout.splitlines() == ["status", "[]"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_given_its_completion(tmp_path: Path, shell: str) -> None:
    told = said(tmp_path, "--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert "_AI_ASSETS_COMPLETE" in told


@pytest.mark.slow
def test_commands_and_names_of_collections_are_completed(project: Project) -> None:
    project.declare("papers")
    project.declare("pamphlets")
    project.declare("letters")

    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return said(project.root, _AI_ASSETS_COMPLETE="complete_bash", **words).split()

    assert completed("ai-assets stat") == ["status"]
    assert completed("ai-assets run pa") == ["pamphlets", "papers"]
    assert completed("ai-assets signoff approve let") == ["letters"]


def test_a_shell_in_no_project_is_told_nothing(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "ai-assets run pa", "COMP_CWORD": "2"}
    assert said(tmp_path, _AI_ASSETS_COMPLETE="complete_bash", **words).strip() == ""
    assert not list(tmp_path.iterdir())
