"""The page of costs, and its tables as files: how much went where, over the collections that somebody may see."""

import datetime
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from ai_assets.base.errors import UserError
from ai_assets.costs import cost_query
from ai_assets.costs.tables import csv_text, records
from ai_assets.desk import costs_query
from ai_assets.desk.access import NotSeen
from ai_assets.desk.context import Desk
from ai_assets.desk.costs_query import CostParameters
from ai_assets.desk.costs_sections import SECTIONS, CostContext, whole_table
from ai_assets.desk.pages.form import parameter, person_of
from ai_assets.desk.pages.refusals import in_words
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.pages.wording import query
from ai_assets.desk.refusal import RETRY_AFTER_S
from ai_assets.storage.shared_warehouse import warehouse_file
from ai_assets.storage.warehouse import WarehouseDamaged, WarehouseMissing, WarehouseTooNew
from ai_assets.storage.warehouse import reading as opened


def page(http: HttpRequest) -> Response:
    desk, person, asked = Desk.of(http), person_of(http), _asked(http)
    names = costs_query.collections(desk, person)
    if not names and not costs_query.everything(person):
        return render(http, "costs_none.html", {"why": "no role", "sentence": ""})
    today = datetime.datetime.now(datetime.UTC).date()
    scope = costs_query.scope(desk, person, asked, today)
    by = costs_query.grouped(person, asked)
    try:
        with opened(warehouse_file(desk.stores.home)) as warehouse:
            look = CostContext(warehouse=warehouse, scope=scope, by=by, today=today)
            found = _found(look)
            sections = [made(look) for made in SECTIONS.values()]
    except WarehouseMissing:
        return render(http, "costs_none.html", {"why": "missing", "sentence": ""})
    except (WarehouseTooNew, WarehouseDamaged) as error:
        return _unreadable(http, error)
    documents = next(section for section in sections if section.name == "documents")
    context = {
        **found,
        "asked": asked,
        "shared": query(
            **{"days": asked.days, "from": asked.first, "to": asked.last}, collection=asked.collection, by=by
        ),
        "by": by,
        "window": scope.window,
        "today": today,
        "day_counts": costs_query.DAYS,
        "collections": names,
        "groups": costs_query.groups(person),
        "sections": {section.name: section for section in sections},
        "links": costs_query.addresses(desk, person, records(documents.table)),
        "flying": costs_query.flying(desk, scope),
        "behind": costs_query.behind(desk, scope, found["built"]),
    }
    return render(http, "costs.html", context)


def download(http: HttpRequest) -> Response:
    desk, person, asked, name = Desk.of(http), person_of(http), _asked(http), http.path_params["name"]
    if name not in SECTIONS or not (costs_query.collections(desk, person) or costs_query.everything(person)):
        raise NotSeen(f"table '{name[:40]}' of costs")
    today = datetime.datetime.now(datetime.UTC).date()
    scope = costs_query.scope(desk, person, asked, today)
    by = costs_query.grouped(person, asked)
    try:
        with opened(warehouse_file(desk.stores.home)) as warehouse:
            table = whole_table(name, CostContext(warehouse=warehouse, scope=scope, by=by, today=today))
    except WarehouseMissing:
        return render(http, "costs_none.html", {"why": "missing", "sentence": ""}, 404)
    except (WarehouseTooNew, WarehouseDamaged) as error:
        return _unreadable(http, error)
    headers = {"Content-Disposition": f'attachment; filename="costs-{name}.csv"'}
    return Response(csv_text(table), media_type="text/csv; charset=utf-8; header=present", headers=headers)


def _asked(http: HttpRequest) -> CostParameters:
    names = {"days": "days", "first": "from", "last": "to", "collection": "collection", "by": "by"}
    return CostParameters(**{field: parameter(http.query_params, name) for field, name in names.items()})


def _found(look: CostContext) -> dict[str, Any]:
    """What is no table: the figures at the head of the page."""
    earlier = look.scope.earlier()
    return {
        "totals": cost_query.totals(look.warehouse, look.scope),
        "before": cost_query.totals(look.warehouse, earlier) if earlier else None,
        "per_document": cost_query.per_document(look.warehouse, look.scope),
        "forecast": cost_query.forecast(look.warehouse, look.scope),
        "built": cost_query.built(look.warehouse),
    }


def _unreadable(http: HttpRequest, error: UserError) -> Response:
    found = render(http, "costs_none.html", {"why": "unreadable", "sentence": in_words(error)}, 503)
    found.headers["Retry-After"] = str(RETRY_AFTER_S)
    return found
