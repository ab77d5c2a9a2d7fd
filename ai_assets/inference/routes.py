"""Which endpoints a request is sent to, in which order. Pure."""

from collections.abc import Callable

from ai_assets.inference.errors import RouteUnknown
from ai_assets.inference.prices import estimated_tokens
from ai_assets.inference.records import Request
from ai_assets.inference.settings import Endpoint, InferenceSettings, RouteRule


def endpoints_for(settings: InferenceSettings, request: Request) -> tuple[tuple[str, Endpoint], ...]:
    """The endpoints of its route as they are tried while none is slow; an endpoint named directly stands alone."""
    names = order_of(settings, request, lambda _first, _limit_s: False)
    return tuple((name, settings.endpoints[name]) for name in names)


def order_of(settings: InferenceSettings, request: Request, is_slow: Callable[[str, float], bool]) -> list[str]:
    """The first rule that holds puts its endpoint first. `is_slow`: the route's first endpoint, against this limit."""
    names = list(names_of(settings, request.route))
    if not names:
        raise RouteUnknown(request.route, [*settings.routes, *settings.endpoints], settings.missing)
    route = settings.routes.get(request.route)
    for rule in route.rules if route else ():
        if _holds(rule, request, names[0], is_slow):
            return [rule.use, *(name for name in names if name != rule.use)]
    return names


def names_of(settings: InferenceSettings, route: str) -> tuple[str, ...]:
    """The endpoints that a route or an endpoint of this name stands for, as declared; none where nothing does."""
    if route in settings.endpoints:
        return (route,)
    return settings.routes[route].endpoints if route in settings.routes else ()


def _holds(rule: RouteRule, request: Request, first: str, is_slow: Callable[[str, float], bool]) -> bool:
    if rule.longer_than_tokens is not None:
        return estimated_tokens(request) > rule.longer_than_tokens
    return rule.slower_than_s is not None and is_slow(first, rule.slower_than_s)
