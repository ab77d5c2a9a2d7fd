"""Shadows: what was compared, and what came of one."""

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.desk import shadow_query
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import person_of
from ai_assets.desk.pages.rendering import render


def overview(http: HttpRequest) -> Response:
    return render(http, "shadows.html", {"found": shadow_query.shadows_seen(Desk.of(http), person_of(http))})


def page(http: HttpRequest) -> Response:
    name, number = http.path_params["collection"], http.path_params["number"]
    view = shadow_query.shadow_view(Desk.of(http), person_of(http), name, number)
    return render(http, "shadow.html", {"view": view, "shadow": view.shadow, "results": view.shadow.results})
