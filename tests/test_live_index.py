"""Claims about the index as others open it: the live release, whatever was published, rolled back or killed before."""

import json
import re
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import outsider
import pyarrow as pa
import pytest
from conftest import REPOSITORY, Project
from cryptography.exceptions import InvalidSignature
from golden_home import opened
from provider import Provider
from signing import decide, known

from ai_assets.base.home import Home
from ai_assets.collection.loading import Collection
from ai_assets.orchestration.automation.publication import publication
from ai_assets.retention import release_files
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.run.operations import RetentionSettings
from ai_assets.signoff import integrity, live_index, releases, verification
from ai_assets.signoff.publication import publish
from ai_assets.storage.index_place import FolderPlace
from ai_assets.storage.index_table import LIVE_TAG_FILE, IndexTable

DAY = "2026-10-05"
FIRST, SECOND = f"{DAY}/0.txt", "2026-10-06/1.txt"


def index_folder(project: Project, name: str = "notes") -> Path:
    return project.home.index / name


def shown(project: Project, name: str = "notes") -> dict[str, str]:
    """What others see, by both ways, which must be the same."""
    folder = index_folder(project, name)
    tagged = outsider.by_tag(folder)
    key = outsider.public_key(project.home.keys)
    assert outsider.by_file(folder, (folder / live_index.FILE).read_bytes(), key) == tagged
    return tagged


def drafted(project: Project, collection: Collection, text: str) -> None:
    project.edit(collection, FIRST, text)
    decide(project.stores().state, collection)


@pytest.fixture
def notes(project: Project) -> Collection:
    return approved_notes(project)


def approved_notes(project: Project) -> Collection:
    """Two documents on two days."""
    for name in (FIRST, SECOND):
        project.document(name, f"The pump of {name}, as first written.")
    collection = project.declare()
    known(project.stores().state)
    project.refresh(collection)
    decide(project.stores().state, collection)
    return collection


# What this relies on in LanceDB


def rows(*names: str) -> pa.Table:
    return pa.table({"document_id": names, "text": [f"text of {name}" for name in names]})


def test_lancedb_moves_a_tag_between_branches_and_keeps_what_a_tag_names(tmp_path: Path) -> None:
    table = lancedb.connect(tmp_path).create_table("live", pa.table({"read_me": ["no release"]}))
    one, other = (table.branches.create(name) for name in ("one", "other"))
    for branch, name in ((one, "a"), (other, "b")):
        branch.add(rows(name), mode="overwrite")
    one.tags.create("live", one.version)
    assert outsider.by_tag(tmp_path) == {"a": "text of a"}
    other.tags.update("live", other.version)
    assert outsider.by_tag(tmp_path) == {"b": "text of b"}
    tag = json.loads((tmp_path / "live.lance" / LIVE_TAG_FILE).read_bytes())
    assert (tag["branch"], tag["version"]) == ("other", other.version)
    with pytest.raises(RuntimeError, match="is referenced by tags"):
        table.branches.delete("other")
    table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
    one.tags.update("live", one.version)
    assert outsider.by_tag(tmp_path) == {"a": "text of a"}
    table.branches.delete("other")
    assert not (tmp_path / "live.lance" / "tree" / "other").exists()
    assert outsider.plain(tmp_path).to_arrow().to_pylist() == [{"read_me": "no release"}]


def test_a_branch_is_read_after_its_folder_was_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    table = IndexTable(FolderPlace(before), "live", "one").begun(rows("a").schema)
    table.add(rows("a"))
    table.tags.create("live", table.version)
    before.rename(after)
    assert outsider.by_tag(after) == {"a": "text of a"}


# Publications and rollbacks


def test_whoever_opens_the_index_as_documented_gets_the_live_release(project: Project, notes: Collection) -> None:
    stores, folder = project.stores(), index_folder(project)
    first = publish(notes, stores, by="test").release
    before = shown(project)
    assert set(before) == {FIRST, SECOND}
    drafted(project, notes, "Another text.")
    second = publish(notes, stores, by="test").release
    assert shown(project) == {**before, FIRST: "Another text."}
    assert first.index_branch == second.index_branch
    eve = known(stores.state, "eve")
    live_index.roll_back(stores, "notes", 1, by=eve, reason="a test")
    assert shown(project) == before
    live_index.roll_back(stores, "notes", 2, by=eve, reason="a test")
    assert shown(project)[FIRST] == "Another text."
    table = outsider.plain(folder)
    assert table.schema.names == ["read_me"]
    assert b"checkout" in table.schema.metadata[b"ai_assets.read"]
    assert [area.first for area in integrity.verify(stores) if area.differences] == []


