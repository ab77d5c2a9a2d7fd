"""Claims about a lake in a bucket: the same run, on several machines, with writers that race and come late."""

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from conftest import Project, project_at
from s3_server import FaultyStore, bucket_credentials, client_of, s3_server  # noqa: F401 - a fixture
from test_forget import PHRASE, SECRET, furnished, known_admin
from test_llm_stages import DAY
from weed_server import weed_server

from ai_assets.base.errors import DatasetAltered, LeaseLost
from ai_assets.collection.loading import Collection
from ai_assets.forgetting.erasing import forget
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import sweep
from ai_assets.run import file_looks
from ai_assets.run.operations import RetentionSettings
from ai_assets.run.status import due_partitions
from ai_assets.signoff import integrity, releases
from ai_assets.storage.lake import Fence, Lake
from ai_assets.storage.objects import DataBucket
from ai_assets.storage.shared_lake import SharedLake


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("data") as url:
        yield url


@pytest.fixture(scope="module", params=["moto", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """For claims about the store as it is, also SeaweedFS; faults are put before one of them."""
    if request.param == "moto":
        yield request.getfixturevalue("server")
    else:
        with weed_server(tmp_path_factory.mktemp("weed"), "data") as found:
            yield found


@pytest.fixture
def url(either: str) -> str:
    return f"s3://data/{uuid.uuid4().hex}?endpoint_override={either}"


def in_bucket(project: Project, url: str, root: Path | None = None) -> Project:
    """The same installation with its data in the bucket; `root`: as another machine has it, where nothing lies yet."""
    home = replace(project.home, data_url=url)
    if root is not None:
        home = replace(home, root=root, declared_state_url=home.state_url, declared_keys=home.keys).ensure()
    return Project(root=project.root, home=home)


def freely() -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext()


def rows(count: int, text: str = "x") -> pa.Table:
    return pa.table({"document_id": [f"{n}" for n in range(count)], "text": [text] * count})


def commit(lake: Lake, table: pa.Table, fenced: Fence = freely) -> str:
    manifest = lake.commit(
        "notes", "documents", "2026-10-05", table,
        code_version="1", fingerprint="f", inputs={}, stats={}, run_id="run", fenced=fenced,
    )  # fmt: skip
    return manifest.version


def lake_at(root: Path, url: str) -> SharedLake:
    return SharedLake(root, DataBucket(url).below("lake"))


def test_what_one_machine_committed_another_reads(url: str, tmp_path: Path) -> None:
    here, there = lake_at(tmp_path / "a", url), lake_at(tmp_path / "b", url)
    assert there.manifest("notes", "documents", "2026-10-05") is None
    version = commit(here, rows(3))
    found = there.manifest("notes", "documents", "2026-10-05")
    assert found is not None
    assert (found.version, there.holds(found)) == (version, True)
    assert not (tmp_path / "b").exists()  # nothing is fetched that nobody reads
    assert there.read(found).to_pylist() == rows(3).to_pylist()
    commit(there, rows(4))
    after = here.manifest("notes", "documents", "2026-10-05")
    assert after is not None
    assert here.read(after).num_rows == 4


def test_a_copy_that_was_altered_is_fetched_again_and_an_altered_object_is_refused(url: str, tmp_path: Path) -> None:
    here, there = lake_at(tmp_path / "a", url), lake_at(tmp_path / "b", url)
    commit(here, rows(3))
    found = there.manifest("notes", "documents", "2026-10-05")
    assert found is not None
    there.path(found).write_bytes(b"other bytes")
    assert there.read(found).num_rows == 3
    shutil.rmtree(tmp_path / "b")
    there.bucket.put(there.key(there.folder_of(found) / found.file), b"other bytes")
    with pytest.raises(DatasetAltered):
        there.read(found)
    assert not there.holds(found)
    commit(here, rows(3))  # as the run does that the error asks for
    assert there.read(found).num_rows == 3


def test_a_writer_that_was_suspended_is_refused_by_the_store(url: str, tmp_path: Path) -> None:
    """It proved its lease, slept, and wakes after somebody has taken over and written."""
    late, successor = lake_at(tmp_path / "a", url), lake_at(tmp_path / "b", url)
    commit(late, rows(1))
    proofs: list[str] = []

    def suspended() -> contextlib.AbstractContextManager[object]:
        """The first proof holds; then the lease changes hands and the successor commits."""
        if proofs:
            raise LeaseLost("refresh:notes:2026-10-05")
        proofs.append(commit(successor, rows(2)))
        return contextlib.nullcontext()

    with pytest.raises(LeaseLost):
        commit(late, rows(3), fenced=suspended)
    found = late.manifest("notes", "documents", "2026-10-05")
    assert found is not None
    assert found.version == proofs[0]


def test_of_many_writers_each_puts_its_own_in_the_place_of_the_one_it_read(url: str, tmp_path: Path) -> None:
    """Whoever is refused reads again; none is lost without having been current."""
    lakes = [lake_at(tmp_path / str(number), url) for number in range(6)]
    versions: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n, lake=lake: versions.append(commit(lake, rows(n + 1))))
        for n, lake in enumerate(lakes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = lakes[0].manifest("notes", "documents", "2026-10-05")
    assert found is not None
    assert len(set(versions)) == 6
    assert found.version in versions


@pytest.mark.parametrize("fault", ["500", "503", "lost request", "lost answer", "torn answer"])
def test_a_commit_outlives_what_the_store_does(server: str, tmp_path: Path, fault: str) -> None:
    """Whatever happens to any one request of it."""
    for place in range(5):
        with FaultyStore(server) as faulty:
            lake = lake_at(tmp_path / str(place), f"s3://data/{uuid.uuid4().hex}?endpoint_override={faulty.url}")
            faulty.faults = [""] * place + [fault]
            version = commit(lake, rows(2))
            found = lake_at(tmp_path / "b", lake.bucket.url).manifest("notes", "documents", "2026-10-05")
            assert found is None or found.version == version  # below another prefix of the same bucket
            again = lake.manifest("notes", "documents", "2026-10-05")
            assert again is not None
            assert again.version == version


def test_requests_of_a_commit_and_of_looking(server: str, tmp_path: Path) -> None:
    """docs/storage.md says how many; none lists the bucket."""
    with FaultyStore(server) as counted:
        lake = lake_at(tmp_path, f"s3://data/{uuid.uuid4().hex}?endpoint_override={counted.url}")
        commit(lake, rows(2))
        assert [method for method, _ in counted.seen] == ["HEAD", "PUT", "GET", "PUT"]
        counted.seen.clear()
        found = lake.manifest("notes", "documents", "2026-10-05")
        assert found is not None
        assert lake.holds(found)
        assert [method for method, _ in counted.seen] == ["GET"]


@pytest.mark.usefixtures("provider")
def test_the_same_run_on_a_disk_and_in_a_bucket(
    project: Project, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same digests and the same release; another machine with the bucket and the state store goes on from there."""
    on_disk = project_at(tmp_path / "disk", monkeypatch)
    furnished(on_disk, through_dagster=False)
    monkeypatch.chdir(project.root)
    for name, value in (*project.home.variables().items(), ("AI_ASSETS_DATA_URL", url)):
        monkeypatch.setenv(name, value)
    shared = in_bucket(project, url)
    collection = furnished(shared)
    with on_disk.stores() as one, shared.stores() as other:
        for asset in collection.asset_names:
            local = one.lake.manifest("notes", asset, DAY)
            kept = other.lake.manifest("notes", asset, DAY)
            assert local is not None
            assert kept is not None
            assert (kept.version, kept.fingerprint) == (local.version, local.fingerprint), asset
        digests = [_live_digest(stores, collection) for stores in (one, other)]
        assert digests[0] == digests[1]
    elsewhere = in_bucket(project, url, tmp_path / "machine-2")
    before = _calls(elsewhere)
    assert all(outcome.unchanged for outcome in elsewhere.refresh(collection, [DAY]))
    fetched = {path.parents[1].name for path in elsewhere.home.lake.rglob("*.parquet")}
    assert fetched <= {"source_files", "release_snapshots"}  # what an unchanged run reads, and no dataset
    elsewhere.edit(collection, f"{DAY}/bill-0.txt", "Bill 77. The total of 40 dollars is due.")
    assert _calls(elsewhere) > before
    with elsewhere.stores() as stores:
        areas = {area.name: area for area in integrity.verify(stores, "notes")}
        assert (areas["lake"].checked > 5, areas["lake"].first, areas["snapshots"].first) == (True, None, None)


def _live_digest(stores, collection: Collection) -> str:  # type: ignore[no-untyped-def]
    with stores.state.read() as connection:
        live = releases.live(connection, collection.name)
    assert live is not None
    return live.digest


def _calls(project: Project) -> int:

    with project.stores() as stores, stores.state.read() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM attempts")).scalar_one())


@pytest.mark.usefixtures("provider")
def test_a_forgotten_document_is_in_no_version_of_any_object(
    project: Project, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(server)
    client.create_bucket(Bucket="kept-versions")
    client.put_bucket_versioning(Bucket="kept-versions", VersioningConfiguration={"Status": "Enabled"})
    url = f"s3://kept-versions/x?endpoint_override={server}"
    monkeypatch.setenv("AI_ASSETS_DATA_URL", url)
    shared = in_bucket(project, url)
    collection = furnished(shared, through_dagster=False)
    (shared.root / "collections" / "notes" / "documents" / SECRET).unlink()
    assert PHRASE in _texts_of_every_version(client, "kept-versions")
    forget(shared.stores(), collection, SECRET, by=known_admin(shared), reason="asked")
    assert [key for key, text in _every_version(client, "kept-versions") if PHRASE in text] == []
    assert PHRASE not in _texts_of_every_version(client, "kept-versions")


def _texts_of_every_version(client, bucket: str) -> str:  # type: ignore[no-untyped-def]
    return "\n".join(text for _, text in _every_version(client, bucket))


def _every_version(client, bucket: str) -> list[tuple[str, str]]:  # type: ignore[no-untyped-def]
    found = []
    for entry in client.list_object_versions(Bucket=bucket)["Versions"]:
        content = client.get_object(Bucket=bucket, Key=entry["Key"], VersionId=entry["VersionId"])["Body"].read()
        is_table = entry["Key"].endswith(".parquet")
        text = str(pq.read_table(pa.BufferReader(content)).to_pylist()) if is_table else content.decode("latin-1")
        found.append((entry["Key"], text))
    return found


def test_what_nothing_names_goes_from_the_bucket_and_copies_go_from_the_machine(project: Project, url: str) -> None:
    shared = in_bucket(project, url)
    with shared.stores() as stores:
        lake = stores.lake
        assert isinstance(lake, SharedLake)
        for number in (1, 2, 3):
            commit(lake, rows(number))
        settings = RetentionSettings(litter_hours=0.25, copies_gb=0)
        bench = RetentionContext(stores=stores, settings=settings)
        sweep(bench)
        assert (
            len([found for found in lake.objects() if found.path.suffix == ".parquet"]) == 3
        )  # somebody may read them
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DataBucket, "now_s", lambda _self: time.time() + 3600)
            sweep(RetentionContext(stores=stores, settings=settings, moment_s=time.time() + 7200))
        left = [found.path for found in lake.objects() if found.path.suffix == ".parquet"]
        current = lake.manifest("notes", "documents", "2026-10-05")
        assert current is not None
        assert [path.name for path in left] == [current.file]
        assert not list(lake.root.rglob("*.parquet"))
        assert lake.read(current).num_rows == 3


@pytest.mark.parametrize(("looked_at", "requests"), [(20, 30), (2, 20)])
def test_what_is_due_takes_a_bounded_number_of_requests_and_no_listing(
    project: Project, server: str, monkeypatch: pytest.MonkeyPatch, looked_at: int, requests: int
) -> None:
    """docs/storage.md says how many: of a few partitions all objects are looked at, of more some each time."""
    with FaultyStore(server) as counted:
        shared = in_bucket(project, f"s3://data/{uuid.uuid4().hex}?endpoint_override={counted.url}")
        shared.documents(per_day=1)
        collection = shared.declare()
        shared.refresh(collection)
        keys = collection.scheme.keys([])
        elsewhere = in_bucket(shared, str(shared.home.data_url), project.home.root.with_name("machine-2"))
        monkeypatch.setattr(file_looks, "AT_ONCE", looked_at)
        with elsewhere.stores() as stores:
            counted.seen.clear()
            assert due_partitions(collection, stores, keys) == []
            assert requests == min(3, looked_at) * (2 * len(collection.asset_names) + 2)
            assert (len(keys), len(counted.seen)) == (3, requests), counted.seen
            assert not [path for _, path in counted.seen if "list-type" in path]
            lake = stores.lake.in_bucket()
            assert lake is not None
            lost = lake.manifest("notes", "chunks", keys[1])
            assert lost is not None
            lake.bucket.delete([lake.key(lake.folder_of(lost) / lost.file)])
            assert due_partitions(collection, stores, keys) == [keys[1]]
            assert due_partitions(collection, stores, keys[1:2]) == [keys[1]]  # as who is told of the loss asks
