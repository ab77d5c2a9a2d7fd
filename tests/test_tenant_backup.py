"""Claims about backups where tenants have buckets of their own: all of each is in, and comes back to its own place."""

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from backups import command, other_machine, put_keys
from conftest import Project
from s3_server import client_of, s3_server
from signing import decide
from test_tenant_data import COLLECTIONS, DAY, MONEY, World, made_world, sign_replies
from weed_server import weed_server

from ai_assets.backup import vault_bucket
from ai_assets.backup.errors import (
    BackupFolderInvalid,
    DataPlaceOccupied,
    HomeNotThere,
    HomeOccupied,
    RestoredDataDiffers,
    TenantNotInBackup,
    TenantPlaceDiffers,
)
from ai_assets.backup.making import make_backup
from ai_assets.backup.manifest import Backup, encoded
from ai_assets.backup.restoring import restore, restore_tenant
from ai_assets.backup.restoring_data import MARK, DataReceivers, RestoreMark
from ai_assets.backup.vault import Vault
from ai_assets.base.home import DATA_URL_VARIABLE
from ai_assets.collection.loading import load_collection
from ai_assets.run.explain import search
from ai_assets.signoff import integrity
from ai_assets.signoff.publication import publish
from ai_assets.storage.objects import DataBucket, DataStoreUnusable

pytestmark = pytest.mark.slow


BUCKETS = ("legal-data", "shared", "backups", "restored")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with s3_server(*BUCKETS) as server, made_world(tmp_path_factory.mktemp("tenants"), server) as made:
        yield made


@pytest.fixture
def world_on_seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        weed_server(tmp_path_factory.mktemp("weed"), *BUCKETS[:2]) as server,
        made_world(tmp_path_factory.mktemp("world"), server) as made,
    ):
        yield made


