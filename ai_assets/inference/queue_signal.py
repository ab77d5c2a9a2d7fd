"""Whether a model server has requests waiting, as its metrics say: then nothing more is sent there for a moment."""

import asyncio
import math
import re
from collections.abc import Callable

from ai_assets.inference.errors import ServerMisfit
from ai_assets.inference.settings import Endpoint
from ai_assets.inference.silence import FIRST_SAID_S, LONGEST_GAP_S, trying
from ai_assets.protocols.http import Channel
from ai_assets.protocols.openai_options import METRICS, options_of
from ai_assets.protocols.registry import OPENAI, protocol_of

POLL_S = 1.0
"""So often the metrics are read while there is work, and so long a reading holds."""
PATIENCE_S = 10.0
"""After so long with none of ours in flight one call is sent all the same: a queue of others never ends."""
READ_S = 2.0
"""So long a reading may take."""
SLOW_S = 1.0
UNREAD_S = 60.0
"""So long a server whose metrics take longer than that, and do not come, is not asked for them again."""
METRIC = "vllm:num_requests_waiting"
_WAITING = re.compile(rf"^{METRIC}(?:\{{[^}}\n]*\}})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*\r?$", re.MULTILINE)
"""A value, and perhaps when it was measured."""


def waiting_in(metrics: str) -> float | None:
    """Requests that wait, over all models of the server; None where it does not say, or says what is no count."""
    found = _WAITING.findall(metrics)
    return None if not found or any(map(_is_no_count, found)) else sum(map(float, found))


def _is_no_count(said: str) -> bool:
    try:
        value = float(said)
    except ValueError:
        return True
    return not 0 <= value < math.inf


def unread(status: int, metrics: str) -> str | None:
    """Why an answer does not say how many requests wait; None where it does."""
    if status != 200:
        return f"answers HTTP {status}"
    odd = next((said for said in _WAITING.findall(metrics) if _is_no_count(said)), None)
    if odd is not None:
        return f"has {METRIC} {odd[:40]}, which is no count of requests"
    return None if waiting_in(metrics) is not None else f"has no {METRIC}"


def address_of(endpoint: Endpoint, base_url: str) -> str | None:
    """Where its metrics are; None where none are declared. vLLM has them beside `/v1`, not below it."""
    if not endpoint.options or protocol_of(endpoint.protocol).name != OPENAI:
        return None
    declared = options_of(endpoint).metrics
    return f"{base_url.rstrip('/').removesuffix('/v1')}/{METRICS}" if declared == METRICS else declared


class QueueSignal:
    """Of one endpoint in this process; one event loop only."""

    def __init__(self, name: str, protocol: str, url: str, channel: Channel, pause: Callable[[float], None]) -> None:
        self._name = name
        self._protocol = protocol
        self._url = url
        self._channel = channel
        self._pause = pause
        self._read_at: float | None = None
        self._queued_since: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._is_known = False
        self._not_before = 0.0
        self._held_s = self._held_until = self._held_said_s = 0.0
        """How long calls have been held back, over all of them, since nothing waited there; and when it was said."""
        self._trouble = ""
        self._trouble_said = False
        self.waiting = 0.0

    async def look(self, sent: int) -> float:
        """Seconds for which nothing is to be sent; 0 where a call may leave. Reads at most once a second.

        `sent`: requests of ours that are there now.
        """
        now = asyncio.get_running_loop().time()
        if now >= self._not_before and (self._read_at is None or now - self._read_at >= POLL_S):
            if self._reading is None or self._reading.done():
                self._read_at = now
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        elif self._reading is not None and not self._reading.done():
            await asyncio.shield(self._reading)
        if self.waiting <= 0:
            self._queued_since = None
            self._held_s = self._held_said_s = 0.0
            return 0.0
        if sent > 0 or self._queued_since is None:
            self._queued_since = now
        if now - self._queued_since >= PATIENCE_S:
            self._queued_since = now
            return 0.0
        self._held_s += now + POLL_S - max(now, self._held_until)
        self._held_until = now + POLL_S
        self._pause(POLL_S)
        return POLL_S

    def news(self) -> list[str]:
        """What is to be said now: that calls are held back, although the endpoint answers, or that the queue cannot be
        read; the latter once."""
        found = []
        if self._trouble and not self._trouble_said:
            self._trouble_said = True
            found.append(
                f"endpoint '{self._name}': how many requests wait there is not known, so calls are sent whatever waits "
                f"({self._url}, its option 'metrics', {self._trouble}). What it wants: {trying(self._name)}"
            )
        said_s = self._held_said_s
        if self._held_s >= (said_s + min(said_s, LONGEST_GAP_S) if said_s else FIRST_SAID_S):
            self._held_said_s = self._held_s
            found.append(
                f"endpoint '{self._name}' has requests waiting ({self.waiting:g} now, by {METRIC}): calls have been "
                f"held back for {self._held_s:.0f} s in all; one is sent after each {PATIENCE_S:g} s all the same"
            )
        return found

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        found = await self._channel.read_aside(self._url, READ_S)
        problem = "cannot be reached" if found is None else unread(*found)
        if problem is not None and found is not None and not self._is_known:
            said = f"its option 'metrics' says that the queue is read at {self._url}, and that {problem}"
            raise ServerMisfit(self._name, self._protocol, said)
        if problem is None:
            self._is_known, self._trouble_said = True, False
        elif loop.time() - begun >= SLOW_S:
            problem = f"does not answer within {READ_S:g} s"
            self._not_before = loop.time() + UNREAD_S
        self._trouble = problem or ""
        self.waiting = (waiting_in(found[1]) if found is not None and problem is None else None) or 0.0
