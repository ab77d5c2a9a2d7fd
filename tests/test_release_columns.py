"""Claims about what is kept of a release's files: within its bytes, and never of a file that was altered."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project, project_at
from published import FIRST, OTHER, published_twice

from ai_assets.base.errors import DatasetAltered
from ai_assets.collection.loading import Collection
from ai_assets.run import release_columns
from ai_assets.run.release_columns import ColumnCache, documents_with, labels_of_hits, partition_of
from ai_assets.signoff import releases
from ai_assets.signoff.frozen_candidate import snapshot_paths
from ai_assets.signoff.releases import Release
from ai_assets.storage.ranking import Hit


@pytest.fixture(scope="module")
def twice(labelled_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Collection]]:
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("columns"), patch)
        made.copy(labelled_project)
        yield made, published_twice(made)


def live(project: Project) -> Release:
    with project.stores().state.read() as connection:
        return releases.require_live(connection, "notes")


def test_a_filter_finds_what_the_frozen_rows_say(twice: tuple[Project, Collection]) -> None:
    project, collection = twice
    stores, release = project.stores(), live(project)
    said = {}
    for name, part in release.parts.items():
        table = pq.read_table(snapshot_paths(stores.lake, "notes", name, part)[0])
        said |= dict(zip(table["document_id"].to_pylist(), table["kind_label"].to_pylist(), strict=True))
    for label in set(said.values()):
        found = documents_with(stores, collection, release, {"kind": label}, [])
        assert sorted(found.to_pylist()) == sorted(name for name, value in said.items() if value == label)
    of_one = documents_with(stores, collection, release, {}, [OTHER]).to_pylist()
    assert of_one
    assert all(name.startswith(OTHER) for name in of_one)
    assert partition_of(stores, collection, release, of_one[0]) == OTHER
    assert partition_of(stores, collection, release, "none.txt") is None


def test_no_more_is_kept_than_it_may() -> None:
    cache, made = ColumnCache(most=3_000), []

    def column(name: int) -> pa.Array:
        made.append(name)
        return pa.array(range(125), pa.int64())

    for name in (1, 2, 3, 1, 4, 1, 2):
        cache.of(name, lambda name=name: column(name))
    assert made == [1, 2, 3, 4, 2]  # three have room, and the one asked for longest ago goes


def test_nothing_is_said_of_a_file_that_was_altered(twice: tuple[Project, Collection]) -> None:
    project, collection = twice
    stores, release = project.stores(), live(project)
    hit = Hit(document_id=FIRST, chunk_id="c", partition=FIRST.partition("/")[0], title="", text="", score=1.0)
    assert labels_of_hits(stores, collection, release, [hit]) == [{"kind": "invoice"}]
    path, _ = snapshot_paths(stores.lake, "notes", hit.partition, release.parts[hit.partition])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DatasetAltered):
        labels_of_hits(stores, collection, release, [hit])
    path.write_bytes(whole)
    release_columns.COLUMNS.clear()
    assert labels_of_hits(stores, collection, release, [hit]) == [{"kind": "invoice"}]
