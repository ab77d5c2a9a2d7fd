"""Claims about what `ai-assets up` does when files that definitions are made of are edited while it runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import eventually
from real_up import Up, up
from signing import PASSWORD, known

from ai_assets.base.home import LOCATION_VARIABLE, PASSWORD_VARIABLE, Home
from ai_assets.cli.new import DEFINITIONS
from ai_assets.ops import definition_watch
from ai_assets.ops.definition_watch import DefinitionWatch, changed
from ai_assets.ops.trial_load import TrialLoad, ignored_by, spec_of
from ai_assets.orchestration.code_location import CodeLocation
from ai_assets.orchestration.held_back import held_back, hold_back, let_go
from ai_assets.orchestration.instance import instance
from ai_assets.signoff import releases
from ai_assets.storage.stores import Stores

# Watching


def same_time(path: Path, text: str) -> None:
    """Write it as a file server with times in whole seconds would show it: the time and the size stay."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_touched_or_written_again_unchanged_is_no_change(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text("a: 1")
    watch = DefinitionWatch.of([file], [tmp_path])
    before = watch.look()
    file.write_text("a: 1")
    os.utime(file, (1, 1))
    assert changed(before, watch.look()) == []


@pytest.mark.parametrize("text", ["a: 2", "a: 22", ""], ids=["same size", "another size", "saved half: empty"])
def test_another_content_is_a_change_even_where_time_and_size_stay(tmp_path: Path, text: str) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text("a: 1")
    watch = DefinitionWatch.of([file], [])
    before = watch.look()
    same_time(file, text)
    assert changed(before, watch.look()) == [file]


def test_a_file_that_is_looked_for_from_now_on_and_is_not_there_has_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    before = DefinitionWatch.of([file], []).look()
    file.write_text("a: 1")
    assert changed(before, DefinitionWatch.of([file, tmp_path / "dg.toml"], []).look()) == [file]


def test_an_older_time_is_a_change_too(tmp_path: Path) -> None:
    file = tmp_path / "defs.yaml"
    file.write_text("a: 1")
    watch = DefinitionWatch.of([file], [])
    before = watch.look()
    file.write_text("a: 2")
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert changed(before, watch.look()) == [file]


def test_files_and_folders_that_come_and_go_are_changes(tmp_path: Path) -> None:
    collection = tmp_path / "letters"
    watch = DefinitionWatch.of([collection / "defs.yaml"], [tmp_path])
    before = watch.look()
    collection.mkdir()
    named = watch.look()
    assert changed(before, named) == [tmp_path]
    (collection / "defs.yaml").write_text("type: x")
    there = watch.look()
    assert changed(named, there) == [tmp_path, collection / "defs.yaml"]
    collection.rename(tmp_path / "post")
    assert changed(there, watch.look()) == [tmp_path, collection / "defs.yaml"]


def test_a_new_folder_counts_again_when_its_declaration_comes_later(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    watch = DefinitionWatch.of([], [tmp_path])
    before = watch.look()
    (tmp_path / "letters" / "defs.yaml").touch()
    assert changed(before, watch.look()) == [tmp_path]


@pytest.mark.parametrize("name", [".defs.yaml.swp", "defs.yaml~", "__pycache__", ".git"])
def test_what_editors_and_python_leave_is_no_change(tmp_path: Path, name: str) -> None:
    watch = DefinitionWatch.of([], [tmp_path])
    before = watch.look()
    (tmp_path / name).touch()
    assert changed(before, watch.look()) == []


def test_looking_at_thousands_of_files_reads_none_of_them_again_and_takes_a_bounded_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.yaml" for number in range(3000)]
    for file in files:
        file.write_text("a: 1")
    monkeypatch.setattr(definition_watch, "YOUNG_S", -1.0)
    watch = DefinitionWatch.of(files, [tmp_path])
    watch.look()
    watch.look()
    reads: list[Any] = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or b"")
    watch.look()
    assert reads == []
    assert watch._took_s / watch.pause_s <= definition_watch.MOST_SHARE


