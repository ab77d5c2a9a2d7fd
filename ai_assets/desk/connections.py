"""Who may stay connected to the desk, and for how long: uvicorn's HTTP protocol with deadlines and a limit per address.

A connection waits for a request, or a request is under way on it. One that waits too long is closed, and so is the one
that has waited longest when its address (or the desk as a whole) has no place left. What a request sends after its
headers has a deadline in `security.py`.
"""

import asyncio
import ipaddress
import resource
from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from ai_assets.desk.proxy import is_proxy
from ai_assets.desk.settings import ProxySettings

LONGEST_HEADERS_S = 10
"""From the connection, or from the answer before, until the headers of a request are complete."""
LONGEST_UNREAD_S = 60
"""How long an answer may lie here because the client does not read it on."""
MOST_CONNECTIONS = 500
MOST_PER_ADDRESS = 64
"""A browser opens 6; many may share an address behind a gateway, and each idle one gives up its place to a new one."""
_MOST_LINGERING = 64
_LINGER_S = 1.0
_DESCRIPTORS = 2048
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
)
_SENTENCE = b"Too many requests from your address are under way. Try again in a moment.\n"


class ConnectionSlots:
    """How many connections there may be; shared by all connections of one desk."""

    def __init__(self, proxy: ProxySettings | None) -> None:
        self._proxy = proxy
        self.most = min(MOST_CONNECTIONS, _descriptors() // 2)
        self.lingering = 0

    def trusted(self, client: tuple[str, int] | None) -> bool:
        """The declared proxy: it speaks for many people, and limits them itself."""
        return self._proxy is not None and is_proxy({"client": client}, self._proxy)

    def admit(self, new: "Connection", others: Sequence["Connection"]) -> bool:
        """Whether there is a place for it, which may be that of a connection that only waits."""
        if not new.trusted:
            same = [other for other in others if other.address == new.address]
            if len(same) >= MOST_PER_ADDRESS:
                return _give_way([other for other in same if other.waits])
        if len(others) < self.most:
            return True
        crowd = Counter(other.address for other in others)
        waiting = [other for other in others if other.waits]
        fullest = max((_crowdedness(other, crowd) for other in waiting), default=None)
        return _give_way([other for other in waiting if _crowdedness(other, crowd) == fullest])


def _crowdedness(connection: "Connection", crowd: Counter[str]) -> tuple[bool, int]:
    return not connection.trusted, crowd[connection.address]


def _give_way(waiting: Sequence["Connection"]) -> bool:
    longest = min(waiting, key=lambda connection: connection.since, default=None)
    if longest is None:
        return False
    longest.drop()
    return True


class Connection(H11Protocol):
    """Use a subclass that has `places`."""

    places: ConnectionSlots
    address: str
    trusted = False
    since = 0.0
    """When it began to wait for a request, by the loop's clock."""
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _refused = False

    @property
    def waits(self) -> bool:
        """No request is under way on it."""
        return self.cycle is None or self.cycle.response_complete

    def drop(self) -> None:
        """Close it at once; what it was still to be sent is lost."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        others = cast("list[Connection]", list(self.connections))
        super().connection_made(transport)
        self.address = _counted_as(self.client)
        self.trusted = self.places.trusted(self.client)
        if self.places.admit(self, others):
            self._watch()
        else:
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        if self._refused:
            self.places.lingering -= 1
            return
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(LONGEST_UNREAD_S, self.drop)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _watch(self) -> None:
        """Set the deadline where it waits and has none; take it away where a request is under way."""
        if not self.waits:
            self._stop_deadline()
        elif self._deadline is None:
            self.since = self.loop.time()
            self._deadline = self.loop.call_later(LONGEST_HEADERS_S, self._expired)

    def _expired(self) -> None:
        """It has sent no request; but an answer on its way to a slow reader has more time."""
        unread = self.transport.get_write_buffer_size()
        if unread and self.loop.time() - self.since < LONGEST_UNREAD_S:
            self._deadline = self.loop.call_later(LONGEST_HEADERS_S, self._expired)
        elif unread:
            self.drop()
        else:
            self.transport.close()

    def _refuse(self) -> None:
        """Say so, and wait a moment with hanging up: what lies unread here would take the answer away, too."""
        self.connections.discard(self)
        self._refused = True
        self.places.lingering += 1
        if self.places.lingering > _MOST_LINGERING:
            self.transport.abort()
            return
        self.transport.write(_FULL % (len(_SENTENCE), _SENTENCE))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(_LINGER_S, self.transport.abort)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_timers(self) -> None:
        self._stop_deadline()
        if self._unread is not None:
            self._unread.cancel()


def connections(proxy: ProxySettings | None) -> type[Connection]:
    """For `uvicorn.Config(http=...)`."""

    class DeskConnection(Connection):
        places = ConnectionSlots(proxy)

    return DeskConnection


def _counted_as(client: tuple[str, int] | None) -> str:
    """An IPv6 network counts as one address: whoever has one of them has all 2^64."""
    host = (client or ("", 0))[0]
    try:
        address: Any = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return host


def _descriptors() -> int:
    """How many files this process may have open, raised to what the desk needs where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
