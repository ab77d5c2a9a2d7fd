"""Whether a model server has requests waiting, as its metrics say: then nothing more is sent there for a moment."""

import asyncio
import re
from collections.abc import Callable

from ai_assets.inference.errors import ServerMisfit
from ai_assets.inference.settings import Endpoint
from ai_assets.protocols.http import Channel
from ai_assets.protocols.openai_options import METRICS, options_of
from ai_assets.protocols.registry import OPENAI, protocol_of

POLL_S = 1.0
"""So often the metrics are read while there is work, and so long a reading holds."""
PATIENCE_S = 10.0
"""After so long with none of ours in flight one call is sent all the same: a queue of others never ends."""
METRIC = "vllm:num_requests_waiting"
_WAITING = re.compile(rf"^{METRIC}(?:\{{[^}}]*\}})?\s+([0-9.eE+]+)\s*$", re.MULTILINE)


def waiting_in(metrics: str) -> float | None:
    """Requests that wait, over all models of the server; None where it does not say."""
    found = [float(number) for number in _WAITING.findall(metrics)]
    return sum(found) if found else None


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
        self.waiting = 0.0

    async def look(self, sent: int) -> float:
        """Seconds for which nothing is to be sent; 0 where a call may leave. Reads at most once a second.

        `sent`: requests of ours that are there now.
        """
        now = asyncio.get_running_loop().time()
        if self._read_at is None or now - self._read_at >= POLL_S:
            if self._reading is None or self._reading.done():
                self._read_at = now
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        elif self._reading is not None and not self._reading.done():
            await asyncio.shield(self._reading)
        if self.waiting <= 0:
            self._queued_since = None
            return 0.0
        if sent > 0 or self._queued_since is None:
            self._queued_since = now
        if now - self._queued_since >= PATIENCE_S:
            self._queued_since = now
            return 0.0
        self._pause(POLL_S)
        return POLL_S

    async def _read(self) -> None:
        found = await self._channel.read_aside(self._url)
        waiting = waiting_in(found[1]) if found is not None and found[0] == 200 else None
        if waiting is None and found is not None and not self._is_known:
            said = f"answers HTTP {found[0]}" if found[0] != 200 else f"has no {METRIC}"
            problem = f"its option 'metrics' says that the queue is read at {self._url}, and that {said}"
            raise ServerMisfit(self._name, self._protocol, problem)
        self._is_known = self._is_known or waiting is not None
        self.waiting = waiting or 0.0
