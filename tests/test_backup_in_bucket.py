"""Claims about backups in a bucket, and of a home whose data is in one: whole, whoever dies or answers what."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from backups import QUERY, furnish, other_machine, put_keys, tree
from conftest import Project
from provider import Provider
from s3_server import CREDENTIALS, FaultyStore, client_of, s3_server
from signing import decide
from weed_server import weed_server

from ai_assets.backup import vault_bucket
from ai_assets.backup.errors import (
    BackupBusy,
    BackupDamaged,
    BackupFolderInvalid,
    BackupOvertaken,
    BackupStoreFailed,
    BackupUnknown,
    DataPlaceOccupied,
)
from ai_assets.backup.making import make_backup
from ai_assets.backup.restoring import restore
from ai_assets.backup.restoring_data import MARK, is_data
from ai_assets.backup.vault import Vault
from ai_assets.backup.vault_bucket import VaultBucket
from ai_assets.base.home import DATA_URL_VARIABLE
from ai_assets.collection.loading import load_collection
from ai_assets.run.explain import search
from ai_assets.run.intact_files import intact_partitions
from ai_assets.signoff import integrity, verification
from ai_assets.signoff.publication import publish
from ai_assets.storage import objects
from ai_assets.storage.objects import DataBucket, DataStoreUnusable

BUCKETS = ("data", "backups")


@pytest.fixture(scope="module", params=["moto", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "moto":
        yield request.getfixturevalue("server")
    else:
        with weed_server(tmp_path_factory.mktemp("weed"), *BUCKETS) as url:
            yield url


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server(*BUCKETS) as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


def address(bucket: str, server: str) -> str:
    return f"s3://{bucket}/{uuid.uuid4().hex}?endpoint_override={server}"


@pytest.fixture
def vault(server: str) -> str:
    return address("backups", server)


def in_bucket(project: Project, url: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv(DATA_URL_VARIABLE, url)
    return replace(project, home=replace(project.home, data_url=url))


def plain(project: Project) -> Project:
    """Documents without a model, computed: enough for claims about objects."""
    project.documents(per_day=1, days=1)
    project.refresh(project.declare())
    return project


def objects_of(where: str) -> set[str]:
    return {found.key.removeprefix("objects/").replace("/", "", 1) for found in DataBucket(where).objects("objects/")}


def whole(where: str) -> list[str]:
    """The backups, each of which was read and hashed again."""
    with Vault.reading(where) as opened:
        for name in opened.backups():
            opened.verify(opened.load(name))
        return opened.backups()


# A home on a disk


def test_backups_in_a_bucket_are_incremental_verified_forgotten_and_restored(
    project: Project, vault: str, tmp_path: Path
) -> None:
    plain(project)
    first = make_backup(project.stores(), vault)
    project.document("2026-10-05/more.txt", "One more document about a pump.")
    project.refresh(load_collection(project.root / "collections", "notes"))
    second = make_backup(project.stores(), vault)
    assert 0 < second.new_bytes < first.new_bytes
    assert whole(vault) == [first.backup.backup, second.backup.backup]
    assert objects_of(vault) == first.backup.objects() | second.backup.objects()
    other = other_machine(project, tmp_path)
    restore(vault, other.home, which=first.backup.backup)
    held = {file.path for file in first.backup.files}
    ours, theirs = tree(project.home.root), tree(other.home.root)
    assert held <= theirs.keys()
    assert {name: theirs[name] for name in held if name.startswith("lake/") and name.endswith(".parquet")} == {
        name: ours[name] for name in held if name.startswith("lake/") and name.endswith(".parquet")
    }
    third = make_backup(project.stores(), vault, keep=1)
    assert third.pruned == [first.backup.backup, second.backup.backup]
    assert whole(vault) == [third.backup.backup]
    assert objects_of(vault) == third.backup.objects()
    with pytest.raises(BackupUnknown, match="--list"):
        restore(vault, replace(other.home, root=tmp_path / "third"), which=first.backup.backup)


def test_the_commands_take_an_address(project: Project, vault: str) -> None:
    plain(project)
    made = project.cli("backup", vault, "--json")
    assert made.returncode == 0, made.stderr
    listed = json.loads(project.cli("backup", vault, "--list", "--json").stdout)
    assert [each["backup"] for each in listed] == [json.loads(made.stdout)["backup"]]
    assert project.cli("backup", vault, "--verify").returncode == 0
    refused = project.cli("backup", "s3://backups/x?endpiont=1")
    assert refused.returncode == 2
    assert "unknown parameter 'endpiont'" in refused.stderr
    assert "Traceback" not in refused.stderr


FAULTS = ["500", "503", "lost request", "lost answer", "torn answer", "torn request", "silence"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_backup_outlives_what_the_store_does(
    project: Project, server: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request in seven fails, each time others."""
    monkeypatch.setattr(objects, "READ_TIMEOUT_S", 0.5)
    project.documents(per_day=1, days=1)
    project.declare()
    stores = project.stores()
    with FaultyStore(server) as faulty:
        where = address("backups", faulty.url)
        made = []
        for shift in range(2):
            faulty.faults = ([""] * shift + [fault] + [""] * 6) * (3 if fault == "silence" else 20)
            made.append(make_backup(stores, where, keep=2).backup.backup)
        faulty.faults = []
        assert whole(where) == made


