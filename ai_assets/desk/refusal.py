"""What refusals have in common: their status, and the bare answer of the protection, for people or for programs."""

from collections.abc import Mapping
from html import escape
from http import HTTPStatus

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Scope

from ai_assets.base.errors import LeaseBusy, StateUnavailable, UserError
from ai_assets.collection.errors import CollectionUnknown
from ai_assets.desk.access import NotSeen
from ai_assets.desk.errors import FormUsedElsewhere, LaunchRefused, PriceBusy, StartedBefore
from ai_assets.ops.dagster_client import DagsterRefused, DagsterUnreachable
from ai_assets.planning.backfills import BackfillUnderWay
from ai_assets.run.errors import NothingTouched
from ai_assets.signoff.errors import (
    ClaimRefused,
    ClaimTaken,
    DecisionRefused,
    DecisionTooLate,
    DocumentUnknown,
    NothingLive,
    ReleaseFilesRemoved,
    ReleaseUnknown,
    RequestUnknown,
)

RETRY_AFTER_S = 5
"""What a 503 tells clients to wait."""
_STATUS: Mapping[type[UserError], int] = {
    DecisionRefused: 403,
    ClaimRefused: 403,
    ClaimTaken: 409,
    LaunchRefused: 403,
    NotSeen: 404,
    CollectionUnknown: 404,
    DocumentUnknown: 404,
    NothingTouched: 404,
    ReleaseUnknown: 404,
    DecisionTooLate: 409,
    ReleaseFilesRemoved: 409,
    RequestUnknown: 409,
    NothingLive: 409,
    DagsterUnreachable: 409,
    DagsterRefused: 409,
    StateUnavailable: 503,
    PriceBusy: 503,
    StartedBefore: 409,
    FormUsedElsewhere: 409,
    BackfillUnderWay: 409,
    LeaseBusy: 503,
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · sign-off desk</title>
<link rel="stylesheet" href="/static/desk.css">
</head>
<body>
<main id="content">
<div class="narrow error">
<p class="code">{status}</p>
<h1>{title}</h1>
<p class="sentence">{sentence}</p>
<p><a class="button" href="/">Back to the desk</a></p>
</div>
</main>
</body>
</html>
"""


def status_of(error: UserError) -> int:
    """As pages and API answer it; a mistake that has no status of its own is a 400."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)


def is_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/api" or path.startswith("/api/")


def refusal(scope: Scope, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    if is_api(scope):
        return JSONResponse({"error": sentence}, status, headers)
    page = _PAGE.format(status=int(status), title=escape(status.phrase), sentence=escape(sentence))
    return HTMLResponse(page, status, headers)
