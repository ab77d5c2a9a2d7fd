"""The page of one document of a request: its text with the evidence, what was said of it, and what people say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast, get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import reading
from ai_assets.desk.access import whole_request_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.document_query import line_of
from ai_assets.desk.pages.form import Form, FormIncomplete, person_of, place_in_text
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.refusal import status_of
from ai_assets.signoff import asking_again, corrections, notes
from ai_assets.storage.state import storable

SAID: Mapping[str, str] = {
    "corrected": "Your correction is recorded.",
    "taken back": "The correction is taken back.",
    "comment": "Your comment is recorded.",
    "reviewed": "Recorded: you reviewed this document.",
    "second look": "Recorded: a second pair of eyes is asked for.",
    "looked again": "Recorded: you looked again.",
    "retry": "Recorded: it is asked about again.",
}
"""What the page says after each thing that can be done on it."""


@dataclass(frozen=True, kw_only=True)
class DocumentFormInput:
    """What somebody typed; kept when they are refused."""

    stage: str = ""
    label: str = ""
    reason: str = ""
    text: str = ""


def page(http: HttpRequest) -> Response:
    document_id = storable(http.query_params.get("id")) or ""
    return _show(http, document_id, DocumentFormInput(), done=SAID.get(http.query_params.get("done", "")))


def _show(
    http: HttpRequest, document_id: str, typed: DocumentFormInput, *, done: str | None = None,
    problem: str | None = None, status_code: int = 200,
) -> Response:  # fmt: skip
    view = reading.document_view(
        Desk.of(http), person_of(http), http.path_params["request_id"], document_id, at=place_in_text(http.query_params)
    )
    context = {"view": view, "typed": typed, "done": done, "problem": problem}
    return render(http, "document.html", context, status_code)


def _back(http: HttpRequest, document_id: str, done: str) -> Response:
    where = f"/requests/{http.path_params['request_id']}/document?{query(id=document_id, done=done)}"
    return RedirectResponse(where, 303)


async def correct(http: HttpRequest) -> Response:
    return await run_in_threadpool(_correct, http, await Form.of(http))


def _correct(http: HttpRequest, form: Form) -> Response:
    desk, person, document_id = Desk.of(http), person_of(http), form.exact("document")
    request, collection = whole_request_seen(desk, person, http.path_params["request_id"])
    taken_back = form.one("take_back") == "yes"
    typed = DocumentFormInput(stage=form.one("stage"), label=form.one("label"), reason=form.one("reason"))
    if not typed.label and not taken_back:
        problem = "Choose the label that is right; nothing was recorded."
        return _show(http, document_id, typed, problem=problem, status_code=400)
    try:
        corrections.correct(
            desk.stores, collection=collection, request=request, document_id=document_id, stage=typed.stage,
            label=None if taken_back else typed.label, reason=typed.reason, by=person,
        )  # fmt: skip
    except UserError as error:
        return _show(http, document_id, typed, problem=in_words(error), status_code=status_of(error))
    return _back(http, document_id, "taken back" if taken_back else "corrected")


async def retry(http: HttpRequest) -> Response:
    return await run_in_threadpool(_retry, http, await Form.of(http))


def _retry(http: HttpRequest, form: Form) -> Response:
    desk, person, document_id = Desk.of(http), person_of(http), form.exact("document")
    request, collection = whole_request_seen(desk, person, http.path_params["request_id"])
    try:
        asking_again.ask_again(
            desk.stores.state, collection, by=person, partitions=[request.partition], document_id=document_id,
            request_id=request.request_id,
        )  # fmt: skip
    except UserError as error:
        return _show(http, document_id, DocumentFormInput(), problem=in_words(error), status_code=status_of(error))
    return _back(http, document_id, "retry")


async def note(http: HttpRequest) -> Response:
    return await run_in_threadpool(_note, http, await Form.of(http))


def _note(http: HttpRequest, form: Form) -> Response:
    desk, person, document_id = Desk.of(http), person_of(http), form.exact("document")
    kind, text = form.one("kind"), form.one("text")
    if kind not in get_args(notes.Kind):
        raise FormIncomplete("kind", kind)
    request, line = line_of(desk, person, http.path_params["request_id"], document_id)
    try:
        notes.add(
            desk.stores.state, request, document_id, line.leaf, cast(notes.Kind, kind), text, by=person
        )  # fmt: skip
    except UserError as error:
        problem = in_words(error)
        return _show(http, document_id, DocumentFormInput(text=text), problem=problem, status_code=status_of(error))
    following = form.exact("next")
    return _back(http, following or document_id, "" if following else kind)
