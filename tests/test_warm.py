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
