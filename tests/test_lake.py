"""Claims about the lake: a dataset is there whole or not at all, whatever happens to its writer, disk or files."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ai_assets.base.errors import DatasetAltered, DatasetDamaged, DatasetTooNew, LakeUnwritable
from ai_assets.storage.content import Digests, file_sha256
from ai_assets.storage.lake import (
    KEPT_S,
    MANIFEST,
    Fence,
    Lake,
    Manifest,
    parquet_columns,
    parquet_rows,
    parquet_schema,
    read_batches,
    read_parquet,
    read_parquet_row,
    read_rows,
    write_parquet,
)

WHERE = ("notes", "chunks", "2026-10-05")


def commit(
    lake: Lake, table: pa.Table, where: tuple[str, str, str] = WHERE, fenced: Fence = contextlib.nullcontext
) -> Manifest:
    return lake.commit(
        *where, table, code_version="1", fingerprint="f", inputs={"documents": "v"}, stats={"n": 1}, run_id="r",
        fenced=fenced,
    )  # fmt: skip


def numbered(number: int, rows: int = 500) -> pa.Table:
    return pa.table({"number": [number] * rows})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_what_was_committed_is_read_back_with_its_manifest(lake: Lake) -> None:
    committed = commit(lake, numbered(7))
    assert lake.manifest(*WHERE) == committed
    assert (committed.rows, committed.inputs, committed.stats) == (500, {"documents": "v"}, {"n": 1})
    assert committed.version == file_sha256(lake.path(committed))
    assert lake.read(committed).equals(numbered(7))
    assert lake.read(committed, ["number"]).column_names == ["number"]


def test_a_partition_nobody_wrote_has_no_manifest(lake: Lake) -> None:
    assert lake.manifest(*WHERE) is None


def test_equal_rows_are_the_same_version_and_other_rows_another(lake: Lake) -> None:
    first, other, again = (commit(lake, numbered(n)) for n in (1, 2, 1))
    assert first.version == again.version != other.version


def write_many(root: Path, pipe: Connection, times: int) -> None:
    lake = Lake(root)
    for number in range(times):
        commit(lake, numbered(number))
        pipe.send(number)
    pipe.send(None)


@pytest.mark.slow
def test_readers_during_200_commits_see_one_whole_dataset_each_time(lake: Lake, processes: ForkServerContext) -> None:
    commit(lake, numbered(0))
    ours, theirs = processes.Pipe()
    writer = processes.Process(target=write_many, args=(lake.root, theirs, 200))
    writer.start()
    seen, running = set(), True
    while running:
        manifest = lake.manifest(*WHERE)
        assert manifest is not None
        values = set(lake.read(manifest)["number"].to_pylist())
        assert len(values) == 1
        seen |= values
        while ours.poll():
            running = ours.recv() is not None and running
    writer.join()
    assert len(seen) > 5
    last = lake.manifest(*WHERE)
    assert last is not None
    assert lake.read(last).equals(numbered(199))


def test_a_refusal_before_the_commit_leaves_the_dataset_there_was(lake: Lake) -> None:
    before = commit(lake, numbered(1))

    @contextlib.contextmanager
    def refuse() -> Iterator[None]:
        raise RuntimeError("the lease is lost")
        yield

    with pytest.raises(RuntimeError, match="lease"):
        commit(lake, numbered(2), fenced=refuse)
    assert lake.manifest(*WHERE) == before
    assert lake.read(before).equals(numbered(1))


# Damage


@dataclass(frozen=True, kw_only=True)
class Damage:
    id: str
    content: bytes
    says: str
    error: type[Exception] = DatasetDamaged


def manifest_with(**changes: object) -> bytes:
    """A manifest as it would be, but for the changes."""
    found = {
        "collection": "notes", "asset": "chunks", "partition": "p", "version": "v", "code_version": "1",
        "fingerprint": "f", "inputs": {}, "file": "v.parquet", "rows": 1, "stats": {}, "run_id": "r",
        "written_at": "2026", "format": 1, **changes,
    }  # fmt: skip
    return json.dumps(found).encode()


DAMAGES = [
    Damage(id="empty", content=b"", says="it is not a manifest"),
    Damage(id="cut off", content=manifest_with()[:60], says="it is not a manifest"),
    Damage(id="not UTF-8", content=b"\xff\xfe{}", says="it is not a manifest"),
    Damage(id="another document", content=b'["a", "list"]', says="it is not a manifest"),
    Damage(id="keys are missing", content=b'{"format": 1}', says="it is not a manifest"),
    Damage(id="keys nobody knows", content=manifest_with(colour="red"), says="it is not a manifest"),
    Damage(id="format is text", content=manifest_with(format="new"), says="it is not a manifest"),
    Damage(id="another file", content=manifest_with(file="w.parquet"), says="w.parquet is not named by its version"),
    Damage(
        id="newer", content=manifest_with(format=2), error=DatasetTooNew,
        says="was written by a newer version (format 2; this one reads up to 1). Install that version, "
        "or point AI_ASSETS_HOME at another folder; nothing was changed.",
    ),
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.id)
def test_a_manifest_that_is_none_is_named_with_what_to_do_and_left_alone(lake: Lake, damage: Damage) -> None:
    commit(lake, numbered(1))
    path = lake.folder(*WHERE) / MANIFEST
    path.write_bytes(damage.content)
    with pytest.raises(damage.error) as found:
        lake.manifest(*WHERE)
    assert str(path) in str(found.value)
    assert damage.says in str(found.value)
    assert path.read_bytes() == damage.content


def test_a_folder_in_place_of_a_manifest_is_named(lake: Lake) -> None:
    (lake.folder(*WHERE) / MANIFEST).mkdir(parents=True)
    with pytest.raises(DatasetDamaged, match=r"manifest.json: it cannot be read \(Is a directory\)"):
        lake.manifest(*WHERE)


def test_a_data_file_that_is_gone_or_cut_off_is_named(lake: Lake) -> None:
    manifest = commit(lake, numbered(1))
    path = lake.path(manifest)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DatasetAltered, match=f"{path.name} was altered: its SHA-256 is {file_sha256(path)}"):
        lake.read(manifest)
    path.unlink()
    with pytest.raises(DatasetDamaged, match=f"{path.name}: it is missing"):
        lake.read(manifest)


READERS: Mapping[str, Callable[[Path], object]] = {
    "read_parquet": read_parquet, "read_batches": lambda path: list(read_batches(path)),
    "read_rows": lambda path: list(read_rows(path)), "parquet_schema": parquet_schema,
    "parquet_columns": parquet_columns, "parquet_rows": parquet_rows,
    "read_parquet_row": lambda path: read_parquet_row(path, 0),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_file_with_other_rows_under_its_own_name_is_not_read(lake: Lake, reader: str) -> None:
    manifest, other = commit(lake, numbered(1)), commit(lake, numbered(2), where=("notes", "chunks", "other"))
    path, before = lake.path(manifest), lake.path(manifest).stat()
    READERS[reader](path)
    shutil.copyfile(lake.path(other), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not lake.holds(manifest)
    with pytest.raises(DatasetAltered, match=f"its SHA-256 is {other.version}, and it should be the one in its name"):
        READERS[reader](path)


def test_a_file_is_hashed_once_and_again_when_it_was_touched(lake: Lake) -> None:
    hashed: list[str] = []

    def compute(path: Path) -> str:
        hashed.append(path.name)
        return file_sha256(path)

    digests = Digests(most=2, compute=compute)
    files = [lake.path(commit(lake, numbered(number), where=("notes", "chunks", str(number)))) for number in range(3)]
    for _ in range(3):
        digests.of(files[0])
    assert hashed == [files[0].name]
    os.utime(files[0])
    digests.of(files[0])
    assert hashed == [files[0].name] * 2
    for path in files:  # no more than two are remembered
        digests.of(path)
    digests.of(files[0])
    assert hashed == [file.name for file in (files[0], files[0], files[1], files[2], files[0])]


def test_a_commit_over_a_damaged_manifest_mends_the_dataset(lake: Lake) -> None:
    commit(lake, numbered(1))
    (lake.folder(*WHERE) / MANIFEST).write_bytes(b"{")
    mended = commit(lake, numbered(2))
    assert lake.manifest(*WHERE) == mended
    assert lake.read(mended).equals(numbered(2))


# A disk that refuses


@pytest.fixture
def small_disk(tmp_path: Path, skip_loudly: Callable[[str], None]) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        skip_loudly("a full and a read-only disk need the right to mount one: their tests did not run")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def incompressible(rows: int) -> pa.Table:
    noise = random.Random(7)
    return pa.table({"noise": [noise.randbytes(1000) for _ in range(rows)]})


def test_on_a_full_disk_the_dataset_before_stays_and_no_half_file_takes_its_place(small_disk: Path) -> None:
    lake = Lake(small_disk)
    before = commit(lake, numbered(1))
    names = sorted(path.name for path in lake.folder(*WHERE).iterdir())
    with pytest.raises(LakeUnwritable, match=r"No space left on device.*Free some space.*still readable"):
        commit(lake, incompressible(3000))
    assert lake.manifest(*WHERE) == before
    assert lake.read(before).equals(numbered(1))
    assert sorted(path.name for path in lake.folder(*WHERE).iterdir()) == names
    assert commit(lake, numbered(2)).rows == 500


def test_on_a_read_only_disk_the_dataset_before_stays(small_disk: Path) -> None:
    lake = Lake(small_disk)
    before = commit(lake, numbered(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for where in (WHERE, ("notes", "chunks", "a new one")):
        with pytest.raises(LakeUnwritable, match="Read-only file system"):
            commit(lake, numbered(2), where)
    assert lake.manifest(*WHERE) == before
    assert lake.read(before).equals(numbered(1))


# What is kept


def age(folder: Path) -> None:
    """Make all files older than what is kept."""
    past = time.time() - 2 * KEPT_S
    for path in folder.iterdir():
        os.utime(path, (past, past))


def data_files(lake: Lake) -> set[str]:
    return {path.name for path in lake.folder(*WHERE).iterdir()} - {MANIFEST}


def test_a_replaced_file_stays_for_whoever_opened_its_manifest_before(lake: Lake) -> None:
    old = commit(lake, numbered(1))
    age(lake.folder(*WHERE))
    newer = [commit(lake, numbered(n)) for n in (2, 3)]
    assert data_files(lake) == {old.file, *(m.file for m in newer)}
    assert lake.read(old).equals(numbered(1))


def test_what_was_replaced_long_ago_and_what_a_dead_writer_left_is_swept(lake: Lake) -> None:
    commit(lake, numbered(1))
    current = commit(lake, numbered(2))
    (lake.folder(*WHERE) / ".123-456.tmp").write_bytes(b"half")
    age(lake.folder(*WHERE))
    newest = commit(lake, numbered(3))
    assert data_files(lake) == {current.file, newest.file}


# Names


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
@settings(deadline=None)
def test_every_name_has_a_folder_of_its_own_directly_below_its_asset(names: list[str]) -> None:
    first, second = (Lake(Path("/lake")).folder("c", "a", name) for name in names)
    assert first != second
    for folder in (first, second):
        assert folder.parent == Path("/lake/c/a")
        assert Path(os.path.normpath(folder)) == folder
        assert 0 < len(os.fsencode(folder.name)) <= 255


@pytest.mark.parametrize(
    "name", ["a/b", "../../etc", ".", "..", "...", ".hidden", "żółć", "a b%20", "語" * 80, "x" * 255]
)
def test_a_partition_of_any_name_round_trips(lake: Lake, name: str) -> None:
    committed = commit(lake, numbered(1), ("notes", "chunks", name))
    assert lake.manifest("notes", "chunks", name) == committed
    assert lake.read(committed).equals(numbered(1))
    assert [path.parent.parent for path in lake.root.rglob(MANIFEST)] == [lake.root / "notes" / "chunks"]


def test_columns_come_in_the_order_asked_for_and_one_that_is_missing_is_named(tmp_path: Path) -> None:
    rows = pa.table({"a": [1, 2], "b": ["x", "y"]})
    path = write_parquet(tmp_path, rows)
    assert read_parquet(path, ["b", "a"]).equals(rows.select(["b", "a"]))
    assert (read_parquet(path, []).num_rows, read_parquet(path, []).num_columns) == (2, 0)
    with pytest.raises(DatasetDamaged, match="no column 'c'"):
        read_parquet(path, ["c"])


def test_reading_imports_no_pandas(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, numbered(1))
    code = (
        "import sys; from pathlib import Path; from ai_assets.storage.lake import read_parquet;"
        f"assert read_parquet(Path({str(path)!r})).num_rows; sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_that_write_the_same_rows_do_not_disturb_each_other(tmp_path: Path) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(write_parquet(tmp_path, numbered(1)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 8
    assert len(set(paths)) == 1
    assert read_parquet(paths[0]).equals(numbered(1))
    assert [path.name for path in tmp_path.iterdir()] == [paths[0].name]
