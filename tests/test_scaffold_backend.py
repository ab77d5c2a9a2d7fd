"""Claims about `scaffold backend`: the file loads, its test passes, and `inference.yaml` keeps all that was in it."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ai_assets.cli.app import app
from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.scaffold_backend import write_backend
from ai_assets.inference.errors import InferenceInvalid
from ai_assets.inference.load import load_inference

URL = "http://localhost:8080"
DECLARED = """\
# of the house
endpoints:   # who answers
    mini: {base_url: rehearsal, model: m, free: true}
    # the last one

routes: {default: {endpoints: [mini]}}   # the way
"""


@pytest.mark.slow
def test_what_is_written_loads_and_its_test_passes(tmp_path: Path) -> None:
    inference = tmp_path / "inference.yaml"
    made = write_backend("house_llm", URL, "small", tmp_path, inference)
    found = load_inference(inference)
    assert found.endpoints["house_llm"].protocol == "house_llm_backend:HouseLlm"
    assert found.routes["default"].endpoints == ("house_llm",)
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", made.test], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert (tested.returncode, "3 passed" in tested.stdout) == (0, True), tested.stdout


@pytest.mark.parametrize("before", [DECLARED, "routes: {}\n", "# nothing yet\n"])
def test_what_was_declared_stays_with_its_comments(tmp_path: Path, before: str) -> None:
    inference = tmp_path / "inference.yaml"
    inference.write_text(before)
    write_backend("kept", URL, "small", tmp_path, inference)
    after = inference.read_text()
    assert "kept" in load_inference(inference).endpoints
    lines = iter(after.splitlines())
    assert all(line in lines for line in before.splitlines()), after


def test_all_is_written_or_nothing(tmp_path: Path) -> None:
    inference = tmp_path / "inference.yaml"
    inference.write_text(DECLARED)
    with pytest.raises(InferenceInvalid, match="no URL"):
        write_backend("half", "localhost", "small", tmp_path, inference)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["inference.yaml"]
    assert inference.read_text() == DECLARED
    write_backend("whole", URL, "small", tmp_path, inference)
    for name, says in {
        "whole": "of that name", "Upper": "lower-case name", "openai": "no built-in protocol", "1x": "name",
    }.items():  # fmt: skip
        with pytest.raises(ScaffoldRefused, match=says):
            write_backend(name, URL, "small", tmp_path, inference)


def test_a_list_that_cannot_be_extended_is_left_with_what_to_add(tmp_path: Path) -> None:
    inference = tmp_path / "inference.yaml"
    inference.write_text("endpoints: {mini: {base_url: rehearsal, model: m, free: true}}\n")
    with pytest.raises(ScaffoldRefused, match="is not written as a block; add there:\ninline:\n  protocol:"):
        write_backend("inline", URL, "small", tmp_path, inference)


def test_the_command_says_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["scaffold", "backend", "named"], env={"COLUMNS": "200"})
    assert found.exit_code == 0, found.output
    assert "route: named" in found.output
    assert (tmp_path / "named_backend.py").is_file()
