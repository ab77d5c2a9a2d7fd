"""What stands around every page of the desk: headers, limits, who is asking, and whether one of our pages asked.

Plain ASGI, from the outside in: `HeaderMiddleware`, Starlette's own net for mistakes, `LimitMiddleware`,
`IdentityMiddleware`.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, quote, urlsplit

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ai_assets.base.errors import StateUnavailable
from ai_assets.desk import proxy, sessions
from ai_assets.desk.address import Address
from ai_assets.desk.body import BodyTooLarge, ClientDisconnected, again, whole
from ai_assets.desk.context import Desk
from ai_assets.desk.cookies import Cookies
from ai_assets.desk.machine_paths import FOR_MACHINES
from ai_assets.desk.refusal import RETRY_AFTER_S, is_api, refusal
from ai_assets.desk.sessions import Session
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff import people
from ai_assets.signoff.audit_errors import AuditBroken
from ai_assets.signoff.errors import PersonNameInvalid
from ai_assets.signoff.people import Person

LARGEST_BODY = 1 << 20
LONGEST_URL = 8192
LONGEST_UPLOAD_S = 10.0
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
UNTRUSTED_SITES = frozenset({"cross-site", "same-site"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_TRICK = re.compile(r"(^|/)\.{1,2}(/|$)|^//|[\x00-\x1f\x7f]")
"""In a decoded path: a step up or in place, the form of another host, a control character."""


def protection(desk: Desk) -> list[Middleware]:
    """For `Starlette(middleware=...)`; pages find `person`, `session` and `csrf` in `request.state`."""
    return [
        Middleware(HeaderMiddleware, desk),
        # Starlette has this outermost, too, where its answer would go out without our headers.
        Middleware(ServerErrorMiddleware, handler=_mistake),
        Middleware(LimitMiddleware, desk),
        Middleware(IdentityMiddleware, desk),
    ]


def _mistake(request: Request, _error: Exception) -> Response:
    sentence = "The desk made a mistake; its log says which. Look at the page again before you repeat what you did."
    # The error is raised again for the server's log, and the server then hangs up: the client must not write on.
    return refusal(request.scope, HTTPStatus.INTERNAL_SERVER_ERROR, sentence, {"Connection": "close"})


def _is_for_machines(scope: Scope) -> bool:
    """Asked by what knows the desk by a number instead of its name, and never signs in."""
    return scope["path"] in FOR_MACHINES


def _is_static(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith("/static/")


def _is_sign_in(scope: Scope) -> bool:
    path: str = scope["path"]
    return path == "/sign-in" or path.startswith("/sign-in/")


def _is_free(scope: Scope) -> bool:
    """Also for whom nobody knows."""
    return _is_sign_in(scope) or scope["path"] == "/api/openapi.json"


class HeaderMiddleware:
    """Sets the strict headers on whatever goes out; a page cannot loosen them."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self.app = app
        self.headers = dict(HEADERS)
        if Address(desk.url).secure:
            self.headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self.headers)
                if not _is_static(scope):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self.app(scope, receive, hardened)


class LimitMiddleware:
    """Lets through what is addressed to the desk, well-formed, and small."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self.app = app
        self.address = Address(desk.url)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            with anyio.fail_after(LONGEST_UPLOAD_S):
                body = await whole(receive, LARGEST_BODY)
        except ClientDisconnected:
            return
        except TimeoutError:
            refused = refusal(scope, HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive. Send it again.")
        except BodyTooLarge:
            sentence = f"The request holds more than {LARGEST_BODY >> 20} MiB, and nothing here needs as much."
            refused = refusal(scope, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
        else:
            found = self._problem(scope)
            if found is None:
                await self.app(scope, again(body, receive), send)
                return
            refused = refusal(scope, *found)
        refused.headers["Connection"] = "close"
        await refused(scope, receive, send)

    def _problem(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > LONGEST_URL:
            return HTTPStatus.REQUEST_URI_TOO_LONG, f"The address is longer than {LONGEST_URL} characters."
        if _TRICK.search(scope["path"]):
            return HTTPStatus.BAD_REQUEST, "The address holds a step up, or a sign that no address has."
        if self.address.origin_of(scope) is None and not _is_for_machines(scope):
            return HTTPStatus.MISDIRECTED_REQUEST, (
                f"This desk is at {self.address.url}, and was called by another name. "
                "If it should answer to that name, set `url` in desk.yaml."
            )
        return None


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Who is asking, as far as the request proves it."""

    person: Person | None = None
    session: Session | None = None
    csrf: str
    visit: str | None = None
    """A cookie to be set, so that the token of this page is known again."""


