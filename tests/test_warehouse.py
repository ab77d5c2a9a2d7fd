"""Claims about the warehouse file: readers are never disturbed, and a new one takes its place whole or not at all."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from ai_assets.base.errors import LeaseLost
from ai_assets.storage import workers
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.state import StateStore
from ai_assets.storage.warehouse import (
    SCHEMA_VERSION,
    WarehouseDamaged,
    WarehouseMissing,
    WarehouseTooNew,
    WarehouseUnwritable,
    building,
    reading,
    unwritable,
)


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Lease]:
    with closing(StateStore(f"sqlite:///{tmp_path / 'state.db'}")) as state, hold(state, "warehouse") as held:
        yield held


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "it's here" / "costs.duckdb"


def write(path: Path, value: int, version: int = SCHEMA_VERSION) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA raw")
        connection.execute(f"CREATE TABLE raw.built AS SELECT {version} AS schema_version, {value} AS value")


def swap(live: Path, lease: Lease, value: int, version: int = SCHEMA_VERSION) -> None:
    with building(live, lease) as site:
        write(site.file, value, version)


def seen(live: Path) -> int:
    with reading(live) as connection:
        return value(connection)


def value(connection: duckdb.DuckDBPyConnection) -> int:
    found = connection.execute("SELECT value FROM raw.built").fetchone()
    assert found is not None
    return int(found[0])


def names(live: Path) -> list[str]:
    return sorted(path.name for path in live.parent.iterdir())


def test_what_was_built_is_read_and_nothing_else_is_left(live: Path, lease: Lease) -> None:
    swap(live, lease, 1)
    assert seen(live) == 1
    assert names(live) == ["costs.duckdb"]


def test_who_has_the_old_one_open_goes_on_reading_it_and_who_opens_it_next_sees_the_new_one(
    live: Path, lease: Lease
) -> None:
    swap(live, lease, 1)
    with reading(live) as before:
        assert value(before) == 1
        swap(live, lease, 2)
        assert seen(live) == 2
        assert value(before) == 1


@pytest.mark.slow
def test_threads_that_read_while_it_is_replaced_see_one_or_another_and_never_go_back(live: Path, lease: Lease) -> None:
    swap(live, lease, 0)
    stop, found = threading.Event(), list[list[int]]()

    def look() -> None:
        mine: list[int] = []
        found.append(mine)
        while not stop.is_set():
            mine.append(seen(live))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 15):
        swap(live, lease, number)
    stop.set()
    for thread in threads:
        thread.join()
    assert all(mine == sorted(mine) and mine for mine in found)


def test_a_reader_can_change_nothing_and_reach_no_other_file(live: Path, lease: Lease, tmp_path: Path) -> None:
    swap(live, lease, 1)
    other = tmp_path / "secret.csv"
    other.write_text("a,b\n")
    with reading(live) as connection:
        for statement in ("DELETE FROM raw.built", f"FROM read_csv('{other}')"):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
    assert seen(live) == 1


def test_a_warehouse_that_is_not_there_says_how_it_comes(live: Path) -> None:
    with pytest.raises(WarehouseMissing, match=r"nothing was built yet.*ai-assets cost$"), reading(live):
        pass


def test_tables_of_a_newer_version_are_neither_read_nor_replaced(live: Path, lease: Lease) -> None:
    swap(live, lease, 7, SCHEMA_VERSION + 1)
    bytes_before = live.read_bytes()
    with (
        pytest.raises(WarehouseTooNew, match=r"newer version \(tables of version 3.*nothing was changed"),
        reading(live),
    ):
        pass
    with pytest.raises(WarehouseTooNew):
        swap(live, lease, 8)
    assert live.read_bytes() == bytes_before
    assert names(live) == ["costs.duckdb"]


def test_a_file_of_a_newer_duckdb_is_neither_read_nor_replaced(live: Path, lease: Lease) -> None:
    swap(live, lease, 7)
    content = bytearray(live.read_bytes())
    assert content[0:8] == checksum(bytes(content[8:4096]))
    assert content[8:12] == b"DUCK"
    content[12:20] = (5000).to_bytes(8, "little")
    content[0:8] = checksum(bytes(content[8:4096]))
    live.write_bytes(content)
    with (
        pytest.raises(WarehouseTooNew, match=r"a DuckDB file of version 5000; this one reads up to \d+\)"),
        reading(live),
    ):
        pass
    with pytest.raises(WarehouseTooNew):
        swap(live, lease, 8)
    assert live.read_bytes() == bytes(content)


def checksum(header: bytes) -> bytes:
    """As DuckDB computes it of its first block."""
    words = (int.from_bytes(header[place : place + 8], "little") for place in range(0, len(header), 8))
    found = 5381
    for word in words:
        found ^= word * 0xBF58476D1CE4E5B9 % 2**64
    return found.to_bytes(8, "little")


def test_tables_of_an_older_version_are_not_read_and_are_replaced(live: Path, lease: Lease) -> None:
    swap(live, lease, 1, SCHEMA_VERSION - 1)
    with pytest.raises(WarehouseMissing, match="older version"), reading(live):
        pass
    swap(live, lease, 2)
    assert seen(live) == 2


@pytest.mark.parametrize("content", [b"", b"not a database " * 500], ids=["empty", "text"])
def test_a_damaged_file_is_named_and_replaced(live: Path, lease: Lease, content: bytes) -> None:
    live.parent.mkdir()
    live.write_bytes(content)
    with pytest.raises(WarehouseDamaged, match=r"cannot be read: .*\. Delete it"), reading(live):
        pass
    swap(live, lease, 2)
    assert seen(live) == 2


def test_another_duckdb_file_is_no_warehouse(live: Path) -> None:
    live.parent.mkdir()
    with duckdb.connect(str(live)) as connection:
        connection.execute("CREATE TABLE other AS SELECT 1 AS one")
    with pytest.raises(WarehouseDamaged, match="no warehouse"), reading(live):
        pass


def test_what_fails_leaves_the_old_one_and_no_litter(live: Path, lease: Lease) -> None:
    swap(live, lease, 1)
    with pytest.raises(ZeroDivisionError), building(live, lease) as site:  # noqa: PT012
        write(site.file, 2)
        (site.folder / "temp").mkdir()
        raise ZeroDivisionError
    assert seen(live) == 1
    assert names(live) == ["costs.duckdb"]


def test_who_was_replaced_swaps_nothing_in(live: Path, lease: Lease, tmp_path: Path) -> None:
    swap(live, lease, 1)
    with pytest.raises(LeaseLost), building(live, lease) as site:  # noqa: PT012
        write(site.file, 2)
        with closing(StateStore(f"sqlite:///{tmp_path / 'state.db'}")) as other, other.write() as connection:
            workers.end(connection, lease.worker_id)
    assert seen(live) == 1


def test_the_next_builder_sweeps_what_a_killed_one_left(live: Path, lease: Lease) -> None:
    (live.parent / ".building-dead" / "temp").mkdir(parents=True)
    (live.parent / ".building-dead" / "costs.duckdb").write_bytes(b"half")
    swap(live, lease, 1)
    assert names(live) == ["costs.duckdb"]


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, lease: Lease) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WarehouseUnwritable, match=r"could not be built in .*Free some space"):
        swap(tmp_path / "file" / "costs.duckdb", lease, 1)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ('IO Error: Could not write file "x": No space left on device', "the disk is full"),
        ("Out of Memory Error: ... max_temp_directory_size ...", "there is no room for temporary files"),
        ("Parser Error: syntax error", None),
    ],
)
def test_what_the_disk_refuses_is_told_from_what_is_wrong(tmp_path: Path, said: str, found: str | None) -> None:
    error = unwritable(tmp_path, said)
    assert (error is None) if found is None else (found in str(error))
