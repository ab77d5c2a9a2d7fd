"""The web application put together: security around everything, sign-in, pages, the API below /api, static files."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ai_assets.desk import pages, signing_in
from ai_assets.desk.api import create_api
from ai_assets.desk.context import Desk
from ai_assets.desk.security import protection

HERE = Path(__file__).parent


def create_app(desk: Desk) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        desk.stores.state.close()

    app = Starlette(
        routes=[
            Route("/health", _health),
            *signing_in.routes(),
            *pages.routes(),
            Mount("/api", create_api(desk)),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=protection(desk),
        exception_handlers=pages.exception_handlers(),
        lifespan=lifespan,
    )
    app.state.desk = desk
    return app


async def _health(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")
