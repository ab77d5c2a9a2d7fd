"""The inbox: every request that waits, the riskiest first."""

from typing import get_args

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.desk import reading
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import page_number, parameter, person_of
from ai_assets.desk.pages.rendering import render
from ai_assets.signoff.requests import Status

PER_PAGE = 50
STATUSES = (*get_args(Status), "closed", "all")
SORTS = {"risk": "risk", "age": "age", "size": "size of the change", "collection": "collection"}


def page(http: HttpRequest) -> Response:
    return show(http)


def show(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    query = http.query_params
    chosen = {
        "collection": parameter(query, "collection"),
        "status": parameter(query, "status", "open"),
        "text": parameter(query, "text"),
        "sort": parameter(query, "sort", "risk"),
    }
    found = reading.inbox(
        Desk.of(http),
        person_of(http),
        collection=chosen["collection"] or None,
        status=chosen["status"] if chosen["status"] in STATUSES else "open",
        text=chosen["text"],
        sort=chosen["sort"] if chosen["sort"] in SORTS else "risk",
        page=page_number(query),
        per_page=PER_PAGE,
    )
    context = {"inbox": found, "chosen": chosen, "statuses": STATUSES, "sorts": SORTS, "problem": problem}
    return render(http, "inbox.html", context, status_code)
