"""Held documents: the queue, and one document after the other to be decided."""

from typing import get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import held_query
from ai_assets.desk.context import Desk
from ai_assets.desk.coverage_chart import coverage_chart
from ai_assets.desk.pages.form import Form, page_number, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.refusal import status_of
from ai_assets.signoff import holds
from ai_assets.signoff.holds import Verdict
from ai_assets.storage.state import storable

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


def overview(http: HttpRequest) -> Response:
    desk, person, given = Desk.of(http), person_of(http), http.query_params
    chosen = parameter(given, "collection")
    found = held_query.held_page(desk, person, collection=chosen or None, page=page_number(given))
    charts = [
        coverage_chart(each, held_query.curve_of(desk, person, each.collection, each.stage))
        for each in found.thresholds
    ]
    return render(http, "held.html", {"found": found, "chosen": chosen, "charts": charts})


def page(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    given, name = http.query_params, http.path_params["collection"]
    document, stage = (storable(given.get(key)) or "" for key in ("id", "stage"))
    task = held_query.held_task(Desk.of(http), person_of(http), name, document, stage)
    done = "Recorded. It joins with the next request of its partition." if given.get("done") == "decided" else (
        "Recorded. A further person is needed." if given.get("done") else None
    )  # fmt: skip
    context = {"task": task, "name": name, "problem": problem, "done": done}
    return render(http, "held_document.html", context, status_code)


async def decide(http: HttpRequest) -> Response:
    return await run_in_threadpool(_decide, http, await Form.of(http))


def _decide(http: HttpRequest, form: Form) -> Response:
    desk, person, name = Desk.of(http), person_of(http), http.path_params["collection"]
    try:
        collection, item = held_query.held_named(desk, person, name, form.exact("document"), form.one("stage"))
        verdict = next((each for each in VERDICTS if each == form.one("decision")), None)
        label = form.one("label") or None
        if (item.held.document_digest, item.held.answer_digest) != (form.one("digest"), form.one("answer")):
            problem = "The document or its answer has changed since it was shown. Nothing was recorded."
            return page(http, problem=problem, status_code=409)
        ruling = holds.decide(
            desk.stores.state, collection, item.held, verdict or ("correct" if label else "accept"), label=label,
            reason=form.one("reason"), by=person,
        )  # fmt: skip
    except UserError as error:
        return page(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/held/{name}?{query(done='decided' if ruling.decided else 'waits')}", 303)
