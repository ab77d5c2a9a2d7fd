"""A real S3 API (moto's server) in a process of its own, and a proxy before it that loses requests and answers."""

import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PASSING = {"500": (500, "InternalError"), "503": (503, "SlowDown")}
_HOPS = ("expect", "connection")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "secret-of-the-bucket"}


@contextlib.contextmanager
def s3_server(*buckets: str, locked: str = "") -> Iterator[str]:
    """Its address, once it answers and has these buckets; one of them with Object Lock."""
    _read_once()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url)
        for bucket in buckets:
            client_of(url).create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=bucket == locked)
        yield url
    finally:
        server.kill()
        server.wait()


@pytest.fixture(autouse=True)
def bucket_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@cache
def _read_once() -> None:
    """What botocore knows of services, for all clients of this process: each reads it for a tenth of a second."""
    import botocore.session

    botocore.session.create_loader = cache(botocore.session.create_loader)


def client_of(url: str):  # type: ignore[no-untyped-def]
    import boto3

    return boto3.session.Session().client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(url)


class FaultyStore:
    """Hands requests on to a real server, after the faults it was told of: one per request, in their order.

    `500`, `503`: answered so, and not handed on. `lost request`: the connection is cut before it is handed on.
    `lost answer`: it is handed on, and the connection is cut. `torn answer`: half of its body comes back.
    `torn request`: half of its body is taken, and the connection is cut. `silence`: no answer until the client ends it.
    """

    drops: tuple[str, ...] = ()
    """Headers that do not reach the server."""

    def __init__(self, server: str) -> None:
        self.refuse: tuple[int, str] | None = None
        """Status and code of an error that answers everything."""
        self.faults: list[str] = []
        self.seen: list[tuple[str, str]] = []
        """Method and path of every request."""
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, server.removeprefix("http://")))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> "FaultyStore":
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def next_fault(self) -> str | None:
        return self.faults.pop(0) if self.faults else None


def _handler(store: FaultyStore, server: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for an answer

        def _any(self) -> None:
            store.seen.append((self.command, self.path))
            fault = store.next_fault()
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length // 2 if fault == "torn request" else length)
            if fault == "torn request":
                self._cut()
                return
            if fault == "silence":
                self.connection.recv(1)
                self.close_connection = True
                return
            if refusal := store.refuse or PASSING.get(fault or ""):
                self._answer(refusal[0], {}, f"<Error><Code>{refusal[1]}</Code></Error>".encode())
                return
            if fault == "lost request":
                self._cut()
                return
            kept = {name: value for name, value in self.headers.items() if name.lower() not in (*store.drops, *_HOPS)}
            status, headers, answer = _handed_on(server, self.command, self.path, kept, body)
            if fault == "lost answer":
                self._cut()
            elif fault == "torn answer":
                self._answer(status, headers, answer, only=len(answer) // 2)
            else:
                self._answer(status, headers, answer)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815

        def _answer(self, status: int, headers: dict[str, str], body: bytes, only: int | None = None) -> None:
            self.send_response_only(status)
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(body))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(body if only is None else body[:only])
            if only is not None:
                self._cut()

        def _cut(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _handed_on(
    server: str, method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[int, dict[str, str], bytes]:
    there = http.client.HTTPConnection(server, timeout=30)
    try:
        there.request(method, path, body=body or None, headers=headers)
        answer = there.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        there.close()
