"""Who hears of a run: one list of sinks. Progress bars and the run's log are sinks like those of a user's own.

A sink that raises is reported once; neither the run nor the other sinks notice.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

from ai_assets.base.plural import plural
from ai_assets.base.printable import printable
from ai_assets.base.structured_log import log_fields
from ai_assets.run.events import RunEvent, Said, StageEnded, Waiting


class Sink(ABC):
    """Hears of the events of runs, one at a time, in the process of the run. What it does takes the run's own time."""

    hears: ClassVar[tuple[type[RunEvent], ...]] = (RunEvent,)
    """The kinds of events that it wants; the others are not even made where no sink wants them."""

    @abstractmethod
    def hear(self, event: RunEvent) -> None: ...

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """The run is over, however it ended."""


added: ContextVar[tuple[Sink, ...]] = ContextVar("added", default=())
"""Sinks of whoever starts runs in this process, such as the command line."""


@contextmanager
def hearing(*sinks: Sink) -> Iterator[None]:
    """Within the block, runs in this process are heard by these too."""
    token = added.set((*added.get(), *sinks))
    try:
        yield
    finally:
        added.reset(token)


class Sinks:
    """The list, as a run tells it."""

    def __init__(self, sinks: Iterable[Sink] = (), report: Callable[[str], None] = lambda _line: None) -> None:
        """`report` is told of a sink that raises."""
        self._sinks = tuple(sinks)
        self._report = report
        self._reported: set[int] = set()
        self._lock = threading.RLock()
        self._wanted: dict[type[RunEvent], tuple[Sink, ...]] = {}

    def wants(self, kind: type[RunEvent]) -> bool:
        return bool(self._of(kind))

    def tell(self, event: RunEvent) -> None:
        wanted = self._of(type(event))
        if not wanted:
            return
        with self._lock:  # partitions are computed in threads, and no sink need know
            for sink in wanted:
                self._guarded(sink, lambda sink=sink: sink.hear(event))  # type: ignore[misc]

    def close_only(self, sinks: Iterable[Sink]) -> None:
        """Of the list, those that were made for this run."""
        with self._lock:
            for sink in sinks:
                self._guarded(sink, sink.close)

    def _of(self, kind: type[RunEvent]) -> tuple[Sink, ...]:
        if kind not in self._wanted:
            self._wanted[kind] = tuple(sink for sink in self._sinks if issubclass(kind, sink.hears))
        return self._wanted[kind]

    def _guarded(self, sink: Sink, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # a sink is somebody else's, and the run is not about it
            if id(sink) not in self._reported:
                self._reported.add(id(sink))
                what = " ".join(str(error).split())
                self._report(
                    f"The run sink {type(sink).__module__}.{type(sink).__qualname__} failed, and may miss events from "
                    f"here on: {type(error).__name__}: {what}"
                )


class LogSink(Sink):
    """The run's log: what is said, what is waited for, and the span of each stage that computed something."""

    hears = (Said, Waiting, StageEnded)

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, Said | Waiting):
            self._log(printable(event.line))
        elif isinstance(event, StageEnded) and not event.unchanged:
            with log_fields(partition=event.partition, stage=event.asset):
                self._log(printable(span_in_words(event)))


def span_in_words(span: StageEnded) -> str:
    calls = f", {plural(span.calls, 'call')}" if span.calls else ""
    what = (
        f"{plural(span.documents, 'document')} in, {span.documents_out} out{calls}" if span.error is None else "failed"
    )
    return f"{span.partition} {span.asset}: {what}, {span.seconds:.2f} s from {span.began_at} (UTC)"
