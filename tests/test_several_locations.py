"""Claims about several code locations on one home: which there are, where a run starts, and what is done once."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import eventually
from desks import Visitor
from real_up import Up, up
from signing import known

from ai_assets.base.collection_files import CatalogEntry
from ai_assets.base.home import SEVERAL_VARIABLE, Home
from ai_assets.collection.catalog import Catalog
from ai_assets.ops.supervisor import LocationsAlike, named_apart, workspace_of
from ai_assets.orchestration.automation.shared_work import done_elsewhere
from ai_assets.orchestration.code_location import CodeLocation, CodeLocationUnusable, code_locations
from ai_assets.orchestration.instance import instance
from ai_assets.storage.stores import Stores

DEFINITIONS = """
from pathlib import Path

import dagster as dg

from ai_assets.base.home import Home
from ai_assets.collection.catalog import Catalog, CatalogEntry
from ai_assets.orchestration.component import (
    collection_automation, collection_definitions, load_collections, shared_definitions,
)

HERE = Path(__file__).parent
collections = load_collections(HERE / "declared")


@dg.op
def other() -> None: ...


@dg.job(name="{job}")
def same_name() -> None:
    other()


defs = dg.Definitions.merge(
    dg.Definitions(jobs=[same_name]), *map(collection_definitions, collections),
    *map(collection_automation, collections), shared_definitions(collections),
)
"""
NAMES = ("papers", "letters")


def two_projects(root: Path) -> Path:
    """A workspace of two projects with a collection each; each has a job that is called as the other's collection."""
    for name, job in (NAMES, NAMES[::-1]):
        folder = root / f"{name}_project"
        declared = folder / "declared" / name
        declared.mkdir(parents=True)
        (folder / "sources").mkdir()
        (folder / "sources" / "one.txt").write_text(f"A text of the {name}.")
        attributes = {"source": {"path": str(folder / "sources")}, "partitions": {"by": "shards", "count": 1}}
        (declared / "defs.yaml").write_text(
            yaml.safe_dump({"type": "ai_assets.DocumentCollection", "attributes": attributes})
        )
        (folder / f"{name}_definitions.py").write_text(DEFINITIONS.format(job=job))
        (folder / "pyproject.toml").write_text(f'[tool.dagster]\nmodule_name = "{name}_definitions"\n')
    load_from = [
        {"python_module": {"module_name": f"{name}_definitions", "working_directory": f"{name}_project",
                           "location_name": f"the_{name}"}}
        for name in NAMES
    ]  # fmt: skip
    (root / "workspace.yaml").write_text(yaml.safe_dump({"load_from": load_from}))
    return root


def described(found: Any) -> list[tuple[str, str | None, str]]:
    return [(location.name, location.module, location.project.name) for location in found]


def test_a_workspace_file_declares_a_code_location_for_each_entry(tmp_path: Path) -> None:
    assert described(code_locations(two_projects(tmp_path))) == [
        ("the_papers", "papers_definitions", "papers_project"),
        ("the_letters", "letters_definitions", "letters_project"),
    ]


@pytest.mark.parametrize(
    ("file", "head"), [("pyproject.toml", "tool.dg."), ("dg.toml", "")], ids=["pyproject.toml", "dg.toml"]
)
def test_a_dg_workspace_declares_one_for_each_project(tmp_path: Path, file: str, head: str) -> None:
    two_projects(tmp_path)
    (tmp_path / "workspace.yaml").unlink()
    (tmp_path / file).write_text("".join(f'[[{head}workspace.projects]]\npath = "{name}_project"\n' for name in NAMES))
    shutil.rmtree(tmp_path / "letters_project")
    with pytest.raises(CodeLocationUnusable, match=rf"letters_project cannot be loaded: .*{file} names it, and it"):
        code_locations(tmp_path)
    letters = tmp_path / "letters_project"
    letters.mkdir()
    (letters / "definitions.py").touch()
    found = described(code_locations(tmp_path))
    assert found == [
        ("papers_definitions", "papers_definitions", "papers_project"),
        ("letters_project", "definitions", "letters_project"),
    ]


def test_one_location_keeps_its_name_and_several_have_their_own(tmp_path: Path) -> None:
    one, other = (CodeLocation(project=tmp_path, module=name, name=name) for name in NAMES)
    assert [location.name for location in named_apart(tmp_path, [one])] == ["definitions"]
    assert [location.name for location in named_apart(tmp_path, [one, other])] == ["papers", "letters"]
    with pytest.raises(LocationsAlike, match="two code locations called 'papers'"):
        named_apart(tmp_path, [one, one])


def test_the_workspace_of_the_web_server_names_them_all(tmp_path: Path) -> None:
    found = [CodeLocation(project=tmp_path, module=name, name=name) for name in NAMES]
    servers = workspace_of(found, [tmp_path / "0.sock", tmp_path / "1.sock"])["load_from"]
    assert [(each["grpc_server"]["location_name"], each["grpc_server"]["socket"]) for each in servers] == [
        ("papers", str(tmp_path / "0.sock")), ("letters", str(tmp_path / "1.sock")),
    ]  # fmt: skip


ELSEWHERE = """
import sys
from ai_assets.orchestration.automation.shared_work import done_elsewhere
print(done_elsewhere() or "mine", flush=True)
sys.stdin.read()
"""


def test_what_is_done_once_for_a_home_is_done_by_one_process_and_taken_over_when_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_ASSETS_HOME", str(tmp_path / "home"))
    assert done_elsewhere() is None  # one code location does all
    monkeypatch.setenv(SEVERAL_VARIABLE, "yes")
    with speaking(ELSEWHERE) as (first, said):
        assert said == "mine"
        assert str(first.pid) in (done_elsewhere() or "")
        first.kill()
        first.wait()
        assert done_elsewhere() is None
        assert done_elsewhere() is None
    with speaking(ELSEWHERE) as (_, said):
        assert str(os.getpid()) in said


