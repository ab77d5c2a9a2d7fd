"""Who I am here: roles, groups, and where I am signed in."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.desk import passkeys, sessions
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import Form, person_of
from ai_assets.desk.pages.rendering import render
from ai_assets.signoff import authority


def page(http: HttpRequest) -> Response:
    desk, person = Desk.of(http), person_of(http)
    with desk.stores.state.read() as connection:
        found = sessions.of(connection, person.name)
        own = authority.of(connection).own_keys(person.name)
    context = {
        "sessions": found,
        "current": getattr(http.state, "session", None),
        "own_keys": [(key_id, one.key.type, one.since) for key_id, one in own.items()],
        "site": passkeys.site_of(desk),
        "desk_url": desk.url,
    }
    return render(http, "account.html", context)


async def end_session(http: HttpRequest) -> Response:
    return await run_in_threadpool(_end, http, await Form.of(http))


def _end(http: HttpRequest, form: Form) -> Response:
    desk, person = Desk.of(http), person_of(http)
    sessions.end(desk.stores.state, form.one("session"), person, by=person.name)
    return RedirectResponse("/account", 303)
