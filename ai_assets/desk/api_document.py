"""The OpenAPI document of the API: which answers there are beside the good one, and what signs a caller in."""

import json
from typing import Any

from ai_assets.desk.api_records import Problem
from ai_assets.desk.views import UnansweredPage

DESCRIPTION = """\
What the pages of the desk use, for programs too. A caller has signed in on the desk and sends its session cookie; what
changes something needs the token of `GET /me` in the header `X-CSRF-Token` as well. Whatever goes wrong is answered
with a `Problem`."""
_SAID = {
    400: "What was asked for is not possible.",
    401: "Nobody is signed in.",
    403: "This person may not do this, or the token is missing.",
    404: "It does not exist, or this person may not see it.",
    409: "Somebody else was first, a newer candidate is there, or Dagster does not answer: nothing was done.",
    413: "What was sent is too large.",
    414: "The address is too long.",
    422: "What was sent is not what this document says.",
    503: "The state store does not answer; try again.",
}
SAFE: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": _SAID[status]} for status in (400, 401, 403, 404, 414, 422, 503)
}
UNSAFE: dict[int | str, dict[str, Any]] = {
    **SAFE,
    **{status: {"model": Problem, "description": _SAID[status]} for status in (409, 413)},
}
_SCHEMES = {
    "session": {"type": "apiKey", "in": "cookie", "name": "desk", "description": "`__Host-desk` where it is https."},
    "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token", "description": "From `GET /me`."},
}
_PUBLISHED = {UnansweredPage.__name__: "Unanswered"}
"""Names of schemas that clients know, where the class has another one."""


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI would say that either scheme is enough, and a change needs both."""
    document = _as_published(document)
    document["components"]["securitySchemes"] = _SCHEMES
    for operations in document["paths"].values():
        for method, operation in operations.items():
            operation["security"] = [{"session": []} if method == "get" else {"session": [], "csrf": []}]
    return document


def _as_published(document: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(document)
    for name, published in _PUBLISHED.items():
        text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{published}"')
        text = text.replace(f'"title": "{name}"', f'"title": "{published}"').replace(f'"{name}":', f'"{published}":')
    renamed: dict[str, Any] = json.loads(text)
    return renamed
