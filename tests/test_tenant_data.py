"""Claims about data of tenants: where `data:` says, there and nowhere else, and known to all that looks after data."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import outsider
import pytest
import yaml
from conftest import Project, project_at
from desks import Visitor, desk_of, served
from s3_server import CREDENTIALS, client_of, s3_server
from signing import known
from test_live_index import decide
from test_tenant_boundary import routes_in

from ai_assets import signed
from ai_assets.backup.making import make_backup
from ai_assets.base.environment import OperationsInvalid
from ai_assets.base.errors import UserError
from ai_assets.base.home import DATA_URL_VARIABLE, Home
from ai_assets.base.tenants import load_tenants
from ai_assets.collection.loading import Collection
from ai_assets.desk.app import create_app
from ai_assets.desk.context import Desk
from ai_assets.forgetting.erasing import forget
from ai_assets.retention.leftovers import RetentionContext
from ai_assets.retention.sweep import sweep
from ai_assets.run.explain import search
from ai_assets.run.operations import RetentionSettings
from ai_assets.signoff import integrity
from ai_assets.signoff.publication import publish
from ai_assets.storage.data_places import DataPlaceUnknown
from ai_assets.storage.shared_lake import SharedLake

MONEY = {"budget": {"limit_usd": 5}}
DAY = "2026-10-05"
FIRST = f"{DAY}/one.txt"
COLLECTIONS = {"contracts": "legal", "damages": "claims", "letters": "default"}
"""With the tenant of each; `default` has no bucket of its own."""
PLACES = {"legal": "legal-data", "claims": "shared/claims", "default": "shared/others"}


@dataclass(frozen=True, kw_only=True)
class World:
    project: Project
    server: str
    collections: Mapping[str, Collection]

    def keys(self, bucket: str) -> list[str]:
        pages = client_of(self.server).get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def below(self, tenant: str) -> list[str]:
        bucket, _, prefix = PLACES[tenant].partition("/")
        return [key.removeprefix(f"{prefix}/") for key in self.keys(bucket) if key.startswith(prefix)]

    def holding(self, text: bytes) -> set[str]:
        client = client_of(self.server)
        return {
            f"{bucket}/{key}"
            for bucket in ("legal-data", "shared")
            for key in self.keys(bucket)
            if text in client.get_object(Bucket=bucket, Key=key)["Body"].read()
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with s3_server("legal-data", "shared") as server, made_world(tmp_path_factory.mktemp("tenants"), server) as made:
        yield made


@contextmanager
def made_world(folder: Path, server: str) -> Iterator[World]:
    """Three collections, published, each in the place of its tenant."""
    with pytest.MonkeyPatch.context() as patch:
        urls = {tenant: f"s3://{place}?endpoint_override={server}" for tenant, place in PLACES.items()}
        for name, value in {**CREDENTIALS, DATA_URL_VARIABLE: urls["default"]}.items():
            patch.setenv(name, value)
        made = project_at(folder, patch)
        project = replace(made, home=Home.from_environment(made.root))
        tenants = {name: {**MONEY, **({"data": url} if name != "default" else {})} for name, url in urls.items()}
        (project.root / "operations.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
        known(project.stores().state)
        found = {}
        for name, tenant in COLLECTIONS.items():
            project.document(FIRST, f"The pump of {name} as {tenant} wrote it.", name)
            found[name] = project.declare(name, tenant=tenant, partitions={"by": "day", "start": DAY, "end": DAY})
            project.refresh(found[name])
            decide(project.stores().state, found[name])
            publish(found[name], project.stores(), by="test")
        yield World(project=project, server=server, collections=found)


@pytest.mark.slow
def test_what_a_tenant_has_lies_in_its_bucket_and_no_other(world: World) -> None:
    for name, tenant in COLLECTIONS.items():
        parts = {tuple(key.split("/")[:2]) for key in world.below(tenant)}
        assert {(kind, name) for kind in ("lake", "index")} <= parts
        assert {found for _, found in parts}.isdisjoint(set(COLLECTIONS) - {name}), parts
    assert {key.split("/")[1] for key in world.below("legal")} == {"contracts"}
    assert not list(world.project.home.index.glob("**/*.lance"))


@pytest.mark.slow
def test_it_is_read_from_there_also_by_who_has_the_bucket_alone(world: World) -> None:
    """Copies on this machine prove nothing: they are taken away."""
    shutil.rmtree(world.project.home.lake)
    stores = world.project.stores()
    for name, tenant in COLLECTIONS.items():
        collection = world.collections[name]
        assert f"The pump of {name} as {tenant} wrote it." in [
            hit.text for hit in search(collection, stores, "pump", 2)[1]
        ]
        place = stores.index_place(name)
        assert place.uri.startswith(f"s3://{PLACES[tenant]}/index/{name}")  # type: ignore[attr-defined]
        assert list(outsider.by_tag(place.uri, place.options)) == [FIRST]  # type: ignore[attr-defined]
    assert [area.first for area in integrity.verify(stores) if area.differences] == []


@pytest.mark.slow
def test_a_dataset_that_another_tenant_puts_into_its_own_bucket_is_nobodys(world: World) -> None:
    stores, client = world.project.stores(), client_of(world.server)
    assert isinstance(stores.lake, SharedLake)
    forged = f"lake/letters/documents/{DAY}/manifest.json"
    content = client.get_object(Bucket="shared", Key=f"others/{forged}")["Body"].read()
    before = [found.path for found in stores.lake.objects()]
    client.put_object(Bucket="legal-data", Key=forged, Body=content.replace(b"letters", b"letterz"))
    try:
        assert [found.path for found in stores.lake.objects()] == before
        manifest = stores.lake.manifest("letters", "documents", DAY)
        assert manifest is not None
        assert manifest.collection == "letters"
    finally:
        client.delete_object(Bucket="legal-data", Key=forged)


@pytest.mark.slow
def test_retention_and_forgetting_look_after_every_bucket(world: World) -> None:
    project, client = world.project, client_of(world.server)
    collection = world.collections["contracts"]
    secret = "A text to be forgotten."
    project.document(FIRST, secret, "contracts")
    project.refresh(collection)
    decide(project.stores().state, collection)
    publish(collection, project.stores(), by="test")
    (own,) = {key.rsplit("/", 1)[0] for key in world.keys("legal-data") if key.startswith("lake/contracts/chunks/")}
    client.put_object(Bucket="legal-data", Key=f"{own}/{'0' * 64}.parquet", Body=b"left behind")
    stores = project.stores()
    bench = RetentionContext(
        stores=stores,
        settings=RetentionSettings().model_copy(update={"litter_hours": 0.0}),
        collections=list(world.collections.values()),
        tenants=load_tenants(project.home.operations),
    )
    sweep(bench)
    assert not [key for key in world.keys("legal-data") if "/" + "0" * 64 in key]
    ada = known(stores.state, "ada", "admin")
    assert world.holding(secret.encode())
    forget(stores, collection, FIRST, by=ada, reason="erasure request 17")
    assert world.holding(secret.encode()) == set()
    assert [area.first for area in integrity.verify(project.stores()) if area.differences] == []


@pytest.mark.slow
def test_a_collection_whose_file_cannot_be_read_is_looked_for_nowhere_and_is_not_taken_for_lost(
    world: World, tmp_path: Path
) -> None:
    """What says in which bucket it lies is its file: in another one it would be found empty, or erased."""
    project = world.project
    file = project.root / "collections" / "contracts" / "defs.yaml"
    whole = file.read_text()
    before = {bucket: world.keys(bucket) for bucket in ("legal-data", "shared")}
    file.write_text(f"{whole}  tenant: [legal\n")
    try:
        stores = project.stores()
        with pytest.raises(DataPlaceUnknown, match=rf"'contracts' lies is not known.*{re.escape(str(file))}"):
            stores.lake.manifest("contracts", "documents", DAY)
        with pytest.raises(DataPlaceUnknown):
            stores.index_place("contracts")
        assert stores.lake.manifest("damages", "documents", DAY) is not None
        bench = RetentionContext(
            stores=stores,
            settings=RetentionSettings().model_copy(update={"litter_hours": 0.0}),
            collections=[world.collections[name] for name in ("damages", "letters")],
            tenants=load_tenants(project.home.operations),
        )
        with pytest.raises(DataPlaceUnknown):
            sweep(bench)
        assert not make_backup(stores, tmp_path / "backups").backup.missing
        for command in (("verify",), ("verify", "contracts")):
            done = project.cli(*command)
            assert done.returncode != 0
            assert str(file) in done.stderr + done.stdout, done
            assert "Traceback" not in done.stderr, done
    finally:
        file.write_text(whole)
    assert {bucket: world.keys(bucket) for bucket in ("legal-data", "shared")} == before
    assert project.stores().index_place("contracts").uri.startswith("s3://legal-data/")  # type: ignore[attr-defined]


@pytest.mark.slow
def test_no_page_of_a_tenant_names_the_bucket_or_what_is_in_that_of_another(world: World) -> None:
    known(world.project.stores().state, "carla", "admin", "tenant:claims")
    with served(desk_of(world.project)) as desk:
        carla = Visitor(desk.url)
        carla.sign_in("carla")
        for path in sorted({path for method, path in routes_of(desk) if method == "GET"}):
            answer = carla.get(path.replace("{collection}", "damages").replace("{number}", "1"))
            assert answer.status_code < 500, path
            for word in ("legal-data", "contracts", "letters", "shared/others"):
                assert word not in answer.text, (path, word)
        assert "1 document" in carla.get("/releases/damages").text
        opened = carla.http.get("/releases/damages/1/document", params={"id": FIRST, "partition": DAY})
        assert "The pump of damages as claims wrote it." in opened.text
        refused, unknown = carla.get("/releases/contracts"), carla.get("/releases/nothing")
        assert refused.status_code == unknown.status_code == 404
        assert refused.text.replace("contracts", "nothing") == unknown.text
        carla.http.close()


def routes_of(desk: Desk) -> Iterator[tuple[str, str]]:
    """Those that need no more than a collection and a number of a release."""
    for method, path in routes_in(create_app(desk).routes, ""):
        if set(re.findall(r"{(\w+)}", path)) <= {"collection", "number"}:
            yield method, path


def sign_replies(world: World, tenant: str) -> None:
    @dg.asset
    def replies() -> list[dict[str, object]]:
        return [{"ticket": 7, "reply": "We are sorry."}]

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    definitions = dg.Definitions.merge(dg.Definitions(assets=[replies]), signed(replies, tenant=tenant))
    assets: Any = list(definitions.assets or ())
    with world.project.instance() as opened:
        selection = ["replies", "signed/replies_candidate"]
        dg.materialize(assets, instance=opened, selection=selection, run_config=quiet)


@pytest.mark.slow
def test_a_signed_asset_is_kept_in_the_bucket_of_its_tenant(world: World) -> None:
    sign_replies(world, tenant="claims")
    assert {key.split("/")[1] for key in world.below("claims") if "replies" in key} == {"replies"}
    assert not [key for key in world.keys("legal-data") + world.below("default") if "replies" in key]


@pytest.mark.parametrize(("data", "said"), [
    ({"legal": "/mnt/legal"}, "tenants.legal.data: it is not the address of a bucket; write s3://bucket/prefix"),
    ({"legal": "s3://me:secret-of-mine@b/x"}, "tenants.legal.data: it holds credentials; set AWS_ACCESS_KEY_ID"),
    ({"claims": "s3://b/x/y", "legal": "s3://b/x?region=eu-west-1"},
     "tenants.legal.data: lies in the data of tenant 'claims'; give 'legal' a bucket or prefix of its own"),
])  # fmt: skip
def test_a_place_that_cannot_be_is_said_when_the_file_is_read(tmp_path: Path, data: dict[str, str], said: str) -> None:
    path = tmp_path / "operations.yaml"
    path.write_text(yaml.safe_dump({"tenants": {name: {**MONEY, "data": url} for name, url in data.items()}}))
    with pytest.raises(OperationsInvalid) as found:
        load_tenants(path)
    assert said in str(found.value)
    assert "secret-of-mine" not in str(found.value)


@pytest.mark.parametrize(("own", "said"), [
    (None, "AI_ASSETS_DATA_URL is not set"),
    ("s3://b/legal/x", "AI_ASSETS_DATA_URL is that one, or one of them is within"),
])  # fmt: skip
def test_what_is_of_no_tenant_needs_a_place_beside_those_of_tenants(
    project: Project, own: str | None, said: str
) -> None:
    project.declare("a", tenant="legal")
    tenants = {"legal": {**MONEY, "data": "s3://b/legal"}}
    (project.root / "operations.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
    with pytest.raises(UserError) as found:
        replace(project, home=replace(project.home, data_url=own)).stores()
    assert said in str(found.value)
