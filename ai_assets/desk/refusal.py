"""The answer of the desk's protection when it lets nothing through: one sentence, for people or for programs."""

from collections.abc import Mapping
from html import escape
from http import HTTPStatus

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Scope

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


def is_api(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/api" or path.startswith("/api/")


def refusal(scope: Scope, status: HTTPStatus, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    if is_api(scope):
        return JSONResponse({"error": sentence}, status, headers)
    page = _PAGE.format(status=int(status), title=escape(status.phrase), sentence=escape(sentence))
    return HTMLResponse(page, status, headers)
