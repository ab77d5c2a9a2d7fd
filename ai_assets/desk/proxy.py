"""What a reverse proxy in front says of a request: who it is, in which groups, from where. Believed only from it."""

import ipaddress
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import Scope

from ai_assets.desk.settings import ProxySettings


class ProxyDoubtful(Exception):
    """The header is there, and must not be believed: one sentence for the answer."""


@dataclass(frozen=True, kw_only=True)
class ProxyIdentity:
    name: str
    groups: frozenset[str]


def told(scope: Scope, settings: ProxySettings | None) -> ProxyIdentity | None:
    """Whom the proxy names; None where it names nobody, or is not used."""
    if settings is None:
        return None
    headers = Headers(scope=scope)
    names = headers.getlist(settings.header)
    groups = headers.getlist(settings.groups_header) if settings.groups_header else []
    if not names and not groups:
        return None
    if not is_proxy(scope, settings):
        raise ProxyDoubtful(
            f"The header {settings.header} says who you are, and your address is not that of the proxy. "
            "Come through the proxy (or add its address to sign_in.proxy.addresses of desk.yaml)."
        )
    if len(names) > 1 or len(groups) > 1:
        raise ProxyDoubtful(f"The header {settings.header} is there more than once: the proxy has to replace it.")
    name = names[0].strip() if names else ""
    if not name:
        return None
    listed = groups[0].split(",") if groups else []
    return ProxyIdentity(name=name, groups=frozenset(group.strip() for group in listed if group.strip()))


def is_proxy(scope: Scope, settings: ProxySettings) -> bool:
    """By the address of the connection, which no header can claim. Needs uvicorn's `proxy_headers` to be off."""
    host, port = scope.get("client") or ("", 0)
    if port == 0:  # no connection has this port: uvicorn took the address from a header
        return False
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in ipaddress.ip_network(network) for network in settings.addresses)


def client_address(scope: Scope, settings: ProxySettings | None) -> str:
    """Where the request comes from; behind the proxy, where the proxy says."""
    host: str = (scope.get("client") or ("unknown", 0))[0]
    if settings is not None and is_proxy(scope, settings):
        forwarded = Headers(scope=scope).getlist("x-forwarded-for")
        last = forwarded[-1].rpartition(",")[2].strip() if forwarded else ""
        return last or host
    return host
