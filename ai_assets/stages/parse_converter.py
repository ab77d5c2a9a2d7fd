"""Conversion in another process, so that a hostile or broken file costs a document and never the run."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ai_assets.stages.parse_text import Unreadable, UnreadNow, shown_bytes
from ai_assets.stages.parse_worker import LENGTH, Reply
from resources.errors import ConverterUnavailable

_START_S = 120.0
"""It takes 1 to 2 s; a cold disk or a crowded machine many times that."""


class Converter:
    """Owns the worker process: started when first needed, replaced when it dies. Not for use by two threads."""

    def __init__(self, *, timeout_s: float, memory_bytes: int, max_characters: int) -> None:
        self._timeout_s, self._memory_bytes, self._max_characters = timeout_s, memory_bytes, max_characters
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def worker_pid(self) -> int | None:
        return self._worker.pid if self._worker else None

    def convert(self, format_name: str, data: bytes) -> tuple[str, str | None]:
        """Markdown and title; Unreadable with the reason when there is no text to have."""
        worker = self._running()
        with self._no_half_conversation(), _deadline(worker, self._timeout_s) as expired:
            reply = _ask(worker, format_name.encode() + b"\n" + data)
        if expired.is_set():
            self.close()
            if reply is None:
                raise UnreadNow(f"took longer than {self._timeout_s:g} s")
        if reply is None:
            raise UnreadNow(f"could not be read: the converter died of it ({self._cause_of_death()})")
        if reply.get("exhausted"):
            self.close()
            raise Unreadable(f"needed more than {shown_bytes(self._memory_bytes)} of memory")
        if "reason" in reply:
            raise Unreadable(reply["reason"])
        return reply["text"], reply["title"]

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                with contextlib.suppress(BrokenPipeError):
                    if pipe is not None:
                        pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._worker is not None and self._worker.poll() is None:
            return self._worker
        self.close()
        program = Path(__file__).with_name("parse_worker.py")
        limits = (os.getpid(), self._memory_bytes, self._max_characters)
        self._worker = subprocess.Popen(
            # -P: the folder of the program is no place to import from.
            [sys.executable, "-P", str(program), *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing of ours: no keys where hostile files are read. One BLAS thread, for each claims address space.
            env={"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
        with self._no_half_conversation(), _deadline(self._worker, _START_S):
            ready = _read(self._worker)
        if ready is None:
            raise ConverterUnavailable(f"it died ({self._cause_of_death()})")
        if "reason" in ready:
            self.close()
            raise ConverterUnavailable(ready["reason"])
        return self._worker

    def _cause_of_death(self) -> str:
        code = self._worker.wait() if self._worker else 0
        self.close()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    @contextlib.contextmanager
    def _no_half_conversation(self) -> Iterator[None]:
        """After Ctrl-C the next answer would belong to the last question."""
        try:
            yield
        except BaseException:
            self.close()
            raise


@contextlib.contextmanager
def _deadline(worker: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kills the worker after so many seconds, which ends any wait for it."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        worker.kill()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()


def _ask(worker: subprocess.Popen[bytes], body: bytes) -> Reply | None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(LENGTH.pack(len(body)))
        worker.stdin.write(body)
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    return _read(worker)


def _read(worker: subprocess.Popen[bytes]) -> Reply | None:
    assert worker.stdout is not None
    head = worker.stdout.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    body = worker.stdout.read(length := LENGTH.unpack(head)[0])
    if len(body) < length:
        return None
    reply: Reply = json.loads(body)
    return reply