def test_another_store_keeps_them_apart_as_well(world_on_seaweedfs: World, tmp_path: Path) -> None:
    """It tells no digest of a copy that it makes."""
    where = vault_in(world_on_seaweedfs, "shared/backups")
    made = make_backup(world_on_seaweedfs.project.stores(), where).backup
    assert made.missing == []
    there = elsewhere(world_on_seaweedfs, tmp_path, "shared/restored")
    restore(where, there.project.home)
    for tenant in COLLECTIONS.values():
        assert there.held(tenant) == published(world_on_seaweedfs, tenant)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Another machine, whose operations.yaml names other buckets for the same tenants."""

    project: Project
    urls: Mapping[str, str]

    def held(self, tenant: str) -> dict[str, str]:
        return held(self.urls[tenant])

    def is_untouched(self) -> bool:
        return not self.project.home.root.exists() and not any(self.held(tenant) for tenant in self.urls)


def held(url: str) -> dict[str, str]:
    """Keys of all that is below, with digests."""
    bucket = DataBucket(url)
    return {found.key: str(bucket.sha256(found.key)) for found in bucket.objects()}


def own(world: World, tenant: str) -> dict[str, str]:
    """What of a tenant should be in a backup."""
    place = {"legal": "legal-data", "claims": "shared/claims", "default": "shared/others"}[tenant]
    found = held(f"s3://{place}?endpoint_override={world.server}")
    return {key: digest for key, digest in found.items() if key.startswith(("lake/", "index/"))}


def published(world: World, tenant: str) -> dict[str, str]:
    """Without what is made again."""
    return {key: digest for key, digest in own(world, tenant).items() if "/evaluation" not in key}


def elsewhere(world: World, folder: Path, below: str = "restored") -> Elsewhere:
    number = uuid.uuid4().hex
    places = {tenant: f"{below}/{number}/{tenant}" for tenant in COLLECTIONS.values()}
    urls = {tenant: f"s3://{place}?endpoint_override={world.server}" for tenant, place in places.items()}
    other = other_machine(world.project, folder)
    other = replace(other, home=replace(other.home, data_url=urls["default"]))
    declare_places(other, {tenant: urls[tenant] for tenant in ("legal", "claims")})
    return Elsewhere(project=other, urls=urls)


def declare_places(project: Project, urls: Mapping[str, str | None]) -> None:
    tenants = {tenant: {**MONEY, **({"data": url} if url else {})} for tenant, url in urls.items()}
    (project.root / "operations.yaml").write_text(yaml.safe_dump({"tenants": {**tenants, "default": MONEY}}))


def vault_in(world: World, below: str = "backups") -> str:
    return f"s3://{below}/{uuid.uuid4().hex}?endpoint_override={world.server}"


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_all_of_every_tenant_is_in_and_comes_back_to_its_own_place(world: World, tmp_path: Path, kind: str) -> None:
    where = vault_in(world) if kind == "bucket" else str(tmp_path / "backups")
    made = make_backup(world.project.stores(), where).backup
    assert made.missing == []
    assert {each.tenant: list(each.collections) for each in made.tenants} == {
        "claims": ["damages"], "legal": ["contracts"]
    }  # fmt: skip
    assert not [file.path for file in made.files if "contracts" in file.path or "damages/" in file.path]
    again = make_backup(world.project.stores(), where)
    assert [each.sha256 for each in again.backup.tenants] == [each.sha256 for each in made.tenants]
    assert again.backup.tenants == made.tenants  # nothing of theirs was looked at again
    there = elsewhere(world, tmp_path)
    done = restore(where, there.project.home)
    for tenant in COLLECTIONS.values():
        assert there.held(tenant) == published(world, tenant)
    assert {each.tenant: (each.url, each.files, each.sha256) for each in done.tenants} == {
        each.tenant: (there.urls[each.tenant], len(each.files), each.sha256) for each in made.tenants
    }
    put_keys(world.project, there.project)
    stores = there.project.stores()
    assert [area.first for area in integrity.verify(stores) if area.differences] == []
    for name, tenant in COLLECTIONS.items():
        collection = load_collection(there.project.root / "collections", name)
        found = search(collection, stores, "pump", 2)[1]
        assert f"The pump of {name} as {tenant} wrote it." in [hit.text for hit in found]
    there.project.document(f"{DAY}/two.txt", "A second pump.", "contracts")
    collection = load_collection(there.project.root / "collections", "contracts")
    there.project.refresh(collection)
    decide(stores.state, collection)
    assert publish(collection, stores, by="test").release.number == 2
    assert own(world, "legal") == {
        file.path: file.content.sha256 for each in made.tenants for file in each.files if each.tenant == "legal"
    }


def test_the_commands_say_what_is_of_whom(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, there = vault_in(world), elsewhere(world, tmp_path)
    made = command(world.project, "backup", where)
    assert made.returncode == 0, made.stderr
    said = " ".join(made.stdout.split())
    assert "Of them of tenant legal: " in said
    assert f"from s3://legal-data?endpoint_override={world.server}, digest " in said
    (listed,) = json.loads(command(world.project, "backup", where, "--list", "--json").stdout)
    assert [each["tenant"] for each in listed["tenants"]] == ["claims", "legal"]
    assert command(world.project, "backup", where, "--verify").returncode == 0
    monkeypatch.setenv(DATA_URL_VARIABLE, there.urls["default"])
    back = command(there.project, "restore", where, "--json")
    assert back.returncode == 0, back.stderr
    assert {each["tenant"]: each["url"] for each in json.loads(back.stdout)["tenants"]} == {
        tenant: there.urls[tenant] for tenant in ("claims", "legal")
    }


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_who_names_a_file_by_the_digest_of_anothers_does_not_get_that_file(
    world: World, tmp_path: Path, kind: str
) -> None:
    """Objects of a vault are shared by their content: a name alone must not make one a tenant's."""
    where = vault_in(world) if kind == "bucket" else str(tmp_path / "backups")
    make_backup(world.project.stores(), where)
    of_claims = next(key for key in own(world, "claims") if "/documents/" in key and key.endswith(".parquet"))
    client, name = client_of(world.server), of_claims.rpartition("/")[2]
    forged = f"lake/contracts/documents/forged/{name}"
    client.put_object(Bucket="legal-data", Key=forged, Body=b"whatever legal has")
    try:
        made = make_backup(world.project.stores(), where).backup
        assert forged not in {file.path for file in made.files_of("legal")}
        with Vault.reading(where) as opened:
            opened.verify(opened.load())
        there = elsewhere(world, tmp_path)
        restore(where, there.project.home)
        assert name.partition(".")[0] not in there.held("legal").values()
        assert name.partition(".")[0] in there.held("claims").values()
    finally:
        client.delete_object(Bucket="legal-data", Key=forged)


