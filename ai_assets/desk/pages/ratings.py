"""Ratings of people: one output of a stage after the other, on the scale of its judge."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.desk import ratings_query
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import Form, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.refusal import status_of
from ai_assets.signoff import given_ratings
from ai_assets.signoff.errors import DecisionRefused, RatingRefused
from ai_assets.storage.state import storable

WITHDRAW = "withdraw"


def page(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    where, document = http.path_params, storable(http.query_params.get("id")) or ""
    view = ratings_query.rating_view(Desk.of(http), person_of(http), where["collection"], where["judge"], document)
    said = {"yes": "Recorded.", "back": "Your rating is taken back. It stays on record and counts no more."}
    done = said.get(http.query_params.get("done", "")) if not problem else None
    return render(http, "rating.html", {"view": view, "problem": problem, "done": done}, status_code)


async def rate(http: HttpRequest) -> Response:
    return await run_in_threadpool(_rate, http, await Form.of(http))


def _rate(http: HttpRequest, form: Form) -> Response:
    desk, person, name, judge = Desk.of(http), person_of(http), *map(http.path_params.get, ("collection", "judge"))
    collection, stage = ratings_query.judge_seen(desk, person, str(name), str(judge))
    document, output, rating = form.exact("document"), form.one("output"), form.one("rating")
    try:
        if form.one("act") == WITHDRAW:
            given_ratings.withdraw(desk.stores, collection, stage, document, output, by=person)
        else:
            given_ratings.rate(desk.stores, collection, stage, document, output, rating, by=person)
    except (DecisionRefused, RatingRefused) as error:
        return page(http, problem=in_words(error), status_code=status_of(error))
    done = "back" if form.one("act") == WITHDRAW else "yes"
    return RedirectResponse(f"/golden/{name}/ratings/{judge}?done={done}", 303)