def test_a_full_or_failing_bucket_leaves_earlier_backups_whole(
    project: Project, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(project)
    with FaultyStore(server) as faulty:
        where = address("backups", faulty.url)
        first = make_backup(project.stores(), where).backup.backup
        project.document("2026-10-05/more.txt", "One more document about a pump.")
        project.refresh(load_collection(project.root / "collections", "notes"))
        real = VaultBucket.put
        put: list[str] = []

        def full_after_two(place: VaultBucket, name: str, block: bytes) -> None:
            put.append(name)
            if len(put) == 3:
                faulty.refuse = (507, "XMinioStorageFull")
            real(place, name, block)

        monkeypatch.setattr(VaultBucket, "put", full_after_two)
        with pytest.raises(BackupStoreFailed, match=r"XMinioStorageFull.*Earlier backups in it are unchanged") as said:
            make_backup(project.stores(), where)
        assert "\n" not in str(said.value)
        faulty.refuse = None
        assert whole(where) == [first]
        monkeypatch.setattr(vault_bucket, "DEAD_S", -1.0)  # the store would not even take that it had ended
        second = make_backup(project.stores(), where, keep=2).backup
        assert whole(where) == [first, second.backup]
        assert not [name for name in put[:2] if name in objects_of(where)]  # what the failed one left is gone


def test_two_writers_are_kept_apart_and_one_taken_for_dead_can_commit_nothing(
    project: Project, vault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain(project)
    monkeypatch.setattr(vault_bucket, "RENEWED_S", 0.2)
    monkeypatch.setattr(vault_bucket, "POLL_S", 1.1)  # the store counts whole seconds
    first = make_backup(project.stores(), vault).backup
    said: list[str] = []
    with Vault.writing(vault) as late:
        with pytest.raises(BackupBusy), Vault.writing(vault, said.append):
            pass
        assert "waiting for a sign of life" in said[0]
        monkeypatch.setattr(vault_bucket, "DEAD_S", -1.0)
        second = make_backup(project.stores(), vault).backup
        with pytest.raises(BackupOvertaken, match="gave no sign of life"):
            late.add(replace(first, made_at=first.made_at.replace("2026", "2027")))
        with pytest.raises(BackupOvertaken):
            late.prune(1)
    assert whole(vault) == [first.backup, second.backup]


def test_a_place_that_is_none_for_backups_is_refused(
    project: Project, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = address("backups", server)
    DataBucket(used).put("somebody/else.txt", b"x")
    with pytest.raises(BackupFolderInvalid, match=r"it holds other things, such as somebody/else\.txt"):
        make_backup(project.stores(), used)
    with pytest.raises(BackupFolderInvalid, match=r"it has no ai-assets-backups\.json"), Vault.reading(used):
        pass
    url = address("data", server)
    inside = url.replace("?", "/backups?")
    with pytest.raises(BackupFolderInvalid, match="it lies in the data of the home"):
        make_backup(in_bucket(project, url, monkeypatch).stores(), inside)
    with pytest.raises(DataStoreUnusable, match="holds credentials"):
        make_backup(project.stores(), "s3://key:secret-of-all@backups/x")
    with FaultyStore(server) as careless:
        careless.drops = ("If-Match", "If-None-Match", "if-match", "if-none-match")
        with pytest.raises(BackupStoreFailed, match="two writers could both win"):
            make_backup(project.stores(), address("backups", careless.url))


@dataclass(frozen=True, kw_only=True)
class Spoilt:
    id: str
    content: bytes | None
    says: str


SPOILT = [
    Spoilt(id="a lost object", content=None, says="is missing"),
    Spoilt(id="another object", content=b"other bytes", says="now has the digest"),
]


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda each: each.id)
def test_a_damaged_backup_is_found_and_replaces_nothing(project: Project, vault: str, spoilt: Spoilt) -> None:
    plain(project)
    made = make_backup(project.stores(), vault).backup
    name = next(file.content.blocks[0] for file in made.files if file.path.endswith(".parquet"))
    bucket, key = DataBucket(vault), f"objects/{name[:2]}/{name[2:]}"
    bucket.delete([key])
    if spoilt.content is not None:
        bucket.put(key, spoilt.content)
    verified = project.cli("backup", vault, "--verify")
    assert verified.returncode == 1
    assert "First difference" in verified.stderr
    assert spoilt.says in verified.stderr.replace("\n", " ")
    with pytest.raises(BackupDamaged, match=spoilt.says):
        restore(vault, project.home, replace_home=True)
    assert not list(project.home.root.parent.glob("*.restoring-*"))


# A home whose data is in a bucket


@pytest.fixture
def furnished(project: Project, provider: Provider, both: str, monkeypatch: pytest.MonkeyPatch) -> Project:
    shared = in_bucket(project, address("data", both), monkeypatch)
    furnish(shared)
    return shared


def goes_on(other: Project, source: Project, provider: Provider, found: object) -> None:
    """It is searched as before, runs, publishes, and pays for no answer again."""
    put_keys(source, other)
    collection = load_collection(other.root / "collections", "notes")
    billed = provider.stats()["billed"]
    assert billed > 0
    stores = other.stores()
    assert search(collection, stores, QUERY, 5)[1] == found
    other.refresh(collection)
    decide(stores.state, collection)
    assert publish(collection, stores, by="test").release.number == 2
    verification.verify(stores.state)
    assert [area.first for area in integrity.verify(stores) if area.differences] == []
    assert provider.stats()["billed"] == billed


def test_a_home_with_its_data_in_a_bucket_is_backed_up_there_and_restored_to_a_folder_and_to_another_bucket(
    furnished: Project, provider: Provider, both: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = load_collection(furnished.root / "collections", "notes")
    found = search(collection, furnished.stores(), QUERY, 5)[1]
    with FaultyStore(both) as counted:
        where = address("backups", both).replace(both, counted.url)
        near = replace(
            furnished, home=replace(furnished.home, data_url=str(furnished.home.data_url).replace(both, counted.url))
        )
        made = make_backup(near.stores(), where)
        assert made.backup.missing == []
        assert not [path for method, path in counted.seen if method == "GET" and path.endswith(".parquet")]
        counted.seen.clear()
        again = make_backup(near.stores(), where)
        asked = [path for method, path in counted.seen if "/data/" in path and "list-type" not in path]
        assert asked == []  # nothing of the data has changed, which its listing says
        assert list(filter(is_data, again.backup.files)) == list(filter(is_data, made.backup.files))
        where = where.replace(counted.url, both)
    assert len(whole(where)) == 2
    monkeypatch.delenv(DATA_URL_VARIABLE)
    on_disk = other_machine(furnished, tmp_path / "disk")
    restore(where, on_disk.home)
    goes_on(on_disk, furnished, provider, found)
    there = other_machine(furnished, tmp_path / "bucket")
    there = in_bucket(there, address("data", both), monkeypatch)
    done = restore(where, there.home)
    assert done.data_url == there.home.data_url
    assert not list(there.home.lake.rglob("*.parquet"))
    assert DataBucket(str(there.home.data_url)).get(MARK) is None
    goes_on(there, furnished, provider, found)


def test_the_data_of_a_bucket_comes_to_a_folder_of_backups_and_back(
    project: Project, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the store cannot copy, as there is none on the other side."""
    shared = plain(in_bucket(project, address("data", server), monkeypatch))
    collection = load_collection(shared.root / "collections", "notes")
    day = "2026-10-05"
    made = make_backup(shared.stores(), tmp_path / "backups")
    other = in_bucket(other_machine(shared, tmp_path), address("data", server), monkeypatch)
    assert restore(tmp_path / "backups", other.home).backup == made.backup
    with other.stores() as stores, shared.stores() as before:
        assert set(intact_partitions(collection, stores, [day])) == {day}
        for asset in collection.asset_names:
            assert stores.lake.manifest("notes", asset, day) == before.lake.manifest("notes", asset, day)
    with pytest.raises(DataPlaceOccupied, match="is not empty: it has"):
        restore(tmp_path / "backups", replace(other.home, root=tmp_path / "third"))
    assert not (tmp_path / "third").exists()


def test_a_restore_that_fails_or_is_killed_leaves_a_prefix_that_takes_the_next_one(
    project: Project, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = plain(in_bucket(project, address("data", server), monkeypatch))
    where = address("backups", server)
    made = make_backup(shared.stores(), where).backup
    url = address("data", server)
    other = in_bucket(other_machine(shared, tmp_path), url, monkeypatch)
    name = next(file.content.blocks[0] for file in made.files if file.path.endswith(".parquet"))
    key = f"objects/{name[:2]}/{name[2:]}"
    held = DataBucket(where).get(key)
    assert held is not None
    DataBucket(where).put(key, b"other bytes")
    with pytest.raises(BackupDamaged, match="now has the digest"):
        restore(where, other.home)
    assert list(DataBucket(url).objects()) == []
    DataBucket(where).put(key, held.content)
    DataBucket(url).put(MARK, b"of one that was killed")
    DataBucket(url).put("lake/notes/documents/x/manifest.json", b"of another backup")
    restore(where, other.home)
    left = {found.key for found in DataBucket(url).objects()}
    assert left == {file.path for file in made.files if file.path.startswith(("lake/", "index/"))}


def test_what_is_erased_is_in_no_version_of_an_older_backup(
    project: Project, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, bucket = client_of(server), f"versions-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    where = f"s3://{bucket}/x?endpoint_override={server}"
    plain(project)
    old = make_backup(project.stores(), where).backup
    project.document("2026-10-05/0.txt", "Another text altogether.")
    project.refresh(load_collection(project.root / "collections", "notes"))
    new = make_backup(project.stores(), where, keep=1, erase=True).backup
    gone = old.objects() - new.objects()
    kept = {entry["Key"] for entry in client.list_object_versions(Bucket=bucket)["Versions"]}
    assert gone
    assert not [name for name in gone if f"x/objects/{name[:2]}/{name[2:]}" in kept]
    assert {f"x/objects/{name[:2]}/{name[2:]}" for name in new.objects()} <= kept


@pytest.mark.slow
def test_backups_killed_at_any_moment_leave_earlier_ones_whole(
    project: Project, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = plain(in_bucket(project, address("data", server), monkeypatch))
    where = address("backups", server)
    monkeypatch.setattr(vault_bucket, "DEAD_S", -1.0)
    first = make_backup(shared.stores(), where).backup.backup
    code = KILLED.format(where=where)
    for step in range(5):
        shared.document("2026-10-05/0.txt", f"Draft {step} of a text.")
        shared.refresh(load_collection(shared.root / "collections", "notes"))
        ended = subprocess.run([sys.executable, "-c", code, str(3 + step * 6)], cwd=shared.root, check=False)
        assert ended.returncode in (0, -9)
        assert first in whole(where) or ended.returncode == 0
    last = make_backup(shared.stores(), where, keep=1).backup
    assert whole(where) == [last.backup]
    assert objects_of(where) == last.objects()


KILLED = """
import os, signal, sys
from ai_assets.backup import vault_bucket
from ai_assets.storage import objects
vault_bucket.DEAD_S = -1.0
left = int(sys.argv[1])
real = objects.DataBucket._patiently
def counted(self, request, key, act):
    global left
    if request in ("put_object", "copy_object", "delete_objects"):
        left -= 1
        if left == 0:
            act() if os.getpid() % 2 else None
            os.kill(os.getpid(), signal.SIGKILL)
    return real(self, request, key, act)
objects.DataBucket._patiently = counted
from ai_assets.backup.making import make_backup
from ai_assets.base.home import Home
from ai_assets.storage.stores import Stores
make_backup(Stores.at(Home.from_environment()), "{where}", keep=3)
"""
