"""Every page of the desk, every question of its API, and what programs ask it for: asked of the application itself.

The table of routes is walked, so that a page that is added is measured, or the bench says that it has no parameters
for it. No socket and no client: a request goes straight into the application, with protection and templates.
"""

import asyncio
import contextlib
import math
import re
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlencode

import sqlalchemy as sa
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import Message, Scope

from ai_assets.base.home import Home
from ai_assets.desk import sessions
from ai_assets.desk.app import create_app
from ai_assets.desk.context import Desk
from ai_assets.desk.metrics.scraping import DeskMetrics
from ai_assets.desk.probes import Probes
from ai_assets.desk.settings import DeskSettings
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import people
from ai_assets.signoff.people import Person
from ai_assets.storage.state import StateStore
from ai_assets.storage.stores import Stores
from bench.measure import Figure

TURNS = 7
LIMIT = 1.5

ANN = "ann"
NOT_ASKED: Mapping[str, str] = {
    "/answers/{call}": "one row of one call: none is made here",
    "/api/answers/{call}": "the same",
    "/golden/{collection}/ratings/{judge}": "the outputs of one judge, which asks a model: none is declared here",
    "/api/golden/{collection}/ratings/{judge}": "the same",
    "/shadows/{collection}/{number}": "one shadow, which asks models: none is made here",
    "/sign-in": "of who is signed in, it is the inbox",
    "/sign-in/oidc": "an address of another server",
    "/sign-in/callback": "answers of that server",
    "/api/openapi.json": "made once for a process",
    "/costs/{name}.csv": "a download from the warehouse, which nobody builds here",
    "/explain/{collection}/statement.json": "of a row that was really published",
    "/golden/{collection}": "golden labels of one document: none is declared here",
    "/api/golden/{collection}/document": "the same",
    "/evaluation/{collection}/documents": "documents that labels judge: none is declared here",
    "/evaluation/{collection}/document": "the same",
    "/touched/{collection}": "by a model that made no row it is refused; see the command",
}
"""Why a route is left out."""
_ONE: Mapping[str, str] = {"id": "document"}
_OF_RELEASE: Mapping[str, str] = {**_ONE, "partition": "partition"}
QUERIES: Mapping[str, Mapping[str, str]] = {
    "/requests/{request_id}/document": _ONE,
    "/explain/{collection}": _ONE,
    "/explain/{collection}/provenance.json": _ONE,
    "/releases/{collection}/{number}/document": _OF_RELEASE,
    "/releases/{collection}/{number}/difference": {"with": "number"},
    "/api/requests/{request_id}/document": _ONE,
    "/api/releases/{collection}/at": {"moment": "moment"},
    "/api/releases/{collection}/{number}/document": _OF_RELEASE,
    "/api/releases/{collection}/{number}/difference": {"with": "number"},
    "/api/runs/{collection}/price": {"first": "partition"},
}
"""What must be said after the question mark, by what it is of the world."""

WHOLE: Mapping[str, str] = {
    "/audit.jsonl": "the chain itself",
    "/releases/{collection}/{number}/card": "sums over all partitions of its card",
    "/releases/{collection}/{number}/card.md": "the same",
    "/releases/{collection}/{number}/card.json": "the card itself",
    "/api/releases/{collection}/{number}": "all parts of a release",
    "/api/runs/{collection}/price": "the source is listed, and labels so far are counted",
}
"""What answers with something of each partition, or is made from it: it grows with them and is held to nothing."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One installation, and somebody who is signed in at its desk."""

    stores: Stores
    app: Starlette
    cookie: str
    given: Mapping[str, str]
    """Of the collection that is looked at: what routes and questions name."""

    @property
    def desk(self) -> Desk:
        found: Desk = self.app.state.desk
        return found


def known(state: StateStore) -> Person:
    """Somebody who may do all."""
    with state.write() as connection:
        if people.standing(connection, ANN) == "unknown":
            people.add(connection, ANN, email=None, password_hash=None, by="bench")
            people.give(connection, ANN, "admin", people.EVERYWHERE, by="bench")
        found = people.find(connection, ANN)
    assert found is not None
    return found