def test_what_is_of_another_is_left_and_what_nothing_declares_is_kept(world: World, tmp_path: Path) -> None:
    """A copy that a move left behind, and a collection that was removed from the project."""
    client = client_of(world.server)
    left, removed = f"lake/letters/documents/{DAY}/manifest.json", "lake/gone/documents/x/part.parquet"
    for key in (left, removed):
        client.put_object(Bucket="legal-data", Key=key, Body=b"{}")
    try:
        made = make_backup(world.project.stores(), tmp_path / "backups").backup
        paths = {file.path for file in made.files_of("legal")}
        assert removed in paths
        assert left not in paths
        assert removed not in {file.path for file in (*made.files, *made.files_of("claims"))}
    finally:
        for key in (left, removed):
            client.delete_object(Bucket="legal-data", Key=key)


@dataclass(frozen=True, kw_only=True)
class Refused:
    id: str
    places: Mapping[str, str | None] = field(default_factory=dict)
    """In place of those that are declared."""
    tenants: Mapping[str, str] = field(default_factory=dict)
    """Of collections, in place of those of the backup."""
    says: str


REFUSED = [
    Refused(id="no bucket", places={"legal": None},
            says=r"'contracts' lay in the bucket of tenant 'legal', and operations\.yaml here gives that tenant no "
                 r"bucket\. Declare tenants\.legal\.data"),
    Refused(id="another tenant", tenants={"contracts": "claims"},
            says=r"'contracts' lay in the bucket of tenant 'legal', and it is declared here as of tenant 'claims'"),
    Refused(id="a bucket since", tenants={"letters": "legal"},
            says=r"'letters' lay in the bucket of the home, and it is declared here as of tenant 'legal', which has "
                 r"one"),
]  # fmt: skip


@pytest.fixture(scope="module")
def backed_up(world: World) -> tuple[str, Backup]:
    where = vault_in(world)
    return where, make_backup(world.project.stores(), where).backup


@pytest.mark.parametrize("refused", REFUSED, ids=lambda each: each.id)
def test_a_restore_that_would_put_data_of_one_into_the_place_of_another_is_refused(
    world: World, backed_up: tuple[str, Backup], tmp_path: Path, refused: Refused
) -> None:
    there = elsewhere(world, tmp_path)
    declare_places(there.project, {"legal": there.urls["legal"], "claims": there.urls["claims"], **refused.places})
    for collection, tenant in refused.tenants.items():
        path = there.project.root / "collections" / collection / "defs.yaml"
        declared = yaml.safe_load(path.read_text())
        declared["attributes"]["tenant"] = tenant
        path.write_text(yaml.safe_dump(declared))
    with pytest.raises(TenantPlaceDiffers, match=refused.says) as raised:
        restore(backed_up[0], there.project.home)
    assert "\n" not in str(raised.value)
    assert there.is_untouched()


def test_a_place_that_is_not_empty_is_named_and_no_other_is_touched(
    world: World, backed_up: tuple[str, Backup], tmp_path: Path
) -> None:
    there = elsewhere(world, tmp_path)
    DataBucket(there.urls["legal"]).put("lake/other/x", b"somebody's")
    with pytest.raises(DataPlaceOccupied, match=r"it has lake/other/x\. Set tenants\.legal\.data of operations\.yaml"):
        restore(backed_up[0], there.project.home)
    assert list(there.held("legal")) == ["lake/other/x"]
    DataBucket(there.urls["legal"]).delete(["lake/other/x"])
    assert there.is_untouched()
    inside = f"s3://legal-data/backups?endpoint_override={world.server}"
    with pytest.raises(BackupFolderInvalid, match="it lies in the data of tenant 'legal'"):
        make_backup(world.project.stores(), inside)