class IdentityMiddleware:
    """Knows who asks, turns away who must sign in first, and refuses what none of our pages can have sent."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self.app = app
        self.desk = desk
        self.address = Address(desk.url)
        self.cookies = Cookies(self.address.secure)
        self.seal = Seal.of(desk.stores.home)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_for_machines(scope) or _is_static(scope):
            await self.app(scope, receive, send)
            return
        try:
            visitor = await run_in_threadpool(self._visitor, scope)
        except (proxy.ProxyDoubtful, PersonNameInvalid, AuditBroken) as error:
            await refusal(scope, HTTPStatus.FORBIDDEN, str(error))(scope, receive, send)
            return
        except StateUnavailable:
            await _unavailable(scope)(scope, receive, send)
            return
        if visitor.person is None and not _is_free(scope):
            await _sign_in_first(scope)(scope, receive, send)
            return
        if scope["method"] not in SAFE_METHODS:
            body = await whole(receive, LARGEST_BODY)
            receive = again(body, receive)
            if (problem := self._forged(scope, body, visitor.csrf)) is not None:
                await refusal(scope, HTTPStatus.FORBIDDEN, problem)(scope, receive, send)
                return
        scope.setdefault("state", {}).update(person=visitor.person, session=visitor.session, csrf=visitor.csrf)
        await self._answered(scope, receive, send, visitor)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, visitor: Visitor) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if visitor.visit is not None:
                    made = Response()
                    self.cookies.set(made, self.cookies.visit, visitor.visit)
                    MutableHeaders(scope=message).append("Set-Cookie", made.headers["Set-Cookie"])
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except StateUnavailable:
            if started:
                raise
            await _unavailable(scope)(scope, receive, send)

    def _visitor(self, scope: Scope) -> Visitor:
        """At most one read of the store, and once a minute a write. Runs in a thread of its own."""
        sent = HTTPConnection(scope).cookies
        visit = sent.get(self.cookies.visit, "")[:100]
        told = proxy.told(scope, self.desk.settings.sign_in.proxy)
        if told is not None:
            state = self.desk.stores.state
            person = sessions.vouched(state, told.name, email=None, groups=told.groups, by="proxy")
            if person is None:
                raise proxy.ProxyDoubtful(
                    f"{told.name} is disabled here. An administrator of the desk can change that."
                )
            return self._without_session(self.desk.knowing(person), visit)
        if token := sent.get(self.cookies.session):
            person, session = self._by_session(token)
            if person is not None:
                return Visitor(person=self.desk.knowing(person), session=session, csrf=sessions.csrf(token))
        return self._without_session(None, visit)

    def _without_session(self, person: Person | None, visit: str) -> Visitor:
        new = None if visit else secrets.token_urlsafe(32)
        csrf = self.seal.token("csrf", visit or new or "", person.name if person else "")
        return Visitor(person=person, csrf=csrf, visit=new)

    def _by_session(self, token: str) -> tuple[Person | None, Session | None]:
        state, settings = self.desk.stores.state, self.desk.settings
        with state.read() as connection:
            session = sessions.find(connection, token, settings.sessions, self.seal)
            if session is None or not sessions.admits(session, settings.sign_in):
                return None, None
            person = people.find(connection, session.person, session.groups)
        if person is not None and sessions.to_be_noted(session, settings.sessions):
            sessions.note(state, session)
        return person, session

    def _forged(self, scope: Scope, body: bytes, csrf: str) -> str | None:
        """Why this cannot have come from one of our pages. Forms are read as browsers send them without files."""
        headers = Headers(scope=scope)
        own = self.address.origin_of(scope)
        origin, referer = headers.get("origin"), headers.get("referer")
        if origin is None and referer is not None:
            parts = urlsplit(referer)
            origin = f"{parts.scheme}://{parts.netloc}"
        if (origin is not None and origin != own) or headers.get("sec-fetch-site") in UNTRUSTED_SITES:
            return "This came from a page of another site. Open the page in the desk and do it there."
        token = headers.get(CSRF_HEADER)
        if token is None and headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            fields = parse_qs(body.decode("utf-8", "replace"))
            token = fields[CSRF_FIELD][0] if len(fields.get(CSRF_FIELD, [])) == 1 else None
        if token is None or not hmac.compare_digest(token.encode("utf-8", "replace"), csrf.encode()):
            return "The form does not come from your present session. Open the page again and send it from there."
        return None


def _sign_in_first(scope: Scope) -> Response:
    if is_api(scope):
        challenge = {"WWW-Authenticate": 'Cookie realm="desk", form-action="/sign-in"'}
        return refusal(scope, HTTPStatus.UNAUTHORIZED, "Sign in first (/sign-in).", challenge)
    if scope["method"] not in SAFE_METHODS:
        return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    path, query = scope.get("raw_path") or quote(scope["path"]).encode(), scope["query_string"]
    wanted = (path + (b"?" + query if query else b"")).decode("latin-1")
    target = "/sign-in" if wanted == "/" else f"/sign-in?next={quote(wanted, safe='/')}"
    return RedirectResponse(target, HTTPStatus.SEE_OTHER)


def _unavailable(scope: Scope) -> Response:
    sentence = "The desk cannot reach its state store. Nothing was changed; try again in a moment."
    return refusal(scope, HTTPStatus.SERVICE_UNAVAILABLE, sentence, {"Retry-After": str(RETRY_AFTER_S)})
