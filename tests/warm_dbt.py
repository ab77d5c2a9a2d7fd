"""dbt of the cost warehouse in a process of its own that need not import dbt first: the fork of one that has.

What starts it is a process as before, with its streams, its end and its exit code; it lends them to the fork.
"""

import array
import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
STREAMS = (0, 1, 2)


def command() -> list[str]:
    """In place of what `ai_assets.costs.dbt_build` starts."""
    return [sys.executable, "-I", "-S", __file__, _server()]


@cache
def _server() -> str:
    """Its address, which is no file; it ends with this process."""
    address = f"ai-assets-dbt-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{address}")
        listening.listen(100)
        told = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "pass_fds": [listening.fileno()]}
        server = subprocess.Popen([sys.executable, __file__, "serve", str(listening.fileno())], **told)  # type: ignore[call-overload]
    atexit.register(_close, server)
    return address


def _close(server: "subprocess.Popen[bytes]") -> None:
    assert server.stdin is not None
    server.stdin.close()
    server.wait(30)


# In the process that is started


def lend(address: str) -> NoReturn:
    told = json.dumps({"cwd": os.getcwd(), "env": dict(os.environ)}).encode()  # noqa: PTH109 - imports nothing
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(f"\0{address}")
        server.sendmsg([b"%10d" % len(told)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", STREAMS))])
        server.sendall(told)
        code = server.recv(10)
    os._exit(int(code or 1))


# In the process of dbt


def serve(listening: socket.socket) -> None:
    """Returns in the process of each that is asked for; the server itself ends here."""
    for name in ("dbt.cli.main", "dbt.adapters.duckdb", "ai_assets.costs.dbt_build"):
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        lender, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _end_with_parent()
            size, streams, *_ = socket.recv_fds(lender, 10, len(STREAMS))
            told = json.loads(_received(lender, int(size)))
            if (dbt := os.fork()) == 0:
                _end_with_parent()
                return _become(told, streams)
            for stream in streams:
                os.close(stream)
            _wait(dbt, lender)
        lender.close()
    os._exit(0)


def _received(lender: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += lender.recv(size - len(found))
    return found


def _wait(dbt: int, lender: socket.socket) -> NoReturn:
    """Until it ends, or who lent it the streams was killed."""
    ended = os.pidfd_open(dbt)
    if ended not in select.select([ended, lender], [], [])[0]:
        os.kill(dbt, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(dbt, 0)[1])
    with contextlib.suppress(OSError):
        lender.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(told: dict[str, Any], streams: list[int]) -> None:
    for number, stream in zip(STREAMS, streams, strict=True):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])


if __name__ == "__main__":
    if sys.argv[1] != "serve":
        lend(sys.argv[1])
    sys.path[0] = str(Path(__file__).parent.parent)
    serve(socket.socket(fileno=int(sys.argv[2])))
    from ai_assets.costs import dbt_build

    sys.stdin = open(0)  # noqa: SIM115 - of the lender
    dbt_build.main()
