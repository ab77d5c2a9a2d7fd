"""Connections to one endpoint: one request out, one `Reply` or `Fault` back. No retries, no money, no ledger."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ai_assets.base.masking import without
from ai_assets.base.plural import plural
from ai_assets.inference.errors import ProtocolFailed
from ai_assets.inference.records import OF_TEXTS, RequestKind
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols.base import (
    AS_USUAL,
    MESSAGE_CHARACTERS,
    NO_LIMITS,
    CallDelivery,
    Fault,
    NotAnAnswer,
    Reply,
    ServerLimits,
    Wire,
)
from ai_assets.protocols.faults import error_of
from ai_assets.protocols.registry import protocol_of

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S = 10.0
LARGE_BYTES = 2**19
ASIDE_TIMEOUT_S = 10.0
"""For what is read beside calls: what a server says of itself."""
ASIDE_BYTES = 8 * 2**20
"""Of that; what goes on is cut."""
ERROR_BYTES = 2**20
"""Of an answer that is an error: what goes on is cut, for its status decides."""
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class _Response:
    text: str
    provider_id: str | None
    garbled: NotAnAnswer | None = None
    """Its bytes are no answer at all."""


NO_TRACE: Mapping[str, str] = {}
_Reader = Callable[["aiohttp.ClientResponse"], Awaitable[bytes]]


class _AnswerTooLarge(Exception):
    """More came than the endpoint may answer."""


async def read_at_most(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The beginning of an answer, unpacked, and whether that is all of it. A server that never ends is left."""
    if (length := response.content_length) is not None and length <= most and not _is_packed(response):
        return await response.read(), True
    pieces, size = list[bytes](), 0
    async for piece in response.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            response.close()
            return b"".join(pieces)[:most], False
    return b"".join(pieces), True


def _is_packed(response: aiohttp.ClientResponse) -> bool:
    return "content-encoding" in response.headers


async def _lines(response: aiohttp.ClientResponse, most: int) -> AsyncIterator[bytes]:
    """As they come, the last one without its end too. A line may be as long as the answer: aiohttp's own reader gives
    up at 128 KiB."""
    held, size = list[bytes](), 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > most:
            response.close()
            raise _AnswerTooLarge
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield b"".join([*held, line])
            held.clear()
        if rest:
            held.append(rest)
    if held:
        yield b"".join(held)


