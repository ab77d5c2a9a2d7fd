"""People, for administrators: who is known, what they may do where, and where they are signed in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import proxy
from ai_assets.desk.administrator import Administrator, NotForThisAdmin, OwnRights, may_add
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import Form, page_number, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.people_query import administered, group_rows, is_admin, people_rows, person_row
from ai_assets.desk.refusal import status_of
from ai_assets.signoff.people import EVERYWHERE, ROLES, Person

PER_PAGE = 50
LONGEST_FIELD = 260
"""Beyond the longest e-mail address; what is refused is shown again."""


@dataclass(frozen=True, kw_only=True)
class PeopleAction:
    """One thing that can be done about people."""

    do: Callable[[Administrator, Form], None]
    said: str
    """Once it is done."""


ACTS: Mapping[str, PeopleAction] = {
    "give": PeopleAction(
        do=lambda admin, form: admin.give(form.one("holder"), form.one("role"), form.exact("collection")),
        said="The role is given. It holds from the next page they open.",
    ),
    "take": PeopleAction(
        do=lambda admin, form: admin.take(form.one("holder"), form.exact("collection")),
        said="The role is taken away, from now on.",
    ),
    "join": PeopleAction(
        do=lambda admin, form: admin.join(form.one("holder"), form.one("group")),
        said="They are in the group now.",
    ),
    "leave": PeopleAction(
        do=lambda admin, form: admin.leave(form.one("holder"), form.exact("group")),
        said="They are out of the group now.",
    ),
    "add": PeopleAction(
        do=lambda admin, form: admin.add(form.one("holder"), form.one("email")),
        said="They are known now. They may see nothing until you give them a role.",
    ),
    "disable": PeopleAction(
        do=lambda admin, form: admin.disable(form.one("holder")),
        said="They are disabled, and signed out everywhere. What they decided stays.",
    ),
    "enable": PeopleAction(
        do=lambda admin, form: admin.enable(form.one("holder")),
        said="They may sign in again, with the roles they had.",
    ),
    "end-sessions": PeopleAction(
        do=lambda admin, form: admin.end_sessions(form.one("holder")),
        said="They are signed out everywhere. They may sign in again.",
    ),
}
"""By the last part of their address."""
FIELDS = ("holder", "role", "collection", "group", "email")


def page(http: HttpRequest) -> Response:
    return _show(http, _admin(http))


def page_of_one(http: HttpRequest) -> Response:
    return _show_one(http, _admin(http), http.path_params["name"])


def _admin(http: HttpRequest) -> Person:
    """For everybody else this is an address like any that does not exist."""
    person = person_of(http)
    if not is_admin(person):
        raise HTTPException(404)
    return person


def _context(http: HttpRequest, typed: Form | None, act: str, problem: str | None) -> dict[str, object]:
    desk, person = Desk.of(http), person_of(http)
    done = ACTS.get(http.query_params.get("done", ""))
    return {
        "places": administered(desk, person),
        "roles": ROLES,
        "everywhere": person.may("admin", EVERYWHERE),
        "typed": {name: typed.one(name) if typed else "" for name in FIELDS},
        "act": act,
        "problem": problem,
        "done": done.said if done and problem is None else None,
    }


def _show(
    http: HttpRequest, person: Person, *, typed: Form | None = None, act: str = "", problem: str | None = None,
    status_code: int = 200,
) -> Response:  # fmt: skip
    desk, text = Desk.of(http), parameter(http.query_params, "text")
    rows = people_rows(desk, person)
    wanted = text.casefold()
    found = [row for row in rows if wanted in " ".join([row.name, row.email or "", *row.groups]).casefold()]
    pages = max(1, -(-len(found) // PER_PAGE))
    number = min(page_number(http.query_params), pages)
    ways = desk.settings.sign_in
    context = {
        **_context(http, typed, act, problem),
        "rows": found[(number - 1) * PER_PAGE : number * PER_PAGE],
        "total": len(rows),
        "found": {"page": number, "pages": pages},
        "text": text,
        "groups": group_rows(desk, person),
        "may_add": may_add(desk),
        "local": ways.local,
    }
    return render(http, "people.html", context, status_code)


def _show_one(
    http: HttpRequest, person: Person, name: str, *, typed: Form | None = None, act: str = "",
    problem: str | None = None, status_code: int = 200,
) -> Response:  # fmt: skip
    desk = Desk.of(http)
    context = {**_context(http, typed, act, problem), "row": person_row(desk, person, name)}
    return render(http, "person.html", context, status_code)


async def act(http: HttpRequest) -> Response:
    sent = await Form.of(http)
    cut = {name: [value[:LONGEST_FIELD] for value in values] for name, values in sent.fields.items()}
    return await run_in_threadpool(_act, http, Form(fields=cut))


def _act(http: HttpRequest, form: Form) -> Response:
    desk, person, name = Desk.of(http), _admin(http), http.path_params["act"]
    if name not in ACTS:
        raise HTTPException(404)
    one = form.one("holder").casefold() if form.one("from") == "person" else ""
    try:
        ACTS[name].do(Administrator(desk=desk, person=person, told_groups=_told_groups(http)), form)
    except UserError as error:
        status = 403 if isinstance(error, (OwnRights, NotForThisAdmin)) else status_of(error)
        if one and _sees(desk, person, one):
            return _show_one(http, person, one, typed=form, act=name, problem=in_words(error), status_code=status)
        return _show(http, person, typed=form, act=name, problem=in_words(error), status_code=status)
    target = f"/people/{quote(one, safe='')}" if one and _sees(desk, person, one) else "/people"
    return RedirectResponse(f"{target}?{query(done=name)}", 303)


def _sees(desk: Desk, person: Person, name: str) -> bool:
    """An admin of one collection sees nobody any more who lost their last role there."""
    return any(row.name == name for row in people_rows(desk, person))


def _told_groups(http: HttpRequest) -> frozenset[str]:
    session = http.state.session
    if session is not None:
        groups: frozenset[str] = session.groups
        return groups
    told = proxy.told(http.scope, Desk.of(http).settings.sign_in.proxy)
    return told.groups if told else frozenset()
