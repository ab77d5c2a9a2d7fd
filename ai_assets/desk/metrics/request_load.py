"""How busy this process of the desk is, for an autoscaler: counted around everything that people and programs ask."""

import time
from collections.abc import Collection, Iterator

from starlette.types import ASGIApp, Receive, Scope, Send

from ai_assets.desk.metrics import families as of
from ai_assets.desk.metrics.families import MetricSample


class RequestLoad:
    """Of one process; all of it on the thread of its event loop."""

    def __init__(self) -> None:
        self.answered = 0
        self.busy_s = 0.0
        self._began: dict[int, float] = {}
        self._number = 0

    def begin(self) -> int:
        self._number += 1
        self._began[self._number] = time.monotonic()
        return self._number

    def end(self, number: int) -> None:
        self.busy_s += time.monotonic() - self._began.pop(number)
        self.answered += 1

    def figures(self) -> Iterator[MetricSample]:
        now = time.monotonic()
        yield of.REQUESTS.of(self.answered)
        yield of.BUSY.of(self.busy_s + sum(now - began for began in list(self._began.values())))
        yield of.UNDER_WAY.of(len(self._began))


class LoadMiddleware:
    def __init__(self, app: ASGIApp, load: RequestLoad, apart: Collection[str]) -> None:
        """`apart`: paths that are not counted."""
        self.app, self.load, self.apart = app, load, apart

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.apart:
            await self.app(scope, receive, send)
            return
        number = self.load.begin()
        try:
            await self.app(scope, receive, send)
        finally:
            self.load.end(number)
