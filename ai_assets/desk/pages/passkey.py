"""What the browser asks for while a passkey is added or signs a decision; answers are JSON."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ai_assets.base.errors import UserError
from ai_assets.desk import passkeys
from ai_assets.desk.access import whole_request_seen
from ai_assets.desk.context import Desk
from ai_assets.desk.pages.decision import choices_of, verdict_of
from ai_assets.desk.pages.form import Form, person_of
from ai_assets.desk.pages.request import DecisionFormInput
from ai_assets.desk.refusal import status_of
from ai_assets.signoff.errors import DecisionRefused


async def begin(http: HttpRequest) -> Response:
    return await _answer(http, lambda desk, sent: passkeys.begin_adding(desk, person_of(http)))


async def add(http: HttpRequest) -> Response:
    return await _answer(
        http, lambda desk, sent: passkeys.add(desk, person_of(http), _text(sent, "kept"), sent.get("response") or {})
    )


async def vouch(http: HttpRequest) -> Response:
    return await _answer(
        http, lambda desk, sent: passkeys.vouch(desk, person_of(http), _text(sent, "kept"), _text(sent, "assertion"))
    )


async def statement(http: HttpRequest) -> Response:
    """What a decision, as the form holds it now, is signed as."""
    form = await Form.of(http)

    def found(desk: Desk, _sent: Mapping[str, Any]) -> dict[str, Any]:
        person, typed, choices = person_of(http), DecisionFormInput.of(form), choices_of(form)
        names = [whole_request_seen(desk, person, choice.request_id)[1].name for choice in choices]
        made = passkeys.decision_to_sign(desk, person, names, choices, verdict_of(form), typed.reason, typed.waivers)
        return {"said": made.said, "options": made.options}

    return await _answer(http, found, body={})


async def _answer(
    http: HttpRequest, found: Callable[[Desk, Mapping[str, Any]], dict[str, Any]], body: Mapping[str, Any] | None = None
) -> Response:
    try:
        sent = await _json(http) if body is None else body
        return JSONResponse(await run_in_threadpool(found, Desk.of(http), sent))
    except UserError as error:
        return JSONResponse({"error": str(error)}, status_of(error))


async def _json(http: HttpRequest) -> Mapping[str, Any]:
    try:
        sent = await http.json()
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        raise DecisionRefused(person_of(http).name, "what the browser sent is no JSON object")
    return sent


def _text(sent: Mapping[str, Any], name: str) -> str:
    found = sent.get(name)
    return found if isinstance(found, str) else ""
