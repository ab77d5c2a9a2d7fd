"""Where a row comes from, in one page, and what a prompt, a model or a call touched."""

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.base.printable import readable_json
from ai_assets.desk.access import known_view
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import parameter, person_of
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.provenance_query import (
    LONGEST_MESSAGE,
    provenance_seen,
    provenance_view,
    statement_of,
    touched_view,
)
from ai_assets.desk.release_opened import number_of
from ai_assets.run.touched import By
from ai_assets.signoff import attestation

MOST_ROWS = 200
BY: tuple[By, ...] = ("prompt", "model", "call")


def _asked(http: HttpRequest) -> tuple[str, str, int | None]:
    release = parameter(http.query_params, "release")
    number = number_of(release) if release else None
    return http.path_params["collection"], http.query_params.get("id", ""), number


def page(http: HttpRequest) -> Response:
    view = provenance_view(Desk.of(http), person_of(http), *_asked(http))
    return render(http, "explain.html", {"view": view, "found": view.found, "longest": LONGEST_MESSAGE})


def as_json(http: HttpRequest) -> Response:
    found = provenance_seen(Desk.of(http), person_of(http), *_asked(http))
    headers = {"Content-Disposition": 'attachment; filename="provenance.json"'}
    return Response(readable_json(found.plain, indent=2) + "\n", media_type="application/json", headers=headers)


def statement(http: HttpRequest) -> Response:
    envelope = statement_of(Desk.of(http), person_of(http), *_asked(http))
    headers = {"Content-Disposition": 'attachment; filename="provenance.intoto.json"'}
    return Response(attestation.as_text(envelope), media_type="application/json", headers=headers)


def touched(http: HttpRequest) -> Response:
    by = known_view("way to ask", parameter(http.query_params, "by") or "prompt", BY)
    chosen: By = "model" if by == "model" else "call" if by == "call" else "prompt"
    value, stage = parameter(http.query_params, "value"), parameter(http.query_params, "stage")
    view = touched_view(Desk.of(http), person_of(http), http.path_params["collection"], chosen, value, stage or None)
    return render(http, "touched.html", {"view": view, "found": view.found, "most": MOST_ROWS})
