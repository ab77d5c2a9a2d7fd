"""Data docs: what the quality suites found in each partition, and which rows failed."""

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.desk import reading
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import page_number, parameter, person_of
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.quality_query import JUDGED

PER_PAGE = 20


def page(http: HttpRequest) -> Response:
    given = http.query_params
    show = parameter(given, "show", "all")
    chosen = {
        "collection": parameter(given, "collection"),
        "partition": parameter(given, "partition"),
        "show": show if show in JUDGED else "all",
    }
    found = reading.quality_page(
        Desk.of(http), person_of(http), **chosen, page=page_number(given), per_page=PER_PAGE
    )  # fmt: skip
    return render(http, "quality.html", {"found": found, "chosen": chosen})
