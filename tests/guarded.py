"""A desk with one page of its own behind the real protection, and browsers without scripts to visit it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from conftest import Project, free_port
from desks import PLAIN, listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from ai_assets.desk import signing_in
from ai_assets.desk.context import Desk
from ai_assets.desk.security import protection
from ai_assets.desk.settings import DeskSettings
from ai_assets.storage.stores import Stores


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
        return httpx.Client(base_url=self.url, **{**PLAIN, **options})


@contextmanager
def opened(project: Project, *, url: str | None = None, port: int | None = None, **settings: Any) -> Iterator[Guarded]:
    """It listens on a port of its own; `url` is what it takes for its address."""
    port = port or free_port()
    declared = DeskSettings.model_validate(settings)
    desk = Desk(project.stores(), declared, url or f"http://127.0.0.1:{port}", None)
    found = Guarded(desk=desk, port=port)
    try:
        with listening(_app(found), port):
            yield found
    finally:
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
