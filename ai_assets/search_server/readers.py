"""Who is asking: the holder of a bearer token that reads, or, on this machine alone, whoever `--as` names."""

import sqlalchemy as sa
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ai_assets.desk.context import Desk
from ai_assets.desk.machine_paths import HEALTH, READY
from ai_assets.search_server.errors import ReaderUnknown
from ai_assets.signoff import launch_tokens, people
from ai_assets.signoff.errors import TokenRefused
from ai_assets.signoff.people import Person

PERSON = "ai_assets.person"
"""Key of a request's scope."""
_BEARER = "bearer "
_OF_THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")


class Readers:
    """Around the whole application: nothing but the probes is answered to a stranger."""

    def __init__(self, app: ASGIApp, desk: Desk, always: str | None) -> None:
        self._app, self._desk, self._always = app, desk, always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in (HEALTH, READY):
            await self._app(scope, receive, send)
            return
        import anyio

        headers = Headers(scope=scope)
        found: Person | str
        if self._always is not None and headers.get("host", "").rpartition(":")[0] not in _OF_THIS_MACHINE:
            found = "without tokens it answers to localhost alone"  # a page of another site knows no other name
        else:
            found = await anyio.to_thread.run_sync(self._person, headers.get("authorization", ""))
        if isinstance(found, str):
            said = f"{found}. A token that reads is made by: ai-assets reviewers token NAME --reads"
            refused = JSONResponse({"error": said}, 401, headers={"WWW-Authenticate": "Bearer"})
            await refused(scope, receive, send)
            return
        await self._app({**scope, PERSON: found}, receive, send)

    def _person(self, authorization: str) -> Person | str:
        """Why nobody, in words."""
        with self._desk.stores.state.read() as connection:
            if self._always is not None:
                return self._desk.knowing(named(connection, self._always))
            if not authorization.lower().startswith(_BEARER):
                return "This server wants a bearer token"
            try:
                name = launch_tokens.holder(connection, authorization[len(_BEARER) :], reads=True)
            except TokenRefused as error:
                return f"The token does not count: {error.found}"
            return self._desk.knowing(named(connection, name))


def named(connection: sa.Connection, name: str) -> Person:
    found = people.find(connection, people.known_as(name))
    if found is None:
        raise ReaderUnknown(name)
    return found
