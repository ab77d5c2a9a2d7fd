"""How far a backfill is, while it runs: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ai_assets.base.plural import plural
from ai_assets.cli.output import console
from ai_assets.planning.backfills import Backfill, Progress, progress_of
from ai_assets.planning.words import dollars
from ai_assets.storage.state import StateStore

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LOOK_S = 0.5
SAY_S = 10.0
"""Where there is no terminal, a line so often, if anything changed."""


class Meter:
    """Reads the ledger, so it tells the same whoever runs the backfill."""

    def __init__(self, state: StateStore, backfill: Backfill, *, quiet: bool) -> None:
        self._state = state
        self._backfill = backfill
        self._quiet = quiet
        self._started = time.monotonic()
        self._said_at = self._started
        self._said = ""
        self._answered_before: int | None = None
        self._bars: Bars | None = None
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self._quiet and console.is_terminal:
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[said]}", markup=False),
            )
            self._bars = Bars(*columns, TimeElapsedColumn(), console=console, transient=True)
            self._closing.enter_context(self._bars)
            self._bars.add_task(self._backfill.backfill, total=self._total() or None, said="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Looks by itself, while this thread works."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(LOOK_S):
                self.look()

        watcher = threading.Thread(target=watch, name="backfill meter", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def look(self) -> None:
        if self._quiet:
            return
        with self._state.read() as connection:
            found = progress_of(connection, self._backfill.backfill)
        if self._bars is not None:
            self._bars.update(
                self._bars.task_ids[0], completed=min(found.answers, self._total()), said=self._line(found)
            )
        elif time.monotonic() - self._said_at >= SAY_S and self._line(found, timed=False) != self._said:
            self._said_at, self._said = time.monotonic(), self._line(found, timed=False)
            console.print(f"{self._backfill.backfill}: {self._line(found)}")

    def _total(self) -> int:
        return int(self._backfill.plan.get("new_calls", 0))

    def _line(self, found: Progress, *, timed: bool = True) -> str:
        left = self._left_s(found) if timed else None
        said = (
            f"{found.answers:,} of about {plural(self._total(), 'call')}, {plural(found.documents, 'document')}, "
            f"{dollars(found.used_nusd)} of {dollars(self._backfill.cap_nusd)}"
        )
        return said if left is None else f"{said}, about {_time(left)} left"

    def _left_s(self, found: Progress) -> float | None:
        """At the pace since this began to look."""
        if self._answered_before is None:
            self._answered_before = found.answers
        done = found.answers - self._answered_before
        if not done:
            return None
        return (time.monotonic() - self._started) / done * max(0, self._total() - found.answers)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
