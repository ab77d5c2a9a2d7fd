"""At home in any Dagster project: one as `create-dagster` makes it, with `dg`, our commands, and shared homes."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
INFERENCE = """
endpoints: {rehearsal: {base_url: rehearsal, model: rehearsal-mini, free: true}}
routes: {default: {endpoints: [rehearsal]}}
"""


@dataclass(frozen=True)
class DgProject:
    root: Path
    home: Path | None = None
    """Another one than that of the project."""

    @classmethod
    def made(cls, root: Path, package: str, home: Path | None = None) -> "DgProject":
        """The files of `create-dagster project`."""
        source = root / "src" / package
        (source / "defs").mkdir(parents=True)
        for folder in (source, source / "defs"):
            (folder / "__init__.py").touch()
        (source / "definitions.py").write_text(
            "from pathlib import Path\n\nfrom dagster import definitions, load_from_defs_folder\n\n\n@definitions\n"
            "def defs():\n    return load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
        )
        (root / "pyproject.toml").write_text(
            f'[project]\nname = "{package}"\nversion = "0.1.0"\n\n[tool.dg]\ndirectory_type = "project"\n\n'
            f'[tool.dg.project]\nroot_module = "{package}"\nregistry_modules = ["{package}.components.*"]\n'
        )
        return cls(root, home)

    def call(self, *command: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("AI_ASSETS", "DAGSTER"))}
        environment = {**ours, "PYTHONPATH": str(self.root / "src"), "DAGSTER_DISABLE_TELEMETRY": "yes"}
        if self.home:
            environment["AI_ASSETS_HOME"] = str(self.home)
        return subprocess.run(
            [BIN / command[0], *command[1:]], cwd=folder or self.root, env=environment, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    def ok(self, *command: str, folder: Path | None = None) -> str:
        done = self.call(*command, folder=folder)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def scaffold(self, name: str) -> Path:
        self.ok("dg", "scaffold", "defs", "ai_assets.DocumentCollection", name)
        (found,) = self.root.glob(f"src/*/defs/{name}/defs.yaml")
        return found


@pytest.fixture
def papers(tmp_path: Path) -> DgProject:
    return DgProject.made(tmp_path / "papers_project", "papers_project")


def test_a_scaffolded_collection_loads_with_its_schedule_and_sensors(papers: DgProject) -> None:
    papers.scaffold("papers")
    papers.scaffold("notes")
    papers.ok("dg", "check", "defs")
    found = json.loads(papers.ok("dg", "list", "defs", "--json"))
    shared = {"budget_alerts", "canaries", "inference_cost", "retention", "signoff_deadlines"}
    own = {f"{name}__{kind}" for name in ("papers", "notes") for kind in ("publication", "source_changes")}
    assert {sensor["name"] for sensor in found["sensors"]} == shared | own
    assert {schedule["name"] for schedule in found["schedules"]} == {"papers__nightly", "notes__nightly"}
    assert {"papers", "papers__publish", "costs"} <= {job["name"] for job in found["jobs"]}


def test_from_the_scaffold_to_a_published_release_with_our_commands(papers: DgProject) -> None:
    subprocess.run(["git", "init", "-q"], cwd=papers.root, check=True)
    folder = papers.scaffold("papers").parent
    papers.ok("ai-assets", "run", "papers")
    assert "papers" in papers.ok("ai-assets", "signoff", "list", folder=folder)
    assert papers.ok("ai-assets", "status", "papers", "--json", folder=folder)
    assert (papers.root / ".ai-assets" / "state.db").is_file()
    status = subprocess.run(["git", "status", "--short", "-uall"], cwd=papers.root, capture_output=True, text=True)
    assert ".ai-assets" not in status.stdout


def test_a_mistake_is_our_sentence_with_file_and_line_once(papers: DgProject) -> None:
    path = papers.scaffold("papers")
    path.write_text(path.read_text().replace("approvals: 1", "aprovals: 1"))
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if "aprovals" in text)
    done = papers.call("dg", "check", "defs")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert said.count(f"{path}:{line}: signoff: unknown key 'aprovals'; did you mean 'approvals'?") == 1
    assert "Additional properties" not in said


def test_without_inference_yaml_it_is_said_where_it_was_looked_for_and_what_would_do(papers: DgProject) -> None:
    path = papers.scaffold("papers")
    path.write_text(path.read_text() + "  stages:\n    - {name: summary, kind: summarise}\n")
    for command in (["dg", "check", "defs"], ["ai-assets", "run", "papers"]):
        done = papers.call(*command)
        assert done.returncode != 0
        assert f"there is no {papers.root}/inference.yaml" in done.stdout + done.stderr
        assert "routes: {default: {endpoints: [rehearsal]}}" in done.stdout + done.stderr
    (papers.root / "inference.yaml").write_text(INFERENCE)
    papers.ok("dg", "check", "defs")
    papers.ok("ai-assets", "run", "papers", folder=path.parent)


def test_where_nothing_was_recorded_the_code_location_is_imported(papers: DgProject, tmp_path: Path) -> None:
    papers.scaffold("papers")
    fresh = DgProject(papers.root, tmp_path / "fresh")
    assert "papers" in fresh.ok("ai-assets", "status", "papers")
    module = DgProject(papers.root, tmp_path / "by-module")
    assert "papers" in module.ok("ai-assets", "-m", "papers_project.definitions", "status", "papers", folder=tmp_path)
    lost = module.call("ai-assets", "-m", "papers_project.nowhere", "status", "papers")
    assert lost.returncode == 2
    assert (
        "error: The Dagster code location papers_project.nowhere cannot be loaded: ModuleNotFoundError" in lost.stderr
    )


def test_two_projects_share_a_home_and_a_name_means_one_collection(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = DgProject.made(tmp_path / "first", "first", home)
    second = DgProject.made(tmp_path / "second", "second", home)
    mine, theirs = first.scaffold("papers"), second.scaffold("letters")
    for project in (first, second):
        project.ok("dg", "list", "defs", "--json")
    assert "letters" in first.ok("ai-assets", "status", "letters")
    taken = theirs.parent.rename(theirs.parent.with_name("papers"))
    done = second.call("dg", "list", "defs", "--json")
    said = " ".join((done.stdout + done.stderr).split())
    assert f"Two collections are called 'papers' in the home {home}: the one in {mine.parent}" in said
    assert f"and the one in {taken}" in said
