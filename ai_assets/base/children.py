"""Starting a process that ends with this one.

Linux ties such a process (PR_SET_PDEATHSIG) to the thread that started it, not to the program: one that is started by a
thread of a partition would be killed when that thread has done its part, in the middle of what others ask of it.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import IO


def start_child(
    command: Sequence[str], *, stdin: int, stdout: int, stderr: int | IO[bytes] | None, env: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    """`subprocess.Popen` in a session of its own, by a thread that lives as long as this process."""

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, start_new_session=True)

    return _starter(os.getpid()).submit(start).result()


@lru_cache(maxsize=1)
def _starter(_process: int) -> ThreadPoolExecutor:
    """By process: a fork has none of the threads."""
    return ThreadPoolExecutor(1, thread_name_prefix="children")
