"""The body of a request, read as a whole before anything acts on it, and given again to whoever reads it next."""

from starlette.types import Message, Receive


class BodyTooLarge(Exception):
    pass


class ClientDisconnected(Exception):
    """Whoever asked has hung up."""


async def whole(receive: Receive, limit: int) -> bytes:
    """All of it. What is too large is read too, up to a bound, so that the refusal reaches a client that writes on."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        part: bytes = message.get("body", b"")
        size += len(part)
        more = message.get("more_body", False) and size <= 16 * limit
        if size <= limit:
            parts.append(part)
    if size > limit:
        raise BodyTooLarge
    return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that begins with this body."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
