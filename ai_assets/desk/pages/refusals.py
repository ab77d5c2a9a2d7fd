"""What went wrong, as a page like the others. A traceback goes to the log, under a number that the page names."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk.pages.rendering import render
from ai_assets.desk.refusal import RETRY_AFTER_S, is_api, status_of

_TITLES = {
    400: "That was not understood",
    403: "That is not yours to do",
    404: "There is nothing here",
    405: "This address takes no such request",
    409: "Something else happened first",
    413: "That is too much at once",
    500: "The desk made a mistake",
    503: "The desk cannot reach its store",
}
_SENTENCES = {
    403: "You are signed in, but your role does not reach this far. An administrator can give you another.",
    404: "The address may be mistyped, or what it named may not be yours to see.",
    405: "Go back to the page you came from and use its buttons.",
    413: "Send less: a reason or a comment of a few thousand characters is enough.",
}
_ADVICE = re.compile(r"\s*(?:See|Look with): ai-assets .*$|\s*\((?:--|ai-assets )[^()]*\)", re.DOTALL)
_log = logging.getLogger("ai_assets.desk")


def exception_handlers() -> Mapping[Any, Callable[[HttpRequest, Any], Response]]:
    """By the class of what was raised; of our mistakes, see `net`."""
    return {HTTPException: _refused, UserError: _said}


def net() -> Middleware:
    """Around each page: a mistake of ours becomes a page as well. It is raised again, for the server to log."""
    return Middleware(ServerErrorMiddleware, handler=_failed)


def in_words(error: UserError) -> str:
    """The message without what only helps at the command line: here there are buttons."""
    return _ADVICE.sub("", str(error))


def _refused(request: HttpRequest, error: HTTPException) -> Response:
    sentence = _SENTENCES.get(error.status_code, "Go back to the page you came from and try again.")
    return _answer(request, error.status_code, sentence, headers=error.headers)


def _said(request: HttpRequest, error: UserError) -> Response:
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    sentence = in_words(error)
    if status == 503:
        _log.warning("%s", error)
        sentence = "Nothing was changed. It is tried again with every page, so wait a moment and load this one again."
    return _answer(request, status, sentence, headers=headers)


def _failed(request: HttpRequest, error: Exception) -> Response:
    reference = secrets.token_hex(4)
    _log.error("%s %s failed (reference %s)", request.method, request.url.path, reference, exc_info=error)
    sentence = "It is not your fault. If it happens again, tell whoever runs the desk the reference below."
    # It is raised again, whereupon the server ends the connection: no further request may be sent on it.
    return _answer(request, 500, sentence, reference=reference, headers={"Connection": "close"})


def _answer(
    request: HttpRequest, status: int, sentence: str, *, reference: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    if is_api(request.scope):
        named = f"{sentence} (reference {reference})" if reference else sentence
        return JSONResponse({"error": named}, status, headers)
    context = {"status": status, "title": _TITLES.get(status, "That did not work"), "sentence": sentence,
               "reference": reference}  # fmt: skip
    found = render(request, "error.html", context, status)
    found.headers.update(headers or {})
    return found
