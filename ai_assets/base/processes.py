"""Processes: who one is, whether it runs, who belongs to a running `ai-assets up`, and ending them for certain."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Literal

import psutil

from ai_assets.base.home import UP_VARIABLE

_SAME_START_S = 1.0
"""A pid is reused long after this; Linux derives start times from boot time, which clock correction moves by less."""

_HIDDEN = "hidden"
"""The namespace of a process whose /proc shows the processes of another one."""

Standing = Literal["running", "ended", "out of sight"]


def identity(pid: int | None = None) -> str:
    """`<pid>:<start>:<pid namespace>:<boot>`, which no other process ever has: the value of the tag `ai_assets/pid`.

    A pid means something only inside its namespace (every container has a process 1), a start only within its boot.
    """
    number = os.getpid() if pid is None else pid
    return f"{number}:{_start(number)}:{_namespace()}:{boot_id()}"


def standing(process_identity: str) -> Standing:
    """What can be seen of a process from here; of one in another container or on another machine, nothing."""
    pid, _, rest = process_identity.partition(":")
    start, _, scope = rest.partition(":")
    own = _namespace()
    if own == _HIDDEN or scope != f"{own}:{boot_id()}":
        return "out of sight"
    try:
        return "running" if _start(int(pid)) == start else "ended"
    except (ValueError, OSError, psutil.Error):
        return "ended"


def is_alive(process_identity: str) -> bool:
    """Whether the process is seen running."""
    return standing(process_identity) == "running"


@cache
def boot_id() -> str:
    """Names the time since the machine was started; all its containers have the same."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{socket.gethostname()}-{psutil.boot_time():.0f}"


def boot_clock_s() -> float:
    """Seconds since the machine was started, sleep included: one clock for all its containers, which none can set."""
    if sys.platform != "linux":
        return time.monotonic()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - _boot_clock_offset_s()


@cache
def _boot_clock_offset_s() -> float:
    """A time namespace shifts the clock for the processes in it."""
    try:
        lines = Path("/proc/self/timens_offsets").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    fields = next((line.split() for line in lines if line.startswith("boottime")), ["boottime", "0", "0"])
    return int(fields[1]) + int(fields[2]) / 1e9


def _namespace() -> str:
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 - a number, not a path
            return _HIDDEN
        return os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]")  # noqa: PTH115
    except OSError:
        return "-"


def _start(pid: int) -> str:
    """When it was started; of a zombie, which only waits to be collected, an error."""
    if sys.platform != "linux":
        return f"{_start_time(pid):.2f}"
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        raise psutil.NoSuchProcess(pid)
    return fields[19]


def was_alive_at(pid: int, timestamp: float) -> bool:
    """Whether the process with this pid is running now and already was at `timestamp`."""
    try:
        return _start_time(pid) <= timestamp + _SAME_START_S
    except psutil.Error:
        return False


def _start_time(pid: int) -> float:
    process = psutil.Process(pid)
    if process.status() == psutil.STATUS_ZOMBIE:
        raise psutil.NoSuchProcess(pid)
    return float(process.create_time())


def started_by_up(home: Path, up: str | None = None) -> list[psutil.Process]:
    """Every living process that an `ai-assets up` on `home` started, at any depth, whoever its parent is by now.

    `up` is the identity of one `ai-assets up`; without it, those of earlier ones on the same home count too.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _belongs_to(process, home, up)]


def _belongs_to(process: psutil.Process, home: Path, up: str | None) -> bool:
    try:
        by, _, where = process.environ().get(UP_VARIABLE, "").partition("@")
        return where == str(home) and up in (None, by) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_all_started_by_up(
    home: Path, up: str | None, grace_s: float, in_a_hurry: Callable[[], bool] = lambda: False
) -> None:
    """Terminate them, wait, then kill whatever is left until nothing is."""
    _signal(started_by_up(home, up), psutil.Process.terminate)
    deadline = time.monotonic() + grace_s
    while (left := started_by_up(home, up)) and time.monotonic() < deadline and not in_a_hurry():
        psutil.wait_procs(left, timeout=0.2)
    while left := started_by_up(home, up):
        _signal(left, psutil.Process.kill)
        psutil.wait_procs(left, timeout=0.2)


def _signal(processes: Iterable[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            send(process)
        except psutil.NoSuchProcess:
            continue


def why_port_is_unusable(host: str, port: int) -> str | None:
    """`None` when a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, port))
            attempt.listen(1)
        except PermissionError:
            return "not open to this user"
        except OverflowError:
            return "no port number (0 to 65535)"
        except OSError:
            return f"already used by {_port_holder(port) or 'another program'}"
    return None


def _port_holder(port: int) -> str | None:
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None
