"""Who may read `/metrics`: a program with a token of the environment, for all or for one tenant; and where a desk is
this machine's own, whoever is on this machine."""

import hmac
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import Scope

from ai_assets.base.errors import UserError
from ai_assets.base.home import variable
from ai_assets.base.tenants import Tenants
from ai_assets.desk.address import LOCAL_NAMES, Address
from ai_assets.desk.settings import MetricsSettings

SHORTEST_TOKEN = 16
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class MetricsTokenUnusable(UserError):
    def __init__(self, name: str, found: str) -> None:
        super().__init__(
            f"The token for /metrics in {name} {found}. Make one for each scraper: openssl rand -hex 32 "
            "(docs/observability.md)"
        )


@dataclass(frozen=True, kw_only=True)
class Scraper:
    tenant: str | None
    """The only one whose series it gets; None for all."""
    token: str = field(default="", repr=False)


def scrapers(settings: MetricsSettings, tenants: Tenants) -> tuple[Scraper, ...]:
    """Those whose token the environment has. Raises where one could be guessed, or is that of two."""
    named: list[tuple[str, str | None]] = [(settings.token_env, None)]
    for of_tenant, name in settings.tenants.items():
        tenants.require(of_tenant, "A scraper of /metrics in desk.yaml")
        named.append((name, of_tenant))
    found: dict[str, Scraper] = {}
    for name, tenant in named:
        token = variable(name)
        if token is None:
            continue
        if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
            raise MetricsTokenUnusable(name, f"is shorter than {SHORTEST_TOKEN} characters, or not plain ASCII")
        if token in found:
            raise MetricsTokenUnusable(name, "is that of another scraper, too")
        found[token] = Scraper(tenant=tenant, token=token)
    return tuple(found.values())


def scraper_of(scope: Scope, known: Sequence[Scraper], address: Address, *, tenants_apart: bool) -> Scraper | None:
    """Who asks; None for whom this is not meant."""
    told = Headers(scope=scope).get("authorization", "")
    kind, _, token = told.partition(" ")
    if kind.lower() == "bearer":
        sent = token.strip().encode("utf-8", "replace")
        matching = [each for each in known if hmac.compare_digest(each.token.encode(), sent)]
        return matching[0] if matching else None
    if known or tenants_apart or told or not _is_of_this_machine(scope, address):
        return None
    return Scraper(tenant=None)


def _is_of_this_machine(scope: Scope, address: Address) -> bool:
    """Not a proxy of this machine, nor a page elsewhere that had its name point here."""
    headers = Headers(scope=scope)
    host = (address.origin.partition("://")[2].rpartition(":")[0]) or address.origin.partition("://")[2]
    if host not in LOCAL_NAMES or address.origin_of(scope) is None or any(name in headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address((scope.get("client") or ("", 0))[0]).is_loopback
    except ValueError:
        return False
