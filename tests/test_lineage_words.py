"""Claims about what is said where a consumer of lineage does not take what is sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Project
from published import published_twice
from signing import known

from ai_assets.run import going_live

pytest.importorskip("openlineage", reason="OpenLineage is not here: pip install 'ai-assets[openlineage]'")


@contextmanager
def consumer(answers: int | None) -> Iterator[str]:
    """One that answers so, or that is gone."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answers or 200)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        if answers is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        if answers is not None:
            server.shutdown()


@pytest.mark.parametrize(
    ("answers", "found"), [(None, "cannot be reached"), (404, "answered with status 404"), (503, "")]
)
def test_a_consumer_that_is_not_there_is_said_in_our_words(
    project: Project, monkeypatch: pytest.MonkeyPatch, answers: int | None, found: str
) -> None:
    project.documents(per_day=1, days=1)
    project.refresh(project.declare())
    collection = published_twice(project)
    said = list[str]()
    with consumer(answers) as url:
        for name, value in {"TYPE": "http", "URL": url, "RETRY": json.dumps({"total": 0})}.items():
            monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
        stores = project.stores()
        eve = known(stores.state, "eve")
        going_live.roll_back(collection, stores, 1, by=eve, reason="a test", say=said.append)
    (line,) = [line for line in said if "lineage" in line.lower()]
    assert f"does not take what is sent: {url} {found}" in line, line
    assert "The rollback to release 1 is not affected" in line, line
    assert "Max retries" not in line, line
