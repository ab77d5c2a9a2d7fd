"""Servers of tests that answer as a handler says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class QuietHandler(BaseHTTPRequestHandler):
    """Answers GET and POST alike, by `answer` of a subclass, and says nothing of it on the terminal."""

    def answer(self) -> None:
        raise NotImplementedError

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def given(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def say(self, status: int, said: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """At an address of this machine, until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Scripted:
    """A model server that answers as `says` has it, by what stands at the end of the path: text, or JSON."""

    says: dict[str, Callable[[dict[str, Any]], Any]]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """The paths of the requests that came."""


@contextmanager
def scripted(**says: Callable[[dict[str, Any]], Any]) -> Iterator[Scripted]:
    """What a function gives is the answer; a tuple is status, headers and answer. What is not said is 404."""
    found = Scripted(says)

    class Handler(QuietHandler):
        def answer(self) -> None:
            body = self.given()
            found.asked.append(self.path)
            says = found.says.get(self.path.rpartition("/")[2])
            given = (404, {}, "nothing is here") if says is None else says(json.loads(body) if body else {})
            status, headers, answer = given if isinstance(given, tuple) else (200, {}, given)
            raw = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

    with serving(Handler) as url:
        found.url = url
        yield found
