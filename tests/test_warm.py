"""Claims about how tests wait for our programs."""

import os
import signal
import subprocess

import pytest
import warm
from conftest import WARM, Project


def test_who_waits_for_a_program_says_so_and_what_it_said_last(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(warm, "TELL_S", 0.05)
    started = WARM.start(["provider", "--port", "0"], cwd=project.root, env=os.environ)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(3)
    started.send(signal.SIGTERM)
    started.wait(30)
    assert "ai-assets provider --port 0 has not ended after 0 s" in capsys.readouterr().err
    started.place.cleanup()


@pytest.mark.parametrize("bytecode", [True, False])
def test_a_program_keeps_bytecode_as_its_own_environment_says(project: Project, bytecode: bool) -> None:
    """Whatever the environment was in which the process began that it is forked from."""
    project.declare()
    (project.root / "others.py").write_text(
        "from pathlib import Path\nfrom ai_assets import load_collections\n"
        "collections = load_collections(Path(__file__).parent / 'collections')\n"
    )
    done = project.cli("--file", "others.py", "status", PYTHONDONTWRITEBYTECODE="" if bytecode else "1")
    assert done.returncode == 0, done
    assert (project.root / "__pycache__").exists() == bytecode