def test_live_json_says_which_release_and_files_and_no_other_text_passes_for_it(
    project: Project, notes: Collection
) -> None:
    release = publish(notes, project.stores(), by="test").release
    content = (index_folder(project) / live_index.FILE).read_bytes()
    key = outsider.public_key(project.home.keys)
    said = outsider.statement(content, key)
    assert (said["release"], said["digest"], said["version"]) == (1, release.digest, release.index_version)
    assert release.index_seal is not None
    assert {name: file[:2] for name, file in said["files"].items()} == {
        name: [file.size, file.sha256] for name, file in release.index_seal.items()
    }
    with pytest.raises(InvalidSignature):
        outsider.statement(content.replace(b'"release": 1', b'"release": 2'), key)


def test_the_page_for_programs_without_ai_assets_runs(
    project: Project, notes: Collection, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(notes, project.stores(), by="test")
    page = (REPOSITORY / "docs" / "live-index.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        here = block.replace(".ai-assets/", f"{project.home.root}/").replace("handbook", "notes")
        exec(compile(here, "live-index.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out == "release 1 of notes: 2 passages, as they were published\n"


@pytest.mark.parametrize("altered", ["tag", "file", "file gone"])
def test_the_sensor_puts_right_what_others_are_shown(project: Project, notes: Collection, altered: str) -> None:
    stores, folder = project.stores(), index_folder(project)
    publish(notes, stores, by="test")
    old = (folder / live_index.FILE).read_bytes(), (folder / "live.lance" / LIVE_TAG_FILE).read_bytes()
    drafted(project, notes, "Another text.")
    publish(notes, stores, by="test")
    right = shown(project)
    match altered:
        case "tag":
            (folder / "live.lance" / LIVE_TAG_FILE).write_bytes(old[1])
        case "file":
            (folder / live_index.FILE).write_bytes(old[0])
        case _:
            (folder / live_index.FILE).unlink()
    if altered != "file gone":
        found = [area.first for area in integrity.verify(stores) if area.differences]
        assert any("release 2 is live; ai-assets publish notes puts it right" in str(first) for first in found)
    with project.instance() as instance:
        import dagster as dg

        context = dg.build_sensor_context(instance=instance, sensor_name="notes__publication")
        said = publication(notes)(context)
    assert isinstance(said, dg.SkipReason)
    assert "put right" in str(said.skip_message)
    assert shown(project) == right
    assert live_index.repair(stores, "notes") is None


# Kills

KILLED = """
import os, signal, sys
from importlib import import_module

module, _, path = {target!r}.partition(":")
*owners, name = path.split(".")
owner = import_module(module)
for each in owners:
    owner = getattr(owner, each)
real = getattr(owner, name)

def killed(*given, **named):
    if {before!r}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*given, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
from ai_assets.base.home import Home
from ai_assets.cli.output import collection
from ai_assets.signoff import live_index, people
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores

stores = Stores.at(Home.from_environment())
if {rollback!r}:
    with stores.state.read() as connection:
        ann = people.find(connection, "ann")
    live_index.roll_back(stores, "notes", 1, by=ann, reason="a test")
else:
    publish(collection("notes"), stores, by="test")
"""
STEPS = {
    "before the branch": ("lancedb.table:Branches.create", True),
    "after the branch": ("lancedb.table:Branches.create", False),
    "before the rows": ("lancedb.table:LanceTable.add", True),
    "before the text index": ("ai_assets.storage.index:complete_indexes", True),
    "before it is complete": ("lancedb.table:Tags.create", True),
    "after it is complete": ("ai_assets.storage.index:SearchIndex.replace", False),
    "before the pointer": ("ai_assets.signoff.releases:publish_release", True),
    "after the pointer": ("ai_assets.signoff.live_index:try_to_show", True),
    "after the tag": ("lancedb.table:Tags.update", False),
    "before live.json": ("ai_assets.storage.index_place:FolderPlace.keep", True),
    "after live.json": ("ai_assets.storage.index_place:FolderPlace.keep", False),
}


def kill(project: Project, step: str, *, rollback: bool = False) -> None:
    target, before = STEPS[step]
    code = KILLED.format(target=target, before=before, rollback=rollback)
    done = subprocess.run([sys.executable, "-c", code], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def pointed_at(project: Project) -> int | None:
    with project.stores().state.read() as connection:
        return releases.live_number(connection, "notes")


def pruned(project: Project) -> list[str]:
    """What retention removes of the index."""
    bench = RetentionContext(stores=project.stores(), settings=RetentionSettings())
    found = [left for left in release_files.find(bench) if left.kind == "index"]
    for left in found:
        left.remove()
    return [left.what for left in found]


@pytest.mark.slow
@pytest.mark.parametrize("step", list(STEPS)[:5])
def test_a_first_publication_killed_anywhere_is_finished_by_the_next(
    project: Project, notes: Collection, step: str
) -> None:
    kill(project, step)
    stores = project.stores()
    if pointed_at(project) is None:
        assert not (index_folder(project) / live_index.FILE).exists()
        publish(notes, stores, by="test")
    else:
        live_index.repair(stores, "notes")
    assert set(shown(project)) == {FIRST, SECOND}
    pruned(project)
    assert len(list((index_folder(project) / "live.lance" / "tree").iterdir())) == 1
    assert set(shown(project)) == {FIRST, SECOND}
    verification.verify(stores.state)


@pytest.mark.slow
@pytest.mark.parametrize("step", list(STEPS)[5:])
def test_others_see_a_whole_release_after_a_kill_and_the_live_one_after_the_sensor(
    project: Project, notes: Collection, step: str
) -> None:
    stores = project.stores()
    publish(notes, stores, by="test")
    one = shown(project)
    drafted(project, notes, "Another text.")
    two = {**one, FIRST: "Another text."}
    kill(project, step)
    live = pointed_at(project)
    assert outsider.by_tag(index_folder(project)) in ((one,) if live == 1 else (one, two))
    live_index.repair(stores, "notes")
    assert shown(project) == (one if live == 1 else two)
    if live == 1:
        publish(notes, stores, by="test")
    assert shown(project) == two
    if step == "after the tag":
        kill(project, step, rollback=True)
        assert pointed_at(project) == 1
        live_index.repair(stores, "notes")
        assert shown(project) == one
    verification.verify(stores.state)
    assert [area.first for area in integrity.verify(stores) if area.differences] == []


# Homes of earlier versions


def old_rows(collection: Collection, stores: Any) -> dict[str, str]:
    with stores.state.read() as connection:
        live = releases.require_live(connection, collection.name)
    table = outsider.plain(stores.home.index / collection.name)
    table.checkout(live.index_version)
    return outsider.texts(table)


def test_an_earlier_home_is_shown_as_it_is_and_brought_over_by_the_next_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    project, collection, _ = opened(tmp_path, monkeypatch)
    stores, name = project.stores(), collection.name
    before = old_rows(collection, stores)
    (area,) = [area for area in integrity.verify(stores) if area.name == "index"]
    assert (area.differences, any("ai-assets publish notes puts it right" in note for note in area.notes)) == (0, True)
    said = project.cli("publish", name) if not decidable(project, collection) else None
    live_index.show(stores, name)
    assert said is None or said.returncode == 0, said.stderr
    assert shown(project, name) == before
    assert outsider.plain(index_folder(project, name)).schema.names == ["read_me"]
    decide(stores.state, collection)
    release = publish(collection, stores, by="test").release
    assert release.index_branch is not None
    assert shown(project, name).keys() >= before.keys()
    live_index.roll_back(stores, name, release.number - 1, by=known(stores.state, "eve"), reason="a test")
    assert shown(project, name) == before
    assert provider.bills(every=True) == []


def decidable(project: Project, collection: Collection) -> bool:
    from ai_assets.signoff.publication import anything_to_publish

    return anything_to_publish(collection, project.stores())


# Files that nothing needs


def test_branches_that_no_release_needs_are_removed(project: Project, notes: Collection) -> None:
    stores, folder = project.stores(), index_folder(project)
    publish(notes, stores, by="test")
    (tree,) = (folder / "live.lance" / "tree").iterdir()
    shutil.copytree(tree, tree.with_name("releases-9-ffffffff"))  # as a killed writer leaves it
    table = lancedb.connect(folder).open_table("live")
    table.branches.create("releases-9-eeeeeeee")
    assert sorted(pruned(project)) == [
        "index live of notes, branch releases-9-eeeeeeee", "index live of notes, branch releases-9-ffffffff",
    ]  # fmt: skip
    assert [path.name for path in (folder / "live.lance" / "tree").iterdir()] == [tree.name]
    assert set(shown(project)) == {FIRST, SECOND}
    assert Home.from_environment().index == project.home.index


# What is judged is what goes live


def test_an_index_that_fails_a_gate_of_search_does_not_go_live(project: Project) -> None:
    """What is approved holds half of the golden queries, the half that search does not answer."""
    for number in range(8):
        project.document(f"{DAY}/{number}.txt", f"Pump {number} of the water works, its seals and its oil.")
    project.document(f"{DAY}/roses.txt", "Roses are cut in March.")
    project.document(SECOND, "The brewery has a copper kettle.")
    asked = {"the oil of a pump and its seals": f"{DAY}/roses.txt", "copper kettle": SECOND}
    golden = project.root / "collections" / "notes" / "queries.jsonl"
    golden.write_text("".join(json.dumps({"query": q, "documents": [d]}) + "\n" for q, d in asked.items()))
    collection = project.declare(golden={"queries": "queries.jsonl"}, gates=[{"metric": "recall@5", "min": 0.5}])
    stores = project.stores()
    known(stores.state)
    project.refresh(collection)
    decide(stores.state, collection, [DAY])
    refused = project.cli("publish", "notes")
    assert refused.returncode == 1
    said = " ".join(refused.stdout.split())
    assert "The index of notes that was to go live fails a gate of the golden queries: recall@5 0 is below" in said
    assert pointed_at(project) is None
    assert not list((index_folder(project) / "live.lance" / "tree").iterdir())
    decide(stores.state, collection)
    done = project.cli("publish", "notes")
    assert done.returncode == 0, done.stdout
    assert len(shown(project)) == 10