# Loading in a child


def declare(root: Path, name: str, documents: Path, **more: Any) -> Path:
    attributes = {
        "source": {"path": str(documents)}, "partitions": {"by": "shards", "count": 1}, "schedule": None, **more,
    }  # fmt: skip
    folder = root / "collections" / name
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({"type": "ai_assets.DocumentCollection", "attributes": attributes})
    (folder / "defs.yaml").write_text(text)
    return folder / "defs.yaml"


def project_in(root: Path) -> Path:
    documents = root / "documents"
    documents.mkdir(parents=True)
    (documents / "one.txt").write_text("The pump in hall 7 leaks. It was looked at on Monday, and a part is ordered.")
    (root / "definitions.py").write_text(DEFINITIONS)
    declare(root, "letters", documents)
    return root


def tried(root: Path) -> TrialLoad:
    """What the child says."""
    result = root / "result.json"
    location = CodeLocation(project=root, module="definitions")
    environment = {**os.environ, "AI_ASSETS_HOME": str(root / ".ai-assets")}
    subprocess.run(
        [sys.executable, "-m", "ai_assets.ops.trial_load", str(result), spec_of(location)], cwd=root, env=environment,
        check=False, capture_output=True, timeout=300,
    )  # fmt: skip
    found = TrialLoad.read(result)
    assert found is not None
    result.unlink()
    return found


PROMPT = "Say of what it is.\n\n{{ document.text }}\n"
STAGES = """
from ai_assets import Document, stage

@stage(columns={"words": int})
def count(document: Document) -> dict:
    return {"words": len(document.text.split())}
"""


def test_the_child_says_what_definitions_are_made_of_and_which_collections_there_are(tmp_path: Path) -> None:
    root = project_in(tmp_path / "p")
    (root / "collections" / "letters" / "stages.py").write_text(STAGES)
    (root / "helper.py").write_text("X = 1\n")
    (root / "definitions.py").write_text("import helper\n" + DEFINITIONS)
    stages = [{"name": "words", "kind": "function", "function": "./stages.py:count"}]
    golden = {"queries": "golden.jsonl"}
    (root / "collections" / "letters" / "golden.jsonl").write_text('{"query": "pump", "documents": ["one.txt"]}\n')
    declare(root, "letters", root / "documents", stages=stages, golden=golden)
    found = tried(root)
    assert (found.error, found.collections) == (None, ("letters",))
    read = {str(path.relative_to(root)) for path in found.files if path.is_relative_to(root)}
    assert read >= {
        "definitions.py", "helper.py", "collections/letters/defs.yaml", "collections/letters/stages.py",
        "collections/letters/golden.jsonl",
    }  # fmt: skip
    assert not any(name.startswith((".ai-assets", "documents")) for name in read)
    assert root / "collections" in found.folders


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("defs.yaml", r".*/collections/letters/defs\.yaml:\d+: partitions\.by: .*"),
        ("ValueError", r"ValueError: no luck \(.*definitions\.py, line 1\)"),
        ("exit", r"the code ended the process \(SystemExit: 3\)"),
        ("twice", r".*letters.*"),
    ],
)
def test_what_does_not_load_is_said_in_one_sentence(tmp_path: Path, edit: str, said: str) -> None:
    import re

    root = project_in(tmp_path / "p")
    if edit == "defs.yaml":
        declare(root, "letters", root / "documents", partitions={"by": "moon"})
    else:
        lines = {
            "ValueError": "raise ValueError('no luck')\n", "exit": "import sys; sys.exit(3)\n",
            "twice": DEFINITIONS + "defs = dg.Definitions.merge(defs, *map(collection_definitions, COLLECTIONS))\n",
        }  # fmt: skip
        (root / "definitions.py").write_text(lines[edit])
    found = tried(root)
    assert found.error is not None
    assert re.fullmatch(said, found.error, re.DOTALL), found.error
    assert root / "definitions.py" in found.files


