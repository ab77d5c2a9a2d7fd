"""The page of one request: what would go live against what is live, and the form that decides."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import reading
from ai_assets.desk.access import collection_seen, request_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.document_query import SORTS
from ai_assets.desk.pages.form import Form, FormIncomplete, page_number, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.refusal import status_of
from ai_assets.desk.request_query import require_current
from ai_assets.desk.views import RequestView
from ai_assets.signoff import claims, decisions

PER_PAGE = 50
FEW = 20
"""So many documents need no sample: the list of all begins with the riskiest."""
CHANGES = (
    "all", "added", "changed", "relabelled", "removed", "quarantined", "unchanged", "low confidence", "without vectors",
    "second look", "not reviewed",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DecisionFormInput:
    """What somebody typed into the form that decides; kept when they are refused."""

    verdict: str = ""
    reason: str = ""
    waivers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, form: Form) -> "DecisionFormInput":
        return cls(verdict=form.one("verdict"), reason=form.one("reason"), waivers=form.below("waive."))


def page(http: HttpRequest) -> Response:
    desk, person = Desk.of(http), person_of(http)
    unfiltered = not any(http.query_params.get(name) for name in ("change", "q", "sort", "page"))
    answer = show(http, DecisionFormInput())
    if http.method == "GET" and unfiltered:
        with desk.stores.state.read() as connection:
            found, _ = request_seen(desk, person, connection, http.path_params["request_id"])
        if found.status == "open" and person.may("approver", found.collection):
            decisions.record_view(desk.stores.state, found, by=person)
    return answer


def show(
    http: HttpRequest, typed: DecisionFormInput, *, problem: str | None = None, status_code: int = 200
) -> Response:
    """The page; with a problem, where something was refused."""
    desk, person, query = Desk.of(http), person_of(http), http.query_params
    request_id = http.path_params["request_id"]
    view = reading.request_view(desk, person, request_id)
    chosen = {"change": parameter(query, "change", "all"), "q": parameter(query, "q"),
              "sort": parameter(query, "sort", "risk")}  # fmt: skip
    documents = reading.document_page(
        desk,
        person,
        request_id,
        change=chosen["change"] if chosen["change"] in CHANGES else "all",
        text=chosen["q"],
        sort=chosen["sort"] if chosen["sort"] in SORTS else "risk",
        page=page_number(query),
        per_page=PER_PAGE,
    )
    context = {
        "view": view,
        "row": view.row,
        "documents": documents,
        "chosen": chosen,
        "changes": CHANGES,
        "sorts": {name: name for name in SORTS},
        "few": FEW,
        "waits": waits(view),
        "has_suites": any(collection_seen(desk, person, view.row.collection).settings.quality.values()),
        "refusals": view.refusals,
        "typed": typed,
        "problem": problem,
    }
    return render(http, "request.html", context, status_code)


def waits(view: RequestView) -> bool:
    """Whether people may still say something to it."""
    return view.row.status == "open" or (view.row.status == "approved" and bool(view.missing))


async def claim(http: HttpRequest) -> Response:
    return await run_in_threadpool(_claim, http, await Form.of(http))


def _claim(http: HttpRequest, form: Form) -> Response:
    """`take`, `give up`, or `assign` to a person."""
    desk, person, act = Desk.of(http), person_of(http), form.one("act")
    state, found = desk.stores.state, require_current(desk, person, http.path_params["request_id"])
    try:
        match act:
            case "take":
                claims.take(state, found, by=person)
            case "give up":
                claims.give_up(state, found, by=person)
            case "assign" if form.one("to"):
                claims.assign(state, found, form.one("to"), by=person)
            case "assign":
                problem = "Choose who is to look at it; nothing was recorded."
                return show(http, DecisionFormInput(), problem=problem, status_code=400)
            case _:
                raise FormIncomplete("act", act[:40])
    except UserError as error:
        return show(http, DecisionFormInput(), problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/requests/{found.request_id}", 303)


async def ask_again(http: HttpRequest) -> Response:
    return await run_in_threadpool(_ask_again, http, await Form.of(http))


def _ask_again(http: HttpRequest, form: Form) -> Response:
    desk, person, reason = Desk.of(http), person_of(http), form.one("reason")
    with desk.stores.state.read() as connection:
        closed, _ = request_seen(desk, person, connection, http.path_params["request_id"])
    if not reason:
        problem = "Asking again needs a reason: write what is different now."
        return show(http, DecisionFormInput(), problem=problem, status_code=400)
    try:
        opened = decisions.ask_again(desk.stores.state, closed.collection, closed.partition, by=person, reason=reason)
    except UserError as error:
        return show(http, DecisionFormInput(reason=reason), problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/requests/{opened.request_id}", 303)
