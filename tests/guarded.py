"""A desk with one page of its own behind the real protection, and a browser without scripts to visit it."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import uvicorn
from conftest import Project, free_port
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from ai_assets.desk import signing_in
from ai_assets.desk.context import Desk
from ai_assets.desk.security import protection
from ai_assets.desk.settings import DeskSettings
from ai_assets.signoff import passwords, people
from ai_assets.work import Stores

PASSWORD = "correct-horse-battery"


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A running desk."""

    desk: Desk
    port: int
    log: list[str] = field(default_factory=list)
    """What got past the protection."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stores(self) -> Stores:
        return self.desk.stores

    def browser(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, **options)


@contextmanager
def opened(project: Project, *, url: str | None = None, port: int | None = None, **settings: Any) -> Iterator[Guarded]:
    """It listens on a port of its own; `url` is what it takes for its address."""
    port = port or free_port()
    declared = DeskSettings.model_validate(settings)
    desk = Desk(project.stores(), declared, url or f"http://127.0.0.1:{port}", None)
    found = Guarded(desk=desk, port=port)
    config = uvicorn.Config(
        _app(found), "127.0.0.1", port, log_level="critical", ws="none", proxy_headers=False, access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield found
    finally:
        server.should_exit = True
        thread.join(10)
        desk.stores.state.close()


def _app(guarded: Guarded) -> Starlette:
    async def page(request: Request) -> Response:
        guarded.log.append(f"{request.method} {request.url.path}")
        person = request.state.person
        return JSONResponse(
            {
                "person": person.name if person else None,
                "roles": dict(person.roles) if person else {},
                "groups": sorted(person.groups) if person else [],
                "csrf": request.state.csrf,
                "body": (await request.body()).decode("utf-8", "replace"),
            }
        )

    async def broken(_request: Request) -> Response:
        raise ZeroDivisionError("a secret that only the log may know")

    async def plain(_request: Request) -> Response:
        return PlainTextResponse("ok")

    methods = ["GET", "POST", "PUT", "DELETE"]
    app = Starlette(
        routes=[
            Route("/health", plain),
            *signing_in.routes(),
            Route("/broken", broken),
            Mount("/api", routes=[Route("/openapi.json", plain), Route("/{rest:path}", page, methods=methods)]),
            Mount("/static", routes=[Route("/desk.css", plain)]),
            Route("/{rest:path}", page, methods=methods),
        ],
        middleware=protection(guarded.desk),
    )
    app.state.desk = guarded.desk
    return app


def add_person(stores: Stores, name: str = "ann", role: people.Role | None = "approver") -> None:
    """With PASSWORD, and the role everywhere."""
    with stores.state.write() as connection:
        people.add(connection, name, email=None, password_hash=_hashed(), by="test")
        if role:
            people.give(connection, name, role, "*", by="test")


@cache
def _hashed() -> str:
    """Made once: it takes its time on purpose."""
    return passwords.hashed(PASSWORD)


def token_in(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]


def sign_in(browser: httpx.Client, name: str = "ann", password: str = PASSWORD, *, to: str = "/") -> httpx.Response:
    """The form as a browser sends it."""
    page = browser.get("/sign-in", params={"next": to})
    return browser.post("/sign-in", data={"name": name, "password": password, "next": to, "csrf": token_in(page)})
