"""A desk over a project's stores, people to use it, and requests by the thousand without runs."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests as http
from conftest import Project, free_port

from ai_assets.collection import Collection
from ai_assets.desk import sessions
from ai_assets.desk.context import Desk
from ai_assets.desk.settings import DeskSettings
from ai_assets.signoff import decisions, people, requests
from ai_assets.signoff.candidate import snapshot_folder
from ai_assets.signoff.decisions import Choice, Verdict
from ai_assets.signoff.people import Person, Role
from ai_assets.signoff.requests import Request
from ai_assets.work import Stores
from resources.digest import digest
from resources.lake import write_parquet
from resources.state import StateStore


def desk_of(project: Project, url: str = "http://127.0.0.1:1", dagster_url: str | None = None) -> Desk:
    return Desk(stores=project.stores(), settings=DeskSettings(), url=url, dagster_url=dagster_url)


def somebody(
    state: StateStore, name: str, role: Role | None = "approver", collection: str = "*", groups: Sequence[str] = ()
) -> Person:
    """A known person with that role, and with no other one from before."""
    with state.write() as connection:
        people.add(connection, name, email=None, password_hash=None, by="test")
        if role is not None:
            people.give(connection, name, role, collection, by="test")
        for group in groups:
            people.join(connection, name, group, by="test")
        found = people.find(connection, name)
    assert found is not None
    return found


def current(state: StateStore, partition: str, collection: str = "notes") -> Request:
    with state.read() as connection:
        found = requests.latest_of(connection, collection, partition)
    assert found is not None
    return found


def decide(
    stores: Stores, collection: Collection, partition: str, verdict: Verdict, by: Person, reason: str | None = None
) -> Request:
    request = current(stores.state, partition, collection.name)
    choices = [Choice(request.request_id, request.digest)]
    rules = collection.settings.signoff
    return decisions.decide(stores.state, collection.name, choices, verdict, by=by, reason=reason, rules=rules)[0]


def asked(
    stores: Stores,
    collection: str,
    partition: str,
    documents: Sequence[Mapping[str, Any]] = (),
    *,
    facts: Mapping[str, Any] | None = None,
    risk: float = 0.2,
    **told: Any,
) -> Request:
    """A request with all documents added, as a run would have made it."""
    files = {}
    if documents:
        files = {"documents_file": _written(stores, collection, partition, documents).name, "chunks_file": "none"}
    summary = {
        "added": sorted(row["document_id"] for row in documents), "changed": [], "removed": [], "unchanged": 0,
        "relabelled": {}, "documents": len(documents), "quarantined": 0, "scores": [], "cost_usd": 0.0,
        "live_release": None, "live_scores": None, "run_id": "run", "gates": [], "authors": [],
        "files": files or None, "live_files": None, "since_last": None, **told,
    }  # fmt: skip
    given = {
        "documents": len(documents), "quarantined": 0, "added": len(documents), "changed": 0, "removed": 0,
        "relabelled": 0, "low_confidence": 0, "failed_gates": 0, "cost_usd": 0.0,
    }  # fmt: skip
    with stores.state.write() as connection:
        found = requests.open_request(
            connection, collection, partition, digest([collection, partition, json.dumps(summary)]),
            summary=summary, facts=given if facts is None else facts, risk=risk, nothing_new=False,
        )  # fmt: skip
    assert found is not None
    return found


def document(number: int, **columns: Any) -> dict[str, Any]:
    """A row of a candidate's file."""
    return {
        "document_id": f"{number:05d}.txt", "path": f"{number:05d}.txt", "title": f"Note {number}",
        "text": f"Text of note {number}. " * 50, "language": "en", "status": "ok", "source_digest": digest([number]),
        "digest": digest([number, "text"]), "kind_label": "invoice", "kind_confidence": (number % 100) / 100,
        "kind_runner_up": "incident", "kind_runner_up_confidence": 0.1, "kind_evidence": f"Text of note {number}.",
        "kind_evidence_start": 0, "kind_model": "builtin", "leaf": digest([number, "leaf"]), **columns,
    }  # fmt: skip


def _written(stores: Stores, collection: str, partition: str, documents: Sequence[Mapping[str, Any]]) -> Path:
    import pyarrow as pa

    folder = snapshot_folder(stores.lake.root, collection, partition)
    return write_parquet(folder, pa.Table.from_pylist([dict(row) for row in documents]))


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody who is signed in, at a desk that is served."""

    url: str
    cookie: str
    csrf: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": f"desk={self.cookie}", "X-CSRF-Token": self.csrf}

    def get(self, path: str, **query: Any) -> http.Response:
        return self._send("GET", path, params=query)

    def post(self, path: str, body: object) -> http.Response:
        return self._send("POST", path, json=body)

    def _send(self, method: str, path: str, **sent: Any) -> http.Response:
        with http.Session() as session:
            session.trust_env = False
            return session.request(method, f"{self.url}/api{path}", headers=self.headers, timeout=30, **sent)


@contextlib.contextmanager
def served(desk: Desk) -> Iterator[Desk]:
    """The whole application, over real HTTP, from a thread of this process."""
    import uvicorn

    from ai_assets.desk.app import create_app

    port = free_port()
    found = replace(desk, url=f"http://127.0.0.1:{port}")
    server = uvicorn.Server(uvicorn.Config(create_app(found), port=port, ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield found
    finally:
        server.should_exit = True
        thread.join()


def caller(desk: Desk, person: Person) -> Caller:
    with desk.stores.state.write() as connection:
        token, _ = sessions.open_session(
            connection, person.name, via="password", rules=desk.settings.sessions, address="127.0.0.1", agent="test"
        )
    return Caller(url=desk.url, cookie=token, csrf=sessions.csrf(token))
