"""Claims about seals: a version of the index is the files of its seal and nothing else, and any other byte shows."""

import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_index import DIMENSIONS, small, vector_of

from ai_assets.storage.index import IndexUnavailable, SearchIndex
from ai_assets.storage.index_seal import Seal

pytestmark = pytest.mark.slow

TABLE = "chunks.lance"
WORDS = ("apple", "pear", "plum", "fig")


def answers(index: SearchIndex, version: int) -> list[object]:
    found: list[object] = [index.count(version), index.partitions(version)]
    for word in WORDS:
        found += [index.search(version, vector_of(word), word, 5, mode) for mode in ("hybrid", "vector", "text")]
    return found


def alone(folder: Path, seal: Seal, place: Path) -> SearchIndex:
    """An index that has only the files of the seal, and the tags."""
    for name in seal:
        (place / TABLE / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / TABLE / name, place / TABLE / name)
    shutil.copytree(folder / TABLE / "_refs", place / TABLE / "_refs")
    return SearchIndex(place, "chunks", DIMENSIONS)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_a_version_answers_the_same_from_the_files_of_its_seal_alone(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder, chance = tmp_path_factory.mktemp("index"), random.Random(seed)
    index, version = SearchIndex(folder, "chunks", DIMENSIONS), None
    for _ in range(5):
        chosen = chance.sample(["p", "q", "r"], k=chance.randint(1, 2))
        empty = version is not None and chance.random() < 0.2
        changes = {
            name: None if empty else small(name, chance.choice([1, 2, 30]), chance.choice(WORDS)) for name in chosen
        }
        version = index.replace(changes, base_version=version)
        seal = index.seal(version)
        assert index.difference(version, seal) is None
        separate = alone(folder, seal, tmp_path_factory.mktemp("alone"))
        assert answers(separate, version) == answers(index, version)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def with_the_old_time(path: Path) -> None:
    before = path.stat()
    flipped(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "a bit": flipped, "a bit, and the time put back": with_the_old_time, "a byte more": longer,
}  # fmt: skip


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[SearchIndex, int, Seal]:
    index = SearchIndex(tmp_path, "chunks", DIMENSIONS)
    first = index.replace({"p": small("p", 1, "apple"), "q": small("q", 40, "pear")}, base_version=None)
    version = index.replace({"p": None}, base_version=first)  # so few rows stay in their file, marked as deleted
    return index, version, index.seal(version)


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_change_to_any_file_of_a_seal_is_named(
    tmp_path: Path, sealed: tuple[SearchIndex, int, Seal], damage: str
) -> None:
    index, version, seal = sealed
    assert {name.split("/")[0] for name in seal} == {"_versions", "data", "_deletions", "_indices"}
    for name in seal:
        path = tmp_path / TABLE / name
        before = path.read_bytes()
        DAMAGES[damage](path)
        found = index.difference(version, seal)
        assert found is not None
        assert found.startswith(f"{name} has ")
        path.write_bytes(before)
    assert index.difference(version, seal) is None


def test_a_file_put_beside_an_index_and_another_manifest_of_the_version_are_named(
    tmp_path: Path, sealed: tuple[SearchIndex, int, Seal]
) -> None:
    index, version, seal = sealed
    folder = next(name for name in seal if name.startswith("_indices/")).rpartition("/")[0]
    for name in (f"{folder}/part_7_docs.lance", f"_versions/{version}.manifest"):
        path = tmp_path / TABLE / name
        path.write_bytes(b"forged")
        assert index.difference(version, seal) == f"{name} was not there"
        path.unlink()


def test_what_later_versions_add_and_pruning_removes_is_no_difference(
    sealed: tuple[SearchIndex, int, Seal],
) -> None:
    index, version, seal = sealed
    newer = index.replace({"q": small("q", 5, "fig")}, base_version=version)
    assert index.difference(version, seal) is None
    index.prune({version, newer})
    assert (index.difference(version, seal), index.missing(seal)) == (None, [])


def test_a_version_without_its_manifest_is_refused_and_one_without_a_file_cannot_be_read(
    tmp_path: Path, sealed: tuple[SearchIndex, int, Seal]
) -> None:
    index, version, seal = sealed
    data = next(name for name in seal if name.startswith("data/"))
    (tmp_path / TABLE / data).unlink()
    assert (index.difference(version, seal), index.missing(seal)) == (None, [data])
    with pytest.raises(IndexUnavailable):
        answers(SearchIndex(tmp_path, "chunks", DIMENSIONS), version)
    manifest = next(name for name in seal if name.startswith("_versions/"))
    (tmp_path / TABLE / manifest).unlink()
    assert index.difference(version, seal) == f"{manifest} is gone"
