"""Our programs in a process of its own that need not import everything first: the fork of one that has.

Each has its own folder, environment, streams and end, as one that a shell starts. What it does not show is how long a
start takes, and what is imported for it; tests of that start the program itself.
"""

import atexit
import contextlib
import ctypes
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

LOOK_S = 0.004
TELL_S = 15.0
"""So often it is said what is waited for."""
BEGIN_S = 120.0
PR_SET_PDEATHSIG = 1
COMMAND, PROVIDER = "ai-assets", "ai_assets.rehearsal"


class WarmCommand:
    """`ai-assets`, or the rehearsal provider, whose server has far less to import."""

    def __init__(self, program: str = COMMAND) -> None:
        self._program = program
        self._starting = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float, typed: str = ""
    ) -> "subprocess.CompletedProcess[str]":
        process = self.start(arguments, cwd=cwd, env=env, typed=typed)
        try:
            code = process.wait(timeout_s)
            said, complained = (Path(process.place.name, name).read_text() for name in ("stdout", "stderr"))
            return subprocess.CompletedProcess([self._program, *arguments], code, said, complained)
        except subprocess.TimeoutExpired:
            process.send(signal.SIGKILL)
            raise
        finally:
            process.place.cleanup()

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        typed: str = "",
        log: Path | None = None,
    ) -> "WarmProcess":
        """Without waiting for its end. It gets SIGTERM when this process ends; a `log` takes all that it says."""
        place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        Path(place.name, "stdin").write_text(typed)
        asked = {"arguments": list(arguments), "cwd": str(cwd), "env": dict(env), "place": place.name}
        self._ask({**asked, "log": str(log) if log else None})
        return WarmProcess([self._program, *arguments], place)

    def close(self) -> None:
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            self._server.wait(30)

    def _ask(self, asked: Mapping[str, Any]) -> None:
        with self._starting:
            if self._server is None:
                self._server = subprocess.Popen([sys.executable, "-u", __file__, self._program], stdin=subprocess.PIPE)
                atexit.register(self.close)
            assert self._server.stdin is not None
            self._server.stdin.write(json.dumps(asked).encode() + b"\n")
            self._server.stdin.flush()


class WarmProcess:
    """One that was started, and where it leaves what it says and how it ended."""

    def __init__(self, command: Sequence[str], place: "tempfile.TemporaryDirectory[str]") -> None:
        self.command = command
        self.place = place

    @property
    def pid(self) -> int:
        file = Path(self.place.name, "pid")
        self._until(file.exists, BEGIN_S, "has not begun")
        return int(file.read_text())

    @property
    def stdout(self) -> str:
        """What it has said so far."""
        file = Path(self.place.name, "stdout")
        return file.read_text() if file.exists() else ""

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""
        ended = Path(self.place.name, "ended")
        return int(ended.read_text()) if ended.exists() else None

    def wait(self, timeout_s: float) -> int:
        """One that takes long is told of on standard error, with what it said last."""
        self._until(lambda: self.poll() is not None, timeout_s, "has not ended")
        code = self.poll()
        assert code is not None
        return code

    def _until(self, claim: Callable[[], bool], timeout_s: float, problem: str) -> None:
        began = told = time.monotonic()
        while not claim():
            now = time.monotonic()
            if now - began > timeout_s:
                raise subprocess.TimeoutExpired(self.command, timeout_s, self.stdout)
            if now - told > TELL_S:
                told = now
                last = self.stdout.strip().rpartition("\n")[2]
                said = f"; it said last: {last}" if last else ""
                print(
                    f"{' '.join(self.command)} {problem} after {now - began:.0f} s{said}", file=sys.stderr, flush=True
                )
            time.sleep(LOOK_S)

    def send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def serve(program: str) -> dict[str, Any]:
    """Waits for commands; returns in the process of each of them. The server itself ends here."""
    if program == PROVIDER:
        importlib.import_module("ai_assets.rehearsal.command")
        importlib.import_module("ai_assets.rehearsal.server")
    else:
        _import_commands()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those who wait for a command are collected by the system
    while line := sys.stdin.buffer.readline():
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asked: dict[str, Any] = json.loads(line)
            place = Path(asked["place"])
            _end_with_parent(signal.SIGKILL)
            if (command := os.fork()) == 0:
                _end_with_parent(signal.SIGTERM)
                return asked
            (place / "its pid").write_text(str(command))
            (place / "its pid").rename(place / "pid")
            _, status = os.waitpid(command, 0)
            (place / "ending").write_text(str(os.waitstatus_to_exitcode(status)))
            (place / "ending").rename(place / "ended")
            os._exit(0)
    os._exit(0)


def _import_commands() -> None:
    """With what the first dataset, run and page need. LanceDB itself has threads, which survive no fork."""
    from ai_assets.cli.commands import COMMANDS

    for name in (
        "ai_assets.cli.app",
        "ai_assets.desk.app",
        "ai_assets.doctor.checks",
        "ai_assets.orchestration.component",
        "ai_assets.orchestration.instance",
        "ai_assets.run.refresh",
        "ai_assets.storage.stores",
        "dagster",
        "dagster._core.storage.base_storage",
        "lance_namespace",
        "pandas",
        "pyarrow.dataset",
        "pyarrow.parquet",
        "sqlalchemy.dialects.sqlite",
        "upath",
        "uvicorn.protocols.http.auto",
    ):
        importlib.import_module(name)
    for command in COMMANDS.values():
        importlib.import_module(f"ai_assets.cli.{command.module}")
    from ai_assets.documents.languages import language_of

    language_of("What tells languages apart is in memory.")


def _end_with_parent(number: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def become(asked: Mapping[str, Any], program: str) -> None:
    place = Path(asked["place"])
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(asked["log"] or place / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, number)
        os.close(file)
    typed = os.open(place / "stdin", os.O_RDONLY)
    os.dup2(typed, 0)
    os.close(typed)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))  # an interpreter reads it at its start
    sys.argv = [str(Path(sys.executable).parent / program), *asked["arguments"]]


def run(program: str) -> NoReturn:
    """As the program does it, up to what Python cleans up at its end, which takes as long as a start."""
    code: object = 0
    try:
        code = _main(program)
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


def _main(program: str) -> object:
    if program == PROVIDER:
        from ai_assets.base.standalone import run_alone
        from ai_assets.rehearsal.command import provider

        run_alone(provider)
        return 0
    from ai_assets.cli import main

    return main()


if __name__ == "__main__":
    chosen = sys.argv[1]
    if chosen == COMMAND:
        importlib.import_module("cheaper")
    sys.path.pop(0)  # the folder of this file, which a command does not have
    become(serve(chosen), chosen)
    run(chosen)
