"""One answer of a model, opened."""

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.base.printable import readable_json
from ai_assets.desk.answer_query import answer_view
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import person_of
from ai_assets.desk.pages.rendering import render


def page(http: HttpRequest) -> Response:
    view = answer_view(Desk.of(http), person_of(http), http.path_params["call"][:64])
    sent = view.sent
    context = {
        "view": view,
        "answer": view.text if view.data is None else readable_json(view.data, indent=2),
        "schema": readable_json(sent.answer_schema, indent=2) if sent and sent.answer_schema is not None else None,
        "settings": readable_json(dict(sent.settings), indent=2) if sent and sent.settings else None,
    }
    return render(http, "answer.html", context)
