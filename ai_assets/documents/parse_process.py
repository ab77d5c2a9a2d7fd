"""A process that reads files of strangers, seen from the program that started it: its start, its messages, its end.

What runs in it is `parse_worker.py` (pdf, html), `parse_format_worker.py` (the others) or `parse_table_worker.py` (csv,
jsonl, parquet).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from ai_assets.base.children import start_child
from ai_assets.base.errors import ParserEnded, ParserUnavailable
from ai_assets.base.extras import need
from ai_assets.base.plural import plural
from ai_assets.documents.parse_text import Unreadable, UnreadNow, shown_bytes
from ai_assets.documents.parse_worker import LENGTH, ConverterReply

_START_S = 120.0
"""It takes 1 to 2 s; a cold disk or a crowded machine many times that."""
_STARTS = 2
"""Where memory is short, the first process may be killed for others that have ended by the time of the second."""


class ProcessDied(Exception):
    """The process has ended; the message says by what."""


class ProcessTimedOut(Exception):
    """It has not answered in time."""


class Deadline:
    """Runs only while we wait for the process, and not while we serve it or use what it sent."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds
        self._since: float | None = None

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._left_s, self._since = self.left_s, None

    @property
    def left_s(self) -> float:
        return self._left_s - (0.0 if self._since is None else time.monotonic() - self._since)


class ParserProcess:
    """Close it after any trouble: after half a conversation the next answer would belong to the last question."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: socket.socket) -> None:
        self._process, self._socket = process, ours

    @classmethod
    def start(cls, program: str, limits: Sequence[int], package: str) -> "ParserProcess":
        """Ready for its first file. `package` is what to reinstall when its libraries do not load."""
        causes: list[str] = []
        for _ in range(_STARTS):
            try:
                return cls._start(program, limits, package)
            except ProcessDied as died:
                causes.append(str(died))
        raise ParserEnded(program, causes)

    @classmethod
    def _start(cls, program: str, limits: Sequence[int], package: str) -> "ParserProcess":
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as complaints:
            with theirs:  # closed here, so that we hear the end when the process has gone
                process = start_child(
                    # -P: the folder of the program is no place to import from.
                    [sys.executable, "-P", str(Path(__file__).with_name(program)), *map(str, (os.getpid(), *limits))],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    env=_environment(),
                )
            worker = cls(process, ours)
            try:
                ready: ConverterReply = json.loads(worker.receive(Deadline(_START_S), 1 << 20))
            except ProcessTimedOut:
                worker.close()
                raise ProcessDied(f"it was not ready after {_START_S:g} s") from None
            except ProcessDied as died:
                complaints.seek(0)
                last = complaints.read()[-500:].decode(errors="replace").strip().splitlines()
                raise ProcessDied(f"{died}{f': {last[-1]}' if last else ''}") from None
            except BaseException:
                worker.close()
                raise
        if "reason" in ready:
            worker.close()
            raise ParserUnavailable(program, ready["reason"], package)
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, body: bytes, deadline: Deadline) -> None:
        try:
            with deadline:
                self._socket.settimeout(max(deadline.left_s, 0.001))
                self._socket.sendall(LENGTH.pack(len(body)))
                self._socket.sendall(body)
        except TimeoutError as error:
            raise ProcessTimedOut from error
        except OSError as error:
            raise self._died() from error

    def receive(self, deadline: Deadline, largest: int) -> bytearray:
        """The next message; one that is larger is the process gone mad."""
        with deadline:
            size = LENGTH.unpack(self._bytes(LENGTH.size, deadline))[0]
            if size > largest:
                self.close()
                raise ProcessDied(f"it sent {plural(size, 'byte')} at once")
            return self._bytes(size, deadline)

    def _bytes(self, count: int, deadline: Deadline) -> bytearray:
        found = bytearray(count)
        view, filled = memoryview(found), 0
        try:
            while filled < count:
                self._socket.settimeout(max(deadline.left_s, 0.001))
                received = self._socket.recv_into(view[filled:])
                if not received:
                    raise self._died()
                filled += received
        except TimeoutError as error:
            raise ProcessTimedOut from error
        except OSError as error:
            raise self._died() from error
        return found

    def _died(self) -> ProcessDied:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = 0  # it has only hung up
        self.close()
        return ProcessDied(signal.Signals(-code).name if code < 0 else f"exit code {code}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()


class FileProcess:
    """Reads one file after another for whoever owns it: started when first needed, replaced when it dies. Not for use
    by two threads."""

    def __init__(
        self, program: str, *, limits: Sequence[int], timeout_s: float, name: str, reading: str, package: str
    ) -> None:
        """`limits` begin with its memory; `name` is what people know it as, `reading` what it is for."""
        self._program, self._limits, self._timeout_s = program, limits, timeout_s
        self._name, self._reading, self._package = name, reading, package
        self._process: ParserProcess | None = None

    def ask(self, kind: str, data: bytes, *, largest: int) -> Any:
        """Its reply; Unreadable with the reason where it has none."""
        if self._process is None or not self._process.alive:
            self.close()
            need("formats", self._reading)
            self._process = ParserProcess.start(self._program, self._limits, self._package)
        return self.ask_again(kind, data, largest=largest)

    def ask_again(self, kind: str, data: bytes, *, largest: int) -> Any:
        """About the file that it has read last: a process that is started for this would know nothing of it."""
        if self._process is None:
            raise UnreadNow(f"could not be read: {self._name} has ended")
        deadline = Deadline(self._timeout_s)
        try:
            self._process.send(kind.encode() + b"\n" + data, deadline)
            reply = json.loads(self._process.receive(deadline, largest))
        except ProcessTimedOut:
            self.close()
            raise UnreadNow(f"took longer than {self._timeout_s:g} s") from None
        except ProcessDied as died:
            self.close()
            raise UnreadNow(f"could not be read: {self._name} died of it ({died})") from None
        except BaseException:
            self.close()
            raise
        if reply.get("exhausted"):
            self.close()
            raise Unreadable(f"needed more than {shown_bytes(self._limits[0])} of memory")
        if "reason" in reply:
            raise Unreadable(reply["reason"])
        return reply

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()


def _environment() -> dict[str, str]:
    """Nothing of ours: no keys where hostile files are read. One thread and one arena, as each claims address space."""
    return {
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"), "1"),
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
