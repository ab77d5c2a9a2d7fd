"""The inbox: every request that waits, the riskiest first."""

from typing import get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import reading, saved_filters
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import Form, page_number, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.refusal import status_of
from ai_assets.signoff.requests import Status

PER_PAGE = 50
STATUSES = (*get_args(Status), "closed", "all")
SORTS = {"risk": "risk", "age": "age", "size": "size of the change", "collection": "collection"}


CLAIMS = {"any": "anybody or nobody", "mine": "me", "unclaimed": "nobody"}


def page(http: HttpRequest) -> Response:
    return show(http)


async def keep_filter(http: HttpRequest) -> Response:
    return await run_in_threadpool(_keep_filter, http, await Form.of(http))


def _keep_filter(http: HttpRequest, form: Form) -> Response:
    """Keep what the page shows under a name, or remove one that is kept."""
    desk, person = Desk.of(http), person_of(http)
    chosen = {key: form.one(key) for key in saved_filters.KEYS}
    try:
        if form.one("remove"):
            saved_filters.remove(desk.stores.state, person, form.exact("remove"))
        else:
            saved_filters.save(desk.stores.state, person, form.one("name"), chosen)
    except UserError as error:
        return show(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/?{query(**chosen)}", 303)


def show(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    desk, person, given = Desk.of(http), person_of(http), http.query_params
    chosen = {
        "collection": parameter(given, "collection"),
        "status": parameter(given, "status", "open"),
        "text": parameter(given, "text"),
        "sort": parameter(given, "sort", "risk"),
        "claim": parameter(given, "claim", "any"),
    }
    found = reading.inbox(
        desk,
        person,
        collection=chosen["collection"] or None,
        status=chosen["status"] if chosen["status"] in STATUSES else "open",
        text=chosen["text"],
        sort=chosen["sort"] if chosen["sort"] in SORTS else "risk",
        claim=chosen["claim"] if chosen["claim"] in CLAIMS else "any",
        page=page_number(given),
        per_page=PER_PAGE,
    )
    with desk.stores.state.read() as connection:
        kept = saved_filters.of(connection, person)
    context = {
        "inbox": found, "chosen": chosen, "statuses": STATUSES, "sorts": SORTS, "claims": CLAIMS, "problem": problem,
        "kept": kept,
    }  # fmt: skip
    return render(http, "inbox.html", context, status_code)
