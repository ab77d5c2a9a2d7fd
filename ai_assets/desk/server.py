"""The desk as a process: one port, one application, until it is told to end."""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from ai_assets.base.errors import UserError
from ai_assets.base.home import Home
from ai_assets.desk.context import Desk
from ai_assets.desk.settings import load_desk
from ai_assets.storage.stores import Stores

GRACE_S = 3
"""For answers under way, when it ends."""
LONGEST_HEADERS = 32_768
"""Bytes; a browser sends one or two thousand."""
BACKLOG = 256
_EVERYWHERE = ("0.0.0.0", "::", "")


class AddressUnusable(UserError):
    def __init__(self, host: str, port: int, found: str) -> None:
        super().__init__(
            f"Nothing can listen on port {port} of {host}: {found}. Choose another with --port, or end what has it."
        )


def serve(
    home: Home,
    host: str,
    port: int,
    url: str | None,
    dagster_url: str | None,
    say: Callable[[str], None] = lambda _line: None,
) -> None:
    """Serve until SIGTERM or Ctrl-C. What desk.yaml says of addresses goes before what is given here."""
    import uvicorn

    from ai_assets.desk.app import create_app
    from ai_assets.desk.connections import LONGEST_HEADERS_S, MOST_CONNECTIONS, connections
    from ai_assets.signoff import audit, people

    settings = load_desk(home.desk)
    with contextlib.closing(listening_at(host, port)) as listening:
        desk = Desk(
            stores=Stores.at(home),
            settings=settings,
            url=(settings.url or url or address(host, port)).rstrip("/"),
            dagster_url=settings.dagster_url or (dagster_url.rstrip("/") if dagster_url else None),
            dagster_api=dagster_url,
        )
        desk.tenants()  # a file that is wrong is said before anybody is let in
        app = create_app(desk)
        with desk.stores.state.write() as connection:
            audit.begin(connection)
        say(f"The sign-off desk is at {desk.url} (stop it with Ctrl-C)")
        with desk.stores.state.read() as connection:
            if settings.sign_in.local and not people.anybody(connection):
                say("Nobody can sign in yet. In another terminal: ai-assets reviewers add NAME --role approver")
        configured = uvicorn.Config(
            app,
            http=connections(settings.sign_in.proxy),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=LOGGING,
            proxy_headers=False,  # who connects decides whether a proxy's header is believed
            server_header=False,
            h11_max_incomplete_event_size=LONGEST_HEADERS,
            limit_concurrency=MOST_CONNECTIONS + 1,  # of requests whose client has gone; connections are never as many
            timeout_keep_alive=LONGEST_HEADERS_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        with contextlib.suppress(KeyboardInterrupt):  # it has ended by then
            uvicorn.Server(configured).run(sockets=[listening])


def address(host: str, port: int) -> str:
    """Where people of this machine reach it; by a name, for browsers know passkeys of a name only."""
    name = "localhost" if host in (*_EVERYWHERE, "127.0.0.1") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def listening_at(host: str, port: int) -> socket.socket:
    """Taken before anything else, so that a busy port is told in a sentence and nothing has begun."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise AddressUnusable(host, port, (getattr(error, "strerror", None) or str(error)).lower()) from error


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s - %(name)s - %(levelname)s - %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "loggers": {
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
        "ai_assets": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
    },
}
