"""Rules about how fast an endpoint is, asked for each call when it leaves. Lives in the engine's event loop."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from ai_assets.base.errors import StateUnavailable
from ai_assets.inference import latency
from ai_assets.inference.call_state import CallState
from ai_assets.inference.latency import CallClass, LatencyMemory, Watch
from ai_assets.inference.routes import order_of
from ai_assets.inference.settings import InferenceSettings

UNWATCHED_EVERY_S = 5.0
"""How often a process without such rules tells what it has seen."""


class SpeedRules:
    def __init__(self, settings: InferenceSettings, memory: LatencyMemory, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._memory = memory
        self._changed = changed
        """Told when an endpoint has become slow, or is so no more."""
        rules = [rule for route in settings.routes.values() for rule in route.rules]
        self._watched = any(rule.slower_than_s is not None for rule in rules)
        self._sharing: asyncio.Task[None] | None = None

    def order(self, tickets: Sequence[CallState]) -> None:
        """Put the endpoint first that is to be asked now."""
        if self._sharing is None:
            self._sharing = asyncio.get_running_loop().create_task(self._share_often())
        first = tickets[0]
        if not self._watched or first.repaired:
            return
        names = self._names(first, probes=True)
        if names == [hop.name for hop in first.claim.hops]:
            return
        for ticket in tickets:
            hops = {hop.name: hop for hop in ticket.claim.hops}
            ticket.claim = replace(ticket.claim, hops=tuple(hops[name] for name in names))

    def would_reorder(self, tickets: Sequence[CallState]) -> bool:
        """Whether these would now be sent elsewhere than to the endpoint that is their first."""
        first = tickets[0]
        if not self._watched or first.repaired or first.probes:
            return False
        return self._names(first, probes=False)[0] != first.claim.hops[0].name

    async def close(self) -> None:
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.wait([self._sharing])
            with contextlib.suppress(StateUnavailable):
                self._memory.share()  # here, as at the end of a program no thread can be had

    def _names(self, ticket: CallState, *, probes: bool) -> list[str]:
        ticket.probes = False

        def is_slow(endpoint: str, limit_s: float) -> bool:
            watch = Watch(calls=CallClass.of(endpoint, ticket.request), limit_s=limit_s)
            slow = self._memory.is_slow(watch)
            ticket.probes = slow and probes and self._memory.may_probe(watch)
            return slow and not ticket.probes

        return order_of(self._settings, ticket.request, is_slow)

    async def _share_often(self) -> None:
        every_s = latency.SHARE_EVERY_S if self._watched else UNWATCHED_EVERY_S
        while True:
            await asyncio.sleep(every_s)
            if not self._memory.has_news:
                continue
            with contextlib.suppress(StateUnavailable):  # it is told with the next
                if await asyncio.get_running_loop().run_in_executor(None, self._memory.share):
                    self._changed()
