"""The search server as a process: one port, until it is told to end."""

import contextlib
from collections.abc import Callable

import uvicorn

from ai_assets.base.home import Home
from ai_assets.desk.context import Desk
from ai_assets.desk.server import GRACE_S, LOGGING, address, listening_at
from ai_assets.desk.settings import load_desk
from ai_assets.search_server.app import MCP_PATH, create_search
from ai_assets.search_server.errors import ReaderOpen
from ai_assets.search_server.readers import named
from ai_assets.storage.lance_library import lancedb
from ai_assets.storage.stores import Stores, is_there

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(home: Home, host: str, port: int, always: str | None, say: Callable[[str], None]) -> None:
    """Until SIGTERM or Ctrl-C."""
    if always is not None and host not in _LOOPBACK:
        raise ReaderOpen(host)
    if not is_there(home):  # what is published later is to be found
        Stores.at(home).state.close()
    with contextlib.closing(listening_at(host, port)) as listening, Stores.reading(home, say) as stores:
        desk = Desk(stores=stores, settings=load_desk(home.desk), url=address(host, port), dagster_url=None)
        desk.tenants()  # a file that is wrong is said before anybody is answered
        if always is not None:
            with stores.state.read() as connection:
                named(connection, always)
        app = create_search(desk, always)
        lancedb()  # else whoever asks first waits for it
        say(f"Search is at {desk.url}/v1 ({desk.url}/docs), for agents at {desk.url}{MCP_PATH} (stop it with Ctrl-C)")
        if always is not None:
            say(f"Everything is asked as {always}, and nobody is asked for a token")
        configured = uvicorn.Config(
            app, lifespan="on", access_log=False, log_config=LOGGING, server_header=False, proxy_headers=False,
            ws="none", timeout_graceful_shutdown=GRACE_S,
        )  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):  # it has ended by then
            uvicorn.Server(configured).run(sockets=[listening])
