"""Documents without an answer, over all collections a person may see, and the button that asks about them again."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import reading
from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import Form, page_number, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.refusal import status_of
from ai_assets.desk.unanswered_query import SHOWN
from ai_assets.signoff import asking_again

PER_PAGE = 50
DONE = "Recorded. The next run of its partition asks again; until then it is due."


def page(http: HttpRequest) -> Response:
    return _show(http, done=DONE if http.query_params.get("done") else None)


def _show(
    http: HttpRequest, *, done: str | None = None, problem: str | None = None, status_code: int = 200
) -> Response:
    given = http.query_params
    show = parameter(given, "show", "people")
    chosen = {"collection": parameter(given, "collection"), "show": show if show in SHOWN else "people"}
    found = reading.unanswered_page(
        Desk.of(http), person_of(http), collection=chosen["collection"], show=chosen["show"], page=page_number(given),
        per_page=PER_PAGE,
    )  # fmt: skip
    return render(
        http, "unanswered.html", {"found": found, "chosen": chosen, "done": done, "problem": problem}, status_code
    )


async def ask_again(http: HttpRequest) -> Response:
    return await run_in_threadpool(_ask_again, http, await Form.of(http))


def _ask_again(http: HttpRequest, form: Form) -> Response:
    desk, person = Desk.of(http), person_of(http)
    collection = collection_seen(desk, person, form.one("collection"))
    try:
        asking_again.ask_again(
            desk.stores.state, collection, by=person, partitions=[form.exact("partition")],
            document_id=form.exact("document"),
        )  # fmt: skip
    except UserError as error:
        return _show(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/unanswered?{query(show=form.one('show'), done='yes')}", 303)
