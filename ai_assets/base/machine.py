"""What this process may use of its machine: cores and memory, as the container it runs in limits them."""

import os
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Those it may be scheduled on; in a container with a quota no more than that, and at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, round(quota)))


def usable_memory() -> int:
    """Bytes that are free, also within the limit of the container."""
    free = int(psutil.virtual_memory().available)
    limit, used = _number("memory.max"), _number("memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def _quota() -> float | None:
    """`cpu.max` is `max 100000`, or microseconds of processor time per period."""
    text = _read("cpu.max").split()
    if len(text) != 2 or not all(each.isdigit() for each in text):
        return None
    return int(text[0]) / int(text[1])


def _number(name: str) -> int | None:
    text = _read(name).strip()
    return int(text) if text.isdigit() else None


def _read(name: str) -> str:
    """Of the control group that a container sees as its root; nothing elsewhere."""
    try:
        return (_CGROUP / name).read_text(encoding="ascii")
    except OSError:
        return ""
