"""Claims about `scaffold stage`: the file runs, its test passes, and a declaration that is there is kept."""

import subprocess
import sys

import pytest
from conftest import STAGE, Project

from ai_assets.cli.errors import ScaffoldRefused
from ai_assets.cli.scaffold_stage import write_stage
from ai_assets.collection.loading import load_collection

DAY = "2026-10-05"


@pytest.mark.slow
@pytest.mark.parametrize("stages", [[], [dict(STAGE)]], ids=["the first", "one more"])
def test_what_is_written_runs_and_its_test_passes(project: Project, stages: list[dict[str, object]]) -> None:
    project.documents(per_day=2, days=1)
    collection = project.declare(**({"stages": stages} if stages else {}))
    made = write_stage("counted", collection, project.root)
    found = load_collection(project.root / "collections", "notes")
    assert [stage.name for stage in found.stages] == [*(str(stage["name"]) for stage in stages), "counted"]
    project.refresh(found, [DAY])
    manifest = project.stores().lake.manifest("notes", "counted", DAY)
    assert manifest is not None
    assert {row["first"] for row in project.stores().lake.rows(manifest)} == {"Note"}
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", made.test], cwd=project.root, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize("name", ["documents", "Counted", "class", "kind"])
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(project: Project, name: str) -> None:
    collection = project.declare(stages=[dict(STAGE)])
    with pytest.raises(ScaffoldRefused):
        write_stage(name, collection, project.root)
    assert list(project.root.glob("*_stage.py")) == []