def test_what_somebody_else_writes_meanwhile_is_found_by_counting(
    world: World, backed_up: tuple[str, Backup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, real = elsewhere(world, tmp_path), DataReceivers.put

    def with_a_stranger(receivers: DataReceivers, vault: Vault, backup: Backup, scratch: Path) -> None:
        real(receivers, vault, backup, scratch)
        DataBucket(there.urls["claims"]).put("lake/damages/documents/stray", b"x")

    monkeypatch.setattr(DataReceivers, "put", with_a_stranger)
    with pytest.raises(RestoredDataDiffers, match="the first that differs is lake/damages/documents/stray"):
        restore(backed_up[0], there.project.home)
    assert list(there.held("claims")) == ["lake/damages/documents/stray"]  # it is not ours to remove
    DataBucket(there.urls["claims"]).delete(["lake/damages/documents/stray"])
    assert there.is_untouched()


def test_a_restore_killed_anywhere_goes_on_when_it_is_begun_again(
    world: World, backed_up: tuple[str, Backup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, made = backed_up
    there = elsewhere(world, tmp_path)
    home = there.project.home
    monkeypatch.setenv(DATA_URL_VARIABLE, there.urls["default"])
    for name, value in home.variables().items():
        monkeypatch.setenv(name, value)
    restoring = RESTORING.format(where=where)
    asked = int(killed_at(0, restoring, there.project).stdout)
    whole = {tenant: there.held(tenant) for tenant in there.urls}
    assert sum(map(len, whole.values())) > 20
    for step in (asked // 2, asked - 5, asked - 3, asked - 2, asked):  # the last six: each is whole, each is in use
        for url in there.urls.values():
            DataBucket(url).erase("")
        shutil.rmtree(home.root)
        killed = killed_at(step, restoring, there.project)
        assert killed.returncode == -9, killed.stderr
        with contextlib.suppress(HomeOccupied):  # killed when it had taken its place: that is said, and all is there
            restore(where, home)
        assert (home.root / "state.db").exists()
        for tenant, expected in whole.items():
            assert {key: found for key, found in there.held(tenant).items() if key != MARK} == expected
    assert made.tenants


def test_a_backup_killed_anywhere_leaves_earlier_ones_whole_and_the_next_has_every_tenant(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = vault_in(world)
    monkeypatch.setattr(vault_bucket, "DEAD_S", -1.0)
    for name, value in world.project.home.variables().items():
        monkeypatch.setenv(name, value)
    making = MAKING.format(where=where)
    for step in (30, 60, 62):
        killed = killed_at(step, making, world.project)
        assert killed.returncode == -9, killed.stderr
        with Vault.reading(where) as opened:
            assert opened.backups() == []
    made = make_backup(world.project.stores(), where).backup
    with Vault.reading(where) as opened:
        opened.verify(opened.load())
    for each in made.tenants:
        assert {file.path: file.content.sha256 for file in each.files} == published(world, each.tenant)


def test_a_bucket_that_cannot_be_read_ends_the_backup_by_name(world: World, tmp_path: Path) -> None:
    there = elsewhere(world, tmp_path)
    lost = f"s3://nowhere-at-all/x?endpoint_override={world.server}"
    declare_places(there.project, {"legal": lost, "claims": there.urls["claims"]})
    with pytest.raises(DataStoreUnusable, match="there is no bucket 'nowhere-at-all'"):
        make_backup(there.project.stores(), tmp_path / "backups")
    with Vault.reading(tmp_path / "backups") as opened:
        assert opened.backups() == []


def killed_at(step: int, code: str, project: Project) -> "subprocess.CompletedProcess[str]":
    """Killed at that change of a bucket; 0: not, and how many there were."""
    code = KILLED.format(code=code, step=step)
    return subprocess.run([sys.executable, "-c", code], cwd=project.root, check=False, capture_output=True, text=True)


KILLED = """
import os, signal
from ai_assets.storage import objects
asked = 0
real = objects.DataBucket._patiently
def counted(self, request, key, act):
    global asked
    if request in ("put_object", "copy_object", "delete_objects"):
        asked += 1
        if asked == {step}:
            act() if asked % 2 else None
            os.kill(os.getpid(), signal.SIGKILL)
    return real(self, request, key, act)
objects.DataBucket._patiently = counted
{code}
print(asked)
"""
RESTORING = """
from ai_assets.backup.restoring import restore, restore_tenant
from ai_assets.base.home import Home
restore("{where}", Home.from_environment())
"""
MAKING = """
from ai_assets.backup import vault_bucket
from ai_assets.backup.making import make_backup
from ai_assets.base.home import Home
from ai_assets.storage.stores import Stores
vault_bucket.DEAD_S = -1.0
make_backup(Stores.at(Home.from_environment()), "{where}")
"""


def test_what_a_restore_had_put_whole_is_taken_by_the_same_one_alone(
    world: World, backed_up: tuple[str, Backup], tmp_path: Path
) -> None:
    """Of a restore that was killed between the buckets and the home."""
    where, made = backed_up
    there = elsewhere(world, tmp_path)
    restore(where, there.project.home)
    home, bucket = there.project.home, DataBucket(there.urls["legal"])
    shutil.rmtree(home.root)
    for url in there.urls.values():
        DataBucket(url).put(MARK, replace(RestoreMark.of(made, home), is_filled=True).encoded())
    with pytest.raises(DataPlaceOccupied, match=r"it has what a restore of backup .* put there for "):
        restore(where, replace(home, root=tmp_path / "third"))
    victim = next(iter(key for key in there.held("legal") if key.endswith(".parquet")))
    content = bucket.get(victim)
    assert content is not None
    bucket.put(victim, bytes(len(content.content)))
    with pytest.raises(RestoredDataDiffers, match="the first that differs is lake/contracts"):
        restore(where, home)
    bucket.put(victim, content.content)
    before = client_of(world.server).head_object(Bucket=bucket.bucket, Key=f"{bucket.prefix}/{victim}")["LastModified"]
    restore(where, home)
    after = client_of(world.server).head_object(Bucket=bucket.bucket, Key=f"{bucket.prefix}/{victim}")["LastModified"]
    assert before == after
    assert not [tenant for tenant in there.urls if MARK in there.held(tenant)]


def test_a_backup_without_such_tenants_is_read_by_the_version_before(backed_up: tuple[str, Backup]) -> None:
    plain, apart = (json.loads(encoded(each)[1]) for each in (replace(backed_up[1], tenants=()), backed_up[1]))
    assert (plain["format"], apart["format"]) == (1, 2)
    assert "tenants" not in plain
    assert hashlib.sha256(encoded(backed_up[1])[1]).hexdigest()[:16] == backed_up[1].backup.rpartition("-")[2]


def test_a_signed_asset_from_before_its_tenant_had_a_bucket_is_refused_as_a_collection_is(
    world: World, tmp_path: Path
) -> None:
    sign_replies(world, tenant="default")
    where = vault_in(world)
    make_backup(world.project.stores(), where)
    there = elsewhere(world, tmp_path)
    shutil.rmtree(there.project.root / "collections" / "letters")  # of the same tenant, and refused by its file
    later = f"s3://restored/{uuid.uuid4().hex}/later?endpoint_override={world.server}"
    tenants = {tenant: {**MONEY, "data": url} for tenant, url in {**there.urls, "default": later}.items()}
    (there.project.root / "operations.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
    with pytest.raises(TenantPlaceDiffers, match=r"'replies' lay in the bucket of the home.*signed asset of tenant"):
        restore(where, there.project.home)
    assert there.is_untouched()
    assert held(later) == {}


def test_the_bucket_of_one_tenant_comes_back_alone(world: World, tmp_path: Path) -> None:
    """It was lost, and the home goes on: nothing else is read or put."""
    where = vault_in(world)
    made = make_backup(world.project.stores(), where).backup
    before = {tenant: own(world, tenant) for tenant in COLLECTIONS.values()}
    (digest,) = [each.sha256 for each in made.tenants if each.tenant == "legal"]
    with pytest.raises(DataPlaceOccupied, match=r"tenants\.legal\.data"):
        restore_tenant(where, world.project.home, "legal")
    with pytest.raises(TenantNotInBackup, match="has no bucket of tenant 'default'; it has those of claims and legal"):
        restore_tenant(where, world.project.home, "default")
    bucket = DataBucket(f"s3://legal-data?endpoint_override={world.server}")
    kept = {key: bucket.get(key) for key in before["legal"]}
    bucket.delete(list(held(bucket.url)))
    done = command(world.project, "restore", where, "--tenant", "legal")
    try:
        assert done.returncode == 0, done
        assert f"digest {digest[:12]}" in done.stdout
        assert "What is newer than that is missing there: ai-assets verify" in done.stdout
        after = {tenant: own(world, tenant) for tenant in COLLECTIONS.values()}
        assert after == {
            **before,
            "legal": {key: each for key, each in before["legal"].items() if "/evaluation" not in key},
        }
        assert held(bucket.url) == after["legal"]
        assert [area.first for area in integrity.verify(world.project.stores()) if area.differences] == []
    finally:
        for key, found in kept.items():
            assert found is not None
            bucket.put(key, found.content)


def test_a_tenant_alone_comes_back_to_a_home_that_is_there(world: World, tmp_path: Path) -> None:
    where = vault_in(world)
    make_backup(world.project.stores(), where)
    there = elsewhere(world, tmp_path)
    with pytest.raises(HomeNotThere, match="Restore all of the backup"):
        restore_tenant(where, there.project.home, "legal")
    assert there.is_untouched()
    for given in (("--replace",), ("--to", str(tmp_path / "x"))):
        done = command(world.project, "restore", where, "--tenant", "legal", *given)
        assert (done.returncode, "--tenant" in done.stderr) == (2, True), done
