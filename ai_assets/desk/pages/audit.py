"""The audit chain as a page, and as a file that proves itself."""

import itertools
from collections.abc import Iterator
from typing import get_args

from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse

from ai_assets.desk import reading
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.form import FormIncomplete, parameter, person_of
from ai_assets.desk.pages.rendering import render
from ai_assets.signoff.audit import Action

PER_PAGE = 100
FILTERS = ("collection", "actor", "action", "since", "until")


def _chosen(http: HttpRequest) -> dict[str, str]:
    return {name: parameter(http.query_params, name) for name in FILTERS}


def page(http: HttpRequest) -> Response:
    desk, person, chosen = Desk.of(http), person_of(http), _chosen(http)
    before = parameter(http.query_params, "before")
    if before and not (before.isascii() and before.isdigit() and len(before) < 16):
        raise FormIncomplete("before", before[:40])
    entries, further = reading.audit_page(
        desk, person, reading.AuditFilter(**chosen), before=int(before) if before else None, limit=PER_PAGE
    )
    context = {
        "entries": entries,
        "further": further,
        "before": before,
        "chosen": chosen,
        "actions": get_args(Action),
        "collections": sorted(desk.seen_by(person)),
    }
    return render(http, "audit.html", context)


def export(http: HttpRequest) -> Response:
    lines = reading.audit_lines(Desk.of(http), person_of(http), reading.AuditFilter(**_chosen(http)))
    first = list(itertools.islice(lines, 1))  # what is refused is refused before the answer has begun
    headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(_lines(first, lines), media_type="application/x-ndjson", headers=headers)


def _lines(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    for line in itertools.chain(first, rest):
        yield line.rstrip("\n") + "\n"
