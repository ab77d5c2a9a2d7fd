"""Claims about the bucket that holds the data: conditions, lost answers, and what is said where it cannot be used."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import CREDENTIALS, FaultyStore, bucket_credentials, client_of, s3_server  # noqa: F401 - a fixture

from ai_assets.storage.objects import (
    DataBucket,
    DataStoreSilent,
    DataStoreUnusable,
    ObjectAltered,
    ObjectMissing,
    ObjectReplaced,
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server("data") as url:
        yield url


@pytest.fixture
def store(server: str, request: pytest.FixtureRequest) -> DataBucket:
    return DataBucket(f"s3://data/{request.node.name}?endpoint_override={server}")


@pytest.fixture
def faulty(server: str) -> Iterator[FaultyStore]:
    with FaultyStore(server) as made:
        yield made


def test_an_object_comes_back_and_one_that_is_not_there_is_none(store: DataBucket, tmp_path: Path) -> None:
    assert (store.get("a/b"), store.size("a/b")) == (None, None)
    store.put("a/b", b"alpha")
    (tmp_path / "file").write_bytes(b"beta")
    store.put("a/c", tmp_path / "file")
    found = store.get("a/b")
    assert found is not None
    assert (found.content, store.size("a/b")) == (b"alpha", 5)
    assert [(found.key, found.size) for found in store.objects()] == [("a/b", 5), ("a/c", 4)]
    assert [found.key for found in store.below("a").objects()] == ["b", "c"]
    store.delete(["a/b", "a/never"])
    assert [found.key for found in store.objects()] == ["a/c"]


def test_what_is_erased_is_gone_in_every_version(store: DataBucket, server: str) -> None:
    client = client_of(server)
    client.create_bucket(Bucket="versioned")
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    kept = DataBucket(f"s3://versioned/x?endpoint_override={server}")
    for content in (b"1", b"2"):
        kept.put("doc/a", content)
        kept.put("other/b", content)
    kept.delete(["doc/a"])
    assert kept.erase("doc/") == 3
    left = client.list_object_versions(Bucket="versioned")
    assert {entry["Key"] for entry in left["Versions"]} == {"x/other/b"}
    assert "DeleteMarkers" not in left
    store.put("doc/a", b"1")
    assert (store.erase("doc/"), store.get("doc/a")) == (1, None)


def test_of_two_writers_one_wins(store: DataBucket) -> None:
    won: list[int] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        try:
            store.put_if_absent("manifest", f"of {number}".encode())
        except ObjectReplaced:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.get("manifest")
    assert found is not None
    assert [found.content] == [f"of {number}".encode() for number in won]


def test_what_was_replaced_meanwhile_is_not_replaced_again(store: DataBucket) -> None:
    first = store.put_if_absent("pointer", b"1")
    second = store.put_if_unchanged("pointer", b"2", first)
    with pytest.raises(ObjectReplaced):
        store.put_if_unchanged("pointer", b"3", first)
    store.put_if_unchanged("pointer", b"4", second)
    with pytest.raises(ObjectReplaced):
        store.put_if_absent("pointer", b"5")
    with pytest.raises(ObjectReplaced):
        store.put_if_unchanged("never", b"6", second)


@pytest.mark.parametrize("fault", ["500", "503", "lost request", "lost answer"])
def test_a_put_whose_answer_is_lost_has_won_once(server: str, faulty: FaultyStore, fault: str) -> None:
    store = DataBucket(f"s3://data/{fault.replace(' ', '-')}?endpoint_override={faulty.url}")
    faulty.faults = [fault]
    tag = store.put_if_absent("manifest", b"mine")
    faulty.faults = [fault]
    store.put_if_unchanged("manifest", b"mine too", tag)
    found = store.get("manifest")
    assert found is not None
    assert found.content == b"mine too"
    faulty.faults = [fault]
    with pytest.raises(ObjectReplaced):
        store.put_if_absent("manifest", b"another's")


@pytest.mark.parametrize("fault", ["500", "503", "lost answer", "torn answer"])
def test_a_file_is_fetched_whole_or_again(server: str, faulty: FaultyStore, fault: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 8_000
    digest = hashlib.sha256(content).hexdigest()
    DataBucket(f"s3://data/files?endpoint_override={server}").put(digest, content)
    store = DataBucket(f"s3://data/files?endpoint_override={faulty.url}")
    faulty.faults = [fault, fault]
    store.fetch(digest, tmp_path / "cache" / "file", digest)
    assert (tmp_path / "cache" / "file").read_bytes() == content


def test_other_bytes_than_the_name_says_never_become_the_file(store: DataBucket, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"true").hexdigest()
    store.put("f", b"false")
    with pytest.raises(ObjectAltered, match="does not hold the bytes"):
        store.fetch("f", tmp_path / "file", digest)
    with pytest.raises(ObjectMissing):
        store.fetch("g", tmp_path / "file", digest)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_honours_conditions_is_taken_and_one_that_ignores_them_is_refused(server: str) -> None:
    DataBucket(f"s3://data/proof?endpoint_override={server}").prove()
    with Careless(server) as careless, pytest.raises(DataStoreUnusable, match="ignores the condition If-None-Match"):
        DataBucket(f"s3://data/proof?endpoint_override={careless.url}").prove()
    assert list(DataBucket(f"s3://data/proof?endpoint_override={server}").objects()) == []


class Careless(FaultyStore):
    """A real server whose conditions are taken out on their way."""

    drops = ("if-none-match", "if-match")


def test_what_cannot_be_used_is_one_sentence(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataStoreUnusable, match="there is no bucket 'nobodys'"):
        DataBucket(f"s3://nobodys/x?endpoint_override={server}").get("a")
    with pytest.raises(DataStoreSilent, match="could not be reached for 1 s"):
        DataBucket("s3://data/x?endpoint_override=http://127.0.0.1:1", patience_s=1).get("a")
    with pytest.raises(DataStoreUnusable, match="unknown parameter 'endpiont'"):
        DataBucket("s3://data/x?endpiont=http://x")
    with pytest.raises(DataStoreUnusable, match="holds credentials") as refused:
        DataBucket("s3://key:very-secret@data/x")
    assert "very-secret" not in str(refused.value)
    with pytest.raises(DataStoreUnusable, match="not that of a bucket"):
        DataBucket("/srv/data")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(DataStoreUnusable, match="no credentials were found"):
        DataBucket(f"s3://data/x?endpoint_override={server}").get("a")


def test_that_a_store_is_waited_for_is_said_once_however_many_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ai_assets.storage.objects.TOLD_AFTER_S", 0.2)
    bucket = DataBucket("s3://data/x?endpoint_override=http://127.0.0.1:1", patience_s=1.5)
    parts = [bucket, bucket.below("lake"), bucket.below("index")]
    with ThreadPoolExecutor(len(parts)) as pool:
        asked = [pool.submit(each.get, "a") for each in parts]
        assert all(isinstance(each.exception(), DataStoreSilent) for each in asked)
    (line,) = [each.getMessage() for each in caplog.records if each.name == "ai_assets.storage.objects"]
    assert line.startswith("Waiting for the data store s3://data/x")
    assert "for up to 1.5 s: its endpoint could not be reached for" in line


def test_a_store_that_fails_for_too_long_is_named(faulty: FaultyStore) -> None:
    faulty.faults = ["503"] * 1000
    with pytest.raises(DataStoreSilent, match="it answered SlowDown for 1 s"):
        DataBucket(f"s3://data/x?endpoint_override={faulty.url}", patience_s=1).get("a")


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("AccessDenied", 403, "the right to write is missing"),
        ("ExpiredToken", 400, "the credentials have expired"),
        ("RequestTimeTooSkewed", 403, "its clock and the one of this machine differ"),
        ("SignatureDoesNotMatch", 403, "the credentials were refused"),
    ],
)
def test_what_the_store_refuses_is_said_with_what_to_do(server: str, code: str, status: int, said: str) -> None:
    with FaultyStore(server) as refusing:
        refusing.refuse = (status, code)
        store = DataBucket(f"s3://data/x?endpoint_override={refusing.url}")
        with pytest.raises(DataStoreUnusable, match=said):
            store.put("a", b"1")
    assert client_of(server).list_objects_v2(Bucket="data", Prefix="x/").get("KeyCount") == 0