def test_what_belongs_to_the_interpreter_or_the_home_is_not_watched(tmp_path: Path) -> None:
    ignored = ignored_by(tmp_path / "home")
    for path in (Path(sys.prefix) / "lib" / "x.py", tmp_path / "home" / "state.db", Path("/proc/self/stat")):
        assert str(path).startswith(ignored)
    assert not str(tmp_path / "homes" / "x.yaml").startswith(ignored)


def test_sensors_wait_while_the_files_do_not_load_and_only_while_that_up_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(root=tmp_path / "home", project=tmp_path).ensure()
    hold_back(home, "definitions", "a.yaml:3: is wrong.")
    assert held_back(home) is None  # nobody has said which code location this is
    monkeypatch.setenv(LOCATION_VARIABLE, "definitions")
    assert "a.yaml:3: is wrong." in (held_back(home) or "")
    monkeypatch.setenv(LOCATION_VARIABLE, "another")
    assert held_back(home) is None
    monkeypatch.setenv(LOCATION_VARIABLE, "definitions")
    let_go(home, "definitions")
    assert held_back(home) is None


# Real processes


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DAGSTER_HOME", "AI_ASSETS_HOME"):
        monkeypatch.setenv(name, "")


def ai_assets(running: Up, *arguments: str) -> None:
    done = running.ai_assets(*arguments, **{PASSWORD_VARIABLE: PASSWORD})
    assert done.returncode == 0, done.stderr


def publication_ticks(running: Up, collection: str) -> list[str]:
    """Why its publication sensor started nothing, the newest first."""
    with instance(running.home) as opened:
        for state in opened.all_instigator_state():
            if state.instigator_name == f"{collection}__publication":
                ticks = opened.get_ticks(state.instigator_origin_id, state.selector_id, limit=3)
                return [str(tick.skip_reason) for tick in ticks]
    return []


def live_release(running: Up, collection: str) -> int | None:
    with Stores.at(running.home) as stores, stores.state.read() as connection:
        return releases.live_number(connection, collection)


@pytest.mark.slow
def test_a_collection_made_while_up_runs_is_run_signed_and_published_and_a_broken_one_serves_on(
    tmp_path: Path,
) -> None:
    root = project_in(tmp_path / "p")
    more = tmp_path / "more"
    more.mkdir()
    for number in range(6):
        (more / f"{number}.txt").write_text(f"Note {number}: the conveyor of hall {number} was looked at on Monday.")
    with up(root) as running:
        running.says("1 partition of letters waits for sign-off")
        ai_assets(running, "new", "post", "--from", str(more))
        running.says("collections/post/defs.yaml changed; reloaded; new: post")
        running.says("of post wait")
        known(Stores.at(running.home).state, "ann")
        ai_assets(running, "signoff", "approve", "post", "--by", "ann", "--all")
        eventually(lambda: live_release(running, "post") == 1, 120)
        file = root / "collections" / "post" / "defs.yaml"
        good = file.read_text()
        file.write_text(good.replace("partitions:", "partition:"))
        running.says("and the definitions from before go on: ")
        assert "defs.yaml:" in running.said.split("from before go on: ")[1]
        health = running.api.health(0)
        assert (health.code_loaded, dict(health.code_errors)) == (True, {})
        ai_assets(running, "signoff", "approve", "letters", "--by", "ann", "--all")
        eventually(
            lambda: any("this waits until they do" in said for said in publication_ticks(running, "letters")), 90
        )
        assert live_release(running, "letters") is None
        file.write_text(good)
        running.says("The definitions are as before; reloaded")
        eventually(lambda: live_release(running, "letters") == 1, 120)
        file.write_text(good.replace("max_characters: 800", "max_characters: 600"))
        running.says("collections/post/defs.yaml changed; reloaded", 2)
        shutil.rmtree(file.parent)
        running.says("gone: post")
        assert not running.api.knows([("post", "published")])
        assert running.api.knows([("letters", "published")])
