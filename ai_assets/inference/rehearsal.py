"""The rehearsal provider of a run: a process that answers like a model, started when the first call needs it.

It ends with the run. AI_ASSETS_REHEARSAL_URL names one that is there already, and then none is started.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import IO, Self

import ai_assets.base.child_main
from ai_assets.base.errors import UserError
from ai_assets.base.home import REHEARSAL_VARIABLE, variable

MODULE = "ai_assets.rehearsal"
START_S = 30.0
"""It takes half a second; a machine that is busy with other tests has taken six."""
STOP_S = 5.0


class RehearsalUnavailable(UserError):
    def __init__(self, found: str) -> None:
        super().__init__(
            f"The rehearsal provider did not start: {found}. Try it by hand: python -m {MODULE} --port 0; "
            f"or start one elsewhere and set {REHEARSAL_VARIABLE} to its address."
        )


class RehearsalProvider:
    """A context manager. Safe to share between threads: it is started once."""

    def __init__(self, module: str = MODULE) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self) -> str:
        """Its address, such as `http://127.0.0.1:40123/v1`."""
        if declared := variable(REHEARSAL_VARIABLE):
            return declared
        with self._lock:
            if self._url is None:
                self._url = self._start()
            return self._url

    def close(self) -> None:
        with self._lock:
            process, self._process, self._url = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _start(self) -> str:
        script = ai_assets.base.child_main.__file__
        command = [sys.executable, script, str(os.getpid()), self._module, "--port", "0", "--json"]
        # Not a pipe: nobody reads it once the provider runs, and a full one would stop it.
        with tempfile.TemporaryFile() as words:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words)
            line = _first_line(self._process, words)
        try:
            said = json.loads(line)
        except ValueError as error:
            raise RehearsalUnavailable(f"it said something else than its address ({error})") from error
        if not isinstance(said, dict) or not isinstance(said.get("url"), str):
            raise RehearsalUnavailable("it did not say its address")
        return str(said["url"])


def _first_line(process: "subprocess.Popen[bytes]", words: IO[bytes]) -> bytes:
    assert process.stdout is not None
    deadline, line = time.monotonic() + START_S, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise RehearsalUnavailable(f"it said nothing for {START_S:g} s")
        more = os.read(process.stdout.fileno(), 4096)
        if not more:
            status = process.wait()
            words.seek(0)
            said = words.read().decode("utf-8", "replace").strip().splitlines()
            raise RehearsalUnavailable(f"it ended with status {status}: {said[-1] if said else 'without a word'}")
        line += more
    return line.split(b"\n", 1)[0]
