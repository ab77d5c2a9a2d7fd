"""Bytes on the wire: bodies in, answers out, and what faults make of them. Knows HTTP and nothing of models."""

import asyncio
import json
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from ai_assets.rehearsal import faults, kserve, tei
from ai_assets.rehearsal.calls import EncodedAnswer
from ai_assets.rehearsal.errors import Refusal
from ai_assets.rehearsal.settings import Behaviour, FaultKind

Refuse = Callable[[Refusal, Mapping[str, str]], web.Response]
"""An error in the words of the protocol that was spoken."""
GARBAGE = b"\x16\x03\x01<html>upstream connect error or disconnect/reset before headers"
_DRIP_STEP_S = 0.005
_GONE_CHECK_S = 0.05


class Delivery:
    """Puts an answer on the wire, or what a fault makes of it."""

    def __init__(
        self,
        request: web.BaseRequest,
        said: EncodedAnswer,
        headers: Mapping[str, str],
        behaviour: Behaviour,
        refuse: Refuse,
    ) -> None:
        self._request = request
        self._said = said
        self._headers = {**headers, **said.headers} if said.headers else headers
        self._behaviour = behaviour
        self._refuse = refuse

    async def send(self, fault: FaultKind | None) -> tuple[web.StreamResponse, bool]:
        """The response, and whether the whole answer went out while somebody was there to take it."""
        if fault is not None and (refused := faults.refusal(fault, self._behaviour)) is not None:
            return await self._whole(self._refuse(refused, self._headers)), False
        match fault:
            case "hang":
                await _silence(self._request, self._behaviour.hang_s)
                return close(self._request), False
            case "reset_after":
                return reset(self._request), False
            case "garbage":
                response = web.Response(body=GARBAGE, content_type=self._content_type, headers=self._headers)
                return await self._whole(response), False
            case "truncated":
                return await self._truncated(), False
            case "slow_drip":
                return await self._drip(), True
            case _ if self._said.streams:
                return await self._stream(self._said.pieces, 0.0), True
            case _:
                body = self._said.pieces[0]
                response = web.Response(body=body, content_type=self._content_type, headers=self._headers)
                return await self._whole(response), True

    @property
    def _content_type(self) -> str:
        if kserve.HEADER_LENGTH in self._said.headers:
            return "application/octet-stream"
        return "text/event-stream" if self._said.streams else "application/json"

    async def _whole(self, response: web.Response) -> web.Response:
        await response.prepare(self._request)
        await response.write_eof()
        return response

    async def _stream(self, pieces: list[bytes], pause_s: float) -> web.StreamResponse:
        response = web.StreamResponse(headers={**self._headers, "Content-Type": self._content_type})
        if not self._said.streams:
            response.content_length = sum(map(len, pieces))
        await response.prepare(self._request)
        for piece in pieces:
            await response.write(piece)
            if pause_s:
                await asyncio.sleep(pause_s)
        await response.write_eof()
        return response

    async def _drip(self) -> web.StreamResponse:
        """Byte by byte, or in steps of a few milliseconds where there are too many bytes for that."""
        whole = b"".join(self._said.pieces)
        steps = max(1, min(len(whole), int(self._behaviour.drip_s / _DRIP_STEP_S)))
        size = -(-len(whole) // steps)
        drops = [whole[at : at + size] for at in range(0, len(whole), size)]
        return await self._stream(drops, self._behaviour.drip_s / len(drops))

    async def _truncated(self) -> web.StreamResponse:
        """Half of what Content-Length promises, or a stream without its end; then the connection is closed."""
        whole = b"".join(self._said.pieces)
        response = web.StreamResponse(headers={**self._headers, "Content-Type": self._content_type})
        if not self._said.streams:
            response.content_length = len(whole)
        await response.prepare(self._request)
        await response.write(whole[: len(whole) // 2])
        return close(self._request, response.status)


class ClosedConnection(web.Response):
    """Stands for a connection that is no more: nothing is written to it."""

    def __init__(self, answered: int = 0) -> None:
        super().__init__()
        self.answered = answered
        """The status that went out before it ended; 0: none."""

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def close(request: web.BaseRequest, status: int = 0) -> web.StreamResponse:
    """No more bytes, whatever was promised; what was written still arrives."""
    if request.transport is not None:
        request.transport.close()
    return ClosedConnection(status)


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Close without goodbye: the client sees 'connection reset by peer'."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return ClosedConnection()


async def _silence(request: web.BaseRequest, seconds: float) -> None:
    """Until the time is over or the client has gone."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(min(_GONE_CHECK_S, max(end - loop.time(), 0)))


async def read_body(request: web.BaseRequest, behaviour: Behaviour) -> bytes:
    length = request.content_length
    if length is not None and length > behaviour.max_body_bytes:
        raise _too_large(behaviour)
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as e:
        raise _too_large(behaviour) from e


async def json_body(request: web.BaseRequest, behaviour: Behaviour) -> Any:
    try:
        return json.loads(await read_body(request, behaviour))
    except ValueError as e:
        raise Refusal(400, f"The body is no JSON: {e}.") from e


def _too_large(behaviour: Behaviour) -> Refusal:
    return Refusal(413, f"Maximum content size limit ({behaviour.max_body_bytes}) exceeded.", kind="server_error")


def unknown_url(request: web.BaseRequest) -> Refusal:
    return Refusal(404, f"Invalid URL ({request.method} {request.path})", code="unknown_url")


def refusal_response(refused: Refusal, headers: Mapping[str, str]) -> web.Response:
    """The protocol's error object, or the page of a proxy that has none."""
    if refused.page is None:
        return json_response(refused.body, status=refused.status, headers=headers)
    return web.Response(text=refused.page, status=refused.status, headers=headers, content_type="text/html")


def refusal_of_tei(refused: Refusal, headers: Mapping[str, str]) -> web.Response:
    if refused.page is not None:
        return refusal_response(refused, headers)
    return json_response(tei.error_body(refused), status=refused.status, headers=headers)


def refusal_of_kserve(refused: Refusal, headers: Mapping[str, str]) -> web.Response:
    if refused.page is not None:
        return refusal_response(refused, headers)
    return json_response({"error": str(refused)}, status=refused.status, headers=headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
