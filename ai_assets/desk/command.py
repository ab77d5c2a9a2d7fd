"""The options of the desk's process, for `ai-assets desk` and for `python -m ai_assets.desk`."""

from typing import Annotated

import typer

from ai_assets.base import structured_log
from ai_assets.base.extras import need
from ai_assets.base.home import DAGSTER_URL_VARIABLE, DESK_URL_VARIABLE, Home, variable


def desk(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 3001,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the sign-off desk until Ctrl-C: the inbox, what would go live, decisions, the audit trail."""
    need("desk", "The sign-off desk")
    from ai_assets.desk.server import serve

    structured_log.begin("desk")
    home, url, dagster_url = Home.from_environment(), variable(DESK_URL_VARIABLE), variable(DAGSTER_URL_VARIABLE)
    serve(home, host, port, url, dagster_url, say=structured_log.say)
