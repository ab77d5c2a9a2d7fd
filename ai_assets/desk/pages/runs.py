"""Runs: what is due, what it would cost, what runs and who started it; and the forms that start and stop."""

import math

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.base.plural import plural
from ai_assets.desk import launching, reading
from ai_assets.desk.canary_query import watched_models
from ai_assets.desk.context import Desk
from ai_assets.desk.launching import LaunchRequest
from ai_assets.desk.pages.form import Form, FormIncomplete, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import clock, query, second
from ai_assets.desk.refusal import status_of
from ai_assets.desk.runs_views import LaunchKind, Price, RunView
from ai_assets.desk.timeline import epoch_s, length, timeline

KINDS: dict[str, LaunchKind] = {"due": "due", "again": "again", "backfill": "backfill"}
MOST_NAMED = 12
"""Partitions; the rest are a number."""
STOPPED = "The backfill is stopped. Calls in flight end first; what it has done is kept."
NONE_TO_STOP = "No backfill is under way, so there was nothing to stop."


def overview(http: HttpRequest) -> Response:
    desk, person = Desk.of(http), person_of(http)
    watched = watched_models(desk, person)
    return render(http, "runs.html", {"rows": reading.runs_rows(desk, person), "watched": watched})


def page(http: HttpRequest) -> Response:
    said = {"stopped": STOPPED, "none": NONE_TO_STOP}.get(http.query_params.get("done", ""))
    started = http.query_params.get("started", "")
    if started.isascii() and started.isdigit() and len(started) < 7:
        said = f"Started: {plural(int(started), 'partition')}. Its lines below change as it goes on."
    return _show(http, done=said)


def one(http: HttpRequest) -> Response:
    """A run: when what was computed, as a picture and as a table."""
    desk, person, name = Desk.of(http), person_of(http), http.path_params["collection"]
    view = reading.run_view(desk, person, name, http.path_params["run_id"])
    lanes = reading.lanes(desk, view)
    finding = _finding(view) if lanes else ""
    title = f"When {name} was computed, from {second(view.began_at)}" if view.began_at else ""
    context = {
        "view": view, "finding": finding, "drawn": timeline("spans", title, finding, lanes) if lanes else None,
        "by_asset": view.total > len(view.spans), "whole": second if _spans_days(view) else clock,
        "listed": desk.seen_by(person)[name].signed_asset is None,
    }  # fmt: skip
    return render(http, "run.html", context)


def _finding(view: RunView) -> str:
    """The picture in words."""
    slowest = max(view.assets, key=lambda asset: asset.seconds)
    counted = f"{plural(view.partitions, 'partition')}, {plural(view.calls, 'call')}"
    failed = f" {plural(view.failed, 'asset of a partition', 'assets of partitions')} failed." if view.failed else ""
    took = f" Most of the time went into {slowest.asset}: {length(slowest.seconds)} over all partitions."
    return f"{length(_seconds(view))} from the first asset to the last; {counted}.{failed}{took}"


def _seconds(view: RunView) -> float:
    return epoch_s(view.ended_at or "") - epoch_s(view.began_at or "")


def _spans_days(view: RunView) -> bool:
    return (view.began_at or "")[:10] != (view.ended_at or "")[:10]


def _show(
    http: HttpRequest, *, done: str | None = None, problem: str | None = None, status_code: int = 200
) -> Response:
    desk, person, name = Desk.of(http), person_of(http), http.path_params["collection"]
    view = reading.runs_view(desk, person, name)
    given = http.query_params
    chosen = {"first": parameter(given, "first"), "last": parameter(given, "last")}
    price: Price | None = None
    if given.get("price") and problem is None:
        try:
            price = reading.price(desk, person, name, chosen["first"], chosen["last"])
        except UserError as error:
            problem, status_code = in_words(error), status_of(error)
    context = {
        "view": view, "chosen": chosen, "price": price, "launch_id": launching.new_id(), "few": MOST_NAMED,
        "done": done, "problem": problem,
    }  # fmt: skip
    return render(http, "runs_of.html", context, status_code)


async def start(http: HttpRequest) -> Response:
    return await run_in_threadpool(_start, http, await Form.of(http))


def _start(http: HttpRequest, form: Form) -> Response:
    desk, person, name = Desk.of(http), person_of(http), http.path_params["collection"]
    if form.one("kind") == "stop":
        return _stop(http)
    kind = KINDS.get(form.one("kind"))
    if kind is None:
        raise FormIncomplete("kind", form.one("kind")[:40])
    try:
        wanted = LaunchRequest(
            kind=kind, first=form.one("first"), last=form.one("last"), max_usd=_amount(form.one("max_usd")),
            launch_id=_id(form.one("launch")),
        )  # fmt: skip
        started = launching.start(desk, person, name, wanted)
    except UserError as error:
        return _show(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/runs/{name}?{query(started=len(started.partitions))}", 303)


def _stop(http: HttpRequest) -> Response:
    desk, person, name = Desk.of(http), person_of(http), http.path_params["collection"]
    try:
        stopped = launching.stop(desk, person, name)
    except UserError as error:
        return _show(http, problem=in_words(error), status_code=status_of(error))
    return RedirectResponse(f"/runs/{name}?{query(done='stopped' if stopped else 'none')}", 303)


def _amount(text: str) -> float | None:
    if not text:
        return None
    try:
        found = float(text.removeprefix("$").replace(",", ""))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise FormIncomplete("max_usd", text[:40])
    return found


def _id(text: str) -> str:
    if len(text) != 32 or not all(sign in "0123456789abcdef" for sign in text):
        raise FormIncomplete("launch", text[:40])
    return text
