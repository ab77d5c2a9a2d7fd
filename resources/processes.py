"""Processes of this machine: who a process is, who belongs to a running `ai-assets up`, and ending them for certain."""

import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from resources.settings import UP_VARIABLE

_SAME_START_S = 1.0
"""A pid is reused long after this; Linux derives start times from boot time, which clock correction moves by less."""


def identity(pid: int | None = None) -> str:
    """`<pid>:<start time>`, which no later process with the same pid can have: the value of the tag `ai_assets/pid`."""
    process = psutil.Process(pid)
    return f"{process.pid}:{process.create_time():.2f}"


def is_alive(process_identity: str) -> bool:
    pid, _, started = process_identity.partition(":")
    try:
        return abs(_start_time(int(pid)) - float(started)) < _SAME_START_S
    except (ValueError, psutil.Error):
        return False


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
