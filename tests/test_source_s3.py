"""Claims about a source in an object store, against a real server that speaks S3."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import STAGE, Project, text_of
from s3_server import client_of, s3_server

from ai_assets.base.errors import SourceUnavailable
from ai_assets.documents.source import Source

KEYS = {
    "corpus/a.md": b"alpha",
    "corpus/b/c.md": b"gamma",
    "corpus/b/re\u0301.md": b"decomposed",
    "corpus/b//d.md": b"unreadable key",
    "corpus/.hidden/x.md": b"hidden",
    "corpus/big.bin": bytes(range(256)) * 40_000,
    "other/z.md": b"another prefix",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server("docs", "void") as url:
        for key, body in KEYS.items():
            client_of(url).put_object(Bucket="docs", Key=key, Body=body)
        yield url


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def at(location: str, endpoint: str) -> Source:
    return Source.at(f"s3://{location}?endpoint_override={endpoint}&region=us-east-1")


def test_objects_are_listed_like_files(endpoint: str) -> None:
    files = list(at("docs/corpus", endpoint).list(["**/*.md"], []))
    assert [file.path for file in files] == ["a.md", "b//d.md", "b/c.md", "b/ré.md"]
    assert (files[0].size, files[0].problem) == (5, None)
    assert abs(files[0].modified_ns - time.time_ns()) < 600e9
    assert files[1].problem == "its key has an empty part ('//'); rename it"


def test_a_trailing_slash_and_a_whole_bucket_are_sources_too(endpoint: str) -> None:
    assert [file.path for file in at("docs/corpus/", endpoint).list(["*.md"], [])] == ["a.md"]
    assert [file.path for file in at("docs", endpoint).list(["other/*"], [])] == ["other/z.md"]


def test_an_object_is_read_whole_in_part_and_by_seeking(endpoint: str) -> None:
    source = at("docs/corpus", endpoint)
    with source.open("big.bin") as stream:
        assert stream.read(3) == b"\x00\x01\x02"
        assert stream.seek(-1, 2) == len(KEYS["corpus/big.bin"]) - 1
        assert stream.read() == b"\xff"
        stream.seek(0)
        assert stream.read() == KEYS["corpus/big.bin"]
    assert stream.closed


def test_a_decomposed_key_is_read_by_its_composed_name_without_a_listing_before(endpoint: str) -> None:
    with at("docs/corpus", endpoint).open("b/ré.md") as stream:
        assert stream.read() == b"decomposed"


def test_the_endpoint_may_come_from_the_environment(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert [file.path for file in Source.at("s3://docs/other").list((), ())] == ["z.md"]


def test_an_empty_bucket_is_an_empty_source(endpoint: str) -> None:
    assert list(at("void", endpoint).list((), ())) == []


def test_a_missing_object_is_an_os_error(endpoint: str) -> None:
    with pytest.raises(FileNotFoundError):
        at("docs/corpus", endpoint).open("nothing.md")


def test_a_missing_bucket_is_named(endpoint: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        at("nobody/corpus", endpoint).list((), ())
    assert str(caught.value) == (
        f"Source s3://nobody/corpus at {endpoint}: there is no bucket 'nobody'. Create it, or correct its name."
    )


def test_a_missing_prefix_is_named(endpoint: str) -> None:
    with pytest.raises(SourceUnavailable, match="no object begins with this prefix"):
        at("docs/nothing", endpoint).list((), ())


@pytest.mark.slow
def test_an_endpoint_that_does_not_answer_is_named() -> None:
    with pytest.raises(
        SourceUnavailable, match=r"at http://127\.0\.0\.1:9: the endpoint cannot be reached\. Check endpoint"
    ):
        at("docs/corpus", "http://127.0.0.1:9").list((), ())


def test_a_store_that_refuses_says_which_variables_to_check() -> None:
    with _refusing() as endpoint, pytest.raises(SourceUnavailable) as caught:
        at("docs/corpus", endpoint).list((), ())
    assert "access was refused (ACCESS_DENIED). Check AWS_ACCESS_KEY_ID" in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hush@docs/corpus?region=us-east-1&token=hush",
        "s3://key:hush@docs/cor pus?endpoint_override=http://u:hush@h",
        "s3:///corpus?secret=hush",
    ],
)
def test_no_message_holds_a_credential(url: str) -> None:
    with pytest.raises(SourceUnavailable) as caught:
        Source.at(url).list((), ())
    assert "hush" not in str(caught.value) + Source.at(url).describe()
    assert caught.value.__cause__ is None


def test_opening_a_source_asks_nobody() -> None:
    assert Source.at("s3://docs/corpus?endpoint_override=http://127.0.0.1:9").describe() == (
        "s3://docs/corpus at http://127.0.0.1:9"
    )


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def _refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_collection_on_s3_computes_only_the_object_that_changed(endpoint: str, project: Project) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="papers")
    for number in range(6):
        client.put_object(
            Bucket="papers", Key=f"in/2026-10-0{5 + number % 2}/{number}.txt", Body=text_of(number).encode()
        )
    source = {"path": f"s3://papers/in?endpoint_override={endpoint}&region=us-east-1"}
    collection = project.declare(source=source, stages=[STAGE])

    first = {(o.manifest.asset, o.manifest.partition): o for o in project.refresh(collection)}
    assert first["documents", "2026-10-05"].documents_out == first["kind", "2026-10-05"].computed == 3
    assert all(outcome.unchanged for outcome in project.refresh(collection))

    client.put_object(Bucket="papers", Key="in/2026-10-05/2.txt", Body=b"Another text about a pump that failed.")
    client.delete_object(Bucket="papers", Key="in/2026-10-06/1.txt")
    again = {(o.manifest.asset, o.manifest.partition): o for o in project.refresh(collection)}
    for asset in ("chunks", "embeddings", "kind"):
        changed = again[asset, "2026-10-05"]
        assert (changed.documents_in, changed.reused, changed.computed) == (3, 2, 1), asset
    assert again["documents", "2026-10-06"].manifest.stats["statuses"]["deleted"] == 1


@pytest.mark.slow
def test_tables_on_s3_are_served_to_the_process_that_reads_them(endpoint: str) -> None:
    import io

    import boto3
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ai_assets.documents.parse import Parser, TableFormat

    texts = [f"{text_of(number)} {'x' * 1_000}" for number in range(6_000)]
    file = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), file, row_group_size=1_000)
    lines = "".join(f"{number},{text}\n" for number, text in enumerate(texts))
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="tables")
    client.put_object(Bucket="tables", Key="in/a.parquet", Body=file.getvalue())
    client.put_object(Bucket="tables", Key="in/b.csv", Body=f"id,text\n{lines}".encode())
    table = TableFormat(key="id", text=("text",), title=None, partition=None)
    source = at("tables/in", endpoint)
    with Parser() as parser:
        for listed in source.list((), ()):
            found = [row.text for row in parser.parse(source, listed, {"csv": table, "parquet": table})]
            assert found == texts, listed.path
