"""Claims about the cost warehouse in a bucket: one of two builders wins, and readers have a whole one or the next."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from conftest import Project
from s3_server import FaultyStore, bucket_credentials, s3_server  # noqa: F401 - a fixture
from test_warehouse import value, write

from ai_assets.base.errors import LeaseLost
from ai_assets.base.home import Home
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import sweep
from ai_assets.run.operations import RetentionSettings
from ai_assets.storage import workers
from ai_assets.storage.leases import Lease, hold
from ai_assets.storage.objects import DataBucket
from ai_assets.storage.shared_warehouse import (
    POINTER,
    WarehouseOvertaken,
    building_for,
    warehouse_bucket,
    warehouse_file,
)
from ai_assets.storage.state import StateStore
from ai_assets.storage.warehouse import SCHEMA_VERSION, WarehouseDamaged, WarehouseMissing, WarehouseTooNew, reading


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("data") as url:
        yield url


@pytest.fixture
def here(project: Project, server: str) -> Home:
    return replace(project.home, data_url=f"s3://data/{uuid.uuid4().hex}?endpoint_override={server}")


@pytest.fixture
def lease(here: Home) -> Iterator[Lease]:
    with closing(StateStore(here.state_url)) as state, hold(state, "warehouse") as held:
        yield held


def there(here: Home) -> Home:
    return replace(here, root=here.root.with_name("machine-2"))


def build(home: Home, lease: Lease, number: int, version: int = SCHEMA_VERSION) -> None:
    with building_for(home, lease) as site:
        write(site.file, number, version)


def seen(home: Home) -> int:
    with reading(warehouse_file(home)) as connection:
        return value(connection)


def names(home: Home) -> list[str]:
    return sorted(found.key for found in warehouse_bucket(str(home.data_url)).objects())


def test_what_one_machine_built_another_reads_whole_while_it_is_replaced(here: Home, lease: Lease) -> None:
    with pytest.raises(WarehouseMissing):
        seen(here)
    build(here, lease, 1)
    with reading(warehouse_file(there(here))) as before:
        build(here, lease, 2)
        assert value(before) == 1
        assert (seen(here), seen(there(here))) == (2, 2)
        assert value(before) == 1
    assert len(names(here)) == 3


def test_a_file_is_fetched_once(here: Home, lease: Lease, server: str) -> None:
    build(here, lease, 1)
    with FaultyStore(server) as counted:
        other = replace(there(here), data_url=str(here.data_url).replace(server, counted.url))
        assert (seen(other), seen(other)) == (1, 1)
        assert [path.rpartition("/")[2].partition(".")[2] for _, path in counted.seen] == ["json", "duckdb", "json"]


def test_of_two_builders_one_wins(here: Home, lease: Lease) -> None:
    slow = building_for(here, lease)
    write(slow.__enter__().file, 1)
    build(there(here), lease, 2)
    with pytest.raises(WarehouseOvertaken, match="is the one that counts"):
        slow.__exit__(None, None, None)
    assert (seen(here), seen(there(here))) == (2, 2)


def test_a_builder_that_lost_its_lease_puts_nothing_in_place(here: Home) -> None:
    with closing(StateStore(here.state_url)) as state, hold(state, "warehouse") as lease:
        build(here, lease, 1)
        late = building_for(here, lease)
        write(late.__enter__().file, 2)
        with state.write() as connection:
            workers.end(connection, lease.worker_id or 0)
        with pytest.raises(LeaseLost):
            late.__exit__(None, None, None)
    assert seen(here) == 1


def test_one_of_a_newer_version_stays(here: Home, lease: Lease) -> None:
    build(here, lease, 1, SCHEMA_VERSION + 1)
    with pytest.raises(WarehouseTooNew):
        build(there(here), lease, 2)
    with pytest.raises(WarehouseTooNew):
        seen(there(here))


def test_other_bytes_are_refused_and_the_next_build_mends_it(here: Home, lease: Lease) -> None:
    build(here, lease, 1)
    bucket = warehouse_bucket(str(here.data_url))
    (name,) = [name for name in names(here) if name != POINTER]
    bucket.put(name, b"other bytes")
    with pytest.raises(WarehouseDamaged, match="other bytes"):
        seen(there(here))
    build(there(here), lease, 2)
    assert seen(here) == 2


def test_replaced_ones_go_after_a_time(here: Home, monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    with closing(StateStore(here.state_url)) as state, hold(state, "warehouse") as lease:
        for number in (1, 2, 3):
            build(here, lease, number)
    with replace(project, home=here).stores() as stores:
        bench = RetentionContext(stores=stores, settings=RetentionSettings(litter_hours=1))
        sweep(bench)
        assert len(names(here)) == 4
        now_s = warehouse_bucket(str(here.data_url)).now_s() + 7200
        monkeypatch.setattr(DataBucket, "now_s", lambda _self: now_s)
        sweep(bench)
    assert len(names(here)) == 2
    assert seen(there(here)) == 3