@contextmanager
def speaking(code: str) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ}, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_collection_asks_the_models_of_its_own_project(tmp_path: Path) -> None:
    root = two_projects(tmp_path)
    home = Home(root=tmp_path / "home", project=root).ensure()
    project = root / "letters_project"
    Catalog(home).record("letters", CatalogEntry(folder=project / "declared" / "letters", project=project))
    assert Catalog(home).home_of("letters").inference == project / "inference.yaml"
    assert Catalog(home).home_of("unknown").inference == root / "inference.yaml"


# Real processes


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with up(two_projects(tmp_path_factory.mktemp("workspace")), "--no-first-run") as found:
        found.says("Stop it with Ctrl-C", timeout_s=240)
        yield found


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAGSTER_HOME", "AI_ASSETS_HOME"):
        monkeypatch.setenv(name, "")


@pytest.mark.slow
def test_both_locations_are_served_and_the_home_knows_the_collections_of_both(running: Up) -> None:
    health = running.api.health(0)
    assert (health.code_loaded, dict(health.code_errors)) == (True, {})
    assert Catalog(running.home).names() == sorted(NAMES)
    for name in NAMES:
        done = running.ai_assets("status", name)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_starts_in_the_location_of_its_collection_though_the_other_has_a_job_of_that_name(
    running: Up, name: str
) -> None:
    run_id = running.api.launch_run(name, {"dagster/partition": "shard-0"})
    eventually(lambda: running.api.run_status(run_id) in ("SUCCESS", "FAILURE"), 180)
    assert running.api.run_status(run_id) == "SUCCESS"
    with instance(running.home) as opened:
        run = opened.get_run_by_id(run_id)
        assert run is not None
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.location_name == f"the_{name}"


@pytest.mark.slow
def test_the_desk_shows_the_collections_of_both_and_starts_runs_in_either(running: Up) -> None:
    known(Stores.at(running.home).state, "ann")
    ann = Visitor(f"http://127.0.0.1:{running.desk_port}")
    ann.sign_in("ann")
    assert [row["collection"] for row in ann.get("/api/runs").json()] == sorted(NAMES)
    for name in NAMES:
        started = ann.post(f"/runs/{name}/start", {"kind": "again", "first": "shard-0"}).json()
        (run_id,) = started["run_ids"]
        eventually(lambda run_id=run_id: running.api.run_status(run_id) == "SUCCESS", 180)  # type: ignore[misc]
        view = ann.get(f"/api/runs/{name}/run/{run_id}").json()
        assert (view["line"]["status"], view["failed"], view["partitions"]) == ("success", 0, 1)
        assert "ann, at the desk" in ann.get(f"/runs/{name}/{run_id}").text
    ann.http.close()


@pytest.mark.slow
def test_a_command_runs_a_collection_of_either_location(running: Up) -> None:
    for name in NAMES:
        done = running.ai_assets("run", name, "--json")
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_sensors_of_both_tick_and_only_one_does_what_is_done_once(running: Up) -> None:
    def ticks(sensor: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        with instance(running.home) as opened:
            for state in opened.all_instigator_state():
                if state.instigator_name == sensor:
                    origin = state.origin.repository_origin.code_location_origin.location_name
                    reasons = opened.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
                    found[origin] = {str(tick.skip_reason) for tick in reasons if tick.skip_reason}
        return found

    for sensor in ("signoff_deadlines", "inference_cost"):
        eventually(lambda sensor=sensor: len([said for said in ticks(sensor).values() if said]) == 2, 150)  # type: ignore[misc]
        others = [name for name, said in ticks(sensor).items() if any("another code location" in each for each in said)]
        assert len(others) == 1, ticks(sensor)
    for name in NAMES:
        eventually(lambda name=name: f"the_{name}" in ticks(f"{name}__publication"), 60)  # type: ignore[misc]


@pytest.mark.slow
def test_one_that_breaks_later_is_named_and_the_other_goes_on(running: Up) -> None:
    file = running.root / "letters_project" / "letters_definitions.py"
    text = file.read_text()
    file.write_text("raise RuntimeError('broken by an edit')\n")
    servers = [p for p in _processes(running) if "letters_definitions" in p.cmdline()]
    try:
        for server in servers:
            server.kill()
        eventually(
            lambda: re.search(r"the code location the_letters cannot be loaded.*broken by an edit", running.said), 120
        )
        assert "code server the_letters ended with status" in running.said
        run_id = running.api.launch_run("papers", {"dagster/partition": "shard-0"})
        eventually(lambda: running.api.run_status(run_id) == "SUCCESS", 180)
    finally:
        file.write_text(text)
    for server in [p for p in _processes(running) if "letters_definitions" in p.cmdline()]:
        server.kill()
    eventually(lambda: "the code location the_letters is loaded again" in running.said, 120)


def _processes(running: Up) -> list[Any]:
    from ai_assets.base.processes import started_by_up

    return started_by_up(running.home.root)


@pytest.mark.slow
def test_one_that_cannot_be_loaded_at_the_start_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    root = two_projects(tmp_path)
    (root / "letters_project" / "letters_definitions.py").write_text("raise RuntimeError('no luck')\n")
    with up(root) as found:
        assert found.process.wait(240) == 2
        assert "The definitions of the code location the_letters cannot be loaded." in found.said.replace("\n", " ")
        assert "no luck" in found.said
        assert _processes(found) == []
