"""The web application put together: security around everything, probes, metrics, sign-in, pages, the API below /api."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from ai_assets.desk import pages, signing_in
from ai_assets.desk.api import create_api
from ai_assets.desk.context import Desk
from ai_assets.desk.machine_paths import FOR_MACHINES
from ai_assets.desk.metrics.request_load import LoadMiddleware
from ai_assets.desk.metrics.scraping import DeskMetrics
from ai_assets.desk.probes import Probes
from ai_assets.desk.security import protection

HERE = Path(__file__).parent


def create_app(desk: Desk) -> Starlette:
    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        desk.stores.state.close()

    metrics = DeskMetrics(desk)
    counting = Middleware(LoadMiddleware, load=metrics.load, apart=FOR_MACHINES)
    app = Starlette(
        routes=[
            *Probes(desk).routes(),
            metrics.route(),
            *signing_in.routes(),
            *pages.routes(),
            Mount("/api", create_api(desk)),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[counting, *protection(desk)],
        exception_handlers=pages.exception_handlers(),
        lifespan=lifespan,
    )
    app.state.desk = desk
    return app
