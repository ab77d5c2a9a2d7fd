"""Handing things to somebody outside without waiting for them: a queue, and a thread that sends what is in it.

Nothing that is put in waits or fails, whatever the other side does: where the queue is full, what comes is dropped and
counted. `close` waits a little for what is left.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundSender(Generic[T]):
    def __init__(
        self,
        send: Callable[[Sequence[T]], str | None],
        *,
        name: str,
        most_waiting: int,
        batch: int,
        delay_s: float,
        report: Callable[[str], None],
    ) -> None:
        """`send` says what is wrong where it could not, and may take its time; `report` hears of the first time."""
        self._send, self._report = send, report
        self._waiting: deque[T] = deque()
        self._most, self._batch, self._delay_s = most_waiting, max(1, min(batch, most_waiting)), delay_s
        self._wake = threading.Event()
        self._closed = False
        self._under_way = 0
        self._reported = False
        self.sent = self.lost = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, each: T) -> None:
        if len(self._waiting) >= self._most:
            self.lost += 1
            self._wake.set()
            return
        self._waiting.append(each)
        if len(self._waiting) >= self._batch and not self._wake.is_set():
            self._wake.set()

    def close(self, within_s: float) -> None:
        """Sends what is left, for so long at most."""
        self._closed = True
        self._wake.set()
        self._thread.join(within_s)
        left = len(self._waiting) + self._under_way
        if self._thread.is_alive():
            self._waiting.clear()
            self.lost += left
            self.say(f"it had not taken everything {within_s:g} s after the end")
        elif self.lost:
            self.say("it was slower than what there was to send")

    def say(self, problem: str) -> None:
        """Once; what is lost by then is known to `lost`."""
        if not self._reported:
            self._reported = True
            self._report(problem)

    def _run(self) -> None:
        while not self._closed:
            is_woken = self._wake.wait(self._delay_s)
            self._wake.clear()
            self._drain(self._batch if is_woken and not self._closed else 1)
        self._drain(1)

    def _drain(self, at_least: int) -> None:
        """In batches of so many: what is sent for itself costs as much as a whole batch."""
        while len(self._waiting) >= at_least:
            part = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._under_way = len(part)
            problem = self._sent(part)
            self._under_way = 0
            if problem is None:
                self.sent += len(part)
                continue
            self.lost += len(part)
            self.say(problem)
            if self._closed:  # closing does not wait for a failure of each part
                self.lost += len(self._waiting)
                self._waiting.clear()

    def _sent(self, part: Sequence[T]) -> str | None:
        try:
            return self._send(part)
        except Exception as error:  # noqa: BLE001  # the other side's client is somebody else's, and ends no thread
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
