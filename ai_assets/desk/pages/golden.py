"""Golden labels: which collections have them, samples to be drawn, and one document after the other to be labelled."""

from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import golden_items, golden_query
from ai_assets.desk.access import collection_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.pages import evaluation
from ai_assets.desk.pages.form import Form, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.refusal import status_of
from ai_assets.signoff import golden_labels, golden_samples
from ai_assets.signoff.errors import DecisionRefused, GoldenLabelRefused
from ai_assets.signoff.golden_samples import RANDOM_SHARE, SIZE
from ai_assets.storage.state import storable

UNSURE = "unsure"


def overview(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    found = golden_query.golden_overview(Desk.of(http), person_of(http))
    context = {"found": found, "problem": problem, "size": SIZE, "random_share": RANDOM_SHARE}
    return render(http, "golden.html", context, status_code)


async def draw(http: HttpRequest) -> Response:
    return await run_in_threadpool(_draw, http, await Form.of(http))


def _draw(http: HttpRequest, form: Form) -> Response:
    desk, person = Desk.of(http), person_of(http)
    collection = collection_seen(desk, person, form.one("collection"))
    size, percent, opinions = (_number(form.one(name)) for name in ("size", "random_percent", "opinions"))
    try:
        golden_samples.draw(
            desk.stores, collection, by=person, size=size, random_share=percent / 100, opinions=opinions
        )  # fmt: skip
    except UserError as error:
        return overview(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/golden/{collection.name}", 303)


def _number(text: str) -> int:
    """What is no number is one that the draw refuses by name."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 7 else -1


def page(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    given, name = http.query_params, http.path_params["collection"]
    document = storable(given.get("id")) or ""
    view = golden_query.labelling_view(Desk.of(http), person_of(http), name, document)
    done = f"Recorded: {view.last_words}." if given.get("done") and view.last_words else None
    may = person_of(http).may("reviewer", name)
    return render(http, "label.html", {"view": view, "problem": problem, "done": done, "may": may}, status_code)


async def item(http: HttpRequest) -> Response:
    return await run_in_threadpool(_item, http, await Form.of(http))


def _item(http: HttpRequest, form: Form) -> Response:
    """Retires a golden document, takes that back, or gives it another label."""
    name, document = http.path_params["collection"], form.exact("document")
    on_document = form.one("from") == "document"
    try:
        golden_items.act(
            Desk.of(http), person_of(http), name, document, what=form.one("act"), digest=form.one("digest"),
            label=form.one("label"), reason=form.one("reason"),
        )  # fmt: skip
    except (DecisionRefused, GoldenLabelRefused) as error:
        if on_document:
            return evaluation.document_page(http, document, problem=in_words(error), status_code=status_of(error))
        return overview(http, problem=in_words(error), status_code=status_of(error))
    if on_document:
        return RedirectResponse(f"/evaluation/{name}/document?{urlencode({'id': document, 'done': 'yes'})}", 303)
    return RedirectResponse("/golden", 303)


async def label(http: HttpRequest) -> Response:
    return await run_in_threadpool(_label, http, await Form.of(http))


def _label(http: HttpRequest, form: Form) -> Response:
    desk, person, name = Desk.of(http), person_of(http), http.path_params["collection"]
    document, chosen = form.exact("document"), form.one("label")
    found = golden_query.asked_place(desk, person, name, document)
    if found is None or found[1].document_digest != form.one("digest"):
        problem = "The document has changed since it was shown, or is in no sample. Nothing was recorded."
        return page(http, problem=problem, status_code=409)
    collection, place = found
    answer: golden_labels.Answer = "unsure" if form.one("answer") == UNSURE else "label"
    try:
        golden_labels.give(
            desk.stores, collection, place, answer, chosen if answer == "label" else None, note=form.one("note"),
            by=person,
        )  # fmt: skip
    except UserError as error:
        return page(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/golden/{name}?done=yes", 303)
