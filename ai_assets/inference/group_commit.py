"""Group commit: one thread takes turns at the ledger, and whatever waits shares the next transaction.

A turn takes as long as it takes, and meanwhile others queue for the next: the busier, the larger a turn, and the less a
row costs.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any

from ai_assets.base.errors import StateUnavailable
from ai_assets.inference.ledger import Ledger
from ai_assets.inference.ledger_messages import Operation
from ai_assets.storage.state import StateStore

MOST_PER_TURN = 2000
PATIENCE_S = 300.0
"""For so long a state store that does not answer is asked again: a PostgreSQL that restarts."""

_Waiting = tuple[Operation, "asyncio.Future[Any]"]


class Turns:
    def __init__(self, state: StateStore, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._ledger = ledger
        self._loop = loop
        self._queue: queue.SimpleQueue[list[_Waiting] | None] = queue.SimpleQueue()
        self._gathered: list[_Waiting] = []
        """What the loop asks for until it hands it over; only the loop's thread touches it."""
        self._batch = 0
        self.clock = ledger.clock
        self.thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self.thread.start()

    def take(self, operation: Operation) -> "asyncio.Future[Any]":
        """From the event loop only. The result is durable when the future has it."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if not self._gathered:
            self._loop.call_soon(self._hand_over_soon)
        self._gathered.append((operation, future))
        return future

    def _hand_over_soon(self) -> None:
        """One round of the loop later: who takes the place of a call that has ended asks in that round, and shares its
        turn."""
        self._loop.call_soon(self.hand_over)

    def hand_over(self) -> None:
        """From the event loop only: everything that was asked for until now is on its way to the ledger."""
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._queue.put(gathered)

    def close(self, *, give_up: bool) -> None:
        """After what was handed over before. `give_up`: also what nobody waits for any more is accounted for."""
        self._queue.put(None)
        self.thread.join()
        if give_up:
            with contextlib.suppress(StateUnavailable), self._state.write() as connection:
                self._ledger.give_up(connection)  # who comes next would do it too, whenever that is

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            ends = False
            with contextlib.suppress(queue.Empty):
                while len(waiting) < MOST_PER_TURN:
                    gathered = self._queue.get_nowait()
                    if gathered is None:
                        ends = True
                        break
                    waiting += gathered
            self._turn(waiting)
            if ends:
                return

    def _turn(self, waiting: list[_Waiting]) -> None:
        try:
            results: Sequence[Any] = self._commit([operation for operation, _ in waiting])
        except Exception as error:  # noqa: BLE001 - the boundary to the database: who waits gets it, and the thread lives
            self._ledger.undo()
            self._deliver(waiting, [error] * len(waiting))
        else:
            self._deliver(waiting, results)

    def _commit(self, operations: list[Operation]) -> Sequence[Any]:
        self._batch += 1
        deadline = time.monotonic() + PATIENCE_S
        results: Sequence[Any] | None = None
        while True:
            try:
                with self._state.write(in_pipeline=True) as connection:
                    if results is not None and self._ledger.applied(connection) == self._batch:
                        return results  # the commit had come through, only its confirmation was lost
                    results = self._ledger.apply(connection, operations, self._batch)
                return results
            except StateUnavailable:
                self._ledger.forget_callers()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def _deliver(self, waiting: list[_Waiting], results: Sequence[Any]) -> None:
        # A closed loop means that nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_resolve, waiting, results)


def _resolve(waiting: list[_Waiting], results: Sequence[Any]) -> None:
    for (_, future), result in zip(waiting, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
