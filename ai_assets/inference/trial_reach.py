"""Whether there is a server at an endpoint's address, and which models it lists. Nothing is paid."""

import asyncio
import errno
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ai_assets.base.masking import without
from ai_assets.base.plural import plural
from ai_assets.inference.queue_signal import METRIC, PATIENCE_S, READ_S, address_of, waiting_in
from ai_assets.inference.records import RequestKind
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols.base import NO_LIMITS
from ai_assets.protocols.http import read_at_most
from ai_assets.protocols.registry import protocol_of

if TYPE_CHECKING:
    import aiohttp

MOST_NAMED = 5
PAGE_BYTES = 2**20
SAID_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What an address answers."""

    seconds: float = 0.0
    status: int | None = None
    """Of its list of models, or of the address where the protocol has none; None where nothing answered."""
    models: Sequence[str] | None = None
    """None where it gives no list."""
    problem: str | None = None
    """Why no call can come of it: what was found and what to do, as the rest of a sentence about the endpoint."""
    note: str | None = None
    """What is odd and need not matter."""
    queue: str | None = None
    """Why calls are held back there, or would be if it could be read; of an endpoint with the option `metrics`."""
    serves: RequestKind | None = None
    """What it answers, where it says so of itself."""
    changes: dict[str, str] = field(default_factory=dict)
    """Keys of the endpoint, and what they should be."""


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    text: str
    location: str


def reach(endpoint: Endpoint, base_url: str, key: str | None, timeout_s: float) -> Reach:
    """One or two GETs below `base_url`."""
    found, queue = asyncio.run(_looked_at(endpoint, base_url, key, timeout_s))
    return replace(
        found,
        queue=queue,
        problem=None if found.problem is None else without(found.problem, [key]),
        note=None if found.note is None else without(found.note, [key]),
    )


async def _looked_at(endpoint: Endpoint, base_url: str, key: str | None, timeout_s: float) -> tuple[Reach, str | None]:
    import aiohttp

    headers = dict(protocol_of(endpoint.protocol).headers(endpoint, key))
    timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 10.0))
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        started = time.perf_counter()
        found = await _reach(session, endpoint, base_url, timeout_s)
        found = replace(found, seconds=time.perf_counter() - started)
        url = address_of(endpoint, base_url) if found.problem is None else None
        return found, None if url is None else await _queue(session, url)


async def _reach(session: "aiohttp.ClientSession", endpoint: Endpoint, base_url: str, timeout_s: float) -> Reach:
    import aiohttp

    protocol = protocol_of(endpoint.protocol)
    path, about = protocol.models_path(endpoint), protocol.info(endpoint)
    try:
        page = await _get(session, "/".join(part for part in (base_url, path or about) if part))
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
        return Reach(problem=why_not(error, base_url, timeout_s))
    if path is None:
        learnt = protocol.learn(endpoint, page.status, page.text) if about else NO_LIMITS
        problem = learnt.problem and f"cannot be used as it is declared: {learnt.problem}"
        return Reach(status=page.status, problem=problem, serves=learnt.serves)
    found = read(page.status, page.text, page.location, endpoint, base_url)
    if found.models is not None or page.status not in (200, 404, 405):
        return found
    for other in _other_addresses(base_url):
        try:
            page = await _get(session, f"{other}/{path}")
        except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError):
            continue
        if _names(page.text) is not None and page.status == 200:
            said = f"has no list of models at {base_url}, and one at {other}: that is where its API begins"
            return Reach(status=found.status, problem=said, changes={"base_url": other})
    return found


async def _queue(session: "aiohttp.ClientSession", url: str) -> str | None:
    """What keeps calls waiting, as they will read it; an answer that is none is said by the calls themselves."""
    import aiohttp

    try:
        page = await asyncio.wait_for(_get(session, url), READ_S)
    except (aiohttp.ClientError, OSError, TimeoutError, UnicodeError) as error:
        said = f"does not answer within {READ_S:g} s" if isinstance(error, TimeoutError) else "cannot be reached"
        return (
            f"Its option 'metrics' leads to {url}, which {said}: calls are sent whatever waits there; correct that "
            "address, or leave the option out."
        )
    if not (waiting := waiting_in(page.text) if page.status == 200 else None):
        return None
    return (
        f"{plural(round(waiting), 'request waits', 'requests wait')} at the server ({METRIC}): while it is so, runs "
        f"send one call after each {PATIENCE_S:g} s, and wait in between."
    )


async def _get(session: "aiohttp.ClientSession", url: str) -> _Page:
    async with session.get(url, allow_redirects=False) as response:
        found, _ = await read_at_most(response, PAGE_BYTES)
        return _Page(response.status, found.decode("utf-8", "replace"), response.headers.get("location", ""))


def _other_addresses(base_url: str) -> list[str]:
    """Where the API of a server begins, if not where it is said to."""
    parts = urlsplit(base_url)
    root = f"{parts.scheme}://{parts.netloc}"
    return [other for other in dict.fromkeys((f"{base_url}/v1", f"{root}/v1", root)) if other != base_url]


def read(status: int, text: str, location: str, endpoint: Endpoint, base_url: str) -> Reach:
    """What the answer to a request for the list of models says. Pure."""
    names = _names(text) if status == 200 else None
    if names is not None:
        return Reach(status=status, models=names, note=_unlisted(endpoint.llm, names))
    if status in (401, 403):
        wanted = f"check the environment variable {endpoint.key}" if endpoint.key else "name the variable of a `key:`"
        return Reach(status=status, problem=f"refuses the key (HTTP {status}): {wanted}")
    if 300 <= status < 400:
        said = f"answers with a redirect to {location or 'nowhere'}, which is not followed: write the address behind it"
        return Reach(status=status, problem=said)
    if status == 200:
        kind = "a page of HTML" if text.lstrip()[:1] == "<" else "something else than a list of models"
        return Reach(
            status=status, note=f"answers {kind} at {base_url}/models, so it may be no server of this protocol"
        )
    return Reach(status=status, note=f"gives no list of models (HTTP {status})")


def _names(text: str) -> list[str] | None:
    try:
        found: Any = json.loads(text)
        return [str(model["id"]) for model in found["data"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _unlisted(model: str, names: Sequence[str]) -> str | None:
    if model in names or not names:
        return None
    return f"lists no model '{model}'; it has {listed(names)}"


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def why_not(error: BaseException, base_url: str, timeout_s: float) -> str:
    """What kept a connection from being made or used, and what to do about it."""
    import aiohttp

    parts = urlsplit(base_url)
    where = parts.netloc
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"cannot be found: no address is known for '{parts.hostname}'; check the spelling in base_url"
        case aiohttp.ClientConnectorCertificateError():
            said = getattr(error.certificate_error, "verify_message", "") or "not trusted"
            return (
                f"shows a certificate for {where} that is not accepted ({said}); install its authority "
                "(SSL_CERT_FILE names a file of them), or correct the name in base_url"
            )
        case aiohttp.ClientConnectorSSLError():
            return f"speaks no TLS at {where}; where it is plain HTTP, write base_url: http://{where}{parts.path}"
        case aiohttp.ConnectionTimeoutError():
            return f"cannot be reached: {where} does not take a connection; is a firewall or another network between?"
        case aiohttp.ClientConnectorError() if error.os_error.errno == errno.ECONNREFUSED:
            return f"is not there: {where} refuses the connection; start the server, or correct the port in base_url"
        case aiohttp.ClientConnectorError():
            said = error.os_error.strerror or str(error.os_error)
            return f"cannot be reached: {where}: {said}"
        case TimeoutError():
            return (
                f"takes the connection at {where} and does not answer within {timeout_s:g} s; is it still loading, or "
                "something else than a model server?"
            )
        case aiohttp.ServerDisconnectedError() | ConnectionResetError() | aiohttp.ClientOSError():
            also = f"; if it speaks TLS, write base_url: https://{where}{parts.path}" if parts.scheme == "http" else ""
            return f"ends the connection at {where} without an answer{also}"
        case aiohttp.InvalidURL() | UnicodeError():
            return f"has an address that cannot be used: {base_url}"
        case _:
            words = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
            said = " ".join(words.split())[:SAID_CHARACTERS] or type(error).__name__
            return f"does not speak HTTP at {where} ({said}); check the port in base_url"
