# ruff: noqa: E501  a damage is a row, and a row is a line
"""Claims about `ai-assets verify`: each area names the first thing that is not as it was written, and only that."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import Project
from signing import decide, known

from ai_assets.collection.loading import Collection
from ai_assets.signoff import releases
from ai_assets.signoff.integrity import Area, verify
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores

DAY = "2026-10-05"


@pytest.fixture
def stores(project: Project, labelled: Collection) -> Stores:
    """Two days, published."""
    found = project.stores()
    known(found.state)
    decide(found.state, labelled)
    publish(labelled, found, by="test")
    return found


def areas(stores: Stores) -> dict[str, Area]:
    return {area.name: area for area in verify(stores)}


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def of_lake(stores: Stores, asset: str) -> Path:
    manifest = stores.lake.manifest("notes", asset, DAY)
    assert manifest is not None
    return stores.lake.path(manifest)


def frozen(stores: Stores) -> Path:
    manifest = stores.lake.manifest("notes", "release_candidate", DAY)
    assert manifest is not None
    folder: Path = stores.lake.folder("notes", "release_snapshots", DAY)
    return folder / str(manifest.stats["chunks_file"])


def of_index(stores: Stores) -> Path:
    with stores.state.read() as connection:
        release = releases.require_live(connection, "notes")
    assert release.index_seal is not None
    name = next(name for name in release.index_seal if name.startswith("data/"))
    return stores.home.index / "notes" / f"{release.index_name}.lance" / "tree" / str(release.index_branch) / name


def change(statement: str) -> Callable[[Stores], None]:
    def changed(stores: Stores) -> None:
        with stores.state.write() as connection:
            connection.execute(sa.text(statement))

    return changed


@dataclass(frozen=True, kw_only=True)
class Damage:
    id: str
    do: Callable[[Stores], object]
    area: str
    says: str


DAMAGES = (
    Damage(id="a bit of a dataset", do=lambda s: flipped(of_lake(s, "chunks")), area="lake", says="does not hold the bytes that its name says; ai-assets run notes --partition 2026-10-05 makes it again"),
    Damage(id="a dataset is gone", do=lambda s: of_lake(s, "kind").unlink(), area="lake", says="is gone; ai-assets run notes --partition 2026-10-05"),
    Damage(id="a manifest is none", do=lambda s: of_lake(s, "kind").with_name("manifest.json").write_text("{"), area="lake", says="it is not a manifest"),
    Damage(id="a manifest of another folder", do=lambda s: shutil.copy(of_lake(s, "kind").with_name("manifest.json"), of_lake(s, "chunks").parent), area="lake", says="is the manifest of another dataset (kind of 2026-10-05)"),
    Damage(id="a bit of a frozen file", do=lambda s: flipped(frozen(s)), area="snapshots", says="(release 1 of notes, 2026-10-05) does not hold the bytes that its name says"),
    Damage(id="a frozen file is gone", do=lambda s: frozen(s).unlink(), area="snapshots", says="(release 1 of notes, 2026-10-05) is gone"),
    Damage(id="a bit of the index", do=lambda s: flipped(of_index(s)), area="index", says="release 1 of notes: its search index was altered: data/"),
    Damage(id="a file of the index is gone", do=lambda s: of_index(s).unlink(), area="index", says="release 1 of notes: its search index lacks data/"),
    Damage(id="the index is gone", do=lambda s: shutil.rmtree(s.home.index), area="index", says="release 1 of notes: its search index is gone; ai-assets publish notes makes it again"),
    Damage(id="the row of the release", do=change("UPDATE releases SET digest = 'd'"), area="index", says="Release 1 of notes is not what was published"),
    Damage(id="the pointer", do=change("UPDATE live_releases SET number = 9"), area="index", says="The live pointer of notes is not what was published"),
    Damage(id="a sum of a budget", do=change("INSERT INTO budgets VALUES ('b', 'b', 5, 3000000000, 0, 0, 0)"), area="ledger", says="budget b: spent is $3.000000000, and its attempts come to $0.000000000"),
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.id)
def test_the_first_difference_is_named_in_its_area(stores: Stores, damage: Damage) -> None:
    damage.do(stores)
    found = areas(stores)
    assert damage.says in str(found[damage.area].first)
    assert [name for name, area in found.items() if area.differences] == [damage.area]


def test_what_is_as_it_was_written_is_counted_and_passes(project: Project, stores: Stores) -> None:
    found = areas(stores)
    assert not any(area.differences for area in found.values())
    assert (found["lake"].checked, found["snapshots"].checked, found["index"].checked) == (16, 6, 1)
    assert found["warehouse"].notes == ["there is none yet"]
    said = project.cli("verify")
    assert (said.returncode, said.stderr.splitlines()[0]) == (0, "lake: 16 checked")
    assert "Everything that was looked at is as it was written." in said.stdout


@pytest.mark.slow
def test_the_command_ends_with_1_and_says_the_same_as_json(project: Project, stores: Stores) -> None:
    flipped(of_lake(stores, "chunks"))
    flipped(of_index(stores))
    said = project.cli("verify", "notes")
    assert said.returncode == 1
    assert "lake: " in said.stderr
    assert "index: release 1 of notes: its search index was altered" in said.stderr
    told = project.cli("verify", "notes", "--json")
    found = json.loads(told.stdout)
    assert (told.returncode, found["whole"]) == (1, False)
    assert {area["name"]: area["differences"] for area in found["areas"]} == {
        "lake": 1, "snapshots": 0, "index": 1, "cards": 0, "warehouse": 0, "ledger": 0,
    }  # fmt: skip


def test_progress_counts_up_to_what_there_is(stores: Stores) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    list(verify(stores, advance=lambda area, done, total: seen.setdefault(area, []).append((done, total))))
    for steps in seen.values():
        assert [done for done, _ in steps] == list(range(1, steps[-1][1] + 1))
    assert {"lake", "snapshots", "index"} <= set(seen)


def test_a_frozen_file_that_only_an_older_release_names_may_be_gone(
    project: Project, stores: Stores, labelled: Collection
) -> None:
    older = frozen(stores)
    project.edit(labelled, f"{DAY}/0.txt", "Another invoice, of another amount.")
    decide(stores.state, labelled)
    publish(labelled, stores, by="test")
    older.unlink()
    found = areas(stores)
    assert not any(area.differences for area in found.values())
    assert found["snapshots"].notes == ["gone: 1 file of older releases"]


def test_whatever_is_named_is_made_again_by_the_command_that_is_named(
    project: Project, stores: Stores, labelled: Collection
) -> None:
    for path in (of_lake(stores, "documents"), of_lake(stores, "kind"), frozen(stores), of_index(stores)):
        flipped(path)
    assert [name for name, area in areas(stores).items() if area.differences] == ["lake", "snapshots", "index"]
    project.refresh(labelled, [DAY])
    publish(labelled, stores, by="test")
    assert [name for name, area in areas(stores).items() if area.differences] == []