def world(stores: Stores, collection: str) -> World:
    known(stores.state)
    settings = DeskSettings()
    with stores.state.write() as connection:
        cookie, _ = sessions.open_session(
            connection, ANN, via="password", seal=Seal.of(stores.home), rules=settings.sessions, address="127.0.0.1",
            agent="bench",
        )  # fmt: skip
    desk = Desk(stores=stores, settings=settings, url="http://127.0.0.1", dagster_url=None)
    return World(stores=stores, app=create_app(desk), cookie=cookie, given=_given(stores, collection))


def _given(stores: Stores, collection: str) -> dict[str, str]:
    with stores.state.read() as connection:

        def one(query: str) -> str:
            return str(connection.execute(sa.text(query), {"c": collection}).scalars().first())

        return {
            "collection": collection,
            "partition": one("SELECT min(partition) FROM refreshes WHERE collection = :c"),
            "document": one("SELECT min(document_id) FROM document_history WHERE collection = :c"),
            "request_id": one("SELECT request_id FROM review_requests WHERE collection = :c AND status = 'open' "
                              "ORDER BY partition"),
            "run_id": one("SELECT run_id FROM run_spans WHERE collection = :c ORDER BY partition"),
            "number": one("SELECT max(number) FROM releases WHERE collection = :c"),
            "moment": one("SELECT max(created_at) FROM releases WHERE collection = :c"),
            "stage": "classification",
            "name": ANN,
        }  # fmt: skip


def routes(app: Starlette) -> list[str]:
    """All that is read, without the files that never change."""
    pages = [route.path for route in app.routes if isinstance(route, Route) and "GET" in (route.methods or ())]
    (api,) = (route.app for route in app.routes if isinstance(route, Mount) and isinstance(route.app, FastAPI))
    questions = [f"/api{path}" for path, methods in api.openapi()["paths"].items() if "get" in methods]
    return [path for path in (*pages, *questions) if path not in NOT_ASKED]


def address(path: str, given: Mapping[str, str]) -> str:
    """With its parameters. Raises KeyError for one that nobody has said a value of."""
    asked = {name: given[value] for name, value in QUERIES.get(path, {}).items()}
    filled = re.sub(r"{(\w+)}", lambda found: quote(given[found[1]], safe=""), path)
    return f"{filled}?{urlencode(asked)}" if asked else filled


async def ask(found: World, where: str) -> tuple[int, int]:
    """The status of the answer and its length."""
    path, _, asked = where.partition("?")
    sent: list[Message] = []

    body: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if not body:
            await asyncio.Event().wait()  # a browser that stays
        return body.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": asked.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1"), (b"cookie", f"desk={found.cookie}".encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    await found.app(scope, receive, send)
    length = sum(len(message.get("body", b"")) for message in sent)
    return next(int(message["status"]) for message in sent if message["type"] == "http.response.start"), length


def measure(small: Path, large: Path) -> list[Figure]:
    """Of processor time, asked in turns, so that what else the machine does hits both alike."""
    took: dict[str, dict[Path, list[float]]] = {}
    with contextlib.ExitStack() as opened:
        worlds = {}
        for project in (large, small):
            stores = opened.enter_context(Stores.at(Home(root=project / "home", project=project)))
            worlds[project] = world(stores, "daily")
        for path in routes(worlds[small].app):
            times = took.setdefault(path, {large: [], small: []})
            for turn in range(TURNS + 1):
                for project, found in worlds.items():
                    where = address(path, found.given)
                    with contextlib.chdir(project):
                        found.stores.home.export()
                        forget(found)
                        started = time.process_time()
                        status, _ = asyncio.run(ask(found, where))
                        spent = (time.process_time() - started) * 1000
                    if status != 200:
                        raise RuntimeError(f"{where}: {status}")
                    if turn:
                        times[project].append(spent)
    figures = []
    for path, times in took.items():
        mine, theirs = (statistics.median(times[project]) for project in (large, small))
        figures.append(
            Figure(name=f"GET {path}: large / small", value=mine / theirs,
                   limit=math.inf if path in WHOLE else LIMIT, at_most=True, detail=f"{mine:.1f} and {theirs:.1f} ms")
        )  # fmt: skip
    return figures


def forget(found: World) -> None:
    """What metrics and probes keep for some seconds, so that each look is a first one."""
    metrics, probes = DeskMetrics(found.desk), Probes(found.desk)
    anew = {route.path: route for route in (*probes.routes(), metrics.route())}
    found.app.router.routes[:] = [anew.get(getattr(route, "path", ""), route) for route in found.app.routes]
