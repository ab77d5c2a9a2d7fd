"""Releases: what readers see, what they saw at a time, and the way back."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.base.masking import masked
from ai_assets.base.printable import printable
from ai_assets.desk import reading
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import Form, FormIncomplete, parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.release import would_change
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.refusal import status_of
from ai_assets.desk.signed_values import Seal
from ai_assets.desk.views import ReleaseRow
from ai_assets.run import going_live
from ai_assets.signoff.policy_facts import require_access

TOLD, TOLD_S = "told of a rollback", 600
MOST_TOLD = 5


def overview(http: HttpRequest) -> Response:
    desk, person = Desk.of(http), person_of(http)
    seen = sorted(desk.seen_by(person))
    asked = parameter(http.query_params, "collection")
    if asked in seen:
        found = query(at=parameter(http.query_params, "at"))
        return RedirectResponse(f"/releases/{asked}{'?' if found else ''}{found}", 303)
    rows = {name: reading.release_rows(desk, person, name) for name in seen}
    context = {
        "rows": rows,
        "live": {name: _live(found) for name, found in rows.items()},
        "refused": {name: _refused(found) for name, found in rows.items()},
    }
    return render(http, "releases.html", context)


def _live(rows: list[ReleaseRow]) -> ReleaseRow | None:
    return next((row for row in rows if row.live), None)


def _refused(rows: list[ReleaseRow]) -> list[ReleaseRow]:
    return [row for row in rows if row.problem]


def page(http: HttpRequest) -> Response:
    return _show(http)


def _show(http: HttpRequest, *, problem: str | None = None, status_code: int = 200) -> Response:
    desk, person, collection = Desk.of(http), person_of(http), http.path_params["collection"]
    rows = reading.release_rows(desk, person, collection)
    at, found = parameter(http.query_params, "at"), None
    if at and problem is None:
        try:
            found = reading.live_at(desk, person, collection, at)
        except UserError as error:
            problem, status_code, at = in_words(error), status_of(error), ""
    context = {
        "collection": collection,
        "rows": sorted(rows, key=lambda row: -row.number),
        "live": _live(rows),
        "refused": _refused(rows),
        "at": at,
        "found": found,
        "may_roll_back": person.may("approver", collection),
        "problem": problem,
        "notices": _told(http),
        "targets": reading.targets_in_trouble(desk, person, collection),
    }
    return render(http, "releases_of.html", context, status_code)


async def rollback(http: HttpRequest) -> Response:
    return await run_in_threadpool(_rollback, http, await Form.of(http))


def _rollback(http: HttpRequest, form: Form) -> Response:
    desk, person, collection = Desk.of(http), person_of(http), http.path_params["collection"]
    rows = reading.release_rows(desk, person, collection)
    number, reason, confirmed = form.one("number"), form.one("reason"), form.one("confirmed") == "yes"
    target = next((row for row in rows if str(row.number) == number), None)
    if target is None:
        raise FormIncomplete("number", number[:40])
    if not confirmed or not reason:
        problem = "Going back needs a reason; nothing was changed." if confirmed else None
        live = _live(rows)
        found, unknown = would_change(http, collection, live.number, target.number) if live else (None, "")
        context = {"collection": collection, "target": target, "live": live, "reason": reason,
                   "problem": problem, "found": found, "unknown": unknown}  # fmt: skip
        return render(http, "rollback.html", context, 400 if confirmed else 200)
    said = list[str]()
    try:
        chosen = desk.collections()[collection]
        require_access(chosen, person, "roll back")
        going_live.roll_back(chosen, desk.stores, target.number, by=person, reason=reason, say=said.append)
    except UserError as error:
        return _show(http, problem=in_words(error), status_code=status_of(error))
    if not said:
        return RedirectResponse(f"/releases/{collection}", 303)
    lines = "\n".join(printable(masked(line)) for line in said[:MOST_TOLD])  # whoever has the address can read them
    told = Seal.of(desk.stores.home).sealed(TOLD, {"said": lines})
    return RedirectResponse(f"/releases/{collection}?{query(told=told)}", 303)


def _told(http: HttpRequest) -> list[str]:
    """What the rollback that led here could not do, as the desk itself wrote it into the address."""
    sealed = parameter(http.query_params, "told")
    found = Seal.of(Desk.of(http).stores.home).opened(TOLD, sealed, TOLD_S) if sealed else None
    return found["said"].split("\n") if found else []
