"""The command `ai-assets` in a process of its own that need not import everything first: the fork of one that has.

Each command has its own folder, environment, streams and end, as one that a shell starts. What it does not show is how
long a start takes, and what is imported for it; tests of that start the program itself.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

LOOK_S = 0.004


class WarmCommand:
    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float, typed: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        with tempfile.TemporaryDirectory() as place:
            Path(place, "stdin").write_text(typed)
            asked = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "place": place}
            self._ask(asked)
            ended, deadline = Path(place, "ended"), time.monotonic() + timeout_s
            while not ended.exists():
                if time.monotonic() > deadline:
                    os.kill(int(Path(place, "pid").read_text()), signal.SIGKILL)
                    raise subprocess.TimeoutExpired(["ai-assets", *arguments], timeout_s)
                time.sleep(LOOK_S)
            said, complained = (Path(place, name).read_text() for name in ("stdout", "stderr"))
            return subprocess.CompletedProcess(["ai-assets", *arguments], int(ended.read_text()), said, complained)

    def close(self) -> None:
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            self._server.wait(30)

    def _ask(self, asked: Mapping[str, Any]) -> None:
        with self._starting:
            if self._server is None:
                self._server = subprocess.Popen([sys.executable, "-u", __file__], stdin=subprocess.PIPE)
                atexit.register(self.close)
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps(asked).encode() + b"\n")
            self._server.stdin.flush()


def serve() -> dict[str, Any]:
    """Waits for commands; returns in the process of each of them. The server itself ends here."""
    import dagster  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import sqlalchemy  # noqa: F401

    import ai_assets.cli.app
    import ai_assets.run.refresh
    import ai_assets.storage.stores  # noqa: F401
    from ai_assets.cli.commands import COMMANDS

    for command in COMMANDS.values():
        importlib.import_module(f"ai_assets.cli.{command.module}")
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who wait for a command are collected by the system
    while line := sys.stdin.buffer.readline():
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked: dict[str, Any] = json.loads(line)
            place = Path(asked["place"])
            if (command := os.fork()) == 0:
                return asked
            (place / "pid").write_text(str(command))
            _, status = os.waitpid(command, 0)
            (place / "ending").write_text(str(os.waitstatus_to_exitcode(status)))
            (place / "ending").rename(place / "ended")
            os._exit(0)
    os._exit(0)


def become(asked: Mapping[str, Any]) -> None:
    place = Path(asked["place"])
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    typed = os.open(place / "stdin", os.O_RDONLY)
    os.dup2(typed, 0)
    os.close(typed)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = [str(Path(sys.executable).parent / "ai-assets"), *asked["arguments"]]


def run() -> NoReturn:
    """As the program does it, up to what Python cleans up at its end, which takes as long as a start."""
    from ai_assets.cli import main

    code: object = 0
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - what the interpreter does with it
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file, which a command does not have
    become(serve())
    run()
