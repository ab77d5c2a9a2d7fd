"""Which endpoints a request is sent to, in which order. Pure."""

from collections.abc import Callable

from ai_assets.inference.errors import RouteUnknown
from ai_assets.inference.prices import estimated_tokens
from ai_assets.inference.records import Request
from ai_assets.inference.settings import Endpoint, InferenceSettings, RouteRule


def endpoints_for(
    settings: InferenceSettings, request: Request, p95_s: Callable[[str], float | None]
) -> tuple[tuple[str, Endpoint], ...]:
    """The endpoints of its route in the order in which to try them; an endpoint named directly stands alone.

    The first rule that holds puts its endpoint first. `p95_s` says how long 19 of 20 recent answers of an endpoint took
    at most; of one without recent answers nothing is known, and it is not slow.
    """
    names = list(names_of(settings, request.route))
    if not names:
        raise RouteUnknown(request.route, [*settings.routes, *settings.endpoints], settings.missing)
    route = settings.routes.get(request.route)
    for rule in route.rules if route else ():
        if _holds(rule, request, names[0], p95_s):
            names.remove(rule.use)
            names.insert(0, rule.use)
            break
    return tuple((name, settings.endpoints[name]) for name in names)


def names_of(settings: InferenceSettings, route: str) -> tuple[str, ...]:
    """The endpoints that a route or an endpoint of this name stands for, as declared; none where nothing does."""
    if route in settings.endpoints:
        return (route,)
    return settings.routes[route].endpoints if route in settings.routes else ()


def _holds(rule: RouteRule, request: Request, first: str, p95_s: Callable[[str], float | None]) -> bool:
    if rule.longer_than_tokens is not None:
        return estimated_tokens(request) > rule.longer_than_tokens
    taken_s = p95_s(first)
    return rule.slower_than_s is not None and taken_s is not None and taken_s > rule.slower_than_s
