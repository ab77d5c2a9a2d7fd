"""`ai-assets serve`: the live release over HTTP and MCP."""

from typing import Annotated

import typer

from ai_assets.base import structured_log
from ai_assets.base.extras import need
from ai_assets.base.home import Home


def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 3002,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    always: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="Ask for no token: all is asked by NAME, on localhost."),
    ] = None,
) -> None:
    """Search what is live over HTTP and MCP, until Ctrl-C: for programs and agents, each with a token that reads."""
    need("serve", "The search server")
    from ai_assets.search_server.server import serve as run

    structured_log.begin("search")
    run(Home.from_environment(), host, port, always, say=structured_log.say)
