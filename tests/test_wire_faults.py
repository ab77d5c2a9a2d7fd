"""Claims about answers that no provider should give: over a real connection, what they mean for money."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from engines import ask, attempts, check_books, one, question
from http_servers import serving

from ai_assets.inference.records import Unanswered

BUSY: Mapping[str, Any] = {"error": {"message": "Provider returned error", "code": 502}}
BROKEN_OFF: Mapping[str, Any] = {
    "choices": [{"message": {"content": "The pump in"}, "finish_reason": "error"}], "usage": {"prompt_tokens": 9},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    id: str
    status: int
    body: bytes
    error: str
    state: str
    says: str
    headers: Mapping[str, str] = field(default_factory=dict)


CASES = (
    Case(id="an error inside an answer", status=200, body=json.dumps(BUSY).encode(), error="garbled",
         state="ambiguous", says="HTTP 200 with an error inside: Provider returned error"),
    Case(id="an answer that was broken off", status=200, body=json.dumps(BROKEN_OFF).encode(), error="garbled",
         state="ambiguous", says="broke the answer off with an error"),
    Case(id="accepted", status=202, body=b"", error="garbled", state="ambiguous", says="HTTP 202"),
    Case(id="a page of a proxy", status=503, body=b"<html>no healthy upstream</html>", error="gateway_error",
         state="ambiguous", says="HTTP 503: <html>no healthy upstream"),
    Case(id="a proxy that speaks JSON", status=502, body=json.dumps(BUSY).encode(), error="gateway_error",
         state="ambiguous", says="HTTP 502: Provider returned error"),
    Case(id="a redirect", status=302, body=b"", error="malformed", state="failed", says="HTTP 302",
         headers={"Location": "https://login.example.org/"}),
    Case(id="a compressed body that is none", status=500, body=b"<html>", error="connection_lost", state="ambiguous",
         says="the connection broke", headers={"Content-Encoding": "gzip"}),
)  # fmt: skip


@contextmanager
def server(case: Case) -> Iterator[str]:
    """It gives every request this answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(case.status)
            for name, value in case.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(case.body)))
            self.end_headers()
            self.wfile.write(case.body)

        def log_message(self, *_line: Any) -> None:
            pass

    with serving(Handler) as url:
        yield f"{url}/v1"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_what_came_decides_whether_it_can_have_been_billed(case: Case, tmp_path: Path) -> None:
    state_url = f"sqlite:///{tmp_path}/state.db"
    with server(case) as url:
        (result,) = ask(state_url, one(url), [question(1)])
    assert isinstance(result, Unanswered)
    assert result.error == case.error
    assert case.says in result.message
    assert {row.state for row in attempts(state_url)} == {case.state}
    check_books(state_url)


def test_a_connection_without_its_encryption_never_carried_the_request_and_costs_nothing(tmp_path: Path) -> None:
    state_url = f"sqlite:///{tmp_path}/state.db"
    with server(CASES[0]) as url:
        (result,) = ask(state_url, one(url.replace("http:", "https:")), [question(1)])
    assert isinstance(result, Unanswered)
    assert (result.error, result.maybe_usd) == ("unreachable", 0)
    assert {(row.state, row.cost_nusd) for row in attempts(state_url)} == {("failed", 0)}


def test_a_connection_that_closes_before_the_request_is_read_may_have_carried_it(tmp_path: Path) -> None:
    """What left this machine cannot be told from what arrived."""
    state_url = f"sqlite:///{tmp_path}/state.db"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopped = threading.Event()

        def hang_up() -> None:
            listening.settimeout(0.1)
            while not stopped.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        try:
            (result,) = ask(state_url, one(url), [question(1)])
        finally:
            stopped.set()
            thread.join()
    assert isinstance(result, Unanswered)
    assert result.error == "connection_lost"
    assert result.maybe_usd > 0
