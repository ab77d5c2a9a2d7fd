"""Claims about the index in a bucket: published, rolled back, read by others, killed, written by two at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import lancedb
import outsider
import pytest
from conftest import Project
from s3_server import CREDENTIALS, client_of, s3_server
from signing import known
from test_live_index import FIRST, SECOND, approved_notes, drafted, kill, pointed_at, pruned
from weed_server import weed_server

from ai_assets.base.home import DATA_URL_VARIABLE, Home
from ai_assets.collection.loading import Collection
from ai_assets.forgetting.erasing import forget
from ai_assets.run.explain import search
from ai_assets.signoff import integrity, live_index, verification
from ai_assets.signoff.errors import IndexAltered
from ai_assets.signoff.publication import publish
from ai_assets.storage import index_bucket
from ai_assets.storage.index import IndexUnavailable
from ai_assets.storage.index_bucket import BucketPlace
from ai_assets.storage.objects import DataStoreUnusable
from ai_assets.storage.stores import Stores

BUCKET = "data"


@pytest.fixture(scope="module", params=["moto", pytest.param("seaweedfs", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    other = request.param == "seaweedfs"
    with weed_server(tmp_path_factory.mktemp("weed"), BUCKET) if other else s3_server(BUCKET) as url:
        yield url


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    prefix = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    found = f"s3://{BUCKET}/{prefix}?endpoint_override={server}"
    for name, value in {**CREDENTIALS, DATA_URL_VARIABLE: found}.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def project(url: str, project: Project) -> Project:
    """Its data is in the bucket."""
    found = replace(project, home=Home.from_environment(project.root))
    assert found.home.data_url == url
    return found


@pytest.fixture
def notes(project: Project) -> Collection:
    return approved_notes(project)


@pytest.fixture
def moto(server: str, request: pytest.FixtureRequest) -> None:
    """For what does not depend on who answers, or takes long: one server is enough."""
    if "seaweedfs" in request.node.callspec.id:
        pytest.skip("moto is enough for this")


def place_of(project: Project) -> BucketPlace:
    place = project.stores().index_place("notes")
    assert isinstance(place, BucketPlace)
    return place


def shown(project: Project) -> dict[str, str]:
    """What others see, by both ways, which must be the same."""
    place = place_of(project)
    tagged = outsider.by_tag(place.uri, place.options)
    live = place.kept(live_index.FILE).content
    assert live is not None
    key = outsider.public_key(project.home.keys)
    assert outsider.by_file(place.uri, live, key, place.options) == tagged
    return tagged


def keys_below(server: str, project: Project) -> list[str]:
    prefix = place_of(project).uri.removeprefix(f"s3://{BUCKET}/")
    pages = client_of(server).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def unsound(stores: Stores) -> list[str | None]:
    return [area.first for area in integrity.verify(stores) if area.differences]


def test_others_read_the_live_release_from_the_bucket(project: Project, notes: Collection) -> None:
    stores = project.stores()
    publish(notes, stores, by="test")
    one = shown(project)
    assert set(one) == {FIRST, SECOND}
    drafted(project, notes, "Another text.")
    release = publish(notes, stores, by="test").release
    assert release.index_seal is not None
    assert all(file.etag for file in release.index_seal.values())
    assert shown(project) == {**one, FIRST: "Another text."}
    assert "Another text." in [hit.text for hit in search(notes, stores, "another text", 2)[1]]
    live_index.roll_back(stores, "notes", 1, by=known(stores.state, "eve"), reason="a test")
    assert shown(project) == one
    assert outsider.plain(place_of(project).uri, place_of(project).options).schema.names == ["read_me"]
    assert not list(project.home.index.glob("**/*.lance"))
    assert unsound(stores) == []
    verification.verify(stores.state)


def test_an_object_of_the_index_that_was_replaced_is_not_searched(
    project: Project, notes: Collection, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = project.stores()
    publish(notes, stores, by="test")
    (data,) = [key for key in keys_below(server, project) if "/tree/" in key and "/data/" in key]
    client = client_of(server)
    content = client.get_object(Bucket=BUCKET, Key=data)["Body"].read()
    client.put_object(Bucket=BUCKET, Key=data, Body=content)  # as a copy would: the same bytes
    monkeypatch.setattr(index_bucket, "LISTED_FOR_S", 0.0)
    assert search(notes, stores, "pump", 2)[1]
    client.put_object(Bucket=BUCKET, Key=data, Body=content.replace(b"first", b"last!"))
    with pytest.raises(IndexAltered, match="has the SHA-256"):
        search(notes, stores, "pump", 2)
    assert "was altered: data/" in str(unsound(stores))
    publish(notes, stores, by="test")
    assert set(shown(project)) == {FIRST, SECOND}


def test_forgetting_and_retention_leave_no_object_that_nothing_needs(
    project: Project, notes: Collection, server: str
) -> None:
    stores = project.stores()
    publish(notes, stores, by="test")
    drafted(project, notes, "A secret text.")
    publish(notes, stores, by="test")
    lancedb.connect(place_of(project).uri, storage_options=dict(place_of(project).options)).open_table(
        "live"
    ).branches.create("releases-9-eeeeeeee")
    assert pruned(project) == ["index live of notes, branch releases-9-eeeeeeee"]
    ada = known(stores.state, "ada", "admin")
    forget(stores, notes, FIRST, by=ada, reason="erasure request 17")
    client = client_of(server)
    holding = [
        key
        for key in keys_below(server, project)
        if b"secret" in client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    ]
    assert holding == []
    assert set(shown(project)) == {SECOND}


@pytest.mark.usefixtures("moto")
def test_what_cannot_be_reached_is_said_in_one_sentence(
    project: Project, notes: Collection, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    assert notes.name == "notes"
    monkeypatch.setenv(DATA_URL_VARIABLE, f"s3://absent/x?endpoint_override={server}")
    stores = Stores.at(Home.from_environment(project.root))
    with pytest.raises(DataStoreUnusable, match="there is no bucket 'absent'"):
        stores.index("notes", "live").versions()
    monkeypatch.setenv(DATA_URL_VARIABLE, "s3://data/x?endpoint_override=http://127.0.0.1:9")
    gone = Stores.at(Home.from_environment(project.root)).index("notes", "live")
    monkeypatch.setattr(index_bucket, "PATIENCE_S", 1.0)
    with pytest.raises((DataStoreUnusable, IndexUnavailable), match="could not be reached") as said:
        gone.versions()
    assert "\n" not in str(said.value)


# Kills, and two at once


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before the text index", "after it is complete", "after the pointer"])
def test_a_publication_killed_over_a_bucket_is_finished_by_the_next(
    project: Project, notes: Collection, step: str
) -> None:
    stores = project.stores()
    publish(notes, stores, by="test")
    one = shown(project)
    drafted(project, notes, "Another text.")
    kill(project, step)
    place = place_of(project)
    assert outsider.by_tag(place.uri, place.options) == one
    live_index.repair(stores, "notes")
    if pointed_at(project) == 1:
        assert shown(project) == one
        publish(notes, stores, by="test")
    assert shown(project) == {**one, FIRST: "Another text."}
    assert unsound(stores) == []


@pytest.mark.slow
def test_two_publications_at_once_make_one_release_of_what_is_approved(project: Project, notes: Collection) -> None:
    code = (
        "from ai_assets.base.home import Home; from ai_assets.storage.stores import Stores\n"
        "from ai_assets.cli.output import collection; from ai_assets.signoff.publication import publish\n"
        "publish(collection('notes'), Stores.at(Home.from_environment()), by='test')\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=project.root, stderr=subprocess.PIPE) for _ in "ab"]
    said = [process.communicate()[1].decode() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert any("NothingApproved" in text for text in said)
    assert set(shown(project)) == {FIRST, SECOND}


STOPPED = """
import os, signal
from ai_assets.storage import index
real = index.complete_indexes
def stopped(*given, **named):
    os.kill(os.getpid(), signal.SIGSTOP)
    real(*given, **named)
