"""One child process that evaluates Rego for this process, made again whenever it was lost."""

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ai_assets.base.children import start_child
from ai_assets.base.extras import ExtraMissing, need

TIMEOUT_S = 10.0
"""A policy that takes longer denies; one of twenty rules takes a few milliseconds."""
WORKER = Path(__file__).with_name("rego_worker.py")


class InterpreterFailed(Exception):
    """Why nothing was answered, in words."""


@dataclass(frozen=True, kw_only=True)
class RegoQuestion:
    query: str
    input: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RegoAnswer:
    value: Any = None
    undefined: bool = False
    error: str | None = None
    module: str | None = None
    """Of the error, where it is known; with the offset in it."""
    offset: int | None = None


@dataclass
class Interpreter:
    _child: "subprocess.Popen[bytes] | None" = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(
        self,
        modules: Sequence[tuple[str, str]],
        asked: Sequence[RegoQuestion],
        builtins: Sequence[str] = (),
        timeout_s: float = TIMEOUT_S,
    ) -> tuple[list[RegoAnswer], list[str]]:
        """The answers, and which of `builtins` it does not have. Raises InterpreterFailed."""
        try:
            need("policy", "A policy")
        except ExtraMissing as error:
            raise InterpreterFailed(str(error)) from error
        said = {"modules": modules, "asked": [vars(each) for each in asked], "builtins": list(builtins)}
        with self._lock:
            found = self._exchange(json.dumps(said).encode() + b"\n", timeout_s)
        return [RegoAnswer(**each) for each in found["results"]], found["unknown"]

    def _exchange(self, line: bytes, timeout_s: float) -> dict[str, Any]:
        child = self._running()
        assert child.stdin is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
        except OSError as error:
            self.close()
            raise InterpreterFailed(f"the interpreter cannot be reached ({error.strerror})") from error
        answer = self._line(child, time.monotonic() + timeout_s)
        if answer is None:
            self.close()
            raise InterpreterFailed(f"it takes longer than {timeout_s:g} s")
        if not answer.endswith(b"\n"):
            code = child.wait()
            self.close()
            raise InterpreterFailed(f"the interpreter ended ({'signal' if code < 0 else 'code'} {abs(code)})")
        found: dict[str, Any] = json.loads(answer)
        return found

    @staticmethod
    def _line(child: "subprocess.Popen[bytes]", until: float) -> bytes | None:
        """Up to the end of the line, or of the process; None where neither comes in time."""
        assert child.stdout is not None
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, until - time.monotonic())):
                    return None
                part = os.read(child.stdout.fileno(), 1 << 16)
                if not part:
                    return found
                found += part
        return found

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = start_child(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        return self._child

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()


def interpreter() -> Interpreter:
    """The one of this process; a fork gets its own."""
    return _of_process(os.getpid())


@lru_cache(maxsize=1)
def _of_process(_process: int) -> Interpreter:
    made = Interpreter()
    atexit.register(made.close)
    return made
