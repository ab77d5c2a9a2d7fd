"""Claims about hundreds of runs, on a smaller scale: `make soak` makes 500 and 100, beside a living `ai-assets up`."""

from pathlib import Path

import pytest
from conftest import Project

from bench import soak

pytestmark = pytest.mark.slow


def soaked(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch, **how: int | bool) -> list[soak.Soaked]:
    monkeypatch.setenv("AI_ASSETS_HOME", str(project.home.root))  # given back after the test
    given: dict[str, int | bool] = {"unchanged": 40, "changed": 10, "every": 2, **how}
    return soak.soak(folder, port=None, say=lambda _line: None, **given)  # type: ignore[arg-type]


def test_after_many_runs_nothing_has_grown(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = soaked(project, tmp_path / "soak", monkeypatch)
    assert [phase.grown() for phase in found] == [[], []]
    assert [len(phase.samples["disk"]) for phase in found] == [20, 5]


def test_without_removing_anything_the_same_runs_do_grow(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the bound tells the one from the other."""
    unchanged, _ = soaked(project, tmp_path / "soak", monkeypatch, removing=False, unchanged=24, changed=2, every=1)
    assert any("disk" in each for each in unchanged.grown())
