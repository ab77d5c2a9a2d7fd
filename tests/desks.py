"""Desks that run, in a thread or in a process of their own, and people at them over real HTTP."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from conftest import WARM, Project, free_port
from signing import PASSWORD, current
from starlette.types import ASGIApp
from warm import WarmProcess

from ai_assets.desk import sessions
from ai_assets.desk.context import Desk
from ai_assets.desk.settings import DeskSettings
from ai_assets.desk.signed_values import Seal
from ai_assets.ops.dagster_client import answers
from ai_assets.signoff.people import Person

START_S, STOP_S = 300.0, 30.0
PLAIN: dict[str, Any] = {"trust_env": False, "timeout": 30.0, "verify": False}
"""For httpx: nothing but plain HTTP on this machine. Loading certificates for it would take longer than most calls."""


def desk_of(project: Project, url: str = "http://127.0.0.1:1", dagster_url: str | None = None) -> Desk:
    """What the desk reads from, without a server."""
    return Desk(stores=project.stores(), settings=DeskSettings(), url=url, dagster_url=dagster_url)


def request_id(desk: Desk, partition: str) -> str:
    """Of what was asked last."""
    return current(desk.stores.state, partition).request_id


@contextmanager
def listening(app: ASGIApp, port: int, http: Any = "auto") -> Iterator[None]:
    """Real HTTP, from a thread of this process."""
    config = uvicorn.Config(
        app, "127.0.0.1", port, http=http, log_level="critical", ws="none", proxy_headers=False, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(60)


@contextmanager
def served(desk: Desk) -> Iterator[Desk]:
    """The whole application."""
    from ai_assets.desk.app import create_app

    port = free_port()
    found = replace(desk, url=f"http://127.0.0.1:{port}")
    with listening(create_app(found), port):
        yield found


@dataclass
class DeskProcess:
    project: Project
    port: int = field(default_factory=free_port)
    process: WarmProcess | None = None
    visitors: "list[Visitor]" = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.project.home.root / "desk-test.log"

    def start(self, **environment: str) -> None:
        self.process = WARM.start(
            ["desk", "--port", str(self.port)], cwd=self.project.root, env={**os.environ, **environment}, log=self.log
        )
        deadline = time.monotonic() + START_S
        while not answers(f"{self.url}/health"):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "the desk did not start in time"
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send(signal.SIGKILL)
        self.process.wait(STOP_S)
        self.process.place.cleanup()

    def visitor(self, person: str | Person) -> "Visitor":
        visitor = Visitor(self.url)
        self.visitors.append(visitor)
        visitor.sign_in(person if isinstance(person, str) else person.name)
        return visitor


@contextmanager
def desk(project: Project, **environment: str) -> Iterator[DeskProcess]:
    running = DeskProcess(project)
    running.start(**environment)
    try:
        yield running
    finally:
        running.kill()
        for visitor in running.visitors:
            visitor.http.close()


@dataclass(frozen=True, kw_only=True)
class VisitedDesk:
    """A desk, and whoever came to it: gone when all is closed."""

    desk: Desk
    closing: ExitStack

    def visitor(self, name: str) -> "Visitor":
        found = Visitor(self.desk.url)
        self.closing.enter_context(found.http)
        found.sign_in(name)
        return found


class Visitor:
    """A browser without a window: cookies, and the token that forms carry."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.csrf = ""
        self.http = httpx.Client(base_url=url, follow_redirects=True, **PLAIN)

    def sign_in(self, name: str) -> httpx.Response:
        answer = sign_in(self.http, name)
        self.csrf = str(self.get("/api/me").json().get("csrf", ""))
        return answer

    def get(self, path: str) -> httpx.Response:
        return self.http.get(path)

    def submit(self, path: str, **fields: Any) -> httpx.Response:
        """A form, as a page sends it."""
        return self.http.post(path, data={"csrf": self.csrf, **fields})

    def post(self, path: str, body: object) -> httpx.Response:
        """A call of the API, as the pages' script makes it."""
        return self.http.post(f"/api{path}", json=body, headers={"X-CSRF-Token": self.csrf})


def sign_in(browser: httpx.Client, name: str = "ann", password: str = PASSWORD, *, to: str = "/") -> httpx.Response:
    """The form as a browser sends it."""
    page = browser.get("/sign-in", params={"next": to})
    return browser.post("/sign-in", data={"name": name, "password": password, "next": to, "csrf": token_in(page)})


def token_in(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A program that was given somebody's session, at the API."""

    url: str
    cookie: str
    csrf: str

    @classmethod
    def of(cls, desk: Desk, person: Person) -> "Caller":
        with desk.stores.state.write() as connection:
            token, _ = sessions.open_session(
                connection, person.name, via="password", seal=Seal.of(desk.stores.home), rules=desk.settings.sessions,
                address="127.0.0.1", agent="test",
            )  # fmt: skip
        return cls(url=desk.url, cookie=token, csrf=sessions.csrf(token))

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": f"desk={self.cookie}", "X-CSRF-Token": self.csrf}

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self._send("GET", path, params=query)

    def post(self, path: str, body: object) -> httpx.Response:
        return self._send("POST", path, json=body)

    def _send(self, method: str, path: str, **sent: Any) -> httpx.Response:
        return httpx.request(method, f"{self.url}/api{path}", headers=self.headers, **PLAIN, **sent)
