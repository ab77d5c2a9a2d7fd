"""Where the desk is, and what is its own: the names it answers to, its origin, and the paths it leads back to."""

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
LONGEST_PATH = 2000
_DEFAULT_PORTS = {"http": 80, "https": 443}
_PLAIN = re.compile(r"/[!-\[\]-~]*")
"""Printable ASCII without the backslash, which browsers read as a slash; they drop tabs and line ends."""
_LEADS_AWAY = re.compile(r"/[\x00-\x20\x7f]*[/\\]")


@dataclass(frozen=True)
class Address:
    url: str
    """As people reach it."""

    @property
    def secure(self) -> bool:
        return self.url.startswith("https://")

    @cached_property
    def origin(self) -> str:
        """As browsers write it: without the port that goes without saying."""
        parts = urlsplit(self.url)
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = parts.port if parts.port != _DEFAULT_PORTS[parts.scheme] else None
        return f"{parts.scheme}://{name}:{port}" if port else f"{parts.scheme}://{name}"

    @cached_property
    def _hosts(self) -> frozenset[str]:
        scheme, _, host = self.origin.partition("://")
        explicit = host if urlsplit(self.origin).port else f"{host}:{_DEFAULT_PORTS[scheme]}"
        return frozenset({host, explicit})

    def origin_of(self, scope: Scope) -> str | None:
        """The origin of the page that may have sent this; None when the request was meant for another host.

        A page elsewhere can make its own name point here, but not make the browser say another name than that.
        """
        named = Headers(scope=scope).getlist("host")
        if len(named) != 1:
            return None
        host = named[0].lower()
        if host in self._hosts:
            return self.origin
        port = (scope.get("server") or ("", None))[1]
        local = {name if port == 80 else f"{name}:{port}" for name in LOCAL_NAMES}
        return f"http://{host}" if host in local else None


def local_path(text: str | None) -> str:
    """Where to go after signing in: a path of the desk, or its first page for anything that might lead elsewhere."""
    if not text or len(text) > LONGEST_PATH or not _PLAIN.fullmatch(text):
        return "/"
    found, seen = text, ""
    while found != seen:  # encoded once or many times
        if _LEADS_AWAY.match(found):
            return "/"
        seen, found = found, unquote(found)
    return text