index.complete_indexes = stopped
from ai_assets.base.home import Home
from ai_assets.cli.output import collection
from ai_assets.signoff.publication import publish
from ai_assets.storage.stores import Stores
publish(collection("notes"), Stores.at(Home.from_environment()), by="test")
"""


@pytest.mark.slow
def test_rows_of_another_writer_do_not_go_live(project: Project, notes: Collection) -> None:
    """As of one that slept through the loss of its lease: no file of a bucket can be locked against it."""
    stores = project.stores()
    release = publish(notes, stores, by="test").release
    one = shown(project)
    drafted(project, notes, "Another text.")
    process = subprocess.Popen([sys.executable, "-c", STOPPED], cwd=project.root, stderr=subprocess.PIPE)
    os.waitpid(process.pid, os.WUNTRACED)
    place = place_of(project)
    branch = outsider.plain(place.uri, place.options).branches.checkout(str(release.index_branch))
    rows: Any = branch.search().limit(1).to_arrow()
    branch.add(rows.drop_columns([name for name in rows.schema.names if name.startswith("_")]))
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "another process wrote into it meanwhile" in said.decode()
    assert (pointed_at(project), shown(project)) == (1, one)
    publish(notes, stores, by="test")
    assert shown(project) == {**one, FIRST: "Another text."}
