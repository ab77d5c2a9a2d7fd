"""The pages through which people come in and go out: with a password, with a provider. Each time with a new token."""

import re
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from ai_assets.desk import proxy, sessions
from ai_assets.desk.address import Address, local_path
from ai_assets.desk.context import Desk
from ai_assets.desk.cookies import Cookies
from ai_assets.desk.errors import ProviderRefused
from ai_assets.desk.oidc import Flow, OidcProvider
from ai_assets.desk.sessions import Via
from ai_assets.desk.signed_values import Seal
from ai_assets.signoff.errors import PersonNameInvalid, SignInRefused, SignInThrottled
from ai_assets.signoff.passwords import authenticate
from ai_assets.signoff.people import Person

FLOW, LONGEST_FLOW_S = "oidc flow", 600
CALLBACK = "/sign-in/callback"
TOO_OLD = "it was begun too long ago, or in another window; begin again"


def routes() -> list[BaseRoute]:
    return [
        Route("/sign-in", page, methods=["GET"]),
        Route("/sign-in", with_password, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/sign-in/oidc", to_provider, methods=["GET"]),
        Route(CALLBACK, from_provider, methods=["GET"]),
    ]


async def page(request: Request) -> Response:
    wanted = local_path(request.query_params.get("next"))
    if request.state.person is not None:
        return RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
    return await _page(request, wanted)


async def with_password(request: Request) -> Response:
    desk, form = Desk.of(request), await request.form()
    name, password, wanted = (str(form.get(field, "")) for field in ("name", "password", "next"))
    wanted = local_path(wanted)
    if not desk.settings.sign_in.local:
        sentence = "This desk keeps no passwords. Sign in the other way."
        return await _page(request, wanted, error=sentence, status=HTTPStatus.FORBIDDEN)
    address = proxy.client_address(request.scope, desk.settings.sign_in.proxy)
    try:
        person = await run_in_threadpool(authenticate, desk.stores.state, name, password, address)
    except SignInRefused as error:
        return await _page(request, wanted, name=name, error=str(error), status=HTTPStatus.FORBIDDEN)
    except SignInThrottled as error:
        told = await _page(request, wanted, name=name, error=str(error), status=HTTPStatus.TOO_MANY_REQUESTS)
        told.headers["Retry-After"] = str(error.wait_s)
        return told
    return await run_in_threadpool(_come_in, request, person, "password", frozenset(), wanted)


async def sign_out(request: Request) -> Response:
    """Behind a proxy there is nothing to end here: who wants out signs out there."""
    desk, session, person = Desk.of(request), request.state.session, request.state.person
    cookies = Cookies(Address(desk.url).secure)
    if session is not None:
        await run_in_threadpool(sessions.end, desk.stores.state, session.token_digest, person, by=person.name)
    response = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    cookies.drop(response, cookies.session)
    return response


async def to_provider(request: Request) -> Response:
    desk, address = Desk.of(request), Address(Desk.of(request).url)
    wanted = local_path(request.query_params.get("next"))
    provider = _provider(request)
    if provider is None:
        return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    if address.origin_of(request.scope) != address.origin:  # the provider leads back there, where no cookie would be
        return RedirectResponse(f"{address.url}{request.url.path}?{request.url.query}", HTTPStatus.SEE_OTHER)
    flow = Flow.begin(wanted)
    try:
        target = await run_in_threadpool(provider.address, flow, f"{address.url}{CALLBACK}")
    except ProviderRefused as error:
        return await _page(request, wanted, error=str(error), status=HTTPStatus.BAD_GATEWAY)
    cookies = Cookies(address.secure)
    response = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    sealed = Seal.of(desk.stores.home).sealed(FLOW, vars(flow))
    cookies.set(response, cookies.flow, sealed, LONGEST_FLOW_S)
    return response


async def from_provider(request: Request) -> Response:
    desk, provider = Desk.of(request), _provider(request)
    cookies = Cookies(Address(desk.url).secure)
    if provider is None:
        return RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    wanted = "/"
    try:
        flow = _flow(request, provider)
        wanted = local_path(flow.next)
        response = await run_in_threadpool(_identified, request, provider, flow, wanted)
    except ProviderRefused as error:
        response = await _page(request, wanted, error=str(error), status=HTTPStatus.FORBIDDEN)
    cookies.drop(response, cookies.flow)
    return response


def _flow(request: Request, provider: OidcProvider) -> Flow:
    """The flow that this browser began, if what came back belongs to it."""
    desk = Desk.of(request)
    kept = request.cookies.get(Cookies(Address(desk.url).secure).flow, "")
    values = Seal.of(desk.stores.home).opened(FLOW, kept, LONGEST_FLOW_S)
    if values is None or values["state"] != request.query_params.get("state"):
        raise ProviderRefused(provider.settings.name, TOO_OLD)
    return Flow(**{name: values[name] for name in Flow.__dataclass_fields__})


def _identified(request: Request, provider: OidcProvider, flow: Flow, wanted: str) -> Response:
    desk, name = Desk.of(request), provider.settings.name
    if (said := request.query_params.get("error")) is not None:
        known = said if re.fullmatch("[a-z_]{1,60}", said) else "an error"
        raise ProviderRefused(name, f"the provider says {known}")
    code = request.query_params.get("code", "")
    found = provider.identity(flow, code, f"{Address(desk.url).url}{CALLBACK}")
    try:
        person = sessions.vouched(desk.stores.state, found.name, email=found.email, groups=found.groups, by="oidc")
    except PersonNameInvalid as error:
        raise ProviderRefused(name, f"'{found.name[:100]}' cannot be anybody's name here") from error
    if person is None:
        raise ProviderRefused(name, f"{found.name} is disabled here; an administrator of the desk can change that")
    return _come_in(request, person, "oidc", found.groups, wanted)


def _come_in(request: Request, person: Person, via: Via, groups: frozenset[str], wanted: str) -> Response:
    desk = Desk.of(request)
    cookies = Cookies(Address(desk.url).secure)
    with desk.stores.state.write() as connection:
        token, _ = sessions.open_session(
            connection,
            person.name,
            via=via,
            groups=groups,
            seal=Seal.of(desk.stores.home),
            rules=desk.settings.sessions,
            address=proxy.client_address(request.scope, desk.settings.sign_in.proxy),
            agent=request.headers.get("user-agent", ""),
            replaces=request.state.session,
        )
    response = RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
    cookies.set(response, cookies.session, token)
    cookies.drop(response, cookies.visit)
    return response


async def _page(
    request: Request, wanted: str, *, name: str = "", error: str | None = None, status: HTTPStatus = HTTPStatus.OK
) -> Response:
    from ai_assets.desk import pages

    ways = Desk.of(request).settings.sign_in
    context = {
        "next": wanted,
        "name": name,
        "error": error,
        "local": ways.local,
        "provider": ways.oidc.name if ways.oidc else None,
        "by_proxy": ways.proxy is not None,
        "csrf": request.state.csrf,
    }
    return await run_in_threadpool(pages.render, request, "sign_in.html", context, status_code=status)


def _provider(request: Request) -> OidcProvider | None:
    """One per process: it remembers what the provider says of itself."""
    settings = Desk.of(request).settings.sign_in.oidc
    if settings is None:
        return None
    kept: OidcProvider | None = getattr(request.app.state, "oidc_provider", None)
    if kept is None:
        kept = request.app.state.oidc_provider = OidcProvider(settings)
    return kept