class Channel:
    """Belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, base_url: str, key: str | None) -> None:
        import aiohttp

        self._endpoint = endpoint
        self._protocol = protocol_of(endpoint.protocol)
        self._base_url = base_url.rstrip("/")
        self._secret = key
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=10.0),
            headers={
                "content-type": "application/json",
                "user-agent": "ai-assets",
                **self._protocol.headers(endpoint, key),
            },
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._session.close()

    async def learn(self) -> ServerLimits | None:
        """What the server says of itself; None where it could not be reached: then it may be asked again."""
        with self._own_code():
            path = self._protocol.info(self._endpoint)
        if path is None:
            return NO_LIMITS
        found = await self.read_aside(path, ASIDE_TIMEOUT_S)
        if found is None:
            return None
        with self._own_code():
            limits = self._protocol.learn(self._endpoint, *found)
        return replace(limits, problem=self._clean(limits.problem)) if limits.problem else limits

    async def read_aside(self, path: str, timeout_s: float = ASIDE_TIMEOUT_S) -> tuple[int, str] | None:
        """Status and text of what is no call: below the `base_url`, or at an address of its own. None: not reached."""
        import aiohttp

        url = path if "://" in path else f"{self._base_url}/{path}"
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, timeout_s))
            async with self._session.get(url, timeout=timeout, allow_redirects=False) as response:
                found, _ = await read_at_most(response, ASIDE_BYTES)
                return response.status, found.decode("utf-8", "replace")
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError):  # no name of a host can be written so
            return None

    async def send(
        self,
        bodies: Sequence[bytes],
        kind: RequestKind,
        *,
        timeout_s: float,
        delivery: CallDelivery = AS_USUAL,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Sequence[Reply | Fault]:
        """One attempt for one request, or for texts that share one; a single fault is everyone's. `trace`: headers that
        say which span it leaves from.

        Raises ProtocolFailed where a protocol of the user's own fails; if an answer had come, that is its `body`.
        """
        protocol, together = self._protocol, len(bodies) > 1
        with self._own_code():
            if kind == "raw":
                written, _, body = bodies[0].partition(b"\n")
                path = written.decode("ascii")
            else:
                path, body = protocol.path(self._endpoint, kind), protocol.join(bodies) if together else bodies[0]
            wire = protocol.wire(self._endpoint, body, kind, delivery)
        response = await self._post(path, wire, trace, timeout_s)
        if isinstance(response, Fault):
            return [response]
        joined = kind in OF_TEXTS and protocol.joins_texts
        return self._read(
            response, kind, lambda text: protocol.split(text, bodies) if joined else [text], number=len(bodies)
        )

    @property
    def streams(self) -> bool:
        return self._protocol.streams

    async def stream(
        self,
        body: bytes,
        tell: Callable[[str], None],
        *,
        timeout_s: float,
        delivery: CallDelivery = AS_USUAL,
        trace: Mapping[str, str] = NO_TRACE,
    ) -> Reply | Fault:
        """One attempt for one chat: as `send`, and its text is told piece by piece as it comes."""
        protocol, events = self._protocol, list[str]()
        with self._own_code():
            path, body = protocol.path(self._endpoint, "chat"), protocol.streaming(body)
            wire = protocol.wire(self._endpoint, body, "chat", delivery)

        async def read(response: aiohttp.ClientResponse) -> bytes:
            if response.status != 200:
                return await self._whole(response)
            async for line in _lines(response, self._most_bytes):
                said = self._clean(line.decode("utf-8", "replace")).strip()
                if said.startswith("data:"):
                    events.append(said.removeprefix("data:").strip())
                    with self._own_code(lambda: "\n".join(events)):
                        piece = protocol.piece(events[-1])
                    if piece:
                        tell(piece)
            return b""

        response = await self._post(path, wire, trace, timeout_s, read)
        if isinstance(response, Fault):
            return replace(response, body="\n".join(events)) if events else response
        response = replace(response, text="\n".join(events))
        (outcome,) = self._read(response, "chat", lambda _text: [protocol.assembled(events)], number=1)
        return outcome

    def _read(
        self, response: _Response, kind: RequestKind, parts_of: Callable[[str], Sequence[str]], *, number: int
    ) -> Sequence[Reply | Fault]:
        """What the answer says to each of so many bodies; one fault, where it is no answer."""
        if response.garbled is not None:
            return [self._garbled(response, response.garbled)]
        found: list[Reply | Fault] = []
        with self._own_code(lambda: response.text):
            try:
                parts = parts_of(response.text)
                if len(parts) != number:
                    raise NotAnAnswer(
                        f"{plural(number, 'text was', 'texts were')} sent, and {plural(len(parts), 'answer')} came back"
                    )
                for part in parts:
                    said = self._protocol.decode(part, kind)
                    said = said if isinstance(said, Reply) else replace(said, answered=True)
                    found.append(replace(said, body=part, provider_id=response.provider_id))
            except NotAnAnswer as error:
                return [self._garbled(response, error)]
        return found

    @contextmanager
    def _own_code(self, come: Callable[[], str] | None = None) -> Iterator[None]:
        """Around each step of the protocol, which may be the user's own; `come` says what had come by then, if any."""
        try:
            yield
        except Exception as error:
            raise ProtocolFailed(self._protocol.name, error, come() if come is not None else None) from error

    async def _post(
        self, path: str, wire: Wire, trace: Mapping[str, str], timeout_s: float, read: _Reader | None = None
    ) -> _Response | Fault:
        """One attempt, and never two: aiohttp does not repeat a POST. `trace` goes along whatever the protocol is, one
        of the user's own included."""
        import aiohttp

        headers = {**(wire.headers or {}), **trace} if trace else wire.headers

        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, timeout_s))
        # What aiohttp is given in one piece it writes in one piece, and while it does nothing else happens.
        data = wire.body if len(wire.body) < LARGE_BYTES else io.BytesIO(wire.body)
        try:
            async with self._session.post(
                f"{self._base_url}/{path}", data=data, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                raw = await (read or self._whole)(response)
        except _AnswerTooLarge:
            return Fault(error="too_large", message=self._too_large)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Fault(error="unreachable", message=self._clean(f"no connection: {error}"))
        except UnicodeError as error:  # while the name of the host is written, so before anything is sent
            return Fault(error="unreachable", message=self._clean(f"no connection: {error}"))
        except TimeoutError:
            return Fault(error="timeout", message=f"no answer within {timeout_s:g} s")
        except aiohttp.InvalidURL as error:
            return Fault(error="malformed", message=self._clean(f"the address cannot be used: {error}"))
        except (aiohttp.ClientError, OSError) as error:
            said = str(error) or type(error).__name__
            return Fault(error="connection_lost", message=self._clean(f"the connection broke: {said}"))
        provider_id = self._clean(response.headers.get("x-request-id") or "") or None
        if response.status != 200:
            with self._own_code(lambda: self._clean(raw.decode("utf-8", "replace"))):
                fault = self._protocol.fault(response.status, response.headers, raw)
            message = self._clean(fault.message)[:MESSAGE_CHARACTERS]
            return replace(fault, message=message, provider_id=provider_id)
        with self._own_code(lambda: self._clean(raw.decode("utf-8", "replace"))):
            try:
                return _Response(self._clean(self._protocol.text(response.headers, raw)), provider_id)
            except NotAnAnswer as error:
                return _Response(self._clean(raw.decode("utf-8", "replace")), provider_id, error)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        if response.status != 200:
            found, _ = await read_at_most(response, ERROR_BYTES)
            return found
        found, is_all = await read_at_most(response, self._most_bytes)
        if not is_all:
            raise _AnswerTooLarge
        return found

    @property
    def _most_bytes(self) -> int:
        return round(self._endpoint.max_answer_mb * MB)

    @property
    def _too_large(self) -> str:
        return (
            f"the answer is longer than {self._endpoint.max_answer_mb:g} MB and was not read to its end; if the model "
            "is to answer so much, raise max_answer_mb of the endpoint, or lower its texts_per_request"
        )

    def _garbled(self, response: _Response, error: NotAnAnswer) -> Fault:
        told = error_of(response.text.encode("utf-8", "replace"))
        inside = f"HTTP 200 with an error inside: {told.said}" if told.is_protocol else str(error)
        return Fault(
            error="garbled",
            message=inside[:MESSAGE_CHARACTERS],
            answered=True,
            body=response.text,
            provider_id=response.provider_id,
        )

    def _clean(self, text: str) -> str:
        """Some providers repeat the key in their complaint about it."""
        return without(text, [self._secret])
